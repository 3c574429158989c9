//! Requests that a recipe makes of its own member.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_member::apply::{RequestError, Response};
use kvorum_mvcc::watch::Input;
use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_proto::etcdserverpb::watch_create_request::FilterType;
use kvorum_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, RangeRequest, RangeResponse, TxnRequest, WatchCreateRequest,
    WatchResponse,
};
use kvorum_proto::ids::LeaseId;
use tokio::sync::{mpsc, oneshot};

use crate::api::v3::{Api, status};
use crate::runtime::Target;
use crate::transport::{Code, Status};

/// The status of a recipe whose own request was refused: the text of the refusal without its code. Official recipes
/// ask through a client, and what it returns is no status any more. A member that stops is said with its code, so that
/// callers try another one.
/// Source: etcd v3.7.1 `client/v3/client.go`, `ContextError`; `api/v3rpc/rpctypes/error.go`, `EtcdError`.
pub(super) fn refusal(error: RequestError) -> Status {
    match error {
        RequestError::Stopped => status(error),
        other => Status::new(Code::Unknown, crate::api::v3::text(other)),
    }
}

/// Proposes a request and waits for what comes of it.
pub(super) async fn propose(api: &Api, payload: Payload) -> Result<Response, Status> {
    let (sender, receiver) = oneshot::channel();
    api.member
        .propose_inside(payload, move |outcome| drop(sender.send(outcome)));
    receiver
        .await
        .unwrap_or(Err(RequestError::Stopped))
        .map_err(refusal)
}

/// A linearizable range.
pub(super) async fn range(api: &Api, request: &RangeRequest) -> Result<RangeResponse, Status> {
    api.member.confirm_read().await.map_err(refusal)?;
    let view = api.member.view();
    let reply = view.range(request).map_err(|error| refusal(error.into()))?;
    Ok(reply.to_message(Some(api.member.header(view.current_revision()))))
}

/// The lease asked for, or a new one of `ttl_seconds` that nobody keeps alive.
pub(super) async fn lease_or_new(
    api: &Api,
    lease: i64,
    ttl_seconds: i64,
) -> Result<LeaseId, Status> {
    if lease != 0 {
        return Ok(LeaseId(lease));
    }
    let id = api.member.next_lease_id();
    propose(
        api,
        Payload::LeaseGrant(LeaseGrantRequest {
            id: id.0,
            ttl: ttl_seconds,
        }),
    )
    .await?;
    Ok(id)
}

/// The condition that a key was created at this revision; 0: that it does not exist.
pub(super) fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

/// A transaction and the message it is answered with.
pub(super) async fn txn(
    api: &Api,
    request: TxnRequest,
) -> Result<kvorum_proto::etcdserverpb::TxnResponse, Status> {
    let response = propose(api, Payload::Txn(request)).await?;
    let mut bytes = Vec::new();
    response.encode(&api.member.header(0), &mut bytes);
    crate::api::v3::decode(bytes.into())
}

/// The pair with this prefix that was created first (or last), created at `max_create_revision` at the latest (0: at
/// any).
pub(super) fn by_creation(
    prefix: &Bytes,
    order: SortOrder,
    max_create_revision: i64,
) -> RangeRequest {
    RangeRequest {
        key: prefix.clone(),
        range_end: prefix_end(prefix),
        limit: 1,
        sort_order: order as i32,
        sort_target: SortTarget::Create as i32,
        max_create_revision,
        ..RangeRequest::default()
    }
}

/// The end of the interval of all keys with a prefix.
pub(super) fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

/// A watch of one key from a revision on, closed when dropped.
pub(super) struct Watch {
    api: Arc<Api>,
    stream: kvorum_mvcc::watch::StreamId,
    messages: mpsc::UnboundedReceiver<Bytes>,
}

impl Watch {
    pub(super) fn start(
        api: &Arc<Api>,
        key: Bytes,
        range_end: Bytes,
        start_revision: i64,
        filter: Option<FilterType>,
    ) -> Self {
        let (sender, messages) = mpsc::unbounded_channel();
        let stream = api
            .member
            .watch()
            .open(Target::Inside(sender), false, || api.member.view());
        let request = WatchCreateRequest {
            key,
            range_end,
            start_revision,
            filters: filter.into_iter().map(|filter| filter as i32).collect(),
            ..WatchCreateRequest::default()
        };
        let create = Input::Create {
            stream,
            request,
            view: api.member.view(),
            denied: None,
        };
        api.member.watch().input(create, None);
        Self {
            api: Arc::clone(api),
            stream,
            messages,
        }
    }

    /// The next message that carries events or ends the watch.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, Status> {
        loop {
            let message = self
                .messages
                .recv()
                .await
                .ok_or_else(|| refusal(RequestError::Stopped))?;
            let response: WatchResponse = crate::api::v3::decode(message)?;
            if response.compact_revision > 0 {
                let (asked, compacted) = (0, response.compact_revision);
                return Err(refusal(RequestError::Compacted { asked, compacted }));
            }
            if !response.events.is_empty() || response.canceled {
                return Ok(response);
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.api.member.watch().close(self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn prefix_end_is_the_next_prefix() {
        let cases: [(&[u8], &[u8]); 4] = [
            (b"a/", b"a0"),
            (b"a\xff", b"b"),
            (b"\xff\xff", b"\0"),
            (b"", b"\0"),
        ];
        for (prefix, end) in cases {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
        }
    }
}
