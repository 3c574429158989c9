//! Requests as they stand in the log.
//!
//! An entry is an `InternalRaftRequest`: one request and a header with its id. A request of a client is such a field
//! already, but for its key and length, so its bytes are taken as they came and not encoded again.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use kvorum_proto::ids::RequestId;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::arena;

/// Field numbers of `InternalRaftRequest`.
mod field {
    pub(super) const PUT: u32 = 4;
    pub(super) const DELETE_RANGE: u32 = 5;
    pub(super) const TXN: u32 = 6;
    pub(super) const HEADER: u32 = 100;
}

/// Bytes of the keys of a request (one) and of the header (two).
const KEYS_BYTES: usize = 3;

/// A request that is to stand in the log.
pub(super) enum Asked<'a> {
    /// Made by the server.
    Made(Payload),
    /// Sent by a client as these bytes.
    Sent(&'a Payload, &'a Bytes),
}

impl Asked<'_> {
    pub(super) fn payload(&self) -> &Payload {
        match self {
            Self::Made(payload) => payload,
            Self::Sent(payload, _) => payload,
        }
    }

    /// Its entry.
    pub(super) fn entry(self, id: RequestId) -> Bytes {
        let header = RequestHeader {
            id: id.0,
            ..RequestHeader::default()
        };
        let payload = match self {
            Self::Made(payload) => payload,
            Self::Sent(payload, message) => match field_of(payload) {
                Some(field) => return splice(&header, field, message),
                None => payload.clone(),
            },
        };
        let request = InternalRaftRequest {
            header: Some(header),
            id: 0,
            payload: Some(payload),
        };
        request.encode_to_vec().into()
    }
}

/// The field that holds a request, of those whose bytes are taken as they are.
fn field_of(payload: &Payload) -> Option<u32> {
    match payload {
        Payload::Put(_) => Some(field::PUT),
        Payload::DeleteRange(_) => Some(field::DELETE_RANGE),
        Payload::Txn(_) => Some(field::TXN),
        _ => None,
    }
}

fn splice(header: &RequestHeader, field: u32, message: &[u8]) -> Bytes {
    let header_bytes = header.encoded_len();
    let lengths =
        encoded_len_varint(message.len() as u64) + encoded_len_varint(header_bytes as u64);
    let length = KEYS_BYTES + lengths + message.len() + header_bytes;
    arena::bytes(length, |entry| {
        encode_key(field, WireType::LengthDelimited, entry);
        encode_varint(message.len() as u64, entry);
        entry.extend_from_slice(message);
        encode_key(field::HEADER, WireType::LengthDelimited, entry);
        // It grows as needed, so there is always room.
        let _ = header.encode_length_delimited(entry);
    })
}

#[cfg(test)]
mod tests {
    use kvorum_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, TxnRequest};

    use super::*;

    #[test]
    fn spliced_entries_are_those_that_would_be_encoded() {
        let put = PutRequest {
            key: b"key".as_slice().into(),
            value: vec![7; 300].into(),
            lease: 9,
            ..PutRequest::default()
        };
        let delete = DeleteRangeRequest {
            key: b"key".as_slice().into(),
            ..DeleteRangeRequest::default()
        };
        let cases = [
            (Payload::Put(put.clone()), put.encode_to_vec()),
            (Payload::Put(PutRequest::default()), Vec::new()),
            (Payload::DeleteRange(delete.clone()), delete.encode_to_vec()),
            (Payload::Txn(TxnRequest::default()), Vec::new()),
        ];
        for (payload, message) in cases {
            let id = RequestId(u64::MAX);
            let spliced = Asked::Sent(&payload, &message.into()).entry(id);
            assert_eq!(spliced, Asked::Made(payload).entry(id));
            assert_eq!(
                spliced.len(),
                spliced.to_vec().capacity(),
                "room is reckoned exactly"
            );
        }
    }
}
