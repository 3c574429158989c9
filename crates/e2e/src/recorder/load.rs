//! The load: workers and a watcher on a thread of their own, which go on through every kill.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use kvorum_proto::mvccpb::event::EventType;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::worker::{self, SHORT_TTL, Worker};
use super::{Change, Ending, Event, Evidence, LATE, Note};
use crate::grpc::{self, Connection, Failure, block_on};

/// Workers that write small values to a lone member.
const WORKERS: u64 = 4;
/// The same for a cluster.
const CLUSTER_WORKERS: u64 = 8;
/// Least time between two requests of a worker of a cluster: the load is to be there, not to fill the machine.
const CLUSTER_BEAT: Duration = Duration::from_millis(12);
/// How long a worker of a cluster waits for an answer before it turns to another member.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(1);
/// gRPC code of a member that does not serve, now or any more.
const UNAVAILABLE: u32 = 14;
/// The end of the load may take so long when members answer slowly.
const END_LIMIT: Duration = Duration::from_secs(120);
/// Workers that write large values, where these are asked for.
const LARGE_WORKERS: u64 = 3;
/// Pause before the next try to reach a server that is being killed and started.
const RETRY: Duration = Duration::from_millis(5);
/// Pause between two looks: at leases that are about to end, and whether a watcher has seen everything.
const LOOK: Duration = Duration::from_millis(100);

/// Which values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A few bytes each.
    Small,
    /// Some workers write values of 32 KiB beside the small ones, so that the state gets files.
    Medium,
    /// Some workers write values of 1 MiB beside the small ones, so that log files fill up.
    Large,
}

/// What workers, watcher and the test tell each other.
pub(super) struct Shared {
    started: Instant,
    /// Where the members that may be asked serve clients.
    members: Mutex<Vec<SocketAddr>>,
    /// How many workers write small values.
    pub(super) workers: u64,
    /// How long a worker waits for an answer.
    pub(super) patience: Duration,
    /// Least time between two requests of a worker.
    beat: Duration,
    pub(super) stop: AtomicBool,
    /// Requests answered so far.
    pub(super) answered: AtomicU64,
    /// Writes acknowledged so far.
    acknowledged: AtomicU64,
    /// When the last one was, and the longest time without any, in milliseconds from the start.
    acknowledged_at: AtomicU64,
    longest_gap: AtomicU64,
    /// The highest revision that anybody was told of.
    known: AtomicI64,
    /// Revision up to which each watcher has seen everything.
    watched: Vec<AtomicI64>,
    /// Deletes seen of keys that only the expiry of a lease deletes.
    expired: AtomicU64,
    /// Revision at which the watcher may stop; 0 before that is known.
    last: AtomicI64,
}

impl Shared {
    /// For a cluster.
    fn new(members: &[SocketAddr]) -> Self {
        Self {
            started: Instant::now(),
            members: Mutex::new(members.to_vec()),
            workers: CLUSTER_WORKERS,
            patience: CLUSTER_PATIENCE,
            beat: CLUSTER_BEAT,
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            acknowledged_at: AtomicU64::new(0),
            longest_gap: AtomicU64::new(0),
            known: AtomicI64::new(0),
            watched: members.iter().map(|_| AtomicI64::new(0)).collect(),
            expired: AtomicU64::new(0),
            last: AtomicI64::new(0),
        }
    }

    /// Time since the start of the load.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A write was acknowledged.
    pub(super) fn acknowledge(&self) {
        let now = self.now().as_millis() as u64;
        let before = self.acknowledged_at.swap(now, Ordering::Relaxed);
        let gap = now.saturating_sub(before);
        self.longest_gap.fetch_max(gap, Ordering::Relaxed);
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn known(&self) -> i64 {
        self.known.load(Ordering::Relaxed)
    }

    pub(super) fn learn(&self, revision: i64) {
        self.known.fetch_max(revision, Ordering::Relaxed);
    }

    /// Revision up to which every watcher has seen everything.
    pub(super) fn watched(&self) -> i64 {
        let all = self.watched.iter().map(|one| one.load(Ordering::Relaxed));
        all.min().unwrap_or_default()
    }

    pub(super) fn beat(&self) -> Interval {
        let mut beat = interval(self.beat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat
    }

    fn member(&self, place: usize) -> SocketAddr {
        let members = self.members.lock().expect("nobody panics with it");
        members[place % members.len()]
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
        let shared = Shared {
            workers: WORKERS,
            // Calls have a limit of their own.
            patience: 2 * grpc::LIMIT,
            beat: Duration::from_nanos(1),
            ..Shared::new(&[(Ipv4Addr::LOCALHOST, port).into()])
        };
        Self::start_with(shared, seed, size)
    }

    /// The same against members of a cluster, with a watcher for each.
    pub fn start_on(members: &[SocketAddr], seed: u64) -> Self {
        Self::start_with(Shared::new(members), seed, Size::Small)
    }

    fn start_with(shared: Shared, seed: u64, size: Size) -> Self {
        let shared = Arc::new(shared);
        let own = Arc::clone(&shared);
        let thread = thread::spawn(move || block_on(run(seed, size, own)));
        Self { shared, thread }
    }

    /// From now on these members may be asked. Who talks to another one goes on until that fails.
    pub fn turn_to(&self, members: &[SocketAddr]) {
        *self.shared.members.lock().expect("nobody panics with it") = members.to_vec();
    }

    /// The longest time for which no write was acknowledged since this was asked last.
    pub fn take_longest_gap(&self) -> Duration {
        Duration::from_millis(self.shared.longest_gap.swap(0, Ordering::Relaxed))
    }

    /// Requests answered so far, of any kind.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// The highest revision that anybody was told of.
    pub fn known(&self) -> i64 {
        self.shared.known()
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

async fn run(seed: u64, size: Size, shared: Arc<Shared>) -> Evidence {
    let large = match size {
        Size::Small => 0,
        Size::Medium | Size::Large => LARGE_WORKERS,
    };
    let watchers: Vec<_> = (0..shared.watched.len())
        .map(|number| tokio::spawn(watch(number, Arc::clone(&shared))))
        .collect();
    let workers: Vec<_> = (0..shared.workers + large)
        .map(|id| tokio::spawn(Worker::new(id, seed, size, Arc::clone(&shared)).run()))
        .collect();
    let mut evidence = Evidence::default();
    for worker in workers {
        evidence
            .workers
            .push(worker.await.expect("a worker ends by itself"));
    }
    let last_start = shared.now();
    match ending(&shared).await {
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
            // The watchers need not wait for what nobody knows.
            shared.last.store(1, Ordering::Relaxed);
        }
    }
    for (number, watcher) in watchers.into_iter().enumerate() {
        let watched = timeout(END_LIMIT, watcher).await;
        let Ok(watched) = watched else {
            let trouble = format!("watcher {number} does not come to the end");
            evidence.troubles.push(trouble);
            continue;
        };
        let (events, troubles) = watched.expect("the watcher ends by itself");
        match number {
            0 => evidence.events = events,
            _ => evidence.others.push(events),
        }
        evidence.troubles.extend(troubles);
    }
    evidence
}

type Leases = BTreeMap<i64, BTreeSet<String>>;

/// Waits until no short lease is left, or for as long as the last one may take; then reads all.
async fn ending(shared: &Shared) -> Result<(Note, Leases), Failure> {
    let limit = shared.now() + END_LIMIT;
    let mut place = 0;
    loop {
        match ending_at(shared.member(place), shared).await {
            Err(_) if shared.now() < limit => place += 1,
            ended => return ended,
        }
        sleep(RETRY).await;
    }
}

async fn ending_at(member: SocketAddr, shared: &Shared) -> Result<(Note, Leases), Failure> {
    let connection = Connection::open_at(member).await?;
    let limit = shared.now() + SHORT_TTL + LATE + LATE;
    loop {
        let (leases, short_left) = leases(&connection).await?;
        if !short_left || shared.now() > limit {
            let floor = Some(shared.known());
            return Ok((worker::read_all(&connection, floor).await?, leases));
        }
        sleep(LOOK).await;
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

/// Tries one member after the other until there is a connection; none when the load is to stop.
pub(super) async fn connect(place: &mut usize, shared: &Shared) -> Option<Connection> {
    while !shared.stop.load(Ordering::Relaxed) {
        let opened = timeout(shared.patience, Connection::open_at(shared.member(*place))).await;
        if let Ok(Ok(connection)) = opened {
            return Some(connection);
        }
        *place += 1;
        sleep(RETRY).await;
    }
    None
}

/// Follows the store from its first change, through every fault, to the revision of the last read.
async fn watch(number: usize, shared: Arc<Shared>) -> (Vec<Event>, Vec<String>) {
    let mut events = Vec::new();
    let mut troubles = Vec::new();
    let mut place = number;
    // 1 is the empty store.
    let mut seen = 1;
    while shared.last.load(Ordering::Relaxed) == 0 || seen < shared.last.load(Ordering::Relaxed) {
        match follow(place, &shared, number, &mut seen, &mut events).await {
            Ok(()) | Err(Failure::Transport(_)) => sleep(RETRY).await,
            // A member that ends says so.
            Err(Failure::Status {
                code: UNAVAILABLE, ..
            }) => sleep(RETRY).await,
            Err(failure) => {
                troubles.push(format!("the watch from {}: {failure}", seen + 1));
                break;
            }
        }
        place += 1;
    }
    (events, troubles)
}

/// One watch, from the revision after the last one seen until the connection breaks or the end.
async fn follow(
    place: usize,
    shared: &Shared,
    number: usize,
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
    let connection = Connection::open_at(shared.member(place)).await?;
    let mut stream = connection
        .open_stream("etcdserverpb.Watch/Watch", &request)
        .await?;
    let mut heard = shared.now();
    loop {
        let last = shared.last.load(Ordering::Relaxed);
        if last != 0 && *seen >= last {
            return Ok(());
        }
        // Whoever has seen everything is not told so by another event.
        let Ok(response) = timeout(LOOK, stream.next::<WatchResponse>()).await else {
            if shared.now() > heard + grpc::LIMIT {
                return Err(Failure::Transport("the member is silent".to_owned()));
            }
            continue;
        };
        let Some(response) = response? else {
            return Ok(());
        };
        let at = shared.now();
        heard = at;
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
            if !put && number == 0 && worker::is_of_short_lease(&change.key) {
                shared.expired.fetch_add(1, Ordering::Relaxed);
            }
            events.push(Event {
                revision: pair.mod_revision,
                at,
                change,
            });
            *seen = pair.mod_revision;
        }
        shared.learn(*seen);
        shared.watched[number].store(*seen, Ordering::Relaxed);
    }
}
