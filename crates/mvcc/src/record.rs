//! One stored change, encoded once.
//!
//! A record is made when a put or a delete is applied. Its `KeyValue` bytes are encoded then, and
//! the same bytes go to ranges, watch events, previous pairs, snapshots and hashes: nothing is
//! encoded twice, and key and value are slices of that buffer. When the record moves to a segment
//! file, the buffer is a slice of the mapped file.
//!
//! A tombstone has two forms, of which one is the front of the other: storage (the database file
//! and the hash) holds a `KeyValue` with the key alone, a DELETE event adds the revision of the
//! delete. [`Record::encoded`] gives the second, [`Record::stored`] the first.

use std::fmt;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvorum_proto::ids::LeaseId;
use kvorum_proto::mvccpb::KeyValue;
use prost::encoding::{
    WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint,
};

use crate::btree::KeyRef;
use crate::room::Room;
use crate::{Change, Revision};

/// Field numbers of `mvccpb.KeyValue`.
mod field {
    pub(super) const KEY: u32 = 1;
    pub(super) const CREATE_REVISION: u32 = 2;
    pub(super) const MOD_REVISION: u32 = 3;
    pub(super) const VERSION: u32 = 4;
    pub(super) const VALUE: u32 = 5;
    pub(super) const LEASE: u32 = 6;
}

/// Bytes that the tag of a field above takes: all numbers are below 16.
const TAG_BYTES: usize = 1;

/// One change of one key. Cheap to clone: one reference count.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(Arc<Fields>);

#[derive(PartialEq, Eq)]
struct Fields {
    encoded: Bytes,
    /// Where the key ends in `encoded`, and how long it is.
    key_end: u32,
    key_bytes: u32,
    /// Where the value ends in `encoded`, and how long it is; both 0 when it is empty.
    value_end: u32,
    value_bytes: u32,
    create_revision: i64,
    mod_revision: Revision,
    /// 0 marks a tombstone.
    version: i64,
    lease: LeaseId,
}

impl Record {
    /// A put. `version` is 1 for the first write of an incarnation of the key.
    pub(crate) fn put(
        key: &[u8],
        value: &[u8],
        lease: LeaseId,
        create_revision: i64,
        mod_revision: Revision,
        version: i64,
        room: &mut Room,
    ) -> Self {
        Record::encode(
            KeyRef::whole(key),
            value,
            lease,
            create_revision,
            mod_revision,
            version,
            room,
        )
    }

    fn encode(
        key: KeyRef<'_>,
        value: &[u8],
        lease: LeaseId,
        create_revision: i64,
        mod_revision: Revision,
        version: i64,
        room: &mut Room,
    ) -> Self {
        assert!(version > 0, "a live pair has a version");
        let numbers = number_bytes(create_revision)
            + number_bytes(mod_revision.main)
            + number_bytes(version)
            + number_bytes(lease.0);
        let length = field_bytes(key.len()) + numbers + field_bytes(value.len());
        let (mut key_end, mut value_end) = (0, 0);
        let encoded = room.fill(length, |out| {
            key_end = put_bytes(field::KEY, &key.parts(), out);
            put_number(field::CREATE_REVISION, create_revision, out);
            put_number(field::MOD_REVISION, mod_revision.main, out);
            put_number(field::VERSION, version, out);
            if !value.is_empty() {
                value_end = put_bytes(field::VALUE, &[value], out);
            }
            put_number(field::LEASE, lease.0, out);
        });
        Record(Arc::new(Fields {
            encoded,
            key_end,
            key_bytes: offset(key.len()),
            value_end,
            value_bytes: offset(value.len()),
            create_revision,
            mod_revision,
            version,
            lease,
        }))
    }

    /// A delete.
    pub(crate) fn tombstone(key: &[u8], mod_revision: Revision, room: &mut Room) -> Self {
        let length = field_bytes(key.len()) + number_bytes(mod_revision.main);
        let mut key_end = 0;
        let encoded = room.fill(length, |out| {
            key_end = put_bytes(field::KEY, &[key], out);
            put_number(field::MOD_REVISION, mod_revision.main, out);
        });
        Record(Arc::new(Fields {
            encoded,
            key_end,
            key_bytes: offset(key.len()),
            value_end: 0,
            value_bytes: 0,
            create_revision: 0,
            mod_revision,
            version: 0,
            lease: LeaseId(0),
        }))
    }

    /// A pair as a range shows it that asks for no values: made from what the index knows. A range
    /// that did not read the pair does not know its lease either.
    pub(crate) fn without_value(key: KeyRef<'_>, change: &Change, with_lease: bool) -> Self {
        let lease = if with_lease {
            change.lease()
        } else {
            LeaseId(0)
        };
        let (create, version) = (change.create_revision(), change.version());
        let at = change.mod_revision();
        Record::encode(key, b"", lease, create, at, version, &mut Room::none())
    }

    /// The change that raises the revision of a restored member and does nothing else: a pair of
    /// the empty key, which no request can name, stored in no bytes at all.
    ///
    /// Source: etcd v3.7.1, `etcdutl/snapshot/v3_snapshot.go` (`unsafeBumpBucketsRevision`).
    pub(crate) fn raising(mod_revision: Revision) -> Self {
        Record(Arc::new(Fields {
            encoded: Bytes::new(),
            key_end: 0,
            key_bytes: 0,
            value_end: 0,
            value_bytes: 0,
            create_revision: 0,
            mod_revision,
            version: 1,
            lease: LeaseId(0),
        }))
    }

    /// Reads the bytes that [`Record::encoded`] gave; `None` when they cannot have been.
    pub(crate) fn decode(mod_revision: Revision, encoded: Bytes) -> Option<Self> {
        if encoded.is_empty() {
            return Some(Record::raising(mod_revision));
        }
        let mut fields = Fields {
            key_end: 0,
            key_bytes: 0,
            value_end: 0,
            value_bytes: 0,
            create_revision: 0,
            mod_revision,
            version: 0,
            lease: LeaseId(0),
            encoded: Bytes::new(),
        };
        let mut rest: &[u8] = &encoded;
        while rest.has_remaining() {
            let (number, wire) = decode_key(&mut rest).ok()?;
            let payload = decode_varint(&mut rest).ok()?;
            if wire == WireType::LengthDelimited {
                let length = usize::try_from(payload).ok()?;
                rest = rest.get(length..)?;
                let end = u32::try_from(encoded.len() - rest.len()).ok()?;
                let length = u32::try_from(length).ok()?;
                match number {
                    field::KEY => (fields.key_end, fields.key_bytes) = (end, length),
                    field::VALUE => (fields.value_end, fields.value_bytes) = (end, length),
                    _ => return None,
                }
                continue;
            }
            let payload = payload as i64;
            match number {
                _ if wire != WireType::Varint => return None,
                field::CREATE_REVISION => fields.create_revision = payload,
                field::MOD_REVISION if payload == mod_revision.main => {}
                field::VERSION => fields.version = payload,
                field::LEASE => fields.lease = LeaseId(payload),
                _ => return None,
            }
        }
        fields.encoded = encoded;
        Some(Record(Arc::new(fields)))
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        let end = self.0.key_end as usize;
        &self.0.encoded[end - self.0.key_bytes as usize..end]
    }

    /// The key as a shared slice of the record's buffer.
    pub fn key_bytes(&self) -> Bytes {
        let end = self.0.key_end as usize;
        self.0.encoded.slice(end - self.0.key_bytes as usize..end)
    }

    /// The value; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        let end = self.0.value_end as usize;
        &self.0.encoded[end - self.0.value_bytes as usize..end]
    }

    /// The value as a shared slice of the record's buffer.
    pub fn value_bytes(&self) -> Bytes {
        let end = self.0.value_end as usize;
        self.0.encoded.slice(end - self.0.value_bytes as usize..end)
    }

    /// Store revision of the first write of this incarnation of the key; 0 for a tombstone.
    pub fn create_revision(&self) -> i64 {
        self.0.create_revision
    }

    /// Where in the history the change was made. Its `main` is `mod_revision` on the wire.
    pub fn mod_revision(&self) -> Revision {
        self.0.mod_revision
    }

    /// Writes of this incarnation so far, from 1; 0 for a tombstone.
    pub fn version(&self) -> i64 {
        self.0.version
    }

    /// The lease the key hangs on; 0 for none.
    pub fn lease(&self) -> LeaseId {
        self.0.lease
    }

    /// Whether the change is a delete.
    pub fn is_tombstone(&self) -> bool {
        self.0.version == 0
    }

    /// The `mvccpb.KeyValue` bytes as clients see them: the pair of a put; key and revision of a
    /// delete.
    pub fn encoded(&self) -> &Bytes {
        &self.0.encoded
    }

    /// The `mvccpb.KeyValue` bytes as etcd stores them: the same for a put; the key alone for a
    /// delete.
    pub fn stored(&self) -> &[u8] {
        if self.is_tombstone() {
            &self.0.encoded[..self.0.key_end as usize]
        } else {
            &self.0.encoded
        }
    }

    /// [`Record::stored`] as a shared slice of the record's buffer.
    pub fn stored_bytes(&self) -> Bytes {
        self.0.encoded.slice(..self.stored().len())
    }

    /// What [`Outline::of`] its bytes gives.
    pub(crate) fn outline(&self) -> Outline<'_> {
        Outline {
            key: self.key(),
            is_tombstone: self.is_tombstone(),
            stored: self.stored(),
        }
    }

    /// The pair as a message; key and value share the record's buffer.
    pub fn to_key_value(&self) -> KeyValue {
        KeyValue {
            key: self.key_bytes(),
            create_revision: self.0.create_revision,
            mod_revision: self.0.mod_revision.main,
            version: self.0.version,
            value: self.value_bytes(),
            lease: self.0.lease.0,
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_tombstone() { "delete" } else { "put" };
        write!(f, "{kind} {:?}@{}", self.key_bytes(), self.0.mod_revision)?;
        if !self.is_tombstone() {
            let (create, version) = (self.0.create_revision, self.0.version);
            write!(
                f,
                " create {create} version {version} value {:?}",
                self.value_bytes()
            )?;
        }
        Ok(())
    }
}

/// What an encoded record says of itself at its front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) is_tombstone: bool,
    /// [`Record::stored`].
    pub(crate) stored: &'a [u8],
}

impl<'a> Outline<'a> {
    /// Of the bytes that [`Record::encoded`] gave; `None` when they cannot have been.
    pub(crate) fn of(encoded: &'a [u8]) -> Option<Self> {
        let mut rest = encoded;
        if rest.is_empty() {
            return Some(Outline {
                key: &[],
                is_tombstone: false,
                stored: &[],
            });
        }
        if decode_key(&mut rest).ok()? != (field::KEY, WireType::LengthDelimited) {
            return None;
        }
        let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
        let (key, mut rest) = rest.split_at_checked(length)?;
        let key_end = encoded.len() - rest.len();
        // Numbers come in the order of their fields, and only a pair has a version.
        let mut is_tombstone = true;
        while is_tombstone && rest.has_remaining() {
            let (number, wire) = decode_key(&mut rest).ok()?;
            if wire != WireType::Varint || number > field::VERSION {
                return None;
            }
            decode_varint(&mut rest).ok()?;
            is_tombstone = number != field::VERSION;
        }
        let stored_bytes = if is_tombstone { key_end } else { encoded.len() };
        let stored = &encoded[..stored_bytes];
        Some(Outline {
            key,
            is_tombstone,
            stored,
        })
    }
}

/// Appends a field of bytes in parts, left out when empty; returns where the buffer ends then.
fn put_bytes(number: u32, parts: &[&[u8]], out: &mut BytesMut) -> u32 {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > 0 {
        encode_key(number, WireType::LengthDelimited, out);
        encode_varint(length as u64, out);
        parts.iter().for_each(|part| out.put_slice(part));
    }
    offset(out.len())
}

/// Appends a field with a number, left out when zero.
fn put_number(number: u32, value: i64, out: &mut BytesMut) {
    if value != 0 {
        encode_key(number, WireType::Varint, out);
        encode_varint(value as u64, out);
    }
}

fn field_bytes(length: usize) -> usize {
    if length == 0 {
        return 0;
    }
    TAG_BYTES + encoded_len_varint(length as u64) + length
}

fn number_bytes(value: i64) -> usize {
    if value == 0 {
        0
    } else {
        TAG_BYTES + encoded_len_varint(value as u64)
    }
}

/// A place in an encoded record. A message on the wire cannot be longer than a `u32` says.
fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a record comes from a message, whose length is a u32")
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn at(main: i64) -> Revision {
        Revision { main, sub: 3 }
    }

    fn check_outline(record: &Record) {
        assert_eq!(Outline::of(record.encoded()), Some(record.outline()));
    }

    #[test]
    fn bytes_are_those_of_the_message() {
        for (key, value, lease) in [
            (&b"k"[..], &b"value"[..], 0),
            (b"k", b"", 0),
            (b"a longer key", &[7; 300], 0x0568_a1fb_6884_c187),
            (b"k", b"", -1),
        ] {
            let record = Record::put(
                key,
                value,
                LeaseId(lease),
                13,
                at(1300),
                5,
                &mut Room::none(),
            );
            let message = record.to_key_value();
            assert_eq!(record.encoded().as_ref(), message.encode_to_vec());
            assert_eq!(record.stored(), message.encode_to_vec());
            assert_eq!((record.key(), record.value()), (key, value));
            for with_lease in [false, true] {
                let lease = if with_lease { lease } else { 0 };
                let bare = KeyValue {
                    value: Bytes::new(),
                    lease,
                    ..message.clone()
                };
                let shown =
                    Record::without_value(KeyRef::whole(key), &Change::of(&record), with_lease);
                assert_eq!(shown.encoded().as_ref(), bare.encode_to_vec());
            }
            let read = Record::decode(record.mod_revision(), record.encoded().clone());
            assert_eq!(read.as_ref(), Some(&record));
            check_outline(&record);
            let elsewhere = at(1301);
            assert_eq!(Record::decode(elsewhere, record.encoded().clone()), None);
            let cut = record.encoded().slice(..record.encoded().len() - 1);
            assert_eq!(Record::decode(record.mod_revision(), cut), None);
        }
    }

    #[test]
    fn a_tombstone_is_stored_as_its_key_and_seen_with_its_revision() {
        let record = Record::tombstone(b"ml/568a1fb6884c105", at(3), &mut Room::none());
        let stored = KeyValue {
            key: record.key_bytes(),
            ..Default::default()
        };
        assert_eq!(record.stored(), stored.encode_to_vec());
        let seen = KeyValue {
            mod_revision: 3,
            ..stored
        };
        assert_eq!(record.encoded().as_ref(), seen.encode_to_vec());
        assert_eq!(record.to_key_value(), seen);
        assert!(record.is_tombstone());
        check_outline(&record);
        let read = Record::decode(record.mod_revision(), record.encoded().clone());
        assert_eq!(read, Some(record));
    }

    #[test]
    fn a_change_that_only_raises_the_revision_is_stored_in_no_bytes() {
        let record = Record::raising(at(9));
        assert_eq!((record.stored(), record.key()), (&b""[..], &b""[..]));
        assert!(!record.is_tombstone());
        check_outline(&record);
        assert_eq!(Record::decode(at(9), Bytes::new()), Some(record));
    }

    #[test]
    fn a_put_looks_like_the_sample_of_the_official_database() {
        let record = Record::put(
            b"a",
            b"b",
            LeaseId(0),
            13,
            Revision::start_of(13),
            1,
            &mut Room::none(),
        );
        assert_eq!(
            record.stored(),
            b"\x0a\x01a\x10\x0d\x18\x0d\x20\x01\x2a\x01b"
        );
    }
}
