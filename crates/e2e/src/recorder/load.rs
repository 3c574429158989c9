//! The load: workers and a watcher on a thread of their own, which go on through every kill.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, LeaseGrantRequest,
    LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use kvorum_proto::mvccpb::event::EventType;

use super::{Change, Event, Evidence, Note};
use crate::dice::Dice;
use crate::grpc::{Connection, Failure, block_on};

const WORKERS: u64 = 4;
/// Keys of each worker; a few more are shared.
const KEYS: u64 = 6;
/// Long enough that no lease ends during the test, in seconds.
const TTL: i64 = 1_000_000;
/// How far behind the watcher compaction stays, in revisions.
const KEPT_REVISIONS: i64 = 100;
/// Pause before the next try to reach a server that is being killed and started.
const RETRY: Duration = Duration::from_millis(5);

/// What workers, watcher and the test tell each other.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Writes acknowledged so far.
    acknowledged: AtomicU64,
    /// Revision up to which the watcher has seen everything.
    watched: AtomicI64,
    /// Revision at which the watcher may stop; 0 before that is known.
    last: AtomicI64,
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<Evidence>,
}

impl Load {
    /// Starts workers and watcher against the server on `port`. The same seed chooses the same
    /// requests; how they meet is up to the machine.
    pub fn start(port: u16, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || block_on(run(port, seed, own)));
        Self { shared, thread }
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Stops the workers, reads everything once more, lets the watcher come to the end, and
    /// returns what all of them noted. The server must be running.
    ///
    /// # Panics
    /// When the load itself panicked.
    pub fn finish(self) -> Evidence {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load ends by itself")
    }
}

async fn run(port: u16, seed: u64, shared: Arc<Shared>) -> Evidence {
    let watcher = tokio::spawn(watch(port, Arc::clone(&shared)));
    let workers: Vec<_> = (0..WORKERS)
        .map(|id| tokio::spawn(Worker::new(port, id, seed, Arc::clone(&shared)).run()))
        .collect();
    let mut evidence = Evidence::default();
    for worker in workers {
        evidence
            .workers
            .push(worker.await.expect("a worker ends by itself"));
    }
    match ending(port).await {
        Ok((read, leases)) => {
            if let Note::Read { revision, .. } = read {
                shared.last.store(revision, Ordering::Relaxed);
            }
            evidence.workers.push(vec![read]);
            evidence.leases = leases;
        }
        Err(failure) => evidence.troubles.push(format!("the last read: {failure}")),
    }
    let (events, troubles) = watcher.await.expect("the watcher ends by itself");
    evidence.events = events;
    evidence.troubles.extend(troubles);
    evidence
}

async fn ending(port: u16) -> Result<(Note, Vec<i64>), Failure> {
    let connection = Connection::open(port).await?;
    let read = read_all(&connection).await?;
    let request = LeaseLeasesRequest::default();
    let leases: LeaseLeasesResponse = connection
        .call("etcdserverpb.Lease/LeaseLeases", &request)
        .await?;
    Ok((read, leases.leases.iter().map(|lease| lease.id).collect()))
}

async fn connect(port: u16, shared: &Shared) -> Option<Connection> {
    while !shared.stop.load(Ordering::Relaxed) {
        if let Ok(connection) = Connection::open(port).await {
            return Some(connection);
        }
        tokio::time::sleep(RETRY).await;
    }
    None
}

struct Worker {
    port: u16,
    id: u64,
    dice: Dice,
    shared: Arc<Shared>,
    notes: Vec<Note>,
    /// Requests so far: makes every value the only one of its kind.
    count: u64,
}

impl Worker {
    fn new(port: u16, id: u64, seed: u64, shared: Arc<Shared>) -> Self {
        let dice = Dice::new(seed.wrapping_mul(WORKERS) + id);
        Self {
            port,
            id,
            dice,
            shared,
            notes: Vec::new(),
            count: 0,
        }
    }

    async fn run(mut self) -> Vec<Note> {
        while let Some(connection) = connect(self.port, &self.shared).await {
            while !self.shared.stop.load(Ordering::Relaxed) {
                // Without an answer nobody knows what became of it; the next connection goes on.
                if self.request(&connection).await.is_err() {
                    break;
                }
            }
        }
        self.notes
    }

    async fn request(&mut self, connection: &Connection) -> Result<(), Failure> {
        self.count += 1;
        match self.dice.below(20) {
            0..11 => {
                let change = self.put();
                let request = put_request(&change);
                self.write(vec![change], async {
                    let response: PutResponse =
                        connection.call("etcdserverpb.KV/Put", &request).await?;
                    Ok(response.header)
                })
                .await
            }
            11..15 => self.transaction(connection).await,
            15..18 => {
                let read = read_all(connection).await?;
                self.notes.push(read);
                Ok(())
            }
            18 => self.grant(connection).await,
            _ => self.compact(connection).await,
        }
    }

    /// A key of this worker's own or one that all share, and a value that nobody else writes.
    fn put(&mut self) -> Change {
        let number = self.dice.below(KEYS + 2);
        let owner = if number < KEYS { self.id } else { WORKERS };
        (
            format!("{owner}/{number}"),
            Some(format!("{}-{}", self.id, self.count)),
        )
    }

    /// Notes a write before it is sent, so that one without an answer is on record as well.
    async fn write(
        &mut self,
        changes: Vec<Change>,
        call: impl Future<Output = Result<Option<ResponseHeader>, Failure>>,
    ) -> Result<(), Failure> {
        let at = self.notes.len();
        self.notes.push(Note::Write {
            changes: changes.clone(),
            revision: None,
        });
        let revision = call.await?.map(|header| header.revision);
        self.notes[at] = Note::Write { changes, revision };
        self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Two puts, or a put and the delete of a key that this worker made for it just before.
    async fn transaction(&mut self, connection: &Connection) -> Result<(), Failure> {
        let first = self.put();
        let (key, value) = (format!("{}/pair", self.id), first.1.clone());
        let mut changes = vec![first, (key.clone(), value)];
        self.commit(connection, changes.clone()).await?;
        if self.dice.once_in(2) {
            self.count += 1;
            changes = vec![self.put(), (key, None)];
            self.commit(connection, changes).await?;
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        connection: &Connection,
        changes: Vec<Change>,
    ) -> Result<(), Failure> {
        let operation = |change: &Change| match change {
            (_, Some(_)) => Request::RequestPut(put_request(change)),
            (key, None) => Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.clone().into(),
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
        self.write(changes, async {
            let response: TxnResponse = connection.call("etcdserverpb.KV/Txn", &request).await?;
            Ok(response.header)
        })
        .await
    }

    async fn grant(&mut self, connection: &Connection) -> Result<(), Failure> {
        let id = (self.id + 1 + self.count * WORKERS) as i64;
        let request = LeaseGrantRequest { ttl: TTL, id };
        let _: LeaseGrantResponse = connection
            .call("etcdserverpb.Lease/LeaseGrant", &request)
            .await?;
        self.notes.push(Note::Lease(id));
        Ok(())
    }

    /// Compacts what the watcher has long seen. Another worker may have been there first.
    async fn compact(&mut self, connection: &Connection) -> Result<(), Failure> {
        let revision = self.shared.watched.load(Ordering::Relaxed) - KEPT_REVISIONS;
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

fn put_request(change: &Change) -> PutRequest {
    let (key, value) = change.clone();
    PutRequest {
        key: key.into(),
        value: value.unwrap_or_default().into(),
        ..PutRequest::default()
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn read_all(connection: &Connection) -> Result<Note, Failure> {
    let zero = Bytes::from_static(b"\0");
    let all = RangeRequest {
        key: zero.clone(),
        range_end: zero,
        ..RangeRequest::default()
    };
    let response: RangeResponse = connection.call("etcdserverpb.KV/Range", &all).await?;
    let pairs = response
        .kvs
        .iter()
        .map(|pair| (text(&pair.key), text(&pair.value)));
    let state: BTreeMap<String, String> = pairs.collect();
    let revision = response.header.map_or(0, |header| header.revision);
    Ok(Note::Read { revision, state })
}

/// Follows the store from its first change, through every kill, to the revision of the last read.
async fn watch(port: u16, shared: Arc<Shared>) -> (Vec<Event>, Vec<String>) {
    let mut events = Vec::new();
    let mut troubles = Vec::new();
    // 1 is the empty store.
    let mut seen = 1;
    while shared.last.load(Ordering::Relaxed) == 0 || seen < shared.last.load(Ordering::Relaxed) {
        match follow(port, &shared, &mut seen, &mut events).await {
            Ok(()) | Err(Failure::Transport(_)) => tokio::time::sleep(RETRY).await,
            Err(failure) => {
                troubles.push(format!("the watch from {}: {failure}", seen + 1));
                break;
            }
        }
    }
    (events, troubles)
}

/// One watch, from the revision after the last one seen until the connection breaks or the end.
async fn follow(
    port: u16,
    shared: &Shared,
    seen: &mut i64,
    events: &mut Vec<Event>,
) -> Result<(), Failure> {
    let zero = Bytes::from_static(b"\0");
    let create = WatchCreateRequest {
        key: zero.clone(),
        range_end: zero,
        start_revision: *seen + 1,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let connection = Connection::open(port).await?;
    let mut stream = connection
        .open_stream("etcdserverpb.Watch/Watch", &request)
        .await?;
    loop {
        let last = shared.last.load(Ordering::Relaxed);
        if last != 0 && *seen >= last {
            return Ok(());
        }
        let Some(response) = stream.next::<WatchResponse>().await? else {
            return Ok(());
        };
        if response.canceled {
            let message = format!("cancelled: {}", response.cancel_reason);
            return Err(Failure::Status { code: 0, message });
        }
        for event in &response.events {
            let pair = event.kv.clone().unwrap_or_default();
            let value = (event.r#type() == EventType::Put).then(|| text(&pair.value));
            let change = (text(&pair.key), value);
            events.push(Event {
                revision: pair.mod_revision,
                change,
            });
            *seen = pair.mod_revision;
        }
        shared.watched.store(*seen, Ordering::Relaxed);
    }
}
