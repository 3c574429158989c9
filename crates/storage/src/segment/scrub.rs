//! Reading a whole segment again, to find damage that no read has met.
//!
//! Opening a segment checks everything but the changes, and each read of a change checks that one. A
//! scrub checks both once more, a bounded piece at a time: the header and the tables against the
//! checksum that was right when the file was opened, then each change against its own.

use super::ahead::Ahead;
use super::error::{Damage, Fault};
use super::layout::{END_MAGIC, HEADER_BYTES, TRAILER_BYTES};
use super::read::Segment;

/// A walk over one segment.
#[derive(Debug)]
pub struct Scrub {
    segment: Segment,
    next: Next,
}

#[derive(Debug)]
enum Next {
    /// The tables from this offset on; `checksum` is that of what comes before.
    Tables { offset: usize, checksum: u32 },
    /// The change of this number.
    Row { row: usize, ahead: Ahead },
}

impl Scrub {
    /// At the beginning of a segment.
    #[must_use]
    pub fn new(segment: Segment) -> Self {
        let next = Next::Tables {
            offset: segment.rows_offset(),
            checksum: crc32c::crc32c(&segment.bytes()[..HEADER_BYTES]),
        };
        Scrub { segment, next }
    }

    /// The segment that is looked at.
    #[must_use]
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Checks about so many bytes more, at least something. Returns how many, and whether that was
    /// all.
    ///
    /// # Errors
    ///
    /// The first [`Damage`] that is met.
    pub fn step(&mut self, budget_bytes: usize) -> Result<(usize, bool), Damage> {
        match self.next {
            Next::Tables { offset, checksum } => self.tables(offset, checksum, budget_bytes.max(1)),
            Next::Row { row, ahead } => self.rows(row, ahead, budget_bytes.max(1)),
        }
    }

    fn tables(
        &mut self,
        offset: usize,
        checksum: u32,
        budget_bytes: usize,
    ) -> Result<(usize, bool), Damage> {
        let file = self.segment.bytes();
        let end = file.len() - TRAILER_BYTES + 32;
        let until = end.min(offset.saturating_add(budget_bytes));
        self.segment.will_need(offset..until);
        let checksum = crc32c::crc32c_append(checksum, &file[offset..until]);
        self.next = if until < end {
            Next::Tables {
                offset: until,
                checksum,
            }
        } else {
            self.check_end(checksum)?;
            Next::Row {
                row: 0,
                ahead: Ahead::default(),
            }
        };
        Ok((until - offset, false))
    }

    /// Compares the checksum of the tables with the one that the file was opened with, and the bytes
    /// behind them with what they have to be.
    fn check_end(&self, actual: u32) -> Result<(), Damage> {
        let (file, expected) = (self.segment.bytes(), self.segment.checksum());
        let stored = file.len() - TRAILER_BYTES + 32;
        let fail = |offset: usize, fault| Damage {
            segment: self.segment.id(),
            offset: offset as u64,
            fault,
        };
        if actual != expected {
            let fault = Fault::TableChecksum { expected, actual };
            return Err(fail(self.segment.rows_offset(), fault));
        }
        if file[stored..stored + 4] != expected.to_le_bytes() {
            let mut found = [0; 4];
            found.copy_from_slice(&file[stored..stored + 4]);
            let actual = u32::from_le_bytes(found);
            return Err(fail(stored, Fault::TableChecksum { expected, actual }));
        }
        if file[stored + 4..] != END_MAGIC {
            return Err(fail(stored + 4, Fault::Magic));
        }
        Ok(())
    }

    fn rows(
        &mut self,
        first: usize,
        mut ahead: Ahead,
        budget_bytes: usize,
    ) -> Result<(usize, bool), Damage> {
        let (mut row, mut bytes) = (first, 0);
        while row < self.segment.changes() && bytes < budget_bytes {
            ahead.reach(&self.segment, row);
            bytes += self.segment.at(row)?.encoded.len();
            row += 1;
        }
        self.next = Next::Row { row, ahead };
        Ok((bytes, row == self.segment.changes()))
    }
}
