//! The result of a range and its bytes.

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_proto::etcdserverpb::{RangeResponse, ResponseHeader};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::{Few, Record};

/// Field numbers of `etcdserverpb.RangeResponse`.
mod field {
    pub(super) const HEADER: u32 = 1;
    pub(super) const KVS: u32 = 2;
    pub(super) const MORE: u32 = 3;
    pub(super) const COUNT: u32 = 4;
}

/// Bytes that the tag of a field above takes: all numbers are below 16.
const TAG_BYTES: usize = 1;

/// Bytes after which a piece of a reply is full. A pair of more is a piece of its own.
const PIECE_BYTES: usize = 32 << 10;

/// The result of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeReply {
    /// The pairs to return, in the order asked for, and without what was not asked for.
    pub records: Few<Record>,
    /// Whether the limit cut pairs off.
    pub more: bool,
    /// Number of pairs in the whole interval.
    pub count: i64,
}

impl RangeReply {
    pub(crate) fn of_count(count: i64) -> Self {
        RangeReply {
            records: Few::default(),
            more: false,
            count,
        }
    }

    /// Length of [`RangeReply::encode`].
    pub fn encoded_len(&self, header: Option<&[u8]>) -> usize {
        let header = header.map_or(0, |header| field_bytes(header.len()));
        let pairs = self
            .records
            .iter()
            .map(|record| field_bytes(record.encoded().len()));
        let more = if self.more { TAG_BYTES + 1 } else { 0 };
        let count = if self.count == 0 {
            0
        } else {
            TAG_BYTES + encoded_len_varint(self.count as u64)
        };
        header + pairs.sum::<usize>() + more + count
    }

    /// The `RangeResponse` bytes. `header` are the bytes of its `ResponseHeader`; `None` leaves the
    /// field out. The bytes of the pairs are copied, never encoded again.
    pub fn encode(&self, header: Option<&[u8]>) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len(header));
        self.encode_into(header, &mut out);
        out.freeze()
    }

    /// Appends what [`RangeReply::encode`] returns.
    pub fn encode_into(&self, header: Option<&[u8]>, out: &mut impl BufMut) {
        if let Some(header) = header {
            put_header(header, out);
        }
        for record in &self.records {
            put_front(record, out);
            out.put_slice(record.encoded());
        }
        put_end(self.more, self.count, out);
    }

    /// What [`RangeReply::encode`] returns, in pieces that are made when they are asked for: a long
    /// reply that is sent slowly takes the memory of one of them. Large pairs are not copied.
    pub fn into_pieces(self, header: Option<&[u8]>) -> ReplyPieces {
        let mut begun = BytesMut::new();
        if let Some(header) = header {
            put_header(header, &mut begun);
        }
        ReplyPieces {
            begun,
            large: None,
            records: self.records.into_vec().into_iter(),
            end: Some((self.more, self.count)),
        }
    }

    /// The reply as a message; keys and values share the buffers of the records.
    pub fn to_message(&self, header: Option<ResponseHeader>) -> RangeResponse {
        let kvs = self.records.iter().map(Record::to_key_value);
        RangeResponse {
            header,
            kvs: kvs.collect(),
            more: self.more,
            count: self.count,
        }
    }
}

/// A reply that is encoded piece by piece; see [`RangeReply::into_pieces`].
#[derive(Debug)]
pub struct ReplyPieces {
    /// The piece that is being made.
    begun: BytesMut,
    /// The pair whose front was the end of the last piece.
    large: Option<Bytes>,
    records: std::vec::IntoIter<Record>,
    /// Whether there are more pairs, and how many there are, until that is written.
    end: Option<(bool, i64)>,
}

impl Iterator for ReplyPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(large) = self.large.take() {
            return Some(large);
        }
        while self.begun.len() < PIECE_BYTES {
            let Some(record) = self.records.next() else {
                if let Some((more, count)) = self.end.take() {
                    put_end(more, count, &mut self.begun);
                }
                break;
            };
            put_front(&record, &mut self.begun);
            if record.encoded().len() >= PIECE_BYTES {
                self.large = Some(record.encoded().clone());
                break;
            }
            self.begun.put_slice(record.encoded());
        }
        (!self.begun.is_empty()).then(|| self.begun.split().freeze())
    }
}

fn put_header(header: &[u8], out: &mut impl BufMut) {
    encode_key(field::HEADER, WireType::LengthDelimited, out);
    encode_varint(header.len() as u64, out);
    out.put_slice(header);
}

/// What stands before the bytes of a pair.
fn put_front(record: &Record, out: &mut impl BufMut) {
    encode_key(field::KVS, WireType::LengthDelimited, out);
    encode_varint(record.encoded().len() as u64, out);
}

fn put_end(more: bool, count: i64, out: &mut impl BufMut) {
    if more {
        encode_key(field::MORE, WireType::Varint, out);
        encode_varint(1, out);
    }
    if count != 0 {
        encode_key(field::COUNT, WireType::Varint, out);
        encode_varint(count as u64, out);
    }
}

/// Length of a field of so many bytes.
pub(super) fn field_bytes(length: usize) -> usize {
    TAG_BYTES + encoded_len_varint(length as u64) + length
}
