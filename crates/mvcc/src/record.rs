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
use std::ops::Range;

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
///
/// Beside its bytes it holds what is asked for all the time; the rest is read from them.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    encoded: Bytes,
    mod_revision: Revision,
    /// How long the key is; it comes first in `encoded`.
    key_bytes: u32,
    is_tombstone: bool,
}

/// What an encoded record says behind its key.
#[derive(Debug, Default)]
struct Fields {
    create_revision: i64,
    mod_revision: i64,
    /// 0 marks a tombstone.
    version: i64,
    /// Where the value lies in the encoded record; empty when it is.
    value: Range<usize>,
    lease: i64,
}

impl Fields {
    /// Of the bytes that [`Record::encoded`] gave, behind the key; `None` when they cannot have been.
    fn of(encoded: &[u8], key_end: usize) -> Option<Self> {
        let mut fields = Fields::default();
        let mut rest = encoded.get(key_end..)?;
        let mut before = field::KEY;
        while rest.has_remaining() {
            let (number, wire) = decode_key(&mut rest).ok()?;
            let payload = decode_varint(&mut rest).ok()?;
            let (is_value, is_bytes) = (number == field::VALUE, wire == WireType::LengthDelimited);
            if number <= before || is_value != is_bytes || !is_bytes && wire != WireType::Varint {
                return None;
            }
            before = number;
            match number {
                field::CREATE_REVISION => fields.create_revision = payload as i64,
                field::MOD_REVISION => fields.mod_revision = payload as i64,
                field::VERSION => fields.version = payload as i64,
                field::VALUE => {
                    let start = encoded.len() - rest.len();
                    rest = rest.get(usize::try_from(payload).ok()?..)?;
                    fields.value = start..encoded.len() - rest.len();
                }
                field::LEASE => fields.lease = payload as i64,
                _ => return None,
            }
        }
        Some(fields)
    }
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
        let encoded = room.fill(length, |out| {
            put_bytes(field::KEY, &key.parts(), out);
            put_number(field::CREATE_REVISION, create_revision, out);
            put_number(field::MOD_REVISION, mod_revision.main, out);
            put_number(field::VERSION, version, out);
            put_bytes(field::VALUE, &[value], out);
            put_number(field::LEASE, lease.0, out);
        });
        Record {
            encoded,
            mod_revision,
            key_bytes: length_of(key.len()),
            is_tombstone: false,
        }
    }

    /// A delete.
    pub(crate) fn tombstone(key: &[u8], mod_revision: Revision, room: &mut Room) -> Self {
        let length = field_bytes(key.len()) + number_bytes(mod_revision.main);
        let encoded = room.fill(length, |out| {
            put_bytes(field::KEY, &[key], out);
            put_number(field::MOD_REVISION, mod_revision.main, out);
        });
        Record {
            encoded,
            mod_revision,
            key_bytes: length_of(key.len()),
            is_tombstone: true,
        }
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
        Record {
            encoded: Bytes::new(),
            mod_revision,
            key_bytes: 0,
            is_tombstone: false,
        }
    }

    /// Reads the bytes that [`Record::encoded`] gave; `None` when they cannot have been.
    pub(crate) fn decode(mod_revision: Revision, encoded: Bytes) -> Option<Self> {
        if encoded.is_empty() {
            return Some(Record::raising(mod_revision));
        }
        let (key, rest) = key_at_front(&encoded)?;
        let key_bytes = u32::try_from(key.len()).ok()?;
        let key_end = encoded.len() - rest.len();
        let fields = Fields::of(&encoded, key_end)?;
        let fits = key_end == field_bytes(key.len()) && fields.mod_revision == mod_revision.main;
        fits.then_some(Record {
            mod_revision,
            key_bytes,
            is_tombstone: fields.version == 0,
            encoded,
        })
    }

    /// Where the key lies in the encoded record.
    fn key_range(&self) -> Range<usize> {
        let length = self.key_bytes as usize;
        let end = field_bytes(length);
        end - length..end
    }

    fn fields(&self) -> Fields {
        if self.encoded.is_empty() {
            return Fields {
                version: 1,
                ..Fields::default()
            };
        }
        let fields = Fields::of(&self.encoded, self.key_range().end);
        fields.expect("it was made here or has been read once before")
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.encoded[self.key_range()]
    }

    /// The key as a shared slice of the record's buffer.
    pub fn key_bytes(&self) -> Bytes {
        self.encoded.slice(self.key_range())
    }

    /// The value; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        &self.encoded[self.fields().value]
    }

    /// The value as a shared slice of the record's buffer.
    pub fn value_bytes(&self) -> Bytes {
        self.encoded.slice(self.fields().value)
    }

    /// Store revision of the first write of this incarnation of the key; 0 for a tombstone.
    pub fn create_revision(&self) -> i64 {
        self.fields().create_revision
    }

    /// Where in the history the change was made. Its `main` is `mod_revision` on the wire.
    pub fn mod_revision(&self) -> Revision {
        self.mod_revision
    }

    /// Writes of this incarnation so far, from 1; 0 for a tombstone.
    pub fn version(&self) -> i64 {
        self.fields().version
    }

    /// The lease the key hangs on; 0 for none.
    pub fn lease(&self) -> LeaseId {
        LeaseId(self.fields().lease)
    }

    /// What the index holds of it.
    pub(crate) fn change(&self) -> Change {
        let fields = self.fields();
        Change::new(
            self.mod_revision,
            fields.create_revision,
            fields.version,
            LeaseId(fields.lease),
            length_of(self.stored().len()),
        )
    }

    /// Whether the change is a delete.
    pub fn is_tombstone(&self) -> bool {
        self.is_tombstone
    }

    /// The `mvccpb.KeyValue` bytes as clients see them: the pair of a put; key and revision of a
    /// delete.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The `mvccpb.KeyValue` bytes as etcd stores them: the same for a put; the key alone for a
    /// delete.
    pub fn stored(&self) -> &[u8] {
        if self.is_tombstone {
            &self.encoded[..self.key_range().end]
        } else {
            &self.encoded
        }
    }

    /// [`Record::stored`] as a shared slice of the record's buffer.
    pub fn stored_bytes(&self) -> Bytes {
        self.encoded.slice(..self.stored().len())
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
        let fields = self.fields();
        KeyValue {
            key: self.key_bytes(),
            create_revision: fields.create_revision,
            mod_revision: self.mod_revision.main,
            version: fields.version,
            value: self.encoded.slice(fields.value),
            lease: fields.lease,
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_tombstone() { "delete" } else { "put" };
        write!(f, "{kind} {:?}@{}", self.key_bytes(), self.mod_revision)?;
        if !self.is_tombstone() {
            let (create, version) = (self.create_revision(), self.version());
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
        if encoded.is_empty() {
            return Some(Outline {
                key: &[],
                is_tombstone: false,
                stored: &[],
            });
        }
        let (key, mut rest) = key_at_front(encoded)?;
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

/// The key that an encoded record begins with, and what is behind it.
fn key_at_front(encoded: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = encoded;
    if decode_key(&mut rest).ok()? != (field::KEY, WireType::LengthDelimited) {
        return None;
    }
    let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    rest.split_at_checked(length)
}

/// Appends a field of bytes in parts, left out when empty.
fn put_bytes(number: u32, parts: &[&[u8]], out: &mut BytesMut) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > 0 {
        encode_key(number, WireType::LengthDelimited, out);
        encode_varint(length as u64, out);
        parts.iter().for_each(|part| out.put_slice(part));
    }
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

/// Of a part of a record. A message on the wire cannot be longer than a `u32` says.
fn length_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a record comes from a message, whose length is a u32")
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
