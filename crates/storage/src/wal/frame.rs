//! Frames and records: the bytes of a log file. The layout is in `docs/formats/wal.md`.
//!
//! Writing goes by hand straight into the buffer of the group, because every put passes here.
//! Reading trusts nothing: a frame is what its length field, its padding and its record agree on.

use bytes::BufMut;
use kvorum_proto::etcdserverpb;
use kvorum_proto::ids::{ClusterId, MemberId};
use kvorum_proto::raftpb::{Entry, HardState};
use kvorum_proto::walpb::Snapshot;
use prost::Message;

use super::error::Damage;

/// Every frame begins at a multiple of this.
pub(super) const ALIGNMENT_BYTES: usize = 8;
/// Bytes of the length field before each record.
pub(super) const LENGTH_BYTES: usize = 8;
/// Low bits of the length field that hold the record's size.
const SIZE_BITS: u32 = 56;

const TAG_KIND: u8 = 1 << 3;
const TAG_CRC: u8 = 2 << 3;
const TAG_DATA: u8 = 3 << 3 | 2;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Metadata = 1,
    Entry = 2,
    State = 3,
    Crc = 4,
    Snapshot = 5,
}

impl Kind {
    fn from_wire(kind: u64) -> Option<Self> {
        [
            Self::Metadata,
            Self::Entry,
            Self::State,
            Self::Crc,
            Self::Snapshot,
        ]
        .into_iter()
        .find(|known| *known as u64 == kind)
    }
}

/// Whose log this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The member that writes it.
    pub node: MemberId,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
}

/// Appends records to a buffer and carries the running checksum from one to the next.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    crc: u32,
}

impl Encoder {
    /// Goes on after a record with this checksum; 0 at the start of a log.
    pub(super) fn new(crc: u32) -> Self {
        Self {
            bytes: Vec::new(),
            crc,
        }
    }

    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The checksum of the last record.
    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// Hands out what was gathered; the checksum stays.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        self.replace_bytes(Vec::new())
    }

    /// The same; goes on in this memory, which must be empty.
    pub(super) fn replace_bytes(&mut self, memory: Vec<u8>) -> Vec<u8> {
        debug_assert!(memory.is_empty(), "a group begins empty");
        std::mem::replace(&mut self.bytes, memory)
    }

    /// A record that repeats the running checksum. It begins every file and every group.
    pub(super) fn checksum(&mut self) {
        self.record(Kind::Crc, &[]);
    }

    pub(super) fn metadata(&mut self, metadata: &Metadata) {
        let mut head = Small::new();
        head.field(1, metadata.node.0);
        head.field(2, metadata.cluster.0);
        self.record(Kind::Metadata, &[head.as_slice()]);
    }

    pub(super) fn entry(&mut self, entry: &Entry) {
        let mut head = Small::new();
        // Negative numbers are sign-extended on the wire; no entry type is one.
        head.field(1, i64::from(entry.r#type.unwrap_or(0)) as u64);
        head.field(2, entry.term.unwrap_or(0));
        head.field(3, entry.index.unwrap_or(0));
        match &entry.data {
            Some(data) => {
                head.byte(4 << 3 | 2);
                head.varint(data.len() as u64);
                self.record(Kind::Entry, &[head.as_slice(), data]);
            }
            None => self.record(Kind::Entry, &[head.as_slice()]),
        }
    }

    pub(super) fn state(&mut self, state: &HardState) {
        let mut head = Small::new();
        head.field(1, state.term.unwrap_or(0));
        head.field(2, state.vote.unwrap_or(0));
        head.field(3, state.commit.unwrap_or(0));
        self.record(Kind::State, &[head.as_slice()]);
    }

    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) {
        // Rare, so it may take the general way; the scalars are written even when zero.
        let whole = Snapshot {
            index: Some(snapshot.index.unwrap_or(0)),
            term: Some(snapshot.term.unwrap_or(0)),
            conf_state: snapshot.conf_state.clone(),
        };
        self.record(Kind::Snapshot, &[&whole.encode_to_vec()]);
    }

    /// One frame whose data is these parts in a row.
    fn record(&mut self, kind: Kind, parts: &[&[u8]]) {
        let mut data_bytes = 0;
        for part in parts {
            self.crc = crc32c::crc32c_append(self.crc, part);
            data_bytes += part.len();
        }
        let mut head = Small::new();
        head.byte(TAG_KIND);
        head.byte(kind as u8);
        head.byte(TAG_CRC);
        head.varint(u64::from(self.crc));
        if !parts.is_empty() {
            head.byte(TAG_DATA);
            head.varint(data_bytes as u64);
        }
        let size = head.as_slice().len() + data_bytes;
        let padding = padding(size);
        self.bytes.reserve(LENGTH_BYTES + size + padding);
        self.bytes.put_u64_le(length_field(size));
        self.bytes.extend_from_slice(head.as_slice());
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes
            .extend_from_slice(&[0; ALIGNMENT_BYTES][..padding]);
    }
}

/// The few bytes before the data of a record or an entry, without an allocation.
struct Small {
    /// Four fields of a tag and ten bytes each are the most that is ever put here.
    bytes: [u8; 48],
    length: usize,
}

impl Small {
    fn new() -> Self {
        Self {
            bytes: [0; 48],
            length: 0,
        }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    fn field(&mut self, number: u8, value: u64) {
        self.byte(number << 3);
        self.varint(value);
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

fn padding(size: usize) -> usize {
    size.wrapping_neg() % ALIGNMENT_BYTES
}

fn length_field(size: usize) -> u64 {
    let padding = padding(size) as u64;
    let flag = if padding == 0 { 0 } else { 0x80 | padding };
    size as u64 | flag << SIZE_BITS
}

/// Size of the record, by a length field that is not zero; `None` when it cannot be one.
pub(super) fn record_size(field: u64) -> Option<usize> {
    let size = usize::try_from(field & ((1 << SIZE_BITS) - 1)).ok()?;
    (size != 0 && length_field(size) == field).then_some(size)
}

/// Bytes of the whole frame around a record of this size.
pub(super) fn frame_bytes(size: usize) -> usize {
    LENGTH_BYTES
        .saturating_add(size)
        .saturating_add(padding(size))
}

/// A record as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) crc: u32,
    /// Empty in checksum records only.
    pub(super) data: &'a [u8],
}

/// What stands at one offset of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A well-formed frame. Its checksum was not looked at.
    Record { record: Record<'a>, end: usize },
    /// A length field of zero, or the end of the file.
    End,
    /// Neither.
    Damaged(Damage),
}

/// Reads the frame at `offset`, which is a multiple of [`ALIGNMENT_BYTES`] within the file.
pub(super) fn read(file: &[u8], offset: usize) -> Next<'_> {
    let rest = &file[offset..];
    let Some((field, body)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
        return match rest.iter().all(|byte| *byte == 0) {
            true => Next::End,
            false => Next::Damaged(Damage::Truncated {
                frame: LENGTH_BYTES as u64,
                left: rest.len() as u64,
            }),
        };
    };
    let field = u64::from_le_bytes(*field);
    if field == 0 {
        return Next::End;
    }
    let Some(size) = record_size(field) else {
        return Next::Damaged(Damage::Length(field));
    };
    let frame = frame_bytes(size);
    if frame > rest.len() {
        let (frame, left) = (frame as u64, rest.len() as u64);
        return Next::Damaged(Damage::Truncated { frame, left });
    }
    let (body, padding) = body[..frame - LENGTH_BYTES].split_at(size);
    if padding.iter().any(|byte| *byte != 0) {
        return Next::Damaged(Damage::Padding);
    }
    match read_record(body, size) {
        Ok(Some(record)) => Next::Record {
            record,
            end: offset + frame,
        },
        Ok(None) => Next::Damaged(Damage::Record),
        Err(damage) => Next::Damaged(damage),
    }
}

/// Reads a record of `size` bytes of which `bytes` are there. `None`: more bytes are needed.
///
/// Only the data may be cut short without being noticed as damage, so a torn record can be told
/// from one whose length field lies.
///
/// # Errors
///
/// The bytes that are there cannot begin a record of that size.
pub(super) fn read_record(bytes: &[u8], size: usize) -> Result<Option<Record<'_>>, Damage> {
    let mut cursor = Cursor { bytes, at: 0, size };
    let Some(TAG_KIND) = cursor.byte()? else {
        return if bytes.is_empty() {
            Ok(None)
        } else {
            Err(Damage::Record)
        };
    };
    let Some(kind) = cursor.varint()? else {
        return Ok(None);
    };
    let kind = Kind::from_wire(kind).ok_or(Damage::Kind(kind))?;
    let Some(tag) = cursor.byte()? else {
        return Ok(None);
    };
    if tag != TAG_CRC {
        return Err(Damage::Record);
    }
    let Some(crc) = cursor.varint()? else {
        return Ok(None);
    };
    let crc = u32::try_from(crc).map_err(|_| Damage::Record)?;
    if kind == Kind::Crc {
        return if cursor.at == size {
            Ok(Some(Record {
                kind,
                crc,
                data: &[],
            }))
        } else {
            Err(Damage::Record)
        };
    }
    let Some(tag) = cursor.byte()? else {
        return Ok(None);
    };
    if tag != TAG_DATA {
        return Err(Damage::Record);
    }
    let Some(length) = cursor.varint()? else {
        return Ok(None);
    };
    if length != (size - cursor.at) as u64 {
        return Err(Damage::Record);
    }
    let data = &bytes[cursor.at..];
    Ok((bytes.len() == size).then_some(Record { kind, crc, data }))
}

/// Reads the first fields of a record of `size` bytes of which `bytes` are there.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    size: usize,
}

impl Cursor<'_> {
    /// The next byte; `None` when the record has it but it is not there.
    fn byte(&mut self) -> Result<Option<u8>, Damage> {
        if self.at >= self.size {
            return Err(Damage::Record);
        }
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<Option<u64>, Damage> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.byte()? else {
                return Ok(None);
            };
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(Some(value));
            }
        }
        Err(Damage::Record)
    }
}

/// Decodes a metadata record's data.
pub(super) fn metadata(data: &[u8]) -> Result<Metadata, Damage> {
    let message = whole(data, "metadata", |message: &etcdserverpb::Metadata| {
        // These fields are written even when zero, which the message type does not do.
        let zeros = usize::from(message.node_id == 0) + usize::from(message.cluster_id == 0);
        message.encoded_len() + 2 * zeros
    })?;
    Ok(Metadata {
        node: MemberId(message.node_id),
        cluster: ClusterId(message.cluster_id),
    })
}

/// Decodes an entry; its data is copied, so that it does not keep the file in memory.
pub(super) fn entry(data: &[u8]) -> Result<Entry, Damage> {
    let entry: Entry = whole(data, "entry", Entry::encoded_len)?;
    // A configuration change always says something: a hard state taken for one does not.
    match (entry.r#type.unwrap_or(0), &entry.data) {
        (0, _) | (1 | 2, Some(_)) => Ok(entry),
        _ => Err(Damage::Message("entry")),
    }
}

/// Decodes a hard state.
pub(super) fn state(data: &[u8]) -> Result<HardState, Damage> {
    whole(data, "state", HardState::encoded_len)
}

/// Decodes a snapshot record's data.
pub(super) fn snapshot(data: &[u8]) -> Result<Snapshot, Damage> {
    whole(data, "snapshot", Snapshot::encoded_len)
}

/// Decodes a message that must account for every byte: the kind of a record is not covered by its
/// checksum, and a field that the message does not know betrays a wrong kind.
fn whole<M: Message + Default>(
    data: &[u8],
    name: &'static str,
    length: impl Fn(&M) -> usize,
) -> Result<M, Damage> {
    match M::decode(data) {
        Ok(message) if length(&message) == data.len() => Ok(message),
        Ok(_) | Err(_) => Err(Damage::Message(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The log of the worked example in `docs/formats/wal.md`, without its entry.
    const METADATA: Metadata = Metadata {
        node: MemberId(0x8e9e_05c5_2164_694d),
        cluster: ClusterId(0xcdf8_1819_4e3a_8c32),
    };
    const HEAD: &str = "0400000000000084 0804100000000000\
        2000000000000000 080110bb81c7fc051a1608cdd2918bd2b881cf8e0110b298eaf1948386fccd01\
        0e00000000000082 080510 94bbc7ed0e 1a04 08001000 0000";
    const TAIL: &str = "1900000000000087 080310 9b98d6c308 1a0f 080110cdd2918bd2b881cf8e011801\
        00000000000000 0e00000000000082 080510 b8e0e0e106 1a04 08011001 0000";
    /// The running checksum after the entry of the example.
    const CRC_BEFORE_TAIL: u32 = 0xb2a4_b742;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex
            .chars()
            .filter(|digit| digit.is_ascii_hexdigit())
            .collect();
        let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn state() -> HardState {
        HardState {
            term: Some(1),
            vote: Some(METADATA.node.0),
            commit: Some(1),
        }
    }

    fn snapshot_at(index: u64, term: u64) -> Snapshot {
        Snapshot {
            index: Some(index),
            term: Some(term),
            conf_state: None,
        }
    }

    #[test]
    fn worked_example_is_written_byte_for_byte() {
        let mut head = Encoder::new(0);
        head.checksum();
        head.metadata(&METADATA);
        head.snapshot(&Snapshot::default());
        assert_eq!(head.take_bytes(), bytes(HEAD));

        let mut tail = Encoder::new(CRC_BEFORE_TAIL);
        tail.state(&state());
        tail.snapshot(&snapshot_at(1, 1));
        assert_eq!(tail.take_bytes(), bytes(TAIL));
    }

    #[test]
    fn worked_example_is_read() {
        let file = bytes(HEAD);
        let mut seen = Vec::new();
        let mut at = 0;
        while let Next::Record { record, end } = read(&file, at) {
            seen.push((at, record.kind, record.crc));
            at = end;
        }
        assert_eq!(read(&file, at), Next::End);
        assert_eq!(
            seen,
            [
                (0, Kind::Crc, 0),
                (16, Kind::Metadata, 0x5f91_c0bb),
                (56, Kind::Snapshot, 0xedb1_dd94)
            ]
        );
        let Next::Record { record, .. } = read(&file, 16) else {
            panic!("metadata")
        };
        assert_eq!(metadata(record.data), Ok(METADATA));

        let file = bytes(TAIL);
        let Next::Record { record, end } = read(&file, 0) else {
            panic!("state")
        };
        assert_eq!(state_of(record), Ok(state()));
        let Next::Record { record, .. } = read(&file, end) else {
            panic!("snapshot")
        };
        assert_eq!(snapshot(record.data), Ok(snapshot_at(1, 1)));
    }

    fn state_of(record: Record<'_>) -> Result<HardState, Damage> {
        super::state(record.data)
    }

    #[test]
    fn entries_are_written_as_the_general_encoder_does() {
        for data in [None, Some(vec![]), Some(vec![7; 300])] {
            let entry = Entry {
                r#type: Some(0),
                term: Some(u64::MAX),
                index: Some(0),
                data: data.map(Into::into),
            };
            let mut encoder = Encoder::new(0);
            encoder.entry(&entry);
            let file = encoder.take_bytes();
            let Next::Record { record, end } = read(&file, 0) else {
                panic!("entry")
            };
            assert_eq!(record.data, entry.encode_to_vec());
            assert_eq!(end, file.len());
            assert_eq!(super::entry(record.data), Ok(entry));
        }
    }

    #[test]
    fn length_field_must_fit_its_padding() {
        for (field, size) in [
            (0x8400_0000_0000_0004, Some(4)),
            (8, Some(8)),
            (0x8400_0000_0000_0005, None),
            (4, None),
            (0x8000_0000_0000_0008, None),
            (0x0400_0000_0000_0004, None),
        ] {
            assert_eq!(record_size(field), size, "{field:#x}");
        }
    }
}
