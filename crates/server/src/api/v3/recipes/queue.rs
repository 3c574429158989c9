//! The line of keys under a prefix: who came first owns what the prefix names.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_member::apply::RequestError;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::range_request::SortOrder;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::response_op::Response;
use kvorum_proto::etcdserverpb::watch_create_request::FilterType;
use kvorum_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use kvorum_proto::ids::LeaseId;
use kvorum_proto::mvccpb::{KeyValue, event};
use tokio::sync::oneshot;

use super::ask;
use crate::api::v3::Api;
use crate::transport::Status;

/// Lifetime of a lease that the server grants when the caller brings none, in seconds. Nobody keeps it alive.
/// Source: etcd v3.7.1 `client/v3/concurrency/session.go`, `defaultSessionTTL`.
pub(super) const LEASE_TTL_SECONDS: i64 = 60;

/// One place in the line.
pub(super) struct Place {
    api: Arc<Api>,
    /// All keys of the line begin with it.
    pub(super) prefix: Bytes,
    /// The key of this place.
    pub(super) key: Bytes,
    /// The revision that created it.
    pub(super) revision: i64,
    /// The revision of the store when the place was taken or found.
    pub(super) taken_at: i64,
    /// What the key held when the place was there already.
    pub(super) found: Option<KeyValue>,
    /// The place is given up when dropped.
    armed: bool,
}

/// The prefix of the line for a name.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

impl Place {
    /// Gets in line, or finds the place that this lease has already.
    ///
    /// The transaction goes on when the caller goes away before its outcome is known, and a new place is then given
    /// up; a place that was there already may be the lock that the caller holds, and stays.
    pub(super) async fn take(
        api: &Arc<Api>,
        name: &[u8],
        lease: LeaseId,
        value: Bytes,
    ) -> Result<Self, Status> {
        let (sender, receiver) = oneshot::channel();
        let taking = Self::take_to_the_end(Arc::clone(api), prefix(name), lease, value);
        api.runtime
            .spawn(async move { drop(sender.send(taking.await)) });
        let stopped = || Err(ask::refusal(RequestError::Stopped));
        let mut place = receiver.await.unwrap_or_else(|_| stopped())?;
        place.armed = true;
        Ok(place)
    }

    async fn take_to_the_end(
        api: Arc<Api>,
        prefix: Bytes,
        lease: LeaseId,
        value: Bytes,
    ) -> Result<Self, Status> {
        let key: Bytes = [&prefix[..], format!("{lease}").as_bytes()].concat().into();
        let put = PutRequest {
            key: key.clone(),
            value,
            lease: lease.0,
            ..PutRequest::default()
        };
        let get = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let response = ask::txn(
            &api,
            TxnRequest {
                compare: vec![ask::created_at(&key, 0)],
                success: vec![operation(Request::RequestPut(put))],
                failure: vec![operation(Request::RequestRange(get))],
            },
        )
        .await?;
        let taken_at = response.header.unwrap_or_default().revision;
        let mut place = Self {
            api,
            prefix,
            key,
            revision: taken_at,
            taken_at,
            found: None,
            armed: response.succeeded,
        };
        if !response.succeeded {
            let found = response
                .responses
                .into_iter()
                .find_map(|op| match op.response {
                    Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
                    _ => None,
                });
            place.revision = found.as_ref().map_or(0, |pair| pair.create_revision);
            place.found = found;
        }
        Ok(place)
    }

    /// Waits until nobody who came earlier is left.
    pub(super) async fn wait_for_turn(&self) -> Result<(), Status> {
        loop {
            let earlier = ask::by_creation(&self.prefix, SortOrder::Descend, self.revision - 1);
            let response = ask::range(&self.api, &earlier).await?;
            let Some(last) = response.kvs.into_iter().next() else {
                return Ok(());
            };
            let from = response.header.unwrap_or_default().revision + 1;
            self.wait_until_deleted(last.key, from).await?;
        }
    }

    async fn wait_until_deleted(&self, key: Bytes, from: i64) -> Result<(), Status> {
        let filter = Some(FilterType::Noput);
        let mut watch = ask::Watch::start(&self.api, key, Bytes::new(), from, filter);
        loop {
            let response = watch.next().await?;
            let is_delete = |event: &kvorum_proto::mvccpb::Event| {
                event.r#type == event::EventType::Delete as i32
            };
            if response.events.iter().any(is_delete) {
                return Ok(());
            }
        }
    }

    /// Whether the key is still the one that got this place.
    pub(super) async fn is_held(&self) -> Result<bool, Status> {
        let request = RangeRequest {
            key: self.key.clone(),
            ..RangeRequest::default()
        };
        let response = ask::range(&self.api, &request).await?;
        Ok(response
            .kvs
            .first()
            .is_some_and(|pair| pair.create_revision == self.revision))
    }

    /// Keeps the place when this is dropped.
    pub(super) fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.armed {
            let delete = DeleteRangeRequest {
                key: self.key.clone(),
                ..DeleteRangeRequest::default()
            };
            self.api
                .member
                .propose_inside(Payload::DeleteRange(delete), |_| {});
        }
    }
}

pub(super) fn operation(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}
