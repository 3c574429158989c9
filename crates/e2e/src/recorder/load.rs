//! The load: workers and a watcher on a thread of their own, which go on through every kill.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use kvorum_proto::mvccpb::event::EventType;

use super::worker::{self, SHORT_TTL, Worker};
use super::{Change, Ending, Event, Evidence, LATE, Note};
use crate::grpc::{Connection, Failure, block_on};

/// Workers that write small values.
pub(super) const WORKERS: u64 = 4;
/// Workers that write large values, where these are asked for.
const LARGE_WORKERS: u64 = 3;
/// Pause before the next try to reach a server that is being killed and started.
const RETRY: Duration = Duration::from_millis(5);
/// Pause between two looks at leases that are about to end.
const LOOK: Duration = Duration::from_millis(100);

/// Which values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A few bytes each.
    Small,
    /// Some workers write values of 1 MiB beside the small ones, so that log files fill up.
    Large,
}

/// What workers, watcher and the test tell each other.
pub(super) struct Shared {
    started: Instant,
    pub(super) stop: AtomicBool,
    /// Writes acknowledged so far.
    pub(super) acknowledged: AtomicU64,
    /// Revision up to which the watcher has seen everything.
    pub(super) watched: AtomicI64,
    /// Deletes seen of keys that only the expiry of a lease deletes.
    expired: AtomicU64,
    /// Revision at which the watcher may stop; 0 before that is known.
    last: AtomicI64,
}

impl Shared {
    /// Time since the start of the load.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<Evidence>,
}

impl Load {
    /// Starts workers and watcher against the server on `port`. The same seed chooses the same
    /// requests; how they meet is up to the machine.
    pub fn start(port: u16, seed: u64, size: Size) -> Self {
        let shared = Arc::new(Shared {
            started: Instant::now(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            watched: AtomicI64::new(0),
            expired: AtomicU64::new(0),
            last: AtomicI64::new(0),
        });
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || block_on(run(port, seed, size, own)));
        Self { shared, thread }
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Keys that the watcher saw vanish because their lease had expired.
    pub fn expired(&self) -> u64 {
        self.shared.expired.load(Ordering::Relaxed)
    }

    /// Stops the workers, waits for the leases that are about to end, reads everything once more,
    /// lets the watcher come to the end, and returns what all of them noted. The server must be
    /// running, and it must not have been started since.
    ///
    /// # Panics
    /// When the load itself panicked.
    pub fn finish(self) -> Evidence {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load ends by itself")
    }
}

async fn run(port: u16, seed: u64, size: Size, shared: Arc<Shared>) -> Evidence {
    let watcher = tokio::spawn(watch(port, Arc::clone(&shared)));
    let large = match size {
        Size::Small => 0,
        Size::Large => LARGE_WORKERS,
    };
    let workers: Vec<_> = (0..WORKERS + large)
        .map(|id| tokio::spawn(Worker::new(port, id, seed, Arc::clone(&shared)).run()))
        .collect();
    let mut evidence = Evidence::default();
    for worker in workers {
        evidence
            .workers
            .push(worker.await.expect("a worker ends by itself"));
    }
    let last_start = shared.now();
    match ending(port, &shared).await {
        Ok((read, leases)) => {
            if let Note::Read { revision, .. } = read {
                shared.last.store(revision, Ordering::Relaxed);
            }
            evidence.workers.push(vec![read]);
            evidence.ending = Ending {
                leases,
                at: shared.now(),
                last_start,
            };
        }
        Err(failure) => {
            evidence.troubles.push(format!("the last read: {failure}"));
            // The watcher need not wait for what nobody knows.
            let watched = shared.watched.load(Ordering::Relaxed);
            shared.last.store(watched.max(1), Ordering::Relaxed);
        }
    }
    let (events, troubles) = watcher.await.expect("the watcher ends by itself");
    evidence.events = events;
    evidence.troubles.extend(troubles);
    evidence
}

type Leases = BTreeMap<i64, BTreeSet<String>>;

/// Waits until no short lease is left, or for as long as the last one may take; then reads all.
async fn ending(port: u16, shared: &Shared) -> Result<(Note, Leases), Failure> {
    let connection = Connection::open(port).await?;
    let limit = shared.now() + SHORT_TTL + LATE + LATE;
    loop {
        let (leases, short_left) = leases(&connection).await?;
        if !short_left || shared.now() > limit {
            return Ok((worker::read_all(&connection).await?, leases));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Every lease with its keys, and whether there is a short one.
async fn leases(connection: &Connection) -> Result<(Leases, bool), Failure> {
    let request = LeaseLeasesRequest::default();
    let list: LeaseLeasesResponse = connection
        .call("etcdserverpb.Lease/LeaseLeases", &request)
        .await?;
    let mut leases = Leases::new();
    let mut short_left = false;
    for lease in list.leases {
        let request = LeaseTimeToLiveRequest {
            id: lease.id,
            keys: true,
        };
        let one: LeaseTimeToLiveResponse = connection
            .call("etcdserverpb.Lease/LeaseTimeToLive", &request)
            .await?;
        // -1 tells of a lease that has ended since it was listed.
        if one.ttl >= 0 {
            short_left |= one.granted_ttl < 2 * SHORT_TTL.as_secs() as i64;
            leases.insert(lease.id, one.keys.iter().map(worker::text).collect());
        } else {
            short_left = true;
        }
    }
    Ok((leases, short_left))
}

/// Tries until there is a connection; none when the load is to stop.
pub(super) async fn connect(port: u16, shared: &Shared) -> Option<Connection> {
    while !shared.stop.load(Ordering::Relaxed) {
        if let Ok(connection) = Connection::open(port).await {
            return Some(connection);
        }
        tokio::time::sleep(RETRY).await;
    }
    None
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
    let create = WatchCreateRequest {
        key: worker::EVERYTHING,
        range_end: worker::EVERYTHING,
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
        let at = shared.now();
        if response.canceled {
            let message = format!("cancelled: {}", response.cancel_reason);
            return Err(Failure::Status { code: 0, message });
        }
        for event in &response.events {
            let pair = event.kv.clone().unwrap_or_default();
            let put = event.r#type() == EventType::Put;
            let change = Change {
                key: worker::text(&pair.key),
                value: put.then(|| worker::text(&pair.value)),
                lease: pair.lease,
            };
            if !put && worker::is_of_short_lease(&change.key) {
                shared.expired.fetch_add(1, Ordering::Relaxed);
            }
            events.push(Event {
                revision: pair.mod_revision,
                at,
                change,
            });
            *seen = pair.mod_revision;
        }
        shared.watched.store(*seen, Ordering::Relaxed);
    }
}
