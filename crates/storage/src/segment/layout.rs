//! The parts of a segment file and how each is written; see `docs/formats/segment.md`.

use bytes::{BufMut, BytesMut};
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{Place, SegmentId};

/// First bytes of every segment file.
pub(super) const MAGIC: [u8; 8] = *b"KVORUMsg";
/// Last bytes of every segment file.
pub(super) const END_MAGIC: [u8; 8] = *b"gsMUROVK";
/// The format that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;
/// Magic, version, four zero bytes, number of the segment.
pub(super) const HEADER_BYTES: usize = 24;
/// Changes, offset of the revision table, offset of the key table, stored bytes, checksum, magic.
pub(super) const TRAILER_BYTES: usize = 44;
/// A row of the revision table: main, sub, offset of the frame.
pub(super) const ROW_BYTES: usize = 16;
/// Checksum before each frame's content.
pub(super) const CHECKSUM_BYTES: usize = 4;
/// The sum of freed bytes stands before each so many rows.
pub(super) const ROWS_PER_SUM: usize = 64;
/// A sum of freed bytes.
pub(super) const SUM_BYTES: usize = 8;

/// The header of a segment file.
pub(super) fn header(id: SegmentId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..].copy_from_slice(&id.0.to_le_bytes());
    header
}

/// Number of sums behind a revision table of so many rows.
pub(super) fn sums(rows: usize) -> usize {
    rows.div_ceil(ROWS_PER_SUM) + 1
}

/// Checksum of a frame: of the place and of everything behind the checksum.
pub(super) fn frame_checksum(place: Place, content: &[u8]) -> u32 {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&place.main.to_le_bytes());
    bytes[8..].copy_from_slice(&sub(place).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&bytes), content)
}

/// Appends the frame of a change.
pub(super) fn put_frame(place: Place, frees_bytes: u64, encoded: &[u8], out: &mut BytesMut) {
    out.reserve(CHECKSUM_BYTES + encoded_len_varint(frees_bytes) + encoded.len());
    let at = out.len();
    out.put_u32_le(0);
    encode_varint(frees_bytes, out);
    out.put_slice(encoded);
    let checksum = frame_checksum(place, &out[at + CHECKSUM_BYTES..]);
    out[at..at + CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

fn sub(place: Place) -> u32 {
    u32::try_from(place.sub).expect("a request makes fewer than 2^32 changes")
}

/// The revision table and its sums while a file is written.
#[derive(Debug, Default)]
pub(super) struct RowsWriter {
    rows: Vec<u8>,
    sums: Vec<u8>,
    count: usize,
    last: Option<Place>,
    frees_bytes: u64,
}

impl RowsWriter {
    pub(super) fn push(&mut self, place: Place, offset: u64, frees_bytes: u64) {
        assert!(place.main >= 0, "revisions are not negative");
        assert!(self.last < Some(place), "places ascend");
        let offset = u32::try_from(offset).expect("a segment is sealed long before 4 GiB");
        if self.count.is_multiple_of(ROWS_PER_SUM) {
            self.sums.put_u64_le(self.frees_bytes);
        }
        self.rows.put_i64_le(place.main);
        self.rows.put_u32_le(sub(place));
        self.rows.put_u32_le(offset);
        self.frees_bytes += frees_bytes;
        self.count += 1;
        self.last = Some(place);
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The first place; `None` while there is no row.
    pub(super) fn first_main(&self) -> Option<i64> {
        let bytes = self.rows.first_chunk::<8>()?;
        Some(i64::from_le_bytes(*bytes))
    }

    /// Revision table and sums.
    fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.sums.put_u64_le(self.frees_bytes);
        (self.rows, self.sums)
    }
}

/// Everything behind the frames: revision table, sums, key table, trailer.
pub(super) fn footer(
    id: SegmentId,
    frames_end: u64,
    rows: RowsWriter,
    keys: &[u8],
    stored_bytes: u64,
) -> BytesMut {
    let count = rows.count() as u64;
    let (rows, sums) = rows.finish();
    let keys_offset = frames_end + (rows.len() + sums.len()) as u64;
    let length = rows.len() + sums.len() + keys.len() + TRAILER_BYTES;
    let mut out = BytesMut::with_capacity(length);
    out.put_slice(&rows);
    out.put_slice(&sums);
    out.put_slice(keys);
    out.put_u64_le(count);
    out.put_u64_le(frames_end);
    out.put_u64_le(keys_offset);
    out.put_u64_le(stored_bytes);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header(id)), &out);
    out.put_u32_le(checksum);
    out.put_slice(&END_MAGIC);
    out
}
