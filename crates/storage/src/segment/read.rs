//! Reading a segment.

use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use prost::encoding::{decode_varint, encoded_len_varint};

use super::error::{Damage, Fault};
use super::keys::Keys;
use super::layout::{
    CHECKSUM_BYTES, END_MAGIC, HEADER_BYTES, MAGIC, ROW_BYTES, ROWS_PER_SUM, SUM_BYTES,
    TRAILER_BYTES, VERSION, frame_checksum, sums,
};
use super::{Place, SegmentId, Stored};
use crate::vfs::Mapped;

/// Bytes of a change from which on its pages are asked for together. Four pages: fewer cost less one by one,
/// when they are in memory, than the question.
const LARGE_BYTES: usize = 16 << 10;

/// An open segment: the bytes of its file, normally mapped. A clone shares them.
#[derive(Clone, Debug)]
pub struct Segment {
    id: SegmentId,
    file: Mapped,
    /// Number of changes; not 0.
    rows: usize,
    rows_offset: usize,
    keys_offset: usize,
    stored_bytes: u64,
    checksum: u32,
    first: Place,
    last: Place,
}

impl Segment {
    /// Opens the file of a segment. Checks everything but the changes themselves.
    ///
    /// # Errors
    ///
    /// [`Damage`] when the bytes cannot be those of this segment.
    pub fn open(id: SegmentId, file: Bytes) -> Result<Self, Damage> {
        Segment::open_mapped(id, file.into())
    }

    /// The same for a file that is read from the disk on demand.
    ///
    /// # Errors
    ///
    /// As for [`Segment::open`].
    pub fn open_mapped(id: SegmentId, mapped: Mapped) -> Result<Self, Damage> {
        let file = mapped.bytes();
        let fail = |offset: usize, fault| Damage {
            segment: id,
            offset: offset as u64,
            fault,
        };
        let length = file.len();
        if length < HEADER_BYTES + TRAILER_BYTES {
            let length = length as u64;
            return Err(fail(file.len(), Fault::Short { length }));
        }
        let trailer = length - TRAILER_BYTES;
        if file[..8] != MAGIC {
            return Err(fail(0, Fault::Magic));
        }
        if file[length - 8..] != END_MAGIC {
            return Err(fail(length - 8, Fault::Magic));
        }
        let (found, known) = (u32_at(file, 8), VERSION);
        if found > known {
            return Err(fail(8, Fault::Newer { found, known }));
        }
        let found = SegmentId(u64_at(file, 16));
        if found != id {
            return Err(fail(16, Fault::Id { found }));
        }
        let number = |at| usize::try_from(u64_at(file, trailer + at)).unwrap_or(usize::MAX);
        let (rows, rows_offset, keys_offset) = (number(0), number(8), number(16));
        let tables_end = rows
            .checked_mul(ROW_BYTES)
            .and_then(|rows| rows.checked_add(rows_offset))
            .and_then(|end| end.checked_add(sums(rows) * SUM_BYTES));
        let fits = rows > 0 && rows_offset >= HEADER_BYTES && keys_offset <= trailer;
        if !fits || tables_end != Some(keys_offset) {
            return Err(fail(trailer, Fault::Layout));
        }
        let mut segment = Segment {
            id,
            rows,
            rows_offset,
            keys_offset,
            stored_bytes: u64_at(file, trailer + 24),
            checksum: u32_at(file, trailer + 32),
            first: Place::default(),
            last: Place::default(),
            file: mapped,
        };
        segment.check_tables()?;
        segment.check_rows()?;
        segment.first = segment.place(0);
        segment.last = segment.place(rows - 1);
        Ok(segment)
    }

    /// The segment's number.
    #[must_use]
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Number of changes; never 0.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.rows
    }

    /// The first place.
    #[must_use]
    pub fn first(&self) -> Place {
        self.first
    }

    /// The last place.
    #[must_use]
    pub fn last(&self) -> Place {
        self.last
    }

    /// Length of the file, in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.bytes().len() as u64
    }

    /// Sum of the stored bytes of all changes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Checksum of the tables, which tells this file from any other.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The place of a change by its number, from 0.
    ///
    /// # Panics
    ///
    /// When there are not so many changes.
    #[must_use]
    pub fn place(&self, row: usize) -> Place {
        let at = self.row_at(row);
        Place {
            main: u64_at(self.bytes(), at) as i64,
            sub: i64::from(u32_at(self.bytes(), at + 8)),
        }
    }

    /// Number of the first change at or above a place; [`Segment::changes`] when there is none.
    #[must_use]
    pub fn lower_bound(&self, place: Place) -> usize {
        if place <= self.first {
            return 0;
        }
        if place > self.last {
            return self.rows;
        }
        // Revisions without gaps are where interpolation says; else the search widens from there.
        let span = (self.last.main - self.first.main).max(1) as u128;
        let into = (place.main - self.first.main) as u128;
        let guess = (into * (self.rows - 1) as u128 / span) as usize;
        let (mut low, mut high, mut step) = (guess + 1, self.rows - 1, 1);
        if self.place(guess) < place {
            while low + step < high && self.place(low + step) < place {
                low += step + 1;
                step *= 2;
            }
            high = high.min(low + step);
        } else {
            high = guess;
            while high > step && self.place(high - step) >= place {
                high -= step;
                step *= 2;
            }
            low = high.saturating_sub(step);
        }
        while low < high {
            let middle = low.midpoint(high);
            if self.place(middle) < place {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The change at a place.
    ///
    /// # Errors
    ///
    /// [`Damage`] when it is there and does not match its checksum.
    pub fn find(&self, place: Place) -> Result<Option<Stored>, Damage> {
        let row = self.lower_bound(place);
        if row == self.rows || self.place(row) != place {
            return Ok(None);
        }
        // The pages of a large value come one by one otherwise.
        let bytes = self.frame(row)?.len();
        if bytes > LARGE_BYTES {
            let start = self.frame_offset(row);
            self.will_need(start..start + bytes);
        }
        self.at(row).map(Some)
    }

    /// A change by its number, from 0.
    ///
    /// # Errors
    ///
    /// [`Damage`] when it does not match its checksum.
    ///
    /// # Panics
    ///
    /// When there are not so many changes.
    pub fn at(&self, row: usize) -> Result<Stored, Damage> {
        let (place, frees_bytes, encoded) = self.checked_parts(row)?;
        Ok(Stored {
            place,
            frees_bytes,
            encoded: self.bytes().slice_ref(encoded),
        })
    }

    /// The same without a share of the file, for who looks at it only now.
    ///
    /// # Errors
    ///
    /// [`Damage`] when it does not match its checksum.
    ///
    /// # Panics
    ///
    /// When there are not so many changes.
    pub fn checked(&self, row: usize) -> Result<(Place, &[u8]), Damage> {
        let (place, _, encoded) = self.checked_parts(row)?;
        Ok((place, encoded))
    }

    fn checked_parts(&self, row: usize) -> Result<(Place, u64, &[u8]), Damage> {
        let place = self.place(row);
        let Place { main, sub } = place;
        let frame = self.frame(row)?;
        let (checksum, content) = frame.split_at(CHECKSUM_BYTES);
        let expected = u32_at(checksum, 0);
        let actual = frame_checksum(place, content);
        if actual != expected {
            return Err(self.damage(
                self.frame_offset(row),
                Fault::Checksum {
                    main,
                    sub,
                    expected,
                    actual,
                },
            ));
        }
        let mut rest = content;
        let frees_bytes = decode_varint(&mut rest)
            .map_err(|_| self.damage(self.frame_offset(row), Fault::Frame { main, sub }))?;
        Ok((place, frees_bytes, rest))
    }

    /// A change by its number, from 0, without comparing it with its checksum: only for what is found out to be wrong
    /// later if it is.
    ///
    /// # Errors
    ///
    /// [`Damage`] when it cannot be read.
    ///
    /// # Panics
    ///
    /// When there are not so many changes.
    pub fn unchecked(&self, row: usize) -> Result<(Place, &[u8]), Damage> {
        let place = self.place(row);
        let mut rest = self.frame(row)?.split_at(CHECKSUM_BYTES).1;
        let frees_bytes = decode_varint(&mut rest);
        frees_bytes.map_err(|_| {
            let Place { main, sub } = place;
            self.damage(self.frame_offset(row), Fault::Frame { main, sub })
        })?;
        Ok((place, rest))
    }

    /// The changes from a place on, ascending.
    ///
    /// A damaged row of the table could mislead the search, and changes would be missing. It would end
    /// beside that row, whose checksum then does not match; so the change before the first is checked.
    pub fn from(&self, place: Place) -> impl Iterator<Item = Result<Stored, Damage>> + '_ {
        let first = self.lower_bound(place);
        let before = first.checked_sub(1).filter(|_| place <= self.last);
        let misled = before.and_then(|row| self.at(row).err());
        let rows = if misled.is_some() { self.rows } else { first }..self.rows;
        misled
            .into_iter()
            .map(Err)
            .chain(rows.map(|row| self.at(row)))
    }

    /// Logical bytes that die when a compaction passes these store revisions.
    ///
    /// # Errors
    ///
    /// [`Damage`] when a change that had to be read does not match its checksum.
    pub fn frees_bytes(&self, mains: RangeInclusive<i64>) -> Result<u64, Damage> {
        let (first, last) = mains.into_inner();
        let start = self.lower_bound(Place {
            main: first,
            sub: 0,
        });
        let end = self.lower_bound(Place {
            main: last,
            sub: i64::MAX,
        });
        if start >= end {
            return Ok(0);
        }
        Ok(self
            .frees_before(end)?
            .saturating_sub(self.frees_before(start)?))
    }

    /// Up to where the changes from one on have a sum together, and whether they free anything. Tells it from the
    /// tables alone.
    ///
    /// # Panics
    ///
    /// When there are not so many changes.
    #[must_use]
    pub fn frees_until(&self, row: usize) -> (usize, bool) {
        assert!(row < self.rows, "a row is asked for by its number");
        let sum = row / ROWS_PER_SUM;
        let until = self.rows.min((sum + 1) * ROWS_PER_SUM);
        (until, self.sum(sum) != self.sum(sum + 1))
    }

    /// Length of a change that frees nothing, in bytes, from the tables alone; a wrong one for any other change.
    ///
    /// # Errors
    ///
    /// [`Damage`] when the tables cannot be right.
    ///
    /// # Panics
    ///
    /// When there are not so many changes.
    pub fn bytes_if_freeing_nothing(&self, row: usize) -> Result<usize, Damage> {
        let before = CHECKSUM_BYTES + encoded_len_varint(0);
        let bytes = self.frame(row)?.len().checked_sub(before);
        bytes.ok_or_else(|| self.damage(self.row_at(row), Fault::RowOrder))
    }

    /// Walks over the key table.
    #[must_use]
    pub fn keys(&self) -> Keys {
        let end = self.bytes().len() - TRAILER_BYTES;
        let table = self.bytes().slice(self.keys_offset..end);
        Keys::new(self.id, self.first.main, end as u64, table)
    }

    /// Reads the tables again and compares them with their checksum. Every read of a change checks
    /// the change; this checks the rest.
    ///
    /// # Errors
    ///
    /// [`Damage`] when they do not match.
    pub fn check_tables(&self) -> Result<(), Damage> {
        self.will_need(self.tables());
        let end = self.bytes().len() - TRAILER_BYTES + 32;
        let header = crc32c::crc32c(&self.bytes()[..HEADER_BYTES]);
        let actual = crc32c::crc32c_append(header, &self.bytes()[self.rows_offset..end]);
        if actual != self.checksum {
            let expected = self.checksum;
            let fault = Fault::TableChecksum { expected, actual };
            return Err(self.damage(self.rows_offset, fault));
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> &Bytes {
        self.file.bytes()
    }

    /// The tables, for [`Segment::will_need`].
    pub(super) fn tables(&self) -> Range<usize> {
        self.rows_offset..self.bytes().len()
    }

    /// Has these bytes read from the disk before they are walked over.
    pub(super) fn will_need(&self, bytes: Range<usize>) {
        self.file.will_need(bytes);
    }

    /// Has the bytes of these changes read from the disk, and as much of the rows from one on.
    pub(super) fn will_need_changes(&self, row: usize, frames: Range<usize>) {
        let rows = self.row_at(row);
        let rows = rows..self.keys_offset.min(rows + frames.len());
        self.file
            .will_need(frames.start..frames.end.min(self.rows_offset));
        self.file.will_need(rows);
    }

    pub(super) fn rows_offset(&self) -> usize {
        self.rows_offset
    }

    /// The frame of a change, checksum and content, unchecked.
    pub(super) fn frame(&self, row: usize) -> Result<&[u8], Damage> {
        let start = self.frame_offset(row);
        let end = if row + 1 == self.rows {
            self.rows_offset
        } else {
            self.frame_offset(row + 1)
        };
        // Checked when the file was opened; a mapped file can be damaged since.
        match self.bytes().get(start..end) {
            Some(frame) if frame.len() >= CHECKSUM_BYTES => Ok(frame),
            _ => Err(self.damage(self.row_at(row), Fault::RowOrder)),
        }
    }

    #[cfg(test)]
    pub(super) fn replace_bytes(&mut self, file: Bytes) {
        self.file = file.into();
    }

    fn check_rows(&self) -> Result<(), Damage> {
        let mut last = None;
        let mut end = HEADER_BYTES;
        for row in 0..self.rows {
            let (place, offset) = (self.place(row), self.frame_offset(row));
            if last >= Some(place) || place.main < 0 || offset < end {
                return Err(self.damage(self.row_at(row), Fault::RowOrder));
            }
            last = Some(place);
            end = offset + CHECKSUM_BYTES;
        }
        if self.frame_offset(0) != HEADER_BYTES || end > self.rows_offset {
            return Err(self.damage(self.rows_offset, Fault::RowOrder));
        }
        Ok(())
    }

    /// Freed bytes of the changes before this one.
    fn frees_before(&self, row: usize) -> Result<u64, Damage> {
        let mut sum = self.sum(row / ROWS_PER_SUM);
        for before in row / ROWS_PER_SUM * ROWS_PER_SUM..row {
            sum = sum.saturating_add(self.at(before)?.frees_bytes);
        }
        Ok(sum)
    }

    /// The sum of freed bytes of this number. The last one is of all changes.
    fn sum(&self, number: usize) -> u64 {
        let sums_offset = self.rows_offset + self.rows * ROW_BYTES;
        u64_at(self.bytes(), sums_offset + number * SUM_BYTES)
    }

    fn row_at(&self, row: usize) -> usize {
        assert!(row < self.rows, "a row is asked for by its number");
        self.rows_offset + row * ROW_BYTES
    }

    pub(super) fn frame_offset(&self, row: usize) -> usize {
        u32_at(self.bytes(), self.row_at(row) + 12) as usize
    }

    fn damage(&self, offset: usize, fault: Fault) -> Damage {
        Damage {
            segment: self.id,
            offset: offset as u64,
            fault,
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
