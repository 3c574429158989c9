//! Locks and elections, made of leases, transactions and watches on the client's side.
//!
//! Who wants a lock named `n` writes the key `n/<lease in hex>` under a lease of its own. The key
//! with the smallest create revision owns the lock; the others wait until no older key is left. A
//! holder that dies loses its lease and with it the key. Keys and order are those of etcd's
//! recipes, so that both kinds of clients exclude each other.
//!
//! Source: v3.7.1 `client/v3/concurrency`.

use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::compare::CompareResult;
use kvorum_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_proto::etcdserverpb::response_op::Response;
use kvorum_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, ResponseHeader, TxnResponse,
    WatchCreateRequest,
};
use kvorum_proto::ids::LeaseId;
use kvorum_proto::mvccpb::event::EventType;
use kvorum_proto::mvccpb::{Event, KeyValue};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::error::Error;
use crate::kv::KeyRange;
use crate::txn::{Txn, compare_create_revision};

/// A lease that is kept alive by a task of its own until the session is dropped or closed.
pub struct Session {
    client: Client,
    lease: LeaseId,
    keeper: JoinHandle<()>,
}

impl Session {
    /// Grants a lease of `ttl_seconds` and keeps it alive.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn open(client: &Client, ttl_seconds: i64) -> Result<Self, Error> {
        // All that recipes write is bound to the session's own key and does the same twice as once.
        let client = &client.with_repeated_writes();
        let lease = LeaseId(client.lease_grant(ttl_seconds).await?.id);
        let mut keeper = client.lease_keep_alive(lease);
        // The task ends with the lease; its end is the news.
        let keeper = tokio::spawn(async move { while let Ok(Some(_)) = keeper.next().await {} });
        Ok(Self {
            client: client.clone(),
            lease,
            keeper,
        })
    }

    /// The lease of the session.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Waits until the lease is lost. The future may be dropped and asked for again.
    pub async fn expired(&mut self) {
        // A task that was ended from outside does not renew the lease either.
        let _ = (&mut self.keeper).await;
    }

    /// Ends the session and revokes its lease, and with it all its keys.
    ///
    /// # Errors
    /// What the server refuses; the lease then expires by itself.
    pub async fn close(self) -> Result<(), Error> {
        self.keeper.abort();
        self.client.lease_revoke(self.lease).await.map(drop)
    }

    /// The session's own key below a name.
    fn key(&self, name: &str) -> String {
        format!("{name}/{:x}", self.lease.0)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// A lock that is held.
///
/// ```no_run
#[doc = include_str!("../docs/lock.rs")]
/// ```
pub struct Mutex {
    client: Client,
    key: String,
    header: ResponseHeader,
}

impl Mutex {
    /// Waits for the lock `name` and takes it. When the future is dropped while it waits, the
    /// place in the queue stays until the session ends; [`Mutex::lock_or`] gives it up.
    ///
    /// # Errors
    /// [`Error::SessionExpired`] and what the server refuses.
    pub async fn lock(session: &Session, name: &str) -> Result<Self, Error> {
        match Self::lock_or(session, name, std::future::pending::<Infallible>()).await? {
            Ok(mutex) => Ok(mutex),
            Err(never) => match never {},
        }
    }

    /// The same, but gives up when `stop` is done: then the place in the queue is given back and
    /// the result of `stop` is returned.
    ///
    /// # Errors
    /// As [`Mutex::lock`].
    pub async fn lock_or<S>(
        session: &Session,
        name: &str,
        stop: impl Future<Output = S>,
    ) -> Result<Result<Self, S>, Error> {
        let client = &session.client;
        let key = session.key(name);
        let queued = tokio::select! {
            queued = Self::queue(session, name, &key) => queued,
            stopped = stop => {
                // Whether the key was written is unknown. If this fails the lease takes it away.
                let _ = client.delete(&delete(&key)).await;
                return Ok(Err(stopped));
            }
        };
        match queued {
            Ok(header) => Ok(Ok(Self {
                client: client.clone(),
                key,
                header,
            })),
            Err(error) => {
                let _ = client.delete(&delete(&key)).await;
                Err(error)
            }
        }
    }

    async fn queue(session: &Session, name: &str, key: &str) -> Result<ResponseHeader, Error> {
        let client = &session.client;
        let prefix = format!("{name}/");
        let (answer, own_revision) =
            enter(session, key, Bytes::new(), Some(oldest(&prefix))).await?;
        let owner = answer
            .responses
            .get(1)
            .and_then(|operation| match &operation.response {
                Some(Response::ResponseRange(range)) => range.kvs.first(),
                _ => None,
            });
        let header = answer.header.unwrap_or_default();
        if owner.is_none_or(|owner| owner.create_revision == own_revision) {
            return Ok(header);
        }
        wait_for_older(client, &prefix, own_revision).await?;
        let own = client.range(&single(key)).await?;
        if own.kvs.is_empty() {
            return Err(Error::SessionExpired);
        }
        Ok(own.header.unwrap_or_default())
    }

    /// The key that is the lock. It exists as long as the lock is held.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Header of the answer that brought the lock.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// Gives the lock back.
    ///
    /// # Errors
    /// What the server refuses; the lock then goes with the session.
    pub async fn unlock(self) -> Result<(), Error> {
        self.client.delete(&delete(&self.key)).await.map(drop)
    }
}

/// A won election.
///
/// ```no_run
#[doc = include_str!("../docs/election.rs")]
/// ```
pub struct Election {
    client: Client,
    lease: LeaseId,
    key: String,
    /// Revision that created the key: whoever has both leads.
    revision: i64,
}

impl Election {
    /// Waits until this session leads the election `name`, and announces `value`. When the future
    /// is dropped while it waits, the candidate stays one until the session ends.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if the key of the session was lost, and what the server refuses.
    pub async fn campaign(
        session: &Session,
        name: &str,
        value: impl Into<Bytes>,
    ) -> Result<Self, Error> {
        let value = value.into();
        let key = session.key(name);
        let (answer, revision) = enter(session, &key, value.clone(), None).await?;
        let election = Self {
            client: session.client.clone(),
            lease: session.lease,
            key,
            revision,
        };
        if !answer.succeeded && first_kv(&answer).is_some_and(|own| own.value != value) {
            election.proclaim(value).await?;
        }
        wait_for_older(&session.client, &format!("{name}/"), revision).await?;
        Ok(election)
    }

    /// Announces another value without another election.
    ///
    /// # Errors
    /// [`Error::NotLeader`], and what the server refuses.
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<(), Error> {
        let put = PutRequest {
            key: self.key.clone().into(),
            value: value.into(),
            lease: self.lease.0,
            ..PutRequest::default()
        };
        let answer = self
            .client
            .txn(&self.while_leading().and_then(put).build())
            .await?;
        if answer.succeeded {
            Ok(())
        } else {
            Err(Error::NotLeader)
        }
    }

    /// The key of the leader.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Gives leadership up.
    ///
    /// # Errors
    /// What the server refuses; leadership then goes with the session.
    pub async fn resign(self) -> Result<(), Error> {
        let resign = self.while_leading().and_then(delete(&self.key)).build();
        self.client.txn(&resign).await.map(drop)
    }

    fn while_leading(&self) -> Txn {
        let key = self.key.clone();
        Txn::new().when(compare_create_revision(
            key,
            CompareResult::Equal,
            self.revision,
        ))
    }
}

/// Follows who leads an election, and with which value.
pub struct Observer {
    client: Client,
    prefix: String,
    /// Events of the leader's key that were not handed out.
    leader: Option<crate::watch::Watcher>,
    pending: Vec<RangeResponse>,
}

impl Observer {
    /// An observer of the election `name`.
    pub fn new(client: &Client, name: &str) -> Self {
        Self {
            client: client.clone(),
            prefix: format!("{name}/"),
            leader: None,
            pending: Vec::new(),
        }
    }

    /// The next leader or value of the leader, as a range that holds its key. Leaders that came
    /// and went in between may be left out; the newest never is.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn next(&mut self) -> Result<RangeResponse, Error> {
        loop {
            if !self.pending.is_empty() {
                return Ok(self.pending.remove(0));
            }
            let Some(leader) = &mut self.leader else {
                let (response, key, revision) = self.find().await?;
                let range = KeyRange::single(key);
                self.leader = Some(self.client.watch(watch_from(range, revision + 1)).await?);
                return Ok(response);
            };
            let Some(response) = leader.next().await? else {
                self.leader = None;
                continue;
            };
            for event in &response.events {
                if is_delete(event) {
                    self.leader = None;
                    break;
                }
                self.pending.push(RangeResponse {
                    header: response.header,
                    kvs: event.kv.clone().into_iter().collect(),
                    ..RangeResponse::default()
                });
            }
        }
    }

    /// The leader's key, waiting for one; and the revision at which it was seen.
    async fn find(&self) -> Result<(RangeResponse, Bytes, i64), Error> {
        let answer = self.client.range(&oldest(&self.prefix)).await?;
        let header = answer.header.unwrap_or_default();
        if let Some(leader) = answer.kvs.into_iter().next() {
            return Ok(observed(header, leader));
        }
        let range = KeyRange::prefix(self.prefix.clone());
        let mut watcher = self
            .client
            .watch(watch_from(range, header.revision))
            .await?;
        while let Some(response) = watcher.next().await? {
            let put = response.events.into_iter().find(|event| !is_delete(event));
            if let Some(leader) = put.and_then(|event| event.kv) {
                let mut header = response.header.unwrap_or_default();
                header.revision = leader.mod_revision;
                return Ok(observed(header, leader));
            }
        }
        Err(Error::Protocol(
            "a watch without an end and without a reason",
        ))
    }
}

fn observed(header: ResponseHeader, leader: KeyValue) -> (RangeResponse, Bytes, i64) {
    let key = leader.key.clone();
    let response = RangeResponse {
        header: Some(header),
        kvs: vec![leader],
        ..RangeResponse::default()
    };
    (response, key, header.revision)
}

/// Writes the session's key unless it is there, reads `also` in the same transaction, and says at
/// which revision the key was created.
async fn enter(
    session: &Session,
    key: &str,
    value: Bytes,
    also: Option<RangeRequest>,
) -> Result<(TxnResponse, i64), Error> {
    let put = PutRequest {
        key: key.to_owned().into(),
        value,
        lease: session.lease.0,
        ..PutRequest::default()
    };
    let absent = compare_create_revision(key.to_owned(), CompareResult::Equal, 0);
    let mut txn = Txn::new().when(absent).and_then(put).or_else(single(key));
    if let Some(also) = also {
        txn = txn.and_then(also.clone()).or_else(also);
    }
    let answer = session.client.txn(&txn.build()).await?;
    let revision = if answer.succeeded {
        answer.header.as_ref().map_or(0, |header| header.revision)
    } else {
        let own = first_kv(&answer).ok_or(Error::Protocol("a key that exists was not returned"))?;
        own.create_revision
    };
    Ok((answer, revision))
}

fn first_kv(answer: &TxnResponse) -> Option<&KeyValue> {
    match answer.responses.first()?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}

/// Waits until no key below `prefix` is older than `revision`: each time for the youngest of them.
async fn wait_for_older(client: &Client, prefix: &str, revision: i64) -> Result<(), Error> {
    let range = KeyRange::prefix(prefix.to_owned());
    let request = RangeRequest {
        key: range.key,
        range_end: range.range_end,
        limit: 1,
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Create.into(),
        max_create_revision: revision - 1,
        ..RangeRequest::default()
    };
    loop {
        let answer = client.range(&request).await?;
        let Some(older) = answer.kvs.into_iter().next() else {
            return Ok(());
        };
        let seen_at = answer.header.unwrap_or_default().revision;
        let mut watcher = client
            .watch(watch_from(KeyRange::single(older.key), seen_at))
            .await?;
        while let Some(response) = watcher.next().await? {
            if response.events.iter().any(is_delete) {
                break;
            }
        }
    }
}

fn is_delete(event: &Event) -> bool {
    event.r#type() == EventType::Delete
}

fn watch_from(range: KeyRange, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: range.key,
        range_end: range.range_end,
        start_revision,
        ..WatchCreateRequest::default()
    }
}

fn single(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_owned().into(),
        ..DeleteRangeRequest::default()
    }
}

/// Reads the key below `prefix` that was created first.
fn oldest(prefix: &str) -> RangeRequest {
    let range = KeyRange::prefix(prefix.to_owned());
    RangeRequest {
        key: range.key,
        range_end: range.range_end,
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}
