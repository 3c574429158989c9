//! One worker: which requests it sends, and what it notes of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::response_op::Response;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, LeaseGrantRequest,
    LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, TxnRequest, TxnResponse,
};
use tokio::time::timeout;

use super::load::{Shared, Size, connect};
use super::{Change, Condition, Note, Renewal};
use crate::dice::Dice;
use crate::grpc::{Connection, Failure};

/// Keys of each worker; a few more are shared.
const KEYS: u64 = 6;
/// Keys of each short lease, and keys that the long leases of a worker share.
const LEASED_KEYS: u64 = 3;
/// Stands between the worker and the lease in the keys of short leases.
const SHORT_KEYS: &str = "/short-";
/// Leases that a worker has at a time.
const LEASES_MAX: usize = 4;
/// One lease ends for so many keep-alives, so that short ones live for several lifetimes.
const KEEP_ALIVES_PER_END: u64 = 40;
/// Lifetime of leases that are revoked in the end: longer than any test.
const LONG_TTL: Duration = Duration::from_secs(1_000_000);
/// Lifetime of leases that are left to expire: the shortest that is granted.
pub(super) const SHORT_TTL: Duration = Duration::from_secs(2);
/// How far behind the watcher compaction stays, in revisions.
const KEPT_REVISIONS: i64 = 100;
/// Bytes of values that are not small, by the end of their keys.
const FILLED: [(&str, usize); 2] = [("/medium", 32 << 10), ("/large", 1 << 20)];
/// Ends the part of a large value that is not filling.
const FILL_MARK: char = '|';
const FILL: u8 = b'.';
/// What the server answers to a put with a lease that is not there.
const LEASE_NOT_FOUND: &str = "requested lease not found";
/// One zero byte: as key and as range end it means every key.
pub(super) const EVERYTHING: Bytes = Bytes::from_static(b"\0");

/// A lease that a worker knows to be granted.
#[derive(Clone, Copy, PartialEq)]
struct Lease {
    id: i64,
    short: bool,
}

pub(super) struct Worker {
    id: u64,
    dice: Dice,
    /// What workers that write no small values write.
    size: Size,
    shared: Arc<Shared>,
    notes: Vec<Note>,
    leases: Vec<Lease>,
    /// When each shared key was last changed, as far as this worker was told.
    changed_at: BTreeMap<String, i64>,
    /// Requests so far: makes every value and every lease the only one of its kind.
    count: u64,
}

impl Worker {
    /// The first [`Shared::workers`] do a bit of everything, the others write large values.
    pub(super) fn new(id: u64, seed: u64, size: Size, shared: Arc<Shared>) -> Self {
        let dice = Dice::new(seed.wrapping_mul(1_000) + id);
        Self {
            id,
            dice,
            size,
            shared,
            notes: Vec::new(),
            leases: Vec::new(),
            changed_at: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) async fn run(mut self) -> Vec<Note> {
        let shared = Arc::clone(&self.shared);
        let mut place = self.id as usize;
        while let Some(connection) = connect(&mut place, &shared).await {
            let mut beat = shared.beat();
            while !shared.stop.load(Ordering::Relaxed) {
                beat.tick().await;
                // Without an answer nobody knows what became of it; the next connection goes on.
                let Ok(Ok(())) = timeout(shared.patience, self.request(&connection)).await else {
                    place += 1;
                    break;
                };
                shared.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.notes
    }

    async fn request(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.count += 1;
        if self.id >= self.shared.workers {
            return self.large(connection).await;
        }
        match self.dice.below(24) {
            0..12 => {
                let change = self.change();
                self.put(connection, change).await.map(|_| ())
            }
            12..14 => self.transaction(connection).await,
            14..16 => self.swap(connection).await,
            16..19 => {
                let linearizable = !self.dice.once_in(3);
                let floor = linearizable.then(|| self.shared.known());
                let read = read_all(connection, floor).await?;
                if let Note::Read { revision, .. } = read {
                    self.shared.learn(revision);
                }
                self.notes.push(read);
                Ok(())
            }
            19..23 => self.tend(connection).await,
            _ => self.compact(connection).await,
        }
    }

    fn value(&self) -> String {
        format!("{}-{}", self.id, self.count)
    }

    /// A key of this worker's own, one that all share, or one that hangs on a lease or did before;
    /// and a value that nobody else writes.
    fn change(&mut self) -> Change {
        let value = Some(self.value());
        if let Some(lease) = self.pick_lease().filter(|_| self.dice.once_in(3)) {
            return self.leased(lease, value);
        }
        let number = self.dice.below(KEYS + 2);
        let owner = if number < KEYS {
            self.id
        } else {
            self.shared.workers
        };
        Change {
            key: format!("{owner}/{number}"),
            value,
            lease: 0,
        }
    }

    /// A short lease has keys of its own, or each would have moved on before the lease expires.
    /// The keys of long ones move from lease to lease, and to none.
    fn leased(&mut self, lease: Lease, value: Option<String>) -> Change {
        let number = self.dice.below(LEASED_KEYS);
        let Lease { id, short } = lease;
        let (key, lease) = match short {
            true => (format!("{}{SHORT_KEYS}{id}-{number}", self.id), id),
            false => {
                let detached = self.dice.once_in(5);
                let lease = if detached { 0 } else { id };
                (format!("{}/long-{number}", self.id), lease)
            }
        };
        Change { key, value, lease }
    }

    fn pick_lease(&mut self) -> Option<Lease> {
        (!self.leases.is_empty()).then(|| self.dice.pick(&self.leases))
    }

    async fn put(&mut self, connection: &Connection, change: Change) -> Result<bool, Failure> {
        let request = put_request(&change);
        self.write(None, vec![change], async {
            let response: PutResponse = connection.call("etcdserverpb.KV/Put", &request).await?;
            Ok(response.header)
        })
        .await
    }

    /// Notes a write before it is sent, so that one without an answer is on record as well. False
    /// when it was refused, because its lease is gone.
    async fn write(
        &mut self,
        condition: Option<Condition>,
        changes: Vec<Change>,
        call: impl Future<Output = Result<Option<ResponseHeader>, Failure>>,
    ) -> Result<bool, Failure> {
        let at = self.notes.len();
        let sent = self.shared.now();
        let floor = self.shared.known();
        self.notes.push(Note::Write {
            condition: condition.clone(),
            changes: changes.clone(),
            floor,
            revision: None,
        });
        let header = match call.await {
            Err(Failure::Status { message, .. }) if message.contains(LEASE_NOT_FOUND) => {
                let lease = changes.iter().find(|change| change.lease != 0);
                self.lease_is_gone(lease.map_or(0, |change| change.lease), sent);
                return Ok(false);
            }
            answer => answer?,
        };
        let revision = header.map(|header| header.revision);
        self.shared.learn(revision.unwrap_or_default());
        self.notes[at] = Note::Write {
            condition,
            changes,
            floor,
            revision,
        };
        self.shared.acknowledge();
        Ok(true)
    }

    /// Two puts, then a put and the delete of the second key. That key is of this transaction alone: the delete of one
    /// that is not there would leave no event, and an earlier transaction that got no answer may be done at any time.
    async fn transaction(&mut self, connection: &Connection) -> Result<(), Failure> {
        let first = self.change();
        let pair = Change {
            key: format!("{}/pair-{}", self.id, self.count),
            value: first.value.clone(),
            lease: 0,
        };
        if self.commit(connection, vec![first, pair.clone()]).await? {
            self.count += 1;
            let changes = vec![self.change(), deleted(&pair)];
            self.commit(connection, changes).await?;
        }
        Ok(())
    }

    /// Changes a shared key if nobody did since this worker last heard of it.
    async fn swap(&mut self, connection: &Connection) -> Result<(), Failure> {
        let number = KEYS + self.dice.below(2);
        let key = format!("{}/{number}", self.shared.workers);
        let changed_at = self.changed_at.get(&key).copied().unwrap_or_default();
        let change = Change {
            key: key.clone(),
            value: Some(self.value()),
            lease: 0,
        };
        let condition = Condition {
            key: key.clone(),
            changed_at,
        };
        let request = swap_request(&change, changed_at);
        let floor = self.shared.known();
        let at = self.notes.len();
        let mut found = None;
        let call = async {
            let answer: TxnResponse = connection.call("etcdserverpb.KV/Txn", &request).await?;
            if !answer.succeeded {
                found = Some(changed_at_of(&answer));
            }
            Ok(answer.header)
        };
        self.write(Some(condition.clone()), vec![change], call)
            .await?;
        let Note::Write {
            revision: Some(revision),
            ..
        } = self.notes[at]
        else {
            return Ok(());
        };
        if found.is_some() {
            self.notes[at] = Note::Refused {
                condition,
                floor,
                revision,
            };
        }
        self.changed_at.insert(key, found.unwrap_or(revision));
        Ok(())
    }

    async fn commit(
        &mut self,
        connection: &Connection,
        changes: Vec<Change>,
    ) -> Result<bool, Failure> {
        let operation = |change: &Change| match change.value {
            Some(_) => Request::RequestPut(put_request(change)),
            None => Request::RequestDeleteRange(DeleteRangeRequest {
                key: change.key.clone().into(),
                ..DeleteRangeRequest::default()
            }),
        };
        let operations = changes.iter().map(|change| RequestOp {
            request: Some(operation(change)),
        });
        let request = TxnRequest {
            success: operations.collect(),
            ..TxnRequest::default()
        };
        self.write(None, changes, async {
            let response: TxnResponse = connection.call("etcdserverpb.KV/Txn", &request).await?;
            Ok(response.header)
        })
        .await
    }

    /// The end of the keys of values that are not small.
    fn kind(&self) -> &'static str {
        match self.size {
            Size::Small | Size::Medium => "medium",
            Size::Large => "large",
        }
    }

    /// A large value, again and again at the same key; or its delete together with a small put.
    async fn large(&mut self, connection: &Connection) -> Result<(), Failure> {
        let large = Change {
            key: format!("{}/{}", self.id, self.kind()),
            value: Some(self.value()),
            lease: 0,
        };
        self.put(connection, large.clone()).await?;
        if self.dice.once_in(4) {
            self.count += 1;
            let changes = vec![self.change(), deleted(&large)];
            self.commit(connection, changes).await?;
        }
        Ok(())
    }

    /// Keeps a lease alive, or ends one, or asks for another. Short leases are left to expire,
    /// long ones are revoked.
    async fn tend(&mut self, connection: &Connection) -> Result<(), Failure> {
        let Some(lease) = self.pick_lease() else {
            return self.grant(connection).await;
        };
        match self.dice.below(KEEP_ALIVES_PER_END) {
            0 => {
                self.leases.retain(|other| *other != lease);
                if lease.short {
                    return Ok(());
                }
                self.revoke(connection, lease.id).await
            }
            1..4 if self.leases.len() < LEASES_MAX => self.grant(connection).await,
            _ => self.keep_alive(connection, lease.id).await,
        }
    }

    async fn grant(&mut self, connection: &Connection) -> Result<(), Failure> {
        let lease = (self.id + 1 + self.count * self.shared.workers) as i64;
        let short = self.dice.once_in(2);
        let ttl = if short { SHORT_TTL } else { LONG_TTL };
        let at = self.notes.len();
        let sent = self.shared.now();
        let ttl_unknown = Note::Grant {
            lease,
            sent,
            ttl: None,
        };
        self.notes.push(ttl_unknown);
        let request = LeaseGrantRequest {
            ttl: ttl.as_secs() as i64,
            id: lease,
        };
        let answer: LeaseGrantResponse = connection
            .call("etcdserverpb.Lease/LeaseGrant", &request)
            .await?;
        self.leases.push(Lease { id: lease, short });
        let ttl = Some(Duration::from_secs(answer.ttl as u64));
        self.notes[at] = Note::Grant { lease, sent, ttl };
        Ok(())
    }

    async fn keep_alive(&mut self, connection: &Connection, lease: i64) -> Result<(), Failure> {
        let at = self.notes.len();
        let sent = self.shared.now();
        let renewal = |got, answer| Note::Renew {
            lease,
            sent,
            got,
            answer,
        };
        self.notes.push(renewal(sent, Renewal::Unknown));
        let answer = keep_alive(connection, lease).await;
        let told = *answer.as_ref().unwrap_or(&Renewal::Unknown);
        self.notes[at] = renewal(self.shared.now(), told);
        if told == Renewal::Gone {
            self.leases.retain(|other| other.id != lease);
        }
        answer.map(|_| ())
    }

    /// The server said so; whether it should have is up to the judge.
    fn lease_is_gone(&mut self, lease: i64, sent: Duration) {
        self.leases.retain(|other| other.id != lease);
        self.notes.push(Note::Renew {
            lease,
            sent,
            got: self.shared.now(),
            answer: Renewal::Gone,
        });
    }

    /// Revokes, and sometimes asks whether that was the end.
    async fn revoke(&mut self, connection: &Connection, lease: i64) -> Result<(), Failure> {
        let at = self.notes.len();
        self.notes.push(Note::Revoke {
            lease,
            revision: None,
        });
        let request = LeaseRevokeRequest { id: lease };
        let answer: LeaseRevokeResponse = connection
            .call("etcdserverpb.Lease/LeaseRevoke", &request)
            .await?;
        let revision = answer.header.map(|header| header.revision);
        self.notes[at] = Note::Revoke { lease, revision };
        if self.dice.once_in(3) {
            self.keep_alive(connection, lease).await?;
        }
        Ok(())
    }

    /// Compacts what the watcher has long seen. Another worker may have been there first.
    async fn compact(&mut self, connection: &Connection) -> Result<(), Failure> {
        let revision = self.shared.watched() - KEPT_REVISIONS;
        let request = CompactionRequest {
            revision,
            physical: self.dice.once_in(2),
        };
        let answer: Result<CompactionResponse, Failure> =
            connection.call("etcdserverpb.KV/Compact", &request).await;
        match answer {
            Err(Failure::Transport(text)) => Err(Failure::Transport(text)),
            _ => Ok(()),
        }
    }
}

async fn keep_alive(connection: &Connection, lease: i64) -> Result<Renewal, Failure> {
    let request = LeaseKeepAliveRequest { id: lease };
    let mut stream = connection
        .open_stream("etcdserverpb.Lease/LeaseKeepAlive", &request)
        .await?;
    let answer = stream.next::<LeaseKeepAliveResponse>().await?;
    let none = || Failure::Transport("no answer to a keep-alive".to_owned());
    let ttl = answer.ok_or_else(none)?.ttl;
    stream.finish()?;
    Ok(match u64::try_from(ttl) {
        Ok(ttl) if ttl > 0 => Renewal::Alive(Duration::from_secs(ttl)),
        _ => Renewal::Gone,
    })
}

/// Whether only the expiry of a lease deletes this key.
pub(super) fn is_of_short_lease(key: &str) -> bool {
    key.contains(SHORT_KEYS)
}

fn deleted(change: &Change) -> Change {
    Change {
        key: change.key.clone(),
        value: None,
        lease: 0,
    }
}

fn put_request(change: &Change) -> PutRequest {
    let mut value = change.value.clone().unwrap_or_default().into_bytes();
    let filled = FILLED.iter().find(|(end, _)| change.key.ends_with(end));
    if let Some((_, bytes)) = filled {
        value.push(FILL_MARK as u8);
        value.resize(*bytes, FILL);
    }
    PutRequest {
        key: change.key.clone().into(),
        value: value.into(),
        lease: change.lease,
        ..PutRequest::default()
    }
}

/// A key or value as the notes have it: large values without their filling, if that is right.
pub(super) fn text(bytes: &Bytes) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.split_once(FILL_MARK) {
        None => text.into_owned(),
        Some((value, filling))
            if FILLED.iter().any(|(_, length)| *length == bytes.len())
                && filling.bytes().all(|byte| byte == FILL) =>
        {
            value.to_owned()
        }
        Some((value, _)) => format!("{value}, spoiled, {} bytes", bytes.len()),
    }
}

/// A read of everything; serializable without a floor.
pub(super) async fn read_all(connection: &Connection, floor: Option<i64>) -> Result<Note, Failure> {
    let all = RangeRequest {
        key: EVERYTHING,
        range_end: EVERYTHING,
        serializable: floor.is_none(),
        ..RangeRequest::default()
    };
    let response: RangeResponse = connection.call("etcdserverpb.KV/Range", &all).await?;
    let pairs = response
        .kvs
        .iter()
        .map(|pair| (text(&pair.key), (text(&pair.value), pair.lease)));
    let state: BTreeMap<_, _> = pairs.collect();
    let revision = response.header.map_or(0, |header| header.revision);
    Ok(Note::Read {
        revision,
        floor,
        state,
    })
}

/// Puts when the key was last changed then, and reads it otherwise.
fn swap_request(change: &Change, changed_at: i64) -> TxnRequest {
    let compare = Compare {
        key: change.key.clone().into(),
        target: CompareTarget::Mod.into(),
        result: CompareResult::Equal.into(),
        target_union: Some(TargetUnion::ModRevision(changed_at)),
        ..Compare::default()
    };
    let read = RangeRequest {
        key: change.key.clone().into(),
        ..RangeRequest::default()
    };
    let operation = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        compare: vec![compare],
        success: vec![operation(Request::RequestPut(put_request(change)))],
        failure: vec![operation(Request::RequestRange(read))],
    }
}

/// When the key that a refused swap read was last changed; 0 when it is not there.
fn changed_at_of(answer: &TxnResponse) -> i64 {
    let read = answer
        .responses
        .first()
        .and_then(|one| one.response.as_ref());
    match read {
        Some(Response::ResponseRange(range)) => {
            range.kvs.first().map_or(0, |pair| pair.mod_revision)
        }
        _ => 0,
    }
}
