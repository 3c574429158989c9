//! The lock service.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::DeleteRangeRequest;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use super::ask;
use super::queue::{LEASE_TTL_SECONDS, Place};
use crate::api::v3::{Api, body, decode_or_answer};
use crate::transport::{Code, ReplySink, Status};

pub(in crate::api::v3) fn lock(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: LockRequest = decode_or_answer!(message, reply);
    let task = Arc::clone(api);
    api.hand_over_by_task(reply, async move {
        let place = take(&task, request).await?;
        Ok(move || {
            let response = body(&LockResponse {
                header: Some(task.member.header(task.member.view().current_revision())),
                key: place.key.clone(),
            });
            place.keep();
            response
        })
    });
}

async fn take(api: &Arc<Api>, request: LockRequest) -> Result<Place, Status> {
    let lease = ask::lease_or_new(api, request.lease, LEASE_TTL_SECONDS).await?;
    let place = Place::take(api, &request.name, lease, Bytes::new()).await?;
    place.wait_for_turn().await?;
    if !place.is_held().await? {
        return Err(Status::new(Code::Unknown, "mutex: session is expired"));
    }
    Ok(place)
}

pub(in crate::api::v3) fn unlock(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: UnlockRequest = decode_or_answer!(message, reply);
    let delete = DeleteRangeRequest {
        key: request.key,
        ..DeleteRangeRequest::default()
    };
    if let Err(error) = kvorum_member::check::delete_range(&delete) {
        return reply.send(Err(ask::refusal(error)));
    }
    let member = api.member.clone();
    api.member
        .propose_inside(Payload::DeleteRange(delete), move |outcome| {
            let answer = outcome.map_err(ask::refusal).and_then(|response| {
                body(&UnlockResponse {
                    header: Some(member.header(response.revision())),
                })
            });
            reply.send(answer);
        });
}
