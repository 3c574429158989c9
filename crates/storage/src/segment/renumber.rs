//! The file of a segment under another number.
//!
//! The number stands in the header, and the checksum of the tables covers the header: nothing else of a file depends on
//! it. So the file can be given to somebody who numbers segments differently without being made anew.

use bytes::Bytes;

use super::SegmentId;
use super::layout::{END_MAGIC, HEADER_BYTES, TRAILER_BYTES, header};
use super::read::Segment;

/// Where in the trailer the checksum stands.
const CHECKSUM_AT: usize = 32;

impl Segment {
    /// What the file would be under this number: in pieces, one behind the other. Most of it is the file itself and
    /// is not copied. Reads the tables.
    #[must_use]
    pub fn renumbered(&self, id: SegmentId) -> [Bytes; 3] {
        let file = self.bytes();
        let header = header(id);
        let checksum_at = file.len() - TRAILER_BYTES + CHECKSUM_AT;
        let tables = &file[self.rows_offset()..checksum_at];
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&header), tables);
        let end = [&checksum.to_le_bytes()[..], &END_MAGIC].concat();
        [
            Bytes::copy_from_slice(&header),
            file.slice(HEADER_BYTES..checksum_at),
            end.into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, Entry, Place};
    use super::*;

    fn file(id: SegmentId) -> Bytes {
        let mut builder = Builder::new(id);
        for main in 2..200 {
            builder.push(&Entry {
                place: Place { main, sub: 0 },
                frees_bytes: 0,
                key: b"k",
                encoded: b"\x0a\x01k\x10\x02",
                stored_bytes: 6,
                create_revision: 2,
                version: main - 1,
                lease: 0,
            });
        }
        builder.finish()
    }

    #[test]
    fn a_renumbered_file_is_the_one_that_would_have_been_made() {
        let (old, new) = (SegmentId(3), SegmentId(1 << 40));
        let segment = Segment::open(old, file(old)).expect("whole");
        assert_eq!(segment.renumbered(new).concat(), file(new));
        assert_eq!(segment.renumbered(old).concat(), file(old));
    }
}
