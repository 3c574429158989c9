//! A whole member on a disk in memory, stepped by hand.

mod alone;
mod disk;
mod files;
mod overtaken;
mod stream;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest, RequestHeader,
};
use kvorum_proto::ids::ClusterId;
use kvorum_storage::checkpoint::Directory;
use kvorum_storage::wal::{BackgroundExecutor, Executor, Lane, Metadata, Options};
use prost::Message as _;

use super::*;
use crate::apply::Local;
use crate::cluster;
use crate::consensus::Role;
use disk::MemoryDisk;

const MEMBER: MemberId = MemberId(1);
const WAL: &str = "/wal";
const STATE: &str = "/state";
/// No checkpoint by itself.
const POLICY: checkpoint::Policy = checkpoint::Policy {
    entries_min: u64::MAX,
    log_bytes_max: u64::MAX,
    pause: Duration::ZERO,
};
const OPTIONS: Options = Options {
    segment_bytes: 4096,
    ahead_bytes: 1024,
    max_wals: 2,
};

/// A member, its disk and everything that came out of it.
struct World {
    disk: MemoryDisk,
    core: Core,
    executor: Executor<MemoryDisk>,
    state: checkpoint::Executor<MemoryDisk>,
    background: BackgroundExecutor<MemoryDisk>,
    /// Foreground jobs that the disk has not done.
    jobs: VecDeque<wal::Job>,
    now: Moment,
    /// Request ids of this run begin here.
    next_request: u64,
    view: ReadView,
    replies: BTreeMap<u64, Result<Response, RequestError>>,
    reads: Vec<u64>,
    lease_answers: Vec<lease::Output>,
    sent: Vec<raftpb::Message>,
    /// All outputs as text, in order.
    trace: Vec<String>,
    stopped: Option<String>,
}

fn config() -> consensus::Config {
    consensus::Config::new(MEMBER, 42, 7)
}

fn initial() -> Vec<InitialMember> {
    let member = cluster::Member::new(MEMBER, vec!["http://localhost:2380".to_owned()], false);
    vec![InitialMember {
        id: MEMBER,
        context: member.context().into(),
    }]
}

fn machines(run: u64) -> (Apply, Deadlines) {
    let first_request = RequestId((1 << 48) + run * 1_000_000);
    let apply = Apply::new(Local {
        member: MEMBER,
        first_request,
    });
    (apply, Deadlines::new(Duration::from_secs(1)))
}

/// An output as text; of a view only where it stands.
fn line(output: &Output) -> String {
    let at = |view: &kvorum_mvcc::View| view.current_revision();
    match output {
        Output::Publish(view) => format!("Publish {:?} {}", view.applied, at(&view.keys)),
        Output::Watch(watch::Input::Events { batches, view }) => {
            format!("Events {batches:?} {}", at(view))
        }
        Output::Watch(watch::Input::Compacted { view }) => format!("Compacted {}", at(view)),
        other => format!("{other:?}"),
    }
}

impl World {
    fn new(run: u64, disk: MemoryDisk, opened: wal::Opened<MemoryDisk>) -> Self {
        World::begin(run, disk, opened, |recovered, log, apply, lease| {
            if recovered.hard_state.term() == 0 {
                Core::bootstrap(config(), &initial(), log, apply, lease)
            } else {
                Core::restore(config(), recovered, log, apply, lease)
            }
        })
    }

    /// A start with other machines than usual.
    fn begin(
        run: u64,
        disk: MemoryDisk,
        opened: wal::Opened<MemoryDisk>,
        start: impl FnOnce(wal::Recovered, wal::Log, Apply, Deadlines) -> Result<Core, RestoreError>,
    ) -> Self {
        let (empty, lease) = machines(run);
        let wal::Opened {
            recovered,
            log,
            executor,
            background,
            ..
        } = opened;
        let state = Directory::new(disk.clone(), STATE.into());
        let found = checkpoint::open(&state, recovered, empty.local()).expect("a whole state");
        let checkpoint::Opened {
            apply, recovered, ..
        } = found;
        let view = apply.read_view();
        let mut core = start(recovered, log, apply, lease).expect("a whole log");
        core.set_checkpoint_policy(POLICY);
        core.set_segment_bytes(512);
        World {
            disk,
            core,
            executor,
            state: checkpoint::Executor::new(state),
            background,
            jobs: VecDeque::new(),
            now: Moment::default(),
            next_request: (1 << 48) + run * 1_000_000,
            view,
            replies: BTreeMap::new(),
            reads: Vec::new(),
            lease_answers: Vec::new(),
            sent: Vec::new(),
            trace: Vec::new(),
            stopped: None,
        }
    }

    /// Born, but its first write is not on the disk.
    fn unborn() -> Self {
        let disk = MemoryDisk::default();
        let metadata = Metadata {
            node: MEMBER,
            cluster: ClusterId(9),
        };
        let opened = wal::create(&disk, Path::new(WAL), metadata, OPTIONS).expect("an empty disk");
        World::new(0, disk, opened)
    }

    /// A member that leads.
    fn leading() -> Self {
        let mut world = World::unborn();
        world.settle();
        assert_eq!(world.core.status().leadership.role, Role::Leader);
        assert_eq!(world.core.status().applied, LogIndex(2));
        world
    }

    /// The machine loses power and the member starts again.
    fn crash(self, run: u64) -> Self {
        let (disk, opened) = self.lose_power();
        World::new(run, disk, opened)
    }

    fn lose_power(self) -> (MemoryDisk, wal::Opened<MemoryDisk>) {
        drop(self.executor);
        drop(self.background);
        self.disk.crash();
        let opened = wal::open(&self.disk, Path::new(WAL), OPTIONS).expect("the log is whole");
        (self.disk, opened)
    }

    /// Everything but the foreground of the disk and the background of the member.
    fn run(&mut self) {
        let busy = |core: &Core, now| {
            core.ready(now)
                .any(|machine| machine != Machine::Compaction)
        };
        loop {
            self.core.run(self.now);
            self.collect();
            if !busy(&self.core, self.now) {
                return;
            }
        }
    }

    fn collect(&mut self) {
        self.core.check_invariants();
        while let Some(output) = self.core.take_output() {
            self.trace.push(line(&output));
            self.take(output);
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Job(job) if job.lane() == Lane::Foreground => self.jobs.push_back(job),
            Output::Job(job) => {
                self.background.run(&job).expect("the disk works");
                self.core.input(Input::JobDone(job.id));
            }
            Output::StateJob(job) => {
                let done = self.state.run(job, |_| ()).expect("the disk works");
                self.core.input(Input::StateDone(done));
            }
            Output::Publish(view) => {
                assert!(self.view.applied <= view.applied, "views never go back");
                self.view = view;
            }
            Output::Reply { id, result } => {
                assert!(
                    self.replies.insert(id.0, result).is_none(),
                    "one reply for {id}"
                );
            }
            Output::ReadReady(tokens) => self.reads.extend(tokens.iter().map(|token| token.0)),
            Output::Lease(answer) => self.lease_answers.push(answer),
            Output::Send(message) => self.sent.push(*message),
            Output::Stop { reason } => self.stopped = Some(reason),
            Output::Accepted { .. }
            | Output::AnswersLost
            | Output::Free(_)
            | Output::ReadRefused { .. }
            | Output::Watch(_)
            | Output::SendSnapshot { .. }
            | Output::SnapshotDone { .. }
            | Output::Leadership(_)
            | Output::Notice(_) => {}
        }
    }

    /// The disk does one job.
    fn disk_turn(&mut self) {
        if let Some(job) = self.jobs.pop_front() {
            self.executor.run(&job).expect("the disk works");
            self.core.input(Input::JobDone(job.id));
        }
        self.run();
    }

    fn settle(&mut self) {
        self.run();
        while !self.jobs.is_empty() || self.core.ready(self.now).next().is_some() {
            self.disk_turn();
        }
    }

    fn propose(&mut self, payload: Payload) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        let request = InternalRaftRequest {
            header: Some(RequestHeader {
                id,
                ..Default::default()
            }),
            payload: Some(payload),
            ..Default::default()
        };
        let proposal = Proposal {
            id: RequestId(id),
            data: request.encode_to_vec().into(),
        };
        self.core.input(Input::Propose(vec![proposal]));
        id
    }

    fn put(&mut self, key: &str, value: &str) -> u64 {
        self.put_with_lease(key, value, 0)
    }

    fn put_with_lease(&mut self, key: &str, value: &str, lease: i64) -> u64 {
        self.propose(Payload::Put(PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            lease,
            ..Default::default()
        }))
    }

    /// Every record of the store, encoded.
    fn records(&self) -> Vec<Bytes> {
        let view = self.core.apply().read_view().keys;
        view.records()
            .map(|record| record.unwrap().encoded().clone())
            .collect()
    }

    fn value(&self, key: &str) -> Option<String> {
        let pair = self.view.keys.get(key.as_bytes()).unwrap()?;
        Some(String::from_utf8_lossy(pair.value()).into_owned())
    }
}

#[test]
fn a_put_is_answered_once_and_only_after_the_disk_has_it() {
    let mut world = World::leading();
    let id = world.put("a", "1");
    world.run();
    assert_eq!((world.jobs.len(), world.replies.len()), (1, 0));
    assert_eq!(world.value("a"), None);
    world.disk_turn();
    assert!(matches!(world.replies[&id], Ok(Response::Put(_))));
    assert_eq!(world.value("a").as_deref(), Some("1"));
    world.settle();
    assert_eq!(world.replies.len(), 1);
}

#[test]
fn the_view_is_published_before_the_reply() {
    let mut world = World::leading();
    world.trace.clear();
    world.put("a", "1");
    world.settle();
    let place = |start: &str| {
        world
            .trace
            .iter()
            .position(|line| line.starts_with(start))
            .expect("it came out")
    };
    assert!(place("Publish") < place("Reply"));
    assert!(place("Publish") < place("Events"));
}

#[test]
fn a_lone_member_needs_ticks_until_its_commit_index_is_written() {
    let mut world = World::leading();
    for value in ["1", "2"] {
        world.put("a", value);
        world.settle();
        let mut ticks = 0;
        while world.core.needs_ticks() {
            world.core.input(Input::Tick);
            world.settle();
            ticks += 1;
        }
        assert_eq!(ticks, 2);
    }
    let mut world = world.crash(1);
    world.run();
    assert_eq!(world.core.replay(), None, "it knows what was decided");
    assert_eq!(world.core.status().committed, LogIndex(4));
}

#[test]
fn puts_that_come_during_a_write_share_the_next_one() {
    let mut world = World::leading();
    world.put("a", "1");
    world.run();
    for value in ["2", "3", "4"] {
        world.put("a", value);
        world.run();
    }
    assert_eq!((world.jobs.len(), world.replies.len()), (1, 0));
    world.disk_turn();
    assert_eq!((world.jobs.len(), world.replies.len()), (1, 1));
    world.disk_turn();
    assert_eq!(world.replies.len(), 4);
}

#[test]
fn a_read_runs_without_a_write_and_sees_what_was_answered_before() {
    let mut world = World::leading();
    world.put("a", "1");
    world.settle();
    world.core.input(Input::Read(ReadToken(7)));
    world.run();
    assert_eq!(world.reads, [7]);
    assert!(world.jobs.is_empty());
    assert_eq!(world.value("a").as_deref(), Some("1"));
}

#[test]
fn what_was_answered_survives_a_crash_and_nobody_is_answered_again() {
    let mut world = World::leading();
    for number in 0..100 {
        world.put(&format!("key{number}"), "kept");
        world.settle();
    }
    let records = world.records();
    world.put("a", "lost");
    world.run();
    let mut world = world.crash(1);
    assert_eq!(
        world.core.replay().map(|replay| replay.applied),
        Some(LogIndex(0))
    );
    world.core.input(Input::Read(ReadToken(1)));
    world.settle();
    assert_eq!(world.core.replay(), None);
    assert_eq!(world.replies, BTreeMap::new());
    assert_eq!(world.records(), records);
    assert_eq!(
        (world.value("key99").as_deref(), world.value("a")),
        (Some("kept"), None)
    );
    assert_eq!(world.reads, [1]);
    // The commit index of the last put was not on the disk: that one is no replay.
    let events = world.trace.iter().filter(|line| line.starts_with("Events"));
    assert_eq!(events.count(), 1);
}

#[test]
fn a_read_after_a_restart_waits_for_what_was_answered_before_it() {
    let mut world = World::leading();
    world.put("a", "1");
    world.settle();
    // The commit index of the put is not on the disk; the put is.
    let mut world = world.crash(1);
    let end = world.core.replay().expect("entries to replay").end;
    assert_eq!(end, LogIndex(2));
    world.core.input(Input::Read(ReadToken(1)));
    world.run();
    assert_eq!(world.reads, [0; 0], "the term has committed nothing yet");
    assert_eq!(world.value("a"), None);
    world.settle();
    assert_eq!(world.reads, [1]);
    assert_eq!(world.value("a").as_deref(), Some("1"));
}

#[test]
fn a_birth_that_was_cut_short_is_begun_again() {
    let mut world = World::unborn();
    world.run();
    assert_eq!(world.jobs.len(), 1);
    let mut world = world.crash(1);
    world.settle();
    assert_eq!(world.core.status().applied, LogIndex(2));
    world.put("a", "1");
    world.settle();
    assert_eq!(world.replies.len(), 1);
}

#[test]
fn flush_writes_down_the_commit_index() {
    let mut world = World::leading();
    world.put("a", "1");
    world.settle();
    world.core.input(Input::Flush);
    world.settle();
    let world = world.crash(1);
    assert_eq!(
        world.core.replay().map(|replay| replay.end),
        Some(LogIndex(3))
    );
}

#[test]
fn a_lease_that_ends_takes_its_keys_along() {
    let mut world = World::leading();
    world.propose(Payload::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 2 }));
    world.put_with_lease("a", "1", 5);
    world.settle();
    let (token, id) = (lease::Token(1), LeaseId(5));
    world.core.input(Input::KeepAlive { token, id });
    world.run();
    let alive = lease::Output::KeptAlive {
        token,
        id,
        ttl_seconds: 2,
    };
    assert_eq!(world.lease_answers, [alive]);
    world.now = world.core.deadline().expect("a lease counts down");
    assert!(world.now >= Moment(Duration::from_secs(2)));
    world.settle();
    assert_eq!(world.value("a"), None);
    assert_eq!(world.core.leases().list(), []);
}

#[test]
fn a_lease_lives_on_through_a_restart() {
    let mut world = World::leading();
    world.propose(Payload::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 2 }));
    world.settle();
    let mut world = world.crash(1);
    world.settle();
    assert_eq!(world.core.leases().list(), [LeaseId(5)]);
    let (token, id) = (lease::Token(1), LeaseId(5));
    world.core.input(Input::KeepAlive { token, id });
    world.run();
    assert_eq!(world.lease_answers.len(), 1);
}

/// Seconds that a lease of 1,000 has left for the next leader, 700 after it was granted.
fn left_for_the_next_leader(write_rests: bool) -> i64 {
    let mut world = World::leading();
    if write_rests {
        world.core.lease.write_rests(Duration::from_secs(300));
    }
    let grant = LeaseGrantRequest { id: 5, ttl: 1_000 };
    world.propose(Payload::LeaseGrant(grant));
    world.settle();
    for second in 1..=700 {
        world.now = Moment(Duration::from_secs(second));
        world.settle();
    }
    // Who leads next counts from its own clock, which begins anew here.
    let mut world = world.crash(1);
    world.settle();
    let (token, id) = (lease::Token(1), LeaseId(5));
    world.core.input(Input::TimeToLive { token, id });
    world.settle();
    let Some(lease::Output::TimeToLive { ttl_seconds, .. }) = world.lease_answers.pop() else {
        panic!("an answer");
    };
    ttl_seconds
}

#[test]
fn the_rest_of_a_long_lease_survives_a_change_of_the_leader() {
    // The last rest was written after 600 s. A promotion adds an election time-out, of 1 s.
    let left = left_for_the_next_leader(true);
    assert!((400..=401).contains(&left), "{left} s");
    let left = left_for_the_next_leader(false);
    assert!((1_000..=1_001).contains(&left), "{left} s");
}

#[test]
fn compaction_goes_on_in_the_background() {
    let mut world = World::leading();
    for _ in 0..3 * COMPACT_STEP_RECORDS {
        world.put("a", "1");
    }
    world.settle();
    let revision = world.view.keys.current_revision();
    let id = world.propose(Payload::Compaction(CompactionRequest {
        revision,
        physical: true,
    }));
    world.run();
    world.disk_turn();
    assert!(
        !world.replies.contains_key(&id),
        "records are left to be removed"
    );
    assert_eq!(world.core.deadline(), Some(Moment::default()));
    assert_eq!(
        world.core.foreground_deadline(),
        None,
        "a shell may pause between two steps"
    );
    let before = world.core.apply().compaction_pending();
    world.put("b", "1");
    world.settle();
    assert_eq!((before, world.core.deadline()), (true, None));
    assert!(matches!(
        world.replies[&id],
        Ok(Response::Compaction { .. })
    ));
}

#[test]
fn a_compaction_takes_steps_of_the_size_it_is_told() {
    let runs = |records_max: usize| {
        let mut world = World::leading();
        world.core.set_compact_step(records_max);
        for _ in 0..12 {
            world.put("a", "1");
        }
        world.settle();
        let revision = world.view.keys.current_revision();
        world.propose(Payload::Compaction(CompactionRequest {
            revision,
            physical: false,
        }));
        world.run();
        world.disk_turn();
        let mut runs = 0;
        while world.core.apply().compaction_pending() {
            world.run();
            runs += 1;
        }
        runs
    };
    assert!(runs(1) > runs(5), "{} {}", runs(1), runs(5));
    assert_eq!(runs(0), runs(1), "a step visits one record at least");
    assert_eq!(runs(usize::MAX), 0);
}

#[test]
fn too_many_requests_are_refused_with_etcds_error() {
    let mut world = World::leading();
    for _ in 0..=consensus::PENDING_APPLY_ENTRIES_MAX + 1 {
        world.put("a", "1");
    }
    // Committed, but apply is never stepped.
    while world.core.status().committed.0 < 5000 {
        world.core.step(Machine::Consensus, world.now);
        world.core.step(Machine::Log, world.now);
        world.collect();
        if let Some(job) = world.jobs.pop_front() {
            world.executor.run(&job).expect("the disk works");
            world.core.input(Input::JobDone(job.id));
        }
    }
    let id = world.put("a", "late");
    world.settle();
    assert_eq!(world.replies[&id], Err(RequestError::TooManyRequests));
    assert_eq!(world.stopped, None);
}

#[test]
fn an_entry_that_cannot_be_stops_the_member() {
    let mut world = World::leading();
    let data = Bytes::from_static(b"\xff");
    world.core.input(Input::Propose(vec![Proposal {
        id: RequestId(1),
        data,
    }]));
    world.settle();
    assert!(
        world
            .stopped
            .as_ref()
            .is_some_and(|reason| reason.starts_with("log entry 3"))
    );
}

/// Steps machines in an order drawn from `seed`, with puts, reads, ticks and disk turns between.
fn random_walk(seed: u64) -> World {
    let mut world = World::leading();
    let mut state = seed;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for step in 0..2000 {
        match draw(10) {
            0 => {
                world.put(&format!("key{}", draw(20)), &step.to_string());
            }
            1 => world.core.input(Input::Read(ReadToken(step))),
            2 => world.core.input(Input::Tick),
            3 => {
                if let Some(job) = world.jobs.pop_front() {
                    world.executor.run(&job).expect("the disk works");
                    world.core.input(Input::JobDone(job.id));
                }
            }
            _ => {
                let machine = Machine::ALL[draw(Machine::ALL.len() as u64) as usize];
                world.core.step(machine, world.now);
            }
        }
        world.collect();
    }
    world.settle();
    world
}

#[test]
fn any_order_of_steps_ends_and_answers_everything_once() {
    for seed in 0..8 {
        let world = random_walk(seed);
        let asked = world.next_request - (1 << 48);
        assert_eq!(world.replies.len() as u64, asked, "seed {seed}");
        let mut reads = world.reads.clone();
        reads.sort_unstable();
        reads.dedup();
        assert_eq!(
            reads.len(),
            world.reads.len(),
            "seed {seed}: a read is answered once"
        );
        let records = world.records();
        let mut world = world.crash(1);
        world.settle();
        assert_eq!(world.records(), records, "seed {seed}");
    }
}

#[test]
fn the_same_steps_give_the_same_outputs() {
    assert_eq!(random_walk(3).trace, random_walk(3).trace);
}
