//! Writing the run in memory as a segment.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::encoded_len_varint;

use super::keys::{KeyRow, KeysWriter};
use super::layout::{self, RowsWriter};
use super::{Entry, SegmentId};

/// Makes the bytes of a segment, to be written as they come: only its tables stay in memory to the end. It copies and
/// sorts: some ten milliseconds for [`super::SEGMENT_BYTES`], so it belongs to the background.
#[derive(Debug)]
pub struct Builder {
    id: SegmentId,
    /// What was not taken yet.
    image: BytesMut,
    /// Bytes that were taken.
    taken: u64,
    rows: RowsWriter,
    key_bytes: Vec<u8>,
    /// Where in `key_bytes` each key begins, and its length.
    keys: Vec<(u32, u32, KeyRow)>,
    stored_bytes: u64,
}

impl Builder {
    /// A segment without changes.
    #[must_use]
    pub fn new(id: SegmentId) -> Self {
        let mut image = BytesMut::new();
        image.put_slice(&layout::header(id));
        Builder {
            id,
            image,
            taken: 0,
            rows: RowsWriter::default(),
            key_bytes: Vec::new(),
            keys: Vec::new(),
            stored_bytes: 0,
        }
    }

    /// Adds the next change.
    ///
    /// # Panics
    ///
    /// When places do not ascend, the encoded bytes do not begin with the key, or the segment
    /// reaches 4 GiB, 256 times the size at which a run is sealed.
    pub fn push(&mut self, entry: &Entry<'_>) {
        let encoded = entry.encoded;
        self.rows
            .push(entry.place, self.frame_bytes(), entry.frees_bytes);
        layout::put_frame(entry.place, entry.frees_bytes, encoded, &mut self.image);
        let front = match entry.key.len() {
            0 => 0,
            length => 1 + encoded_len_varint(length as u64),
        };
        let start = self.image.len() - encoded.len() + front;
        let key = &self.image[start..start + entry.key.len()];
        assert_eq!(key, entry.key, "the encoded pair begins with its key");
        let row = KeyRow {
            place: entry.place,
            create_revision: entry.create_revision,
            version: entry.version,
            lease: entry.lease,
            stored_bytes: entry.stored_bytes,
        };
        // Keys are bytes of frames, which end before 4 GiB.
        let start = self.key_bytes.len() as u32;
        self.key_bytes.extend_from_slice(key);
        self.keys.push((start, entry.key.len() as u32, row));
        self.stored_bytes += u64::from(entry.stored_bytes);
    }

    /// Bytes of the file so far, without its tables.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        self.taken + self.image.len() as u64
    }

    /// The next bytes of the file, as far as they are there.
    pub fn take(&mut self) -> Bytes {
        self.taken += self.image.len() as u64;
        self.image.split().freeze()
    }

    /// The bytes of the file that were not taken.
    ///
    /// # Panics
    ///
    /// When there is no change in it.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let first = self.rows.first_main().expect("a segment holds a change");
        let key_bytes = &self.key_bytes;
        let key = |(start, length, _): &(u32, u32, KeyRow)| {
            let start = *start as usize;
            &key_bytes[start..start + *length as usize]
        };
        // The sort is stable, and changes were pushed in the order of their places.
        self.keys.sort_by(|a, b| key(a).cmp(key(b)));
        let mut keys = KeysWriter::new(first);
        for entry in &self.keys {
            keys.push(key(entry), &entry.2);
        }
        let frames_end = self.frame_bytes();
        let keys = keys.finish();
        let footer = layout::footer(self.id, frames_end, self.rows, &keys, self.stored_bytes);
        self.image.unsplit(footer);
        self.image.freeze()
    }
}
