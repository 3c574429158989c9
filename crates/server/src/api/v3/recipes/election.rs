//! The election service.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::range_request::SortOrder;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, ResponseHeader, TxnRequest, TxnResponse,
};
use kvorum_proto::ids::LeaseId;
use kvorum_proto::mvccpb::KeyValue;
use kvorum_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use tokio::sync::Notify;

use super::ask;
use super::queue::{LEASE_TTL_SECONDS, Place, operation, prefix};
use crate::api::v3::{Api, body, decode, decode_or_answer};
use crate::transport::{Body, Code, Credit, ReplySink, RequestStream, Status, StreamSink};

fn not_leader() -> Status {
    Status::new(Code::Unknown, "election: not leader")
}

fn missing_leader() -> Status {
    Status::new(Code::Unknown, "\"leader\" field must be provided")
}

pub(in crate::api::v3) fn campaign(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: CampaignRequest = decode_or_answer!(message, reply);
    let task = Arc::clone(api);
    api.hand_over_by_task(reply, async move {
        let (place, key) = run(&task, request).await?;
        Ok(move || {
            let response = body(&CampaignResponse {
                // The moment when the candidate got in line, not that of its election.
                header: Some(task.member.header(place.taken_at)),
                leader: Some(key),
            });
            place.keep();
            response
        })
    });
}

async fn run(api: &Arc<Api>, request: CampaignRequest) -> Result<(Place, LeaderKey), Status> {
    let lease = ask::lease_or_new(api, request.lease, LEASE_TTL_SECONDS).await?;
    let place = Place::take(api, &request.name, lease, request.value.clone()).await?;
    let key = LeaderKey {
        name: request.name,
        key: place.key.clone(),
        rev: place.revision,
        lease: lease.0,
    };
    // A candidate that is in line already proclaims its new value.
    if place
        .found
        .as_ref()
        .is_some_and(|pair| pair.value != request.value)
    {
        write_value(api, &key, request.value).await?;
    }
    place.wait_for_turn().await?;
    Ok((place, key))
}

/// Writes the leader's value if it still leads.
async fn write_value(
    api: &Api,
    leader: &LeaderKey,
    value: Bytes,
) -> Result<ResponseHeader, Status> {
    let put = PutRequest {
        key: leader.key.clone(),
        value,
        lease: LeaseId(leader.lease).0,
        ..PutRequest::default()
    };
    let response = guarded(api, leader, Request::RequestPut(put)).await?;
    if response.succeeded {
        Ok(header(api, &response))
    } else {
        Err(not_leader())
    }
}

/// Does something if the leader's key is still the one it campaigned with.
async fn guarded(api: &Api, leader: &LeaderKey, request: Request) -> Result<TxnResponse, Status> {
    let request = TxnRequest {
        compare: vec![ask::created_at(&leader.key, leader.rev)],
        success: vec![operation(request)],
        failure: Vec::new(),
    };
    kvorum_member::check::txn(&request, usize::MAX).map_err(ask::refusal)?;
    ask::txn(api, request).await
}

fn header(api: &Api, response: &TxnResponse) -> ResponseHeader {
    api.member
        .header(response.header.unwrap_or_default().revision)
}

pub(in crate::api::v3) fn proclaim(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: ProclaimRequest = decode_or_answer!(message, reply);
    let Some(mut leader) = request.leader else {
        return reply.send(Err(missing_leader()));
    };
    let task = Arc::clone(api);
    api.answer_by_task(reply, async move {
        // A handle without a lease gets one, as a candidate does.
        leader.lease = ask::lease_or_new(&task, leader.lease, LEASE_TTL_SECONDS)
            .await?
            .0;
        let header = write_value(&task, &leader, request.value).await?;
        body(&ProclaimResponse {
            header: Some(header),
        })
    });
}

pub(in crate::api::v3) fn resign(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: ResignRequest = decode_or_answer!(message, reply);
    let Some(leader) = request.leader else {
        return reply.send(Err(missing_leader()));
    };
    let task = Arc::clone(api);
    api.answer_by_task(reply, async move {
        let delete = DeleteRangeRequest {
            key: leader.key.clone(),
            ..DeleteRangeRequest::default()
        };
        let response = guarded(&task, &leader, Request::RequestDeleteRange(delete)).await?;
        body(&ResignResponse {
            header: Some(header(&task, &response)),
        })
    });
}

pub(in crate::api::v3) fn leader(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: LeaderRequest = decode_or_answer!(message, reply);
    let task = Arc::clone(api);
    api.answer_by_task(reply, async move {
        let (header, pair) = first(&task, &prefix(&request.name)).await?;
        let kv = Some(pair.ok_or_else(|| Status::new(Code::Unknown, "election: no leader"))?);
        body(&LeaderResponse {
            header: Some(header),
            kv,
        })
    });
}

/// The pair of the present leader.
async fn first(api: &Api, prefix: &Bytes) -> Result<(ResponseHeader, Option<KeyValue>), Status> {
    let response = ask::range(api, &ask::by_creation(prefix, SortOrder::Ascend, 0)).await?;
    Ok((
        response.header.unwrap_or_default(),
        response.kvs.into_iter().next(),
    ))
}

/// Tells the present leader and each later one. A reader that is slow misses what came between, never the newest.
pub(in crate::api::v3) struct Observe {
    api: Arc<Api>,
    replies: StreamSink,
    room: Arc<Notify>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Observe {
    pub(in crate::api::v3) fn new(api: &Arc<Api>, replies: StreamSink) -> Self {
        Self {
            api: Arc::clone(api),
            replies,
            room: Arc::new(Notify::new()),
            task: None,
        }
    }
}

impl RequestStream for Observe {
    fn message(&mut self, message: Bytes, _credit: Credit) {
        let request: Result<LeaderRequest, Status> = decode(message);
        let request = match request {
            Ok(request) => request,
            Err(malformed) => return self.replies.finish(Err(malformed)),
        };
        let (api, replies) = (Arc::clone(&self.api), self.replies.clone());
        let room = Arc::clone(&self.room);
        self.task = Some(self.api.runtime.spawn(async move {
            if let Err(error) = observe(&api, &prefix(&request.name), &replies, &room).await {
                replies.finish(Err(error));
            }
        }));
    }

    fn finished(&mut self) {}

    fn room(&mut self) {
        self.room.notify_one();
    }

    fn closed(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn observe(
    api: &Arc<Api>,
    prefix: &Bytes,
    replies: &StreamSink,
    room: &Notify,
) -> Result<(), Status> {
    let mut told = None;
    loop {
        // Looking only when there is room means that what is found can be told.
        while replies.room().is_empty() {
            room.notified().await;
        }
        let (header, pair) = first(api, prefix).await?;
        let from = header.revision + 1;
        // The same leader with the same value is told once.
        if let Some(pair) = pair
            && told.replace((pair.key.clone(), pair.mod_revision))
                != Some((pair.key.clone(), pair.mod_revision))
        {
            replies.send(Body::from_message(&LeaderResponse {
                header: Some(header),
                kv: Some(pair),
            }));
        }
        let end = ask::prefix_end(prefix);
        ask::Watch::start(api, prefix.clone(), end, from, None)
            .next()
            .await?;
    }
}
