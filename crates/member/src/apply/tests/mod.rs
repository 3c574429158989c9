//! A small cluster of one: log entries go in, results and effects are looked at.

mod cluster;
mod keys;
mod leases;
mod machine;
mod same_state;
mod wire;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RequestHeader, RequestOp, TxnRequest,
};
use kvorum_proto::ids::{MemberId, RequestId};
use kvorum_proto::raftpb::{self, ConfChange, EntryType};
use prost::Message as _;

use super::{Apply, Effect, Input, Local, RequestError, Response};

const THIS: MemberId = MemberId(0xabcd);
const FIRST: RequestId = RequestId(0xabcd << 48 | 1_000);

fn local() -> Local {
    Local {
        member: THIS,
        first_request: FIRST,
    }
}

/// An entry of the log.
fn entry(index: u64, kind: EntryType, data: Vec<u8>) -> raftpb::Entry {
    raftpb::Entry {
        r#type: Some(kind as i32),
        term: Some(2),
        index: Some(index),
        data: (!data.is_empty()).then(|| data.into()),
    }
}

/// The log form of a request.
fn request(id: RequestId, payload: Payload) -> Vec<u8> {
    let header = RequestHeader {
        id: id.0,
        ..RequestHeader::default()
    };
    let request = InternalRaftRequest {
        header: Some(header),
        id: 0,
        payload: Some(payload),
    };
    request.encode_to_vec()
}

struct World {
    apply: Apply,
    next_id: u64,
    /// Everything but replies since it was last looked at.
    effects: Vec<Effect>,
}

impl World {
    fn new() -> Self {
        Self {
            apply: Apply::new(local()),
            next_id: FIRST.0,
            effects: Vec::new(),
        }
    }

    /// Applies one entry and returns the reply to it.
    fn entry(&mut self, kind: EntryType, data: Vec<u8>) -> Option<Result<Response, RequestError>> {
        let index = self.apply.applied().0 + 1;
        self.input(Input::Committed(vec![entry(index, kind, data)]))
    }

    fn input(&mut self, input: Input) -> Option<Result<Response, RequestError>> {
        self.apply.input(input);
        self.apply.check_invariants();
        let mut reply = None;
        while let Some(effect) = self.apply.take_effect() {
            match effect {
                Effect::Reply { result, .. } => {
                    assert!(
                        reply.replace(result).is_none(),
                        "one reply for each request"
                    );
                }
                other => self.effects.push(other),
            }
        }
        reply
    }

    fn request(&mut self, payload: Payload) -> Option<Result<Response, RequestError>> {
        self.next_id += 1;
        self.entry(
            EntryType::EntryNormal,
            request(RequestId(self.next_id), payload),
        )
    }

    /// Applies a request that is carried out.
    #[track_caller]
    fn done(&mut self, payload: Payload) -> Response {
        self.request(payload).expect("a reply").expect("a response")
    }

    /// Applies a request that is refused, and checks that it changed nothing.
    #[track_caller]
    fn refused(&mut self, payload: Payload) -> RequestError {
        let before = self.apply.read_view();
        let error = self
            .request(payload)
            .expect("a reply")
            .expect_err("a refusal");
        let after = self.apply.read_view();
        assert_eq!(
            after.keys.current_revision(),
            before.keys.current_revision()
        );
        assert_eq!(after.cluster, before.cluster);
        error
    }

    fn conf_change(&mut self, change: &ConfChange) -> Result<Response, RequestError> {
        let change = ConfChange {
            id: Some(FIRST.0),
            ..change.clone()
        };
        self.entry(EntryType::EntryConfChange, change.encode_to_vec())
            .expect("a reply")
    }

    /// The effects since the last look, without those that every batch has.
    fn news(&mut self) -> Vec<Effect> {
        let mut news = std::mem::take(&mut self.effects);
        news.retain(|effect| !matches!(effect, Effect::Published(_) | Effect::Applied(_)));
        news
    }

    fn revision(&self) -> i64 {
        self.apply.read_view().keys.current_revision()
    }

    fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.apply
            .read_view()
            .keys
            .get(key.as_bytes())
            .unwrap()
            .map(|pair| pair.value().to_vec())
    }

    fn grant(&mut self, id: i64) {
        self.done(Payload::LeaseGrant(LeaseGrantRequest { ttl: 60, id }));
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..PutRequest::default()
    }
}

fn put_with(key: &str, lease: i64) -> PutRequest {
    PutRequest {
        lease,
        ..put(key, "v")
    }
}

fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: false,
    }
}

fn range(key: &str, revision: i64) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        revision,
        ..RangeRequest::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn then(success: Vec<Request>) -> TxnRequest {
    TxnRequest {
        success: success.into_iter().map(op).collect(),
        ..TxnRequest::default()
    }
}
