//! The key table: what an index needs to know of every change, in the order of keys.
//!
//! Each key is written as the number of bytes it shares with the key before and the rest, because
//! neighbours share most: a table of a million keys with a common front takes a quarter of the
//! bytes. The table is only ever read from its front to its end.

use bytes::Bytes;
use prost::encoding::{decode_varint, encode_varint};

use super::error::{Damage, Fault};
use super::{Place, SegmentId};

/// What the key table says of one change beside the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Where the change lies in the history.
    pub place: Place,
    /// Store revision of the first write of this incarnation of the key; 0 for a tombstone.
    pub create_revision: i64,
    /// Writes of this incarnation so far, from 1; 0 for a tombstone.
    pub version: i64,
    /// The lease the key hangs on; 0 for none.
    pub lease: i64,
    /// Bytes of the pair as etcd stores it.
    pub stored_bytes: u32,
}

/// Writes a key table, keys ascending, places ascending under each key.
#[derive(Debug)]
pub(super) struct KeysWriter {
    first_main: i64,
    last_key: Vec<u8>,
    bytes: Vec<u8>,
}

impl KeysWriter {
    /// A table for a segment whose first change has this store revision.
    pub(super) fn new(first_main: i64) -> Self {
        KeysWriter {
            first_main,
            last_key: Vec::new(),
            bytes: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, key: &[u8], row: &KeyRow) {
        let shared = shared_bytes(&self.last_key, key);
        let out = &mut self.bytes;
        encode_varint(shared as u64, out);
        encode_varint((key.len() - shared) as u64, out);
        out.extend_from_slice(&key[shared..]);
        encode_varint((row.place.main - self.first_main) as u64, out);
        encode_varint(row.place.sub as u64, out);
        encode_varint(row.version as u64, out);
        if row.version != 0 {
            encode_varint((row.place.main - row.create_revision) as u64, out);
            encode_varint(row.lease as u64, out);
        }
        encode_varint(u64::from(row.stored_bytes), out);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Walks over a key table: keys ascending, places ascending under each key.
#[derive(Clone, Debug)]
pub struct Keys {
    segment: SegmentId,
    first_main: i64,
    /// Offset in the file at which the table ends.
    end: u64,
    rest: Bytes,
    key: Vec<u8>,
    row: Option<KeyRow>,
}

impl Keys {
    pub(super) fn new(segment: SegmentId, first_main: i64, end: u64, table: Bytes) -> Self {
        Keys {
            segment,
            first_main,
            end,
            rest: table,
            key: Vec::new(),
            row: None,
        }
    }

    /// Steps to the next row; `None` behind the last one. [`Keys::key`] is then the key of the row.
    ///
    /// # Errors
    ///
    /// [`Damage`] when the table cannot be read on.
    pub fn advance(&mut self) -> Result<Option<KeyRow>, Damage> {
        self.row = None;
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut rest: &[u8] = &self.rest;
        let Some(row) = decode_row(&mut rest, &mut self.key, self.first_main) else {
            return Err(Damage {
                segment: self.segment,
                offset: self.end - self.rest.len() as u64,
                fault: Fault::KeyTable,
            });
        };
        let used = self.rest.len() - rest.len();
        self.rest = self.rest.slice(used..);
        self.row = Some(row);
        Ok(self.row)
    }

    /// The key of the row that the last step returned.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The row that the last step returned.
    #[must_use]
    pub fn row(&self) -> Option<KeyRow> {
        self.row
    }
}

/// Reads a row and turns `key` from the key before into its key.
fn decode_row(rest: &mut &[u8], key: &mut Vec<u8>, first_main: i64) -> Option<KeyRow> {
    let shared = usize::try_from(number(rest)?).ok()?;
    let own = usize::try_from(number(rest)?).ok()?;
    if shared > key.len() {
        return None;
    }
    let (suffix, behind) = rest.split_at_checked(own)?;
    key.truncate(shared);
    key.extend_from_slice(suffix);
    *rest = behind;
    let main = first_main.checked_add_unsigned(number(rest)?)?;
    let sub = i64::from(u32::try_from(number(rest)?).ok()?);
    let version = i64::try_from(number(rest)?).ok()?;
    let (create_revision, lease) = match version {
        0 => (0, 0),
        _ => (
            main.checked_sub_unsigned(number(rest)?)?,
            number(rest)? as i64,
        ),
    };
    Some(KeyRow {
        place: Place { main, sub },
        create_revision,
        version,
        lease,
        stored_bytes: u32::try_from(number(rest)?).ok()?,
    })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    decode_varint(rest).ok()
}
