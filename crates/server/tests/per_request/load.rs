//! The requests whose cost is counted.

use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use prost::Message;

/// The lease that is kept alive.
const LEASE: i64 = 7;
const VALUE_BYTES: usize = 256;
const LARGE_VALUE_BYTES: usize = 64 << 10;

/// One kind of request: request `number` of a batch is `message(number)`.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    /// Whether all requests are messages of one stream.
    pub(crate) streams: bool,
    pub(crate) message: fn(usize) -> Vec<u8>,
}

impl Load {
    pub(crate) fn put() -> Self {
        Self::unary("put", "/etcdserverpb.KV/Put", |number| {
            put(number).encode_to_vec()
        })
    }

    /// A put of many frames, which is still one write of the log.
    pub(crate) fn large_put() -> Self {
        Self::unary("large put", "/etcdserverpb.KV/Put", |number| {
            PutRequest {
                value: vec![b'v'; LARGE_VALUE_BYTES].into(),
                ..put(number)
            }
            .encode_to_vec()
        })
    }

    pub(crate) fn range() -> Self {
        Self::unary("range", "/etcdserverpb.KV/Range", |number| {
            RangeRequest {
                key: key(number).into(),
                ..RangeRequest::default()
            }
            .encode_to_vec()
        })
    }

    /// If the key is there, put it.
    pub(crate) fn txn() -> Self {
        Self::unary("txn", "/etcdserverpb.KV/Txn", |number| {
            let exists = Compare {
                result: CompareResult::Greater.into(),
                target: CompareTarget::Version.into(),
                key: key(number).into(),
                target_union: Some(TargetUnion::Version(0)),
                ..Compare::default()
            };
            TxnRequest {
                compare: vec![exists],
                success: vec![RequestOp {
                    request: Some(Request::RequestPut(put(number))),
                }],
                ..TxnRequest::default()
            }
            .encode_to_vec()
        })
    }

    pub(crate) fn keep_alive() -> Self {
        Self {
            streams: true,
            ..Self::unary("keep-alive", "/etcdserverpb.Lease/LeaseKeepAlive", |_| {
                LeaseKeepAliveRequest { id: LEASE }.encode_to_vec()
            })
        }
    }

    /// Grants the lease; once.
    pub(crate) fn grant() -> Self {
        Self::unary("grant", "/etcdserverpb.Lease/LeaseGrant", |number| {
            LeaseGrantRequest {
                id: LEASE + number as i64,
                ttl: 1000,
            }
            .encode_to_vec()
        })
    }

    fn unary(name: &'static str, path: &'static str, message: fn(usize) -> Vec<u8>) -> Self {
        Self {
            name,
            path,
            streams: false,
            message,
        }
    }
}

fn put(number: usize) -> PutRequest {
    PutRequest {
        key: key(number).into(),
        value: vec![b'v'; VALUE_BYTES].into(),
        ..PutRequest::default()
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("key-{number:04}").into_bytes()
}
