//! The thread that turns the machines.
//!
//! One turn: take what has come in (bounded), give proposals to the machines as one batch, let ticks and deadlines
//! that are due pass, step the machines until nothing is left to do, and hand out what they want done. While a group
//! is being synced the next one gathers in the log machine, so a slow disk makes larger groups, not a longer queue
//! of syncs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_member::apply::{ClusterState, Effect, RequestError, Response};
use kvorum_member::checkpoint;
use kvorum_member::consensus::{Leadership, Proposal, ReadToken, Role, Status};
use kvorum_member::core::{self, Core, Machine};
use kvorum_member::lease;
use kvorum_proto::ids::{LeaseId, MemberId, Moment, RequestId};
use kvorum_proto::raftpb;
use kvorum_storage::wal::Job;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{error, info, warn};

use super::disk::DiskThreads;
use super::heartbeats::Heartbeats;
use super::slices::Slices;
use super::state_disk::StateThreads;
use super::waiters::{LeaseWaiter, NumberMap, Proposed, ReadWaiter, Waiter, Waiters};
use super::{Clock, Member, door, measure, timeouts};
use crate::api::v3::status;
use crate::config::Span;
use crate::transport::completion;

/// How long a member that was removed still talks to its peers.
/// Source: etcd v3.7.1 `server/etcdserver/server.go`, `applyEntryNormal` and `stopWithDelay`.
const REMOVED_STOP_DELAY: Duration = Duration::from_secs(1);

/// Commands taken in one turn.
const BATCH_COMMANDS_MAX: usize = 4096;

/// Pause between two looks at the files of the state, for the metrics.
const FILES_MEASURE_PAUSE: Duration = Duration::from_secs(1);

/// With more commands than these in a turn, the thread leaves writing to another one and goes on; and no worker takes
/// the thread's place.
const INLINE_COMMANDS_MAX: usize = 8;

/// No worker carries out more bytes of requests itself: they are one write that takes the disk hardly longer than a small
/// one.
const INLINE_BYTES_MAX: usize = 96 << 10;

/// What the thread is told by connections and by the disk.
pub(super) enum Command {
    /// What came in one turn of a connection, in its order.
    Many(Vec<Command>),
    /// Carry out a request.
    Propose {
        /// Its id.
        id: RequestId,
        /// The encoded request.
        data: Bytes,
        /// Who waits for its result.
        proposed: Proposed,
    },
    /// Change the membership.
    ProposeChange {
        /// The id of the request that waits.
        id: RequestId,
        /// The change, with that id in it.
        change: raftpb::ConfChange,
        /// Who waits for its result.
        proposed: Proposed,
    },
    /// A message of a peer.
    Message {
        /// The message.
        message: Box<raftpb::Message>,
        /// Given back when the machines have the message.
        room: Option<OwnedSemaphorePermit>,
    },
    /// News about peers, or about the disk.
    Peer(core::Input),
    /// A peer says that this member was removed.
    Removed,
    /// Confirm a linearizable read.
    Read(ReadWaiter),
    /// Ask the lease deadlines.
    Lease {
        /// The lease.
        id: LeaseId,
        /// Makes the question.
        ask: LeaseQuestion,
        /// Gets the answer.
        then: LeaseWaiter,
    },
    /// Look at the machines.
    Inspect(Look),
    /// Return freed space.
    Defragment(Box<dyn FnOnce() + Send>),
    /// The disk has done a job.
    JobDone(Job),
    /// The disk has done a job of the state.
    StateDone(checkpoint::Done),
    /// The disk has failed; the process must stop.
    Failed(String),
    /// Look at the clock again.
    Wake,
    /// End the thread.
    Stop,
}

/// Looks at the machines between two of their steps.
pub(super) type Look = Box<dyn FnOnce(&Core, Status) + Send>;

/// Makes a question about a lease.
pub(crate) type LeaseQuestion = fn(lease::Token, LeaseId) -> core::Input;

impl Command {
    /// Answers whoever waits: the member is stopping.
    pub(super) fn refuse(self) {
        match self {
            Self::Many(commands) => commands.into_iter().for_each(Self::refuse),
            Self::Propose { proposed, .. } | Self::ProposeChange { proposed, .. } => {
                refuse(proposed.waiter, RequestError::Stopped);
            }
            Self::Read(then) => then(Err(RequestError::Stopped)),
            Self::Lease { then, .. } => then.take(Err(RequestError::Stopped)),
            Self::Inspect(_)
            | Self::Message { .. }
            | Self::Peer(_)
            | Self::Removed
            | Self::Defragment(_)
            | Self::JobDone(_)
            | Self::StateDone(_)
            | Self::Failed(_)
            | Self::Wake
            | Self::Stop => {}
        }
    }

    /// Whether a worker may carry it out: it is what clients ask all the time, and not much of it.
    pub(super) fn is_short(&self) -> bool {
        match self {
            Self::Many(commands) => {
                commands.len() <= INLINE_COMMANDS_MAX
                    && commands.iter().all(Self::is_short)
                    && commands.iter().map(Self::bytes).sum::<usize>() <= INLINE_BYTES_MAX
            }
            Self::Propose { data, .. } => data.len() <= INLINE_BYTES_MAX,
            Self::Read(_) | Self::Lease { .. } => true,
            _ => false,
        }
    }

    /// What it adds to the log, about.
    fn bytes(&self) -> usize {
        match self {
            Self::Many(commands) => commands.iter().map(Self::bytes).sum(),
            Self::Propose { data, .. } => data.len(),
            _ => 0,
        }
    }
}

/// Times that the thread keeps, and how much it does at a time.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// One tick (`--heartbeat-interval`).
    pub tick: Duration,
    /// How long a request may take: 5 s and two election timeouts.
    pub request_timeout: Duration,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// Pause between two steps of a compaction (`--compaction-sleep-interval`).
    pub compaction_pause: Duration,
    /// Records that one step of a compaction visits (`--compaction-batch-limit`).
    pub compaction_step_records: usize,
    /// When checkpoints are made.
    pub checkpoint: checkpoint::Policy,
    /// Applies that take longer are logged (`--warning-apply-duration`); zero: all are.
    pub warning_apply_duration: Duration,
}

/// Why the thread has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was asked to.
    Asked,
    /// An invariant broke or the disk failed.
    Broken(String),
    /// This member was removed from the cluster.
    Removed,
}

/// The machines with everything that waits for them.
pub(super) struct CoreThread {
    core: Core,
    member: Member,
    clock: Clock,
    settings: Settings,
    disks: DiskThreads,
    state: StateThreads,
    proposals: Vec<Proposal>,
    waiters: Waiters<RequestId, Proposed>,
    /// When the last state of a leader came in.
    snapshot_came: Moment,
    reads: Waiters<ReadToken, ReadWaiter>,
    leases: NumberMap<lease::Token, LeaseWaiter>,
    next_token: u64,
    next_tick: Moment,
    /// The steps of a compaction.
    compaction: Slices,
    leader: MemberId,
    /// When it was elected, as this member learned.
    elected: Option<Instant>,
    heartbeats: Heartbeats,
    /// What the metrics were last told of the cluster.
    measured: Option<Arc<ClusterState>>,
    /// Nobody hears from this member, so that nobody misses it while it waits for its disk.
    alone: bool,
    /// Commands taken in this turn.
    taken: usize,
    /// Whether a group of the log was written on this thread in this turn.
    wrote_here: bool,
    /// When the core thread wakes by itself.
    sleeps_until: Moment,
    times: measure::Times,
    baseline: Option<measure::Baseline>,
    /// When the last checkpoint became durable; at first the start.
    checkpoint_at: Moment,
    /// The files are not counted before this.
    next_files_measure: Moment,
    /// When the compaction that is going on had its first step.
    compacting_since: Option<Instant>,
    stop: Option<StopReason>,
    /// When a member that was removed ends.
    removed_at: Option<Moment>,
    roster_changed: bool,
    /// Peers that lost a message in this turn.
    unreachable: BTreeSet<MemberId>,
}

impl CoreThread {
    /// Around machines that are restored or bootstrapped.
    pub(super) fn new(
        mut core: Core,
        member: Member,
        clock: Clock,
        settings: Settings,
        (disks, state): (DiskThreads, StateThreads),
    ) -> Self {
        let compaction = Slices::new(settings.compaction_step_records, settings.compaction_pause);
        core.set_compact_step(compaction.records());
        core.set_checkpoint_policy(settings.checkpoint);
        Self {
            core,
            member,
            clock,
            settings,
            disks,
            state,
            proposals: Vec::new(),
            waiters: Waiters::default(),
            snapshot_came: Moment::default(),
            reads: Waiters::default(),
            leases: NumberMap::default(),
            next_token: 0,
            next_tick: clock.now() + settings.tick,
            compaction,
            leader: MemberId(0),
            elected: None,
            heartbeats: Heartbeats::default(),
            measured: None,
            alone: false,
            taken: 0,
            wrote_here: false,
            sleeps_until: Moment::default(),
            times: measure::Times::default(),
            baseline: None,
            checkpoint_at: clock.now(),
            next_files_measure: Moment::default(),
            compacting_since: None,
            stop: None,
            removed_at: None,
            roster_changed: true,
            unreachable: BTreeSet::new(),
        }
    }

    /// The first turn; then what [`rest`](Self::rest) says.
    pub(super) fn begin(&mut self) -> Option<Duration> {
        self.turn();
        self.rest()
    }

    /// A turn of the core thread: takes a command and those behind it in the queue. Returns how many it took.
    pub(super) fn turn_for_queue(
        &mut self,
        first: Option<Command>,
        commands: &Receiver<Command>,
    ) -> usize {
        self.taken = 0;
        let now = self.clock.now();
        let (mut next, mut received) = (first, 0);
        while let Some(command) = next {
            received += 1;
            self.take(command, now);
            next = if self.taken < BATCH_COMMANDS_MAX {
                commands.try_recv().ok()
            } else {
                None
            };
        }
        self.turn();
        received
    }

    /// Whether somebody else than the core thread may turn the machines: nothing may take long.
    pub(super) fn may_be_turned_by_workers(&self) -> bool {
        self.alone
            && self.stop.is_none()
            && !self.core.apply().compaction_pending()
            && self.disks.load().latency().present() <= door::WRITE_MAX
    }

    /// A turn of a worker with a short command. Returns whether the core thread, which sleeps, has to be told.
    pub(super) fn turn_for_worker(&mut self, command: Command) -> bool {
        self.taken = 0;
        let now = self.clock.now();
        self.take(command, now);
        self.turn();
        self.stop.is_some() || self.next_end() < self.sleeps_until
    }

    /// How long the core thread may sleep unless something comes in; `None` at the end.
    pub(super) fn rest(&mut self) -> Option<Duration> {
        self.sleeps_until = self.next_end();
        let sleep = self.clock.until(self.sleeps_until);
        self.stop.is_none().then_some(sleep)
    }

    /// Until when nothing needs to be done unless something comes in.
    fn next_end(&self) -> Moment {
        // Without ticks it looks after the metrics, which tell of times that pass.
        let mut next = match self.core.needs_ticks() {
            true => self.next_tick,
            false => self.next_files_measure,
        };
        let compaction = self
            .core
            .apply()
            .compaction_pending()
            .then_some(self.compaction.next());
        let ends = [
            self.core.foreground_deadline(),
            compaction,
            self.waiters.next_end(),
            self.reads.next_end(),
            self.removed_at,
        ];
        for end in ends.into_iter().flatten() {
            next = next.min(end);
        }
        next
    }

    fn take(&mut self, command: Command, now: Moment) {
        self.taken += 1;
        match command {
            Command::Many(mut commands) => {
                for command in commands.drain(..) {
                    self.take(command, now);
                }
                self.member.spare_lists().put_back(commands);
            }
            Command::Propose { id, data, proposed } => {
                self.waiters
                    .add(id, proposed, now + self.settings.request_timeout);
                self.proposals.push(Proposal { id, data });
            }
            Command::ProposeChange {
                id,
                change,
                proposed,
            } => {
                let end = now + self.settings.request_timeout;
                self.waiters.add(id, proposed, end);
                self.core.input(core::Input::ProposeConfChange(change));
            }
            Command::Message { message, room } => {
                self.core.input(core::Input::Message(message));
                drop(room);
            }
            Command::Peer(news) => {
                if matches!(news, core::Input::Snapshot { .. }) {
                    self.snapshot_came = now;
                }
                self.core.input(news);
            }
            Command::Removed => self.removed(),
            Command::Read(then) => {
                let token = ReadToken(self.token());
                self.reads
                    .add(token, then, now + self.settings.request_timeout);
                self.core.input(core::Input::Read(token));
            }
            Command::Lease { id, ask, then } => {
                let token = lease::Token(self.token());
                self.leases.insert(token, then);
                self.core.input(ask(token, id));
            }
            Command::Inspect(look) => look(&self.core, self.core.status()),
            Command::Defragment(then) => {
                self.core.input(core::Input::Defragment);
                self.turn();
                then();
            }
            Command::StateDone(done) => self.core.input(core::Input::StateDone(done)),
            Command::JobDone(job) => self.job_done(job),
            Command::Failed(reason) => self.broken(reason),
            Command::Wake => {}
            Command::Stop => self.stop = self.stop.take().or(Some(StopReason::Asked)),
        }
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    fn turn(&mut self) {
        self.wrote_here = false;
        let now = self.clock.now();
        if !self.proposals.is_empty() {
            self.core.propose(&mut self.proposals);
        }
        self.tick(now);
        while let Some(machine) = self.next_machine(now) {
            if machine == Machine::Compaction {
                self.compact(now);
                continue;
            }
            let started = Instant::now();
            self.core.step(machine, now);
            self.carry_out(machine, started, started.elapsed());
        }
        self.follow_roster();
        self.expire(now);
        self.end_if_removed(now);
        self.measure();
    }

    fn compact(&mut self, now: Moment) {
        let started = Instant::now();
        let before = self.core.apply().counts().compacted_records;
        self.core.step(Machine::Compaction, now);
        let elapsed = started.elapsed();
        self.compacting_since.get_or_insert(started);
        self.carry_out(Machine::Compaction, started, elapsed);
        measure::compaction_step(self.member.metrics(), elapsed);
        let removed = self.core.apply().counts().compacted_records - before;
        self.compaction.done(self.clock.now(), removed);
    }

    fn measure(&mut self) {
        let metrics = self.member.metrics();
        measure::standing(metrics, &self.core, self.waiters.len());
        self.measure_cluster();
        let metrics = self.member.metrics();
        self.baseline = self
            .baseline
            .or_else(|| measure::Baseline::take(&self.core));
        if let Some(baseline) = &self.baseline {
            measure::done(metrics, &self.core, baseline);
        }
        let now = self.clock.now();
        if self.next_files_measure <= now {
            self.next_files_measure = now + FILES_MEASURE_PAUSE;
            measure::files(metrics, &self.core, now.since(self.checkpoint_at));
        }
    }

    /// Version and alarms; a replay runs through those of the past.
    fn measure_cluster(&mut self) {
        let cluster = self.core.apply().read_view().cluster;
        let known = self.measured.as_ref();
        if self.core.replay().is_none() && !known.is_some_and(|known| Arc::ptr_eq(known, &cluster))
        {
            measure::cluster(self.member.metrics(), &cluster);
            self.measured = Some(cluster);
        }
    }

    /// Compaction gets a step when nothing else wants one, and then a pause.
    fn next_machine(&self, now: Moment) -> Option<Machine> {
        self.core
            .ready(now)
            .find(|machine| *machine != Machine::Compaction || self.compaction.next() <= now)
    }

    /// Gives one tick for each interval that has passed; after a long pause of the process not all of them, so that
    /// a member that slept does not take itself for isolated. Intervals begin when ticks begin to be needed.
    fn tick(&mut self, now: Moment) {
        if !self.core.needs_ticks() {
            self.next_tick = now + self.settings.tick;
            return;
        }
        if now < self.next_tick {
            return;
        }
        self.core.input(core::Input::Tick);
        self.next_tick = (self.next_tick + self.settings.tick).max(now);
    }

    /// Hands out what a step of a machine wants done.
    fn carry_out(&mut self, machine: Machine, started: Instant, elapsed: Duration) {
        completion::together(|| self.carry_out_all(started, elapsed));
        if machine == Machine::Apply {
            self.warn_if_slow(elapsed);
        }
    }

    fn carry_out_all(&mut self, started: Instant, elapsed: Duration) {
        while let Some(output) = self.core.take_output() {
            match output {
                core::Output::Job(job) => self.start_job(job),
                core::Output::Free(freed) => self.state.free(freed),
                core::Output::StateJob(job) => self.state.submit(job),
                core::Output::Publish(view) => self.member.publish(view),
                core::Output::Reply { id, result } => self.reply(id, result, started, elapsed),
                core::Output::Accepted { id } => self.waiters.keep(id),
                core::Output::AnswersLost => self.answers_lost(),
                core::Output::ReadReady(tokens) => {
                    for token in tokens {
                        if let Some(then) = self.reads.take(token) {
                            then(Ok(()));
                        }
                    }
                }
                core::Output::ReadRefused { token, error } => {
                    self.member.metrics().read_indexes_failed.increment();
                    if let Some(then) = self.reads.take(token) {
                        then(Err(error));
                    }
                }
                core::Output::Watch(input) => self.member.watch().tell(input),
                core::Output::Lease(answer) => {
                    if let Some(then) = self.leases.remove(&answer_token(&answer)) {
                        then.take(Ok(answer));
                    }
                }
                core::Output::Send(message) => self.send(message),
                core::Output::SendSnapshot {
                    number,
                    message,
                    state,
                } => {
                    if let Some(peers) = self.member.peers() {
                        peers.send_snapshot(number, message, state);
                    }
                }
                core::Output::SnapshotDone { .. } => {
                    self.member.metrics().snapshot_applying.set(0.0);
                    if let Some(peers) = self.member.peers() {
                        peers.snapshot_done();
                    }
                }
                core::Output::Leadership(leadership) => self.leadership(leadership),
                core::Output::Notice(effect) => self.notice(&effect),
                core::Output::Stop { reason } if reason == core::REMOVED => self.removed(),
                core::Output::Stop { reason } => self.broken(reason),
            }
        }
    }

    /// Gives the disk its work. A small group with little else going on is written here: two changes of threads cost
    /// more than what could be done meanwhile. A member with peers stays free to speak with them. Only the first group of a
    /// turn: where each asks for the next, as revokes of leases do that end together, a turn would keep everybody waiting.
    fn start_job(&mut self, job: Job) {
        let is_quiet = self.taken <= INLINE_COMMANDS_MAX && !self.wrote_here;
        if !self.alone || !is_quiet || !job.is_small_write() {
            return self.disks.submit(job);
        }
        self.wrote_here = true;
        completion::wake_asleep();
        match self.disks.run(&job) {
            Ok(()) => self.job_done(job),
            Err(error) => self.broken(error.to_string()),
        }
    }

    fn job_done(&mut self, job: Job) {
        self.core.input(core::Input::JobDone(job.id));
        self.core.reuse(job);
    }

    fn reply(
        &mut self,
        id: RequestId,
        result: Result<Response, RequestError>,
        started: Instant,
        elapsed: Duration,
    ) {
        let applied = started + elapsed;
        self.times.applied(self.member.metrics(), &result, elapsed);
        let Some(Proposed {
            waiter,
            kind,
            since,
        }) = self.waiters.take(id)
        else {
            return;
        };
        let result = match result {
            Err(RequestError::Timeout) => Err(self.timeout(since)),
            result => result,
        };
        // As in etcd, a refusal that stands in the log counts as a request that went well.
        let took = applied.saturating_duration_since(since);
        self.times
            .requested(self.member.metrics(), kind, true, took);
        match waiter {
            Waiter::Client(reply) => {
                reply.send(
                    result
                        .map(|response| self.member.encode(&response))
                        .map_err(status),
                );
            }
            Waiter::Inside(then) => then(result),
        }
    }

    fn leadership(&mut self, leadership: Leadership) {
        self.member.set_leadership(&leadership);
        self.alone = leadership.alone;
        measure::leadership(
            self.member.metrics(),
            leadership.role == Role::Leader,
            leadership.leader,
        );
        if leadership.leader == self.leader {
            return;
        }
        self.leader = leadership.leader;
        self.heartbeats.reset();
        if leadership.leader != MemberId(0) {
            self.elected = Some(Instant::now());
        }
        self.member.metrics().leader_changes.increment();
        let id = self.member.identity().member;
        if leadership.leader == MemberId(0) {
            warn!("{id} lost its leader at term {}", leadership.term);
        } else {
            info!(
                "raft.node: {id} elected leader {} at term {}",
                leadership.leader, leadership.term
            );
        }
    }

    fn notice(&mut self, effect: &Effect) {
        measure::notice(self.member.metrics(), effect);
        match effect {
            Effect::RosterChanged => self.roster_changed = true,
            Effect::CompactionFinished { revision, hash, .. } => {
                if let Some(since) = self.compacting_since.take() {
                    measure::compacted(self.member.metrics(), since.elapsed());
                }
                info!(
                    compact_revision = revision,
                    hash = hash.hash,
                    "finished scheduled compaction"
                );
            }
            Effect::ClusterVersionChanged(version) => info!(
                cluster_version = version.short(),
                "set initial cluster version"
            ),
            Effect::Checkpointed(_) => self.checkpoint_at = self.clock.now(),
            Effect::Removed => self.stop = Some(StopReason::Removed),
            _ => {}
        }
    }

    fn warn_if_slow(&self, elapsed: Duration) {
        let limit = self.settings.warning_apply_duration;
        if elapsed <= limit {
            return;
        }
        self.member.metrics().slow_apply.increment();
        warn!(
            took = %Span::from(elapsed),
            expected_duration = %Span::from(limit),
            "apply request took too long"
        );
    }

    fn expire(&mut self, now: Moment) {
        for proposed in self.waiters.expired(now) {
            let why = self.timeout(proposed.since);
            self.leave_unanswered(proposed, why);
        }
        for then in self.reads.expired(now) {
            self.member.metrics().slow_read_indexes.increment();
            then(Err(RequestError::Timeout));
        }
    }

    /// Tells those who proposed something before the last state came in that nobody knows what became of it: their
    /// answers went by with the entries that the state stands for.
    fn answers_lost(&mut self) {
        let lost = self
            .waiters
            .expired(self.snapshot_came + self.settings.request_timeout);
        if !lost.is_empty() {
            let requests = lost.len();
            warn!(
                requests,
                "answers were lost with the entries that a snapshot stands for"
            );
        }
        for proposed in lost {
            self.leave_unanswered(proposed, RequestError::Timeout);
        }
    }

    fn leave_unanswered(&mut self, proposed: Proposed, why: RequestError) {
        let Proposed {
            waiter,
            kind,
            since,
        } = proposed;
        self.member.metrics().proposals_failed.increment();
        self.times
            .requested(self.member.metrics(), kind, false, since.elapsed());
        refuse(waiter, why);
    }

    /// What to say of a proposal that came at `since` and has run out of time.
    fn timeout(&self, since: Instant) -> RequestError {
        let election_timeout = self.settings.election_timeout;
        timeouts::reason(&self.member, since, self.elected, election_timeout)
    }

    /// Ends the member for good, a moment later: what is on its way to peers shall arrive.
    fn removed(&mut self) {
        if self.removed_at.is_none() {
            self.removed_at = Some(self.clock.now() + REMOVED_STOP_DELAY);
        }
    }

    fn end_if_removed(&mut self, now: Moment) {
        if self.removed_at.is_some_and(|end| end <= now) && self.stop.is_none() {
            warn!(
                error = "the member has been permanently removed from the cluster",
                "server error"
            );
            warn!("data-dir used by this member must be removed");
            self.stop = Some(StopReason::Removed);
        }
    }

    /// Hands a message to its peer. Consensus hears once per turn that a peer loses messages.
    fn send(&mut self, message: Box<raftpb::Message>) {
        let to = MemberId(message.to());
        if message.r#type() == raftpb::MessageType::MsgHeartbeat {
            self.note_heartbeat(to);
        }
        let sent = self.member.peers().is_some_and(|peers| peers.send(message));
        if !sent && self.unreachable.insert(to) {
            self.core.input(core::Input::Unreachable(to));
        }
    }

    fn note_heartbeat(&mut self, to: MemberId) {
        let interval = self.settings.tick;
        if let Some(late) = self.heartbeats.sent(to, self.clock.now(), interval) {
            self.member.metrics().heartbeat_failures.increment();
            warn!(
                %to,
                "heartbeat-interval" = %Span::from(interval),
                "expected-duration" = %Span::from(2 * interval),
                "exceeded-duration" = %Span::from(late),
                "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk"
            );
        }
    }

    /// Lets the peers follow the roster. A replay runs through rosters of the past, which nobody needs links to.
    fn follow_roster(&mut self) {
        self.unreachable.clear();
        if !self.roster_changed || self.core.replay().is_some() {
            return;
        }
        self.roster_changed = false;
        let view = self.member.read_view();
        let learner = self.member.is_learner();
        self.member
            .metrics()
            .is_learner
            .set(f64::from(u8::from(learner)));
        if let Some(peers) = self.member.peers() {
            peers.follow(&view.cluster.roster);
        }
    }

    fn broken(&mut self, reason: String) {
        error!(reason, "stopping: the member cannot go on");
        self.stop = Some(StopReason::Broken(reason));
    }

    /// Answers everybody who waits, lets the disk finish what it has, and ends.
    pub(super) fn finish(mut self, commands: &Receiver<Command>) -> StopReason {
        self.member.set_stopping();
        for proposed in self.waiters.drain() {
            refuse(proposed.waiter, RequestError::Stopped);
        }
        for then in self.reads.drain() {
            then(Err(RequestError::Stopped));
        }
        for (_, then) in self.leases.drain() {
            then.take(Err(RequestError::Stopped));
        }
        while let Ok(command) = commands.try_recv() {
            command.refuse();
        }
        self.member.watch().stop();
        // What still waits in memory is the commit index: with it the next start knows at once what is decided.
        self.core.input(core::Input::Flush);
        while let Some(machine) = self.next_machine(self.clock.now()) {
            self.core.step(machine, self.clock.now());
            while let Some(output) = self.core.take_output() {
                if let core::Output::Job(job) = output {
                    self.disks.submit(job);
                }
            }
        }
        self.disks.join();
        self.stop.unwrap_or(StopReason::Asked)
    }
}

fn refuse(waiter: Waiter, error: RequestError) {
    match waiter {
        Waiter::Client(reply) => reply.send(Err(status(error))),
        Waiter::Inside(then) => then(Err(error)),
    }
}

fn answer_token(answer: &lease::Output) -> lease::Token {
    match answer {
        lease::Output::KeptAlive { token, .. }
        | lease::Output::TimeToLive { token, .. }
        | lease::Output::NotPrimary(token) => *token,
        // The router turns these into proposals and reads.
        lease::Output::Confirm(_)
        | lease::Output::Revoke(_)
        | lease::Output::WriteRests(_)
        | lease::Output::ClearCheckpoint(_) => lease::Token(0),
    }
}
