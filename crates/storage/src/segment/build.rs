//! Writing the run in memory as a segment.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::encoded_len_varint;

use super::keys::{KeyRow, KeysWriter};
use super::layout::{self, RowsWriter};
use super::{Entry, SegmentId};

/// Makes the whole image of a segment in memory. It copies and sorts: some ten milliseconds for
/// [`super::SEGMENT_BYTES`], so it belongs to the background.
#[derive(Debug)]
pub struct Builder {
    id: SegmentId,
    image: BytesMut,
    rows: RowsWriter,
    /// Where in the image each key lies.
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
            rows: RowsWriter::default(),
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
            .push(entry.place, self.image.len() as u64, entry.frees_bytes);
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
        self.keys.push((start as u32, key.len() as u32, row));
        self.stored_bytes += u64::from(entry.stored_bytes);
    }

    /// Bytes of the file so far, without its tables.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        self.image.len() as u64
    }

    /// The bytes of the file.
    ///
    /// # Panics
    ///
    /// When there is no change in it.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let first = self.rows.first_main().expect("a segment holds a change");
        let image = &self.image;
        let key = |(start, length, _): &(u32, u32, KeyRow)| {
            let start = *start as usize;
            &image[start..start + *length as usize]
        };
        // The sort is stable, and changes were pushed in the order of their places.
        self.keys.sort_by(|a, b| key(a).cmp(key(b)));
        let mut keys = KeysWriter::new(first);
        for entry in &self.keys {
            keys.push(key(entry), &entry.2);
        }
        let frames_end = self.image.len() as u64;
        let keys = keys.finish();
        let footer = layout::footer(self.id, frames_end, self.rows, &keys, self.stored_bytes);
        self.image.unsplit(footer);
        self.image.freeze()
    }
}
