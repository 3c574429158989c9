//! Requests and answers as they travel: clients see bytes, never the member's own types.

use std::time::Duration;

use bytes::Bytes;
use kvorum_member::apply::{RequestError, Response};
use kvorum_member::check;
use kvorum_mvcc::{Event, EventBatch};
use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::watch_create_request::FilterType;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
    InternalRaftRequest, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestHeader,
    RequestOp, ResponseHeader, TxnRequest, TxnResponse, request_op, response_op,
};
use kvorum_proto::ids::MemberId;
use kvorum_proto::membershippb::{Attributes, ClusterMemberAttrSetRequest};
use kvorum_proto::mvccpb::{self, KeyValue, event::EventType};
use prost::Message as _;

use crate::history::{
    Change, Condition, Holds, Keys, Pair, Refusal, Reply, Request, Txn, Without, Write,
};

/// The election timeout of the member, which bounds the lifetimes of leases from below.
pub(super) const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// What goes through the log for a request, checked as the server does at its edge.
///
/// # Errors
///
/// What the edge refuses.
///
/// # Panics
///
/// On a request that does not go through the log.
pub(super) fn proposal(request: &Request, physical: bool) -> Result<Payload, RequestError> {
    Ok(match request {
        Request::Put { key, value, lease } => {
            let put = put(key, value, *lease);
            check::put(&put)?;
            Payload::Put(put)
        }
        Request::Delete(keys) => {
            let delete = DeleteRangeRequest {
                key: keys.start.clone(),
                range_end: keys.end.clone(),
                prev_kv: false,
            };
            check::delete_range(&delete)?;
            Payload::DeleteRange(delete)
        }
        Request::Txn(asked) => {
            let txn = txn(asked);
            check::txn(&txn, check::TXN_OPS_MAX_DEFAULT)?;
            Payload::Txn(txn)
        }
        Request::Grant { lease, ttl_seconds } => {
            let mut grant = LeaseGrantRequest {
                id: *lease,
                ttl: *ttl_seconds,
            };
            check::lease_grant(&mut grant, ELECTION_TIMEOUT)?;
            Payload::LeaseGrant(grant)
        }
        Request::Revoke { lease } => Payload::LeaseRevoke(LeaseRevokeRequest { id: *lease }),
        Request::Compact { revision } => Payload::Compaction(CompactionRequest {
            revision: *revision,
            physical,
        }),
        Request::Range { .. } | Request::KeepAlive { .. } => {
            panic!("reads and keep-alives do not go through the log")
        }
    })
}

/// The bytes of a log entry.
pub(super) fn entry(id: u64, payload: Payload) -> Bytes {
    let header = RequestHeader {
        id,
        ..Default::default()
    };
    InternalRaftRequest {
        header: Some(header),
        id: 0,
        payload: Some(payload),
    }
    .encode_to_vec()
    .into()
}

/// A log entry in which a member says how it is called.
pub(super) fn publish(id: u64, member: MemberId) -> Bytes {
    let attributes = Attributes {
        name: format!("member-{member}"),
        client_urls: vec![format!("http://member-{member}:2379")],
    };
    let request = ClusterMemberAttrSetRequest {
        member_id: member.0,
        member_attributes: Some(attributes),
    };
    entry(id, Payload::ClusterMemberAttrSet(request))
}

fn put(key: &Bytes, value: &Bytes, lease: i64) -> PutRequest {
    PutRequest {
        key: key.clone(),
        value: value.clone(),
        lease,
        ..Default::default()
    }
}

fn operation(request: request_op::Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn txn(asked: &Txn) -> TxnRequest {
    let compare = |condition: &Condition| {
        let (target, union) = match condition.holds {
            Holds::Modified(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(revision)),
            Holds::Created(revision) => {
                let union = TargetUnion::CreateRevision(revision);
                (CompareTarget::Create, union)
            }
        };
        Compare {
            result: CompareResult::Equal as i32,
            target: target as i32,
            key: condition.key.clone(),
            range_end: Bytes::new(),
            target_union: Some(union),
        }
    };
    let write = |write: &Write| match write {
        Write::Put { key, value, lease } => {
            operation(request_op::Request::RequestPut(put(key, value, *lease)))
        }
        Write::Delete(key) => operation(request_op::Request::RequestDeleteRange(
            DeleteRangeRequest {
                key: key.clone(),
                ..Default::default()
            },
        )),
    };
    let read = |condition: &Condition| {
        let keys = Keys::one(condition.key.clone());
        operation(request_op::Request::RequestRange(range(&keys, 0, false, 0)))
    };
    TxnRequest {
        compare: asked.conditions.iter().map(compare).collect(),
        success: asked.writes.iter().map(write).collect(),
        failure: asked.conditions.iter().map(read).collect(),
    }
}

/// A range request.
pub(super) fn range(keys: &Keys, revision: i64, serializable: bool, limit: i64) -> RangeRequest {
    RangeRequest {
        key: keys.start.clone(),
        range_end: keys.end.clone(),
        revision,
        serializable,
        limit,
        ..Default::default()
    }
}

/// An answer as the client reads it from the bytes that the member sends.
///
/// # Errors
///
/// When the bytes are no answer to this request.
pub(super) fn reply(request: &Request, response: &Response) -> Result<Reply, String> {
    let header = ResponseHeader::default();
    let mut bytes = Vec::new();
    response.encode(&header, &mut bytes);
    if bytes.len() != response.encoded_len(&header) {
        return Err(format!(
            "{} bytes announced, {} sent",
            response.encoded_len(&header),
            bytes.len()
        ));
    }
    decode(request, &bytes)
        .map_err(|error| format!("the answer to {request:?} does not decode: {error}"))
}

fn decode(request: &Request, bytes: &[u8]) -> Result<Reply, prost::DecodeError> {
    let done = |header: Option<ResponseHeader>, deleted, ttl_seconds| Reply::Done {
        revision: revision(header),
        deleted,
        ttl_seconds,
    };
    Ok(match request {
        Request::Put { .. } => done(PutResponse::decode(bytes)?.header, 0, 0),
        Request::Delete(_) => {
            let answer = DeleteRangeResponse::decode(bytes)?;
            done(answer.header, answer.deleted, 0)
        }
        Request::Txn(_) => {
            let answer = TxnResponse::decode(bytes)?;
            let responses = answer.responses.iter();
            let found = responses.filter_map(|operation| match &operation.response {
                Some(response_op::Response::ResponseRange(range)) => {
                    Some(range.kvs.first().map(pair))
                }
                _ => None,
            });
            Reply::Txn {
                revision: revision(answer.header),
                succeeded: answer.succeeded,
                found: found.collect(),
            }
        }
        Request::Range { .. } => {
            let answer = RangeResponse::decode(bytes)?;
            Reply::Pairs {
                revision: revision(answer.header),
                pairs: answer.kvs.iter().map(pair).collect(),
                count: answer.count,
            }
        }
        Request::Grant { .. } => {
            let answer = LeaseGrantResponse::decode(bytes)?;
            done(answer.header, 0, answer.ttl)
        }
        Request::Revoke { .. } => done(LeaseRevokeResponse::decode(bytes)?.header, 0, 0),
        Request::Compact { .. } => done(CompactionResponse::decode(bytes)?.header, 0, 0),
        Request::KeepAlive { .. } => Reply::KeptAlive { ttl_seconds: 0 },
    })
}

/// A refusal as the client tells it apart.
pub(super) fn refusal(error: &RequestError) -> Refusal {
    match error {
        RequestError::Compacted { .. } => Refusal::Compacted,
        RequestError::LeaseNotFound => Refusal::NoLease,
        other => Refusal::Other(other.to_string()),
    }
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// A pair as it stands in messages.
pub(super) fn pair(pair: &KeyValue) -> Pair {
    Pair {
        key: pair.key.clone(),
        value: pair.value.clone(),
        create_revision: pair.create_revision,
        mod_revision: pair.mod_revision,
        version: pair.version,
        lease: pair.lease,
    }
}

/// The changes of a revision.
pub(super) fn changes(batch: &EventBatch) -> Vec<Change> {
    let change = |event: &Event| match event.is_delete() {
        true => Change::Delete(event.record.key_bytes()),
        false => Change::Put(pair(&event.record.to_key_value())),
    };
    batch.events.iter().map(change).collect()
}

/// What a watcher does not want to see, as its request says it.
pub(super) fn filters(without: Without) -> Vec<i32> {
    match without {
        Without::Nothing => Vec::new(),
        Without::Puts => vec![FilterType::Noput as i32],
        Without::Deletes => vec![FilterType::Nodelete as i32],
    }
}

/// An event of a watch message: its revision and what changed.
pub(super) fn watched(event: mvccpb::Event) -> (i64, Change) {
    let is_delete = event.r#type == EventType::Delete as i32;
    let kv = event.kv.unwrap_or_default();
    let change = if is_delete {
        Change::Delete(kv.key.clone())
    } else {
        Change::Put(pair(&kv))
    };
    (kv.mod_revision, change)
}
