//! The machines of one member and the queues between them.
//!
//! [`Core`] is what the server's core thread and the simulator's scheduler both turn. It decides
//! nothing: the machines decide, the router says where an output goes, and the queues here hold it
//! until its machine is stepped. The server steps until nothing is left ([`Core::run`]); the
//! simulator chooses.
//!
//! # The life of a put
//!
//! 1. A client's put arrives as [`Input::Propose`] with a request id and the encoded request.
//! 2. *Consensus* gives it an index and a term and asks for an append under a ticket.
//! 3. *Log* gathers appends into one group and asks for a [`Output::Job`]; the shell writes and
//!    syncs it and comes back with [`Input::JobDone`]. Appends that came meanwhile are the next
//!    group.
//! 4. The ticket is persisted: *consensus* counts this member's copy, finds the entry committed (a
//!    lone member needs nobody else) and hands it out.
//! 5. *Apply* changes the state, publishes a view of it and only then lets the reply go:
//!    [`Output::Reply`]. The events of the change go to [`Output::Watch`].
//! 6. Apply's progress goes back to consensus as a watermark, which trims the log in memory.
//!
//! # The life of a read
//!
//! 1. [`Input::Read`] with a token. *Consensus* asks, once for all reads that wait, which index a
//!    linearizable read must see; a lone member that has committed in its term knows at once.
//! 2. *Apply* holds the token until it has applied that index: [`Output::ReadReady`].
//! 3. The shell reads the newest published view in the request's own thread.
//!
//! # Why nothing can wait for itself
//!
//! Only inputs from outside queue without bound here, and the machines refuse them beyond theirs.
//! Persisted and applied positions are watermarks in one slot each. Committed entries flow by
//! credit. A proposal that a machine wants is an intent that may be lost. So every step ends, and
//! [`Core::run`] does.
//!
//! # Checkpoints
//!
//! What is in memory becomes files in the background, in the order that [`crate::checkpoint`] explains:
//! [`Output::StateJob`], [`Input::StateDone`], a snapshot record through consensus and log, and only
//! then older files go.
//!
//! # A state from the leader
//!
//! A member that fell too far behind gets the leader's state in place of entries ([`Input::Snapshot`]). Entries of its own
//! clients may be among those, and apply never sees them, so no reply tells what became of them. Hence a read index is
//! asked for once the state is installed: when what was committed by then is applied, whoever still waits is told that
//! there will be no answer ([`Output::AnswersLost`]). What is in the log behind the state is answered as ever.
//!
//! # Replay
//!
//! After a restart the entries that were committed before it are applied again. Their outputs
//! towards the outside are dropped: whoever waited is gone. [`Core::replay`] tells how far it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kvorum_mvcc::{EventBatch, Freed, watch};
use kvorum_proto::ids::{LeaseId, LogIndex, MemberId, Moment, RequestId};
use kvorum_proto::raftpb;
use kvorum_storage::segment::{SEGMENT_BYTES, SegmentId};
use kvorum_storage::wal::{self, JobId, Ticket};

use crate::apply::{self, Apply, Effect, ReadView, RequestError, Response};
use crate::backend::Backend;
use crate::checkpoint::{self, Checkpoints};
use crate::consensus::{
    self, Consensus, InitialMember, Leadership, PeerProgress, Proposal, ReadToken, RestoreError,
    SnapshotNumber, Status,
};
use crate::lease::{self, Deadlines};
pub use crate::router::REMOVED;
use crate::router::{self, CONFIRM_TOKENS, Delivery, INSTALLED_TOKENS, LogInput, Router};
use crate::spare::Spare;

/// How many records one background step of a compaction visits when nothing else is said: well
/// under a millisecond of work.
const COMPACT_STEP_RECORDS: usize = 500;

/// One of the machines of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// Orders requests.
    Consensus,
    /// Makes the order durable.
    Log,
    /// Carries requests out.
    Apply,
    /// Counts leases down.
    Lease,
    /// Apply's work in the background: removes compacted history, a bounded piece per step.
    Compaction,
    /// Brings the state into files.
    Checkpoint,
}

impl Machine {
    /// All machines, in the order in which the server steps them: what gives the disk work first.
    pub const ALL: [Machine; 6] = [
        Machine::Consensus,
        Machine::Log,
        Machine::Apply,
        Machine::Lease,
        Machine::Checkpoint,
        Machine::Compaction,
    ];
}

/// What a member is told.
#[derive(Debug)]
pub enum Input {
    /// One heartbeat interval has passed.
    Tick,
    /// Requests to be carried out, in this order.
    Propose(Vec<Proposal>),
    /// A membership change; its id is the request that waits for it.
    ProposeConfChange(raftpb::ConfChange),
    /// A linearizable read. The upper bit of tokens from outside is 0.
    Read(ReadToken),
    /// The disk has done a job. One that failed is never reported: the process stops.
    JobDone(JobId),
    /// The disk has done a job of the state.
    StateDone(checkpoint::Done),
    /// Somebody keeps a lease alive; answered by [`Output::Lease`].
    KeepAlive {
        /// For the answer.
        token: lease::Token,
        /// The lease.
        id: LeaseId,
    },
    /// Somebody asks how long a lease has to live; answered by [`Output::Lease`].
    TimeToLive {
        /// For the answer.
        token: lease::Token,
        /// The lease.
        id: LeaseId,
    },
    /// Nobody waits for this answer about a lease any more.
    Forget(lease::Token),
    /// A message from a peer; none that carries a snapshot.
    Message(Box<raftpb::Message>),
    /// A snapshot from the leader. It was received and checked whole, its state is durable beside
    /// the old one. Answered by [`Output::SnapshotDone`].
    Snapshot {
        /// The message that came before the state.
        message: Box<raftpb::Message>,
        /// The state, at the index that the message names.
        state: Box<Apply>,
    },
    /// A message to this peer was lost on the way, or its connection is down. Once per burst is
    /// enough.
    Unreachable(MemberId),
    /// What became of an [`Output::SendSnapshot`].
    SnapshotSent {
        /// Which one.
        number: SnapshotNumber,
        /// Whether the peer has confirmed it.
        received: bool,
    },
    /// All connections from this peer are closed, by the peer. When it leads, it has probably died.
    Closed(MemberId),
    /// The peers are connected, or enough time was given for it: the first election time-out counts
    /// as nearly over (`--initial-election-tick-advance`).
    AdvanceElection,
    /// Hand leadership over.
    TransferLeader(MemberId),
    /// Let the reported size of the store follow what is in use.
    Defragment,
    /// Make a checkpoint as soon as anything is new, however little.
    Checkpoint,
    /// The disk has little room, or has room again. A checkpoint is made then, as soon as anything is
    /// new, so that older files can go.
    DiskShort(bool),
    /// Write down what still waits in memory: the process is about to end.
    Flush,
}

/// What a member wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// Have the disk do this and report it with [`Input::JobDone`]. When it fails, stop.
    Job(wal::Job),
    /// Have the disk do this and report it with [`Input::StateDone`]; those of one lane one after the
    /// other. Only the next start waits for it. When it fails, stop.
    StateJob(checkpoint::Job),
    /// Readers see this from now on. Comes before everything that rests on it.
    Publish(ReadView),
    /// A request is decided. Comes once per request at most; one whose fate was lost with a leader
    /// never gets an answer, and its caller's time runs out. See [`Output::AnswersLost`], too.
    Reply {
        /// The request.
        id: RequestId,
        /// Its result, or why it has none.
        result: Result<Response, RequestError>,
    },
    /// A request is carried out; its reply will come, however long that takes.
    Accepted {
        /// The request.
        id: RequestId,
    },
    /// A received state has taken the place of the own one, and what was committed behind it by then is applied.
    /// Whoever proposed something before the last [`Input::Snapshot`] and has no reply will hardly get one: the entry is
    /// in the state that came, or was lost on its way, and nobody knows which. What was proposed later is in no state that
    /// came before, and is answered.
    AnswersLost,
    /// These reads may run on the last published view.
    ReadReady(Vec<ReadToken>),
    /// This read cannot be confirmed.
    ReadRefused {
        /// The read.
        token: ReadToken,
        /// Why.
        error: RequestError,
    },
    /// For the watch hub, which lives with the shell.
    Watch(watch::Input),
    /// An answer of the lease deadlines.
    Lease(lease::Output),
    /// For the peer named in it. Messages to one peer may be lost or overtake each other, but a
    /// proposal must never arrive twice.
    Send(Box<raftpb::Message>),
    /// For the peer named in it: the message, and behind it the state as etcd's database file.
    /// Answered by [`Input::SnapshotSent`].
    SendSnapshot {
        /// What it is called in the answer.
        number: SnapshotNumber,
        /// The message. Its metadata is that of the state.
        message: Box<raftpb::Message>,
        /// The state.
        state: Backend,
    },
    /// What became of [`Input::Snapshot`].
    SnapshotDone {
        /// Where the snapshot stands.
        index: LogIndex,
        /// The log holds its record durably, the state is taken over and its files are the member's
        /// own: it is the ground to start from, and another one may be received. Otherwise it is
        /// not wanted and can go itself.
        installed: bool,
    },
    /// Term, leader or role changed.
    Leadership(Leadership),
    /// Memory that nobody needs any more, the view published before included. Drop it where that delays
    /// nobody.
    Free(Freed),
    /// Something that operators or metrics want to hear of; the published view has it already.
    Notice(Effect),
    /// The process must stop and say why.
    Stop {
        /// Why.
        reason: String,
    },
}

/// How far the replay after a restart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The last entry applied.
    pub applied: LogIndex,
    /// The last entry that was committed before the restart.
    pub end: LogIndex,
}

/// One member; see the module.
#[derive(Debug)]
pub struct Core {
    consensus: Consensus,
    log: wal::Log,
    apply: Apply,
    lease: Deadlines,
    lease_ticked: Option<Moment>,
    router: Router,
    compact_step_records: usize,
    checkpoints: Checkpoints,
    /// Segments that the disk is writing.
    writing: BTreeSet<SegmentId>,
    /// Those of a state that a snapshot has replaced since.
    orphans: BTreeSet<SegmentId>,
    segment_bytes: u64,
    /// Last index and waiting bytes of the log at the last tick, if anything waited.
    waiting: Option<(LogIndex, usize)>,
    /// The log is durable up to here.
    durable: Ticket,
    /// Snapshots whose state is taken over, and whose files the disk has not adopted yet.
    adopting: VecDeque<LogIndex>,
    /// Received states that wait for consensus to want them.
    received: BTreeMap<LogIndex, Box<Apply>>,
    queues: Queues,
    deliveries: Spare<Delivery>,
    outputs: VecDeque<Output>,
}

/// What waits for each machine.
#[derive(Debug, Default)]
struct Queues {
    consensus: VecDeque<consensus::Input>,
    persisted: Option<Ticket>,
    applied: Option<LogIndex>,
    appends: VecDeque<LogInput>,
    jobs_done: VecDeque<JobId>,
    flush: bool,
    apply: VecDeque<apply::Input>,
    lease: VecDeque<lease::Input>,
    state_done: VecDeque<checkpoint::Done>,
}

impl Core {
    /// The first start of a member of a new cluster, on an empty log.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn bootstrap(
        config: consensus::Config,
        members: &[InitialMember],
        log: wal::Log,
        apply: Apply,
        lease: Deadlines,
    ) -> Result<Self, RestoreError> {
        Ok(Self::new(
            Consensus::bootstrap(config, members)?,
            log,
            apply,
            lease,
        ))
    }

    /// The first start of a member that joins a cluster which exists, on an empty log.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn join(
        config: consensus::Config,
        log: wal::Log,
        apply: Apply,
        lease: Deadlines,
    ) -> Result<Self, RestoreError> {
        Ok(Self::new(Consensus::join(config)?, log, apply, lease))
    }

    /// A later start. `apply` stands at the snapshot of what was recovered.
    ///
    /// # Errors
    /// When the log cannot be taken up; [`RestoreError::Unfinished`] asks for a bootstrap or a join on
    /// the same log.
    pub fn restore(
        config: consensus::Config,
        recovered: wal::Recovered,
        log: wal::Log,
        apply: Apply,
        lease: Deadlines,
    ) -> Result<Self, RestoreError> {
        Self::restore_alone(config, recovered, Vec::new(), log, apply, lease)
    }

    /// A later start that makes this member the only one; `changes` are those of a
    /// [`Rescue`](crate::rescue::Rescue), and none makes it any later start.
    ///
    /// # Errors
    /// As for [`restore`](Self::restore).
    pub fn restore_alone(
        config: consensus::Config,
        recovered: wal::Recovered,
        changes: Vec<raftpb::Entry>,
        log: wal::Log,
        apply: Apply,
        lease: Deadlines,
    ) -> Result<Self, RestoreError> {
        let wal::Recovered {
            snapshot,
            hard_state,
            entries,
            ..
        } = recovered;
        let consensus = Consensus::restore_alone(config, &snapshot, hard_state, entries, changes)?;
        Ok(Self::new(consensus, log, apply, lease))
    }

    fn new(consensus: Consensus, log: wal::Log, apply: Apply, lease: Deadlines) -> Self {
        let router = Router::new(apply.read_view().keys);
        let checkpoints = Checkpoints::new(apply.applied(), apply.files());
        let mut core = Core {
            consensus,
            log,
            apply,
            lease,
            lease_ticked: None,
            router,
            compact_step_records: COMPACT_STEP_RECORDS,
            checkpoints,
            writing: BTreeSet::new(),
            orphans: BTreeSet::new(),
            segment_bytes: 0,
            waiting: None,
            durable: Ticket::default(),
            adopting: VecDeque::new(),
            received: BTreeMap::new(),
            queues: Queues::default(),
            deliveries: Spare::default(),
            outputs: VecDeque::new(),
        };
        if !core.apply.grants().is_empty() {
            let leases = core.apply.grants().to_deadlines();
            core.queues.lease.push_back(leases);
        }
        core.set_segment_bytes(SEGMENT_BYTES);
        core.drain_log();
        core
    }

    /// How many records a background step of a compaction visits from now on; at least one.
    ///
    /// It changes how fast history goes, never what goes.
    pub fn set_compact_step(&mut self, records_max: usize) {
        self.compact_step_records = records_max.max(1);
    }

    /// Gives back the memory of a job of the log that is done; see [`wal::Log::reuse`].
    pub fn reuse(&mut self, job: wal::Job) {
        self.log.reuse(job);
    }

    /// Takes all of some requests in, to be carried out in this order, as [`Input::Propose`] does. The list is empty then
    /// and has room for the next ones.
    pub fn propose(&mut self, proposals: &mut Vec<Proposal>) {
        let room = self.consensus.spare_proposals();
        self.input(Input::Propose(std::mem::replace(proposals, room)));
    }

    /// Takes an input in; its machine is then ready.
    pub fn input(&mut self, input: Input) {
        let consensus = match input {
            Input::Tick => {
                self.flush_when_idle();
                consensus::Input::Tick
            }
            Input::Propose(proposals) => consensus::Input::Propose(proposals),
            Input::ProposeConfChange(change) => consensus::Input::ProposeConfChange(change),
            Input::Read(token) => consensus::Input::Read(token),
            Input::Message(message) => consensus::Input::Message(message),
            Input::Snapshot { message, state } => {
                let metadata = message
                    .snapshot
                    .as_ref()
                    .and_then(|it| it.metadata.as_ref());
                let index = state.applied();
                if metadata.map(raftpb::SnapshotMetadata::index) != Some(index.0) {
                    return self.snapshot_done(index, false);
                }
                self.received.entry(index).or_insert(state);
                consensus::Input::Snapshot(message)
            }
            Input::Unreachable(peer) => consensus::Input::Unreachable(peer),
            Input::SnapshotSent { number, received } => {
                consensus::Input::SnapshotSent { number, received }
            }
            Input::Closed(peer) => consensus::Input::Closed(peer),
            Input::AdvanceElection => consensus::Input::AdvanceElection,
            Input::TransferLeader(to) => consensus::Input::TransferLeader(to),
            Input::JobDone(job) => return self.queues.jobs_done.push_back(job),
            Input::StateDone(done) => return self.queues.state_done.push_back(done),
            Input::Defragment => {
                // What is not in files yet goes there, and what was replaced can go.
                self.checkpoints.ask();
                return self.queues.apply.push_back(apply::Input::Defragment);
            }
            Input::Checkpoint => return self.checkpoints.ask(),
            Input::DiskShort(is_short) => {
                self.log.set_short(is_short);
                if is_short {
                    self.checkpoints.ask();
                }
                return self.drain_log();
            }
            Input::Flush => return self.queues.flush = true,
            Input::KeepAlive { token, id } => {
                return self
                    .queues
                    .lease
                    .push_back(lease::Input::KeepAlive { token, id });
            }
            Input::TimeToLive { token, id } => {
                return self
                    .queues
                    .lease
                    .push_back(lease::Input::TimeToLive { token, id });
            }
            Input::Forget(token) => {
                return self.queues.lease.push_back(lease::Input::Forget(token));
            }
        };
        self.queues.consensus.push_back(consensus);
    }

    /// A commit index waits in the log for company. Where none comes from one tick to the next it goes
    /// alone: a member that has to go on without the others knows from it what was decided (see
    /// [`crate::rescue`]).
    fn flush_when_idle(&mut self) {
        let (last, bytes) = (self.log.last_index(), self.log.waiting_bytes());
        let waiting = (bytes > 0).then_some((last, bytes));
        if waiting.is_some() && waiting == self.waiting {
            self.queues.flush = true;
        }
        self.waiting = waiting;
    }

    /// Whether the next [`Input::Tick`] leads to anything, now or after others. While it does not, the shell need
    /// not wake for ticks; nobody misses those that were left out.
    pub fn needs_ticks(&self) -> bool {
        self.consensus.needs_ticks() || self.log.waiting_bytes() > 0
    }

    /// Whether a machine has something to do.
    pub fn is_ready(&self, machine: Machine, now: Moment) -> bool {
        let queues = &self.queues;
        match machine {
            Machine::Consensus => {
                !queues.consensus.is_empty()
                    || queues.persisted.is_some()
                    || queues.applied.is_some()
                    || self.consensus.has_work()
            }
            Machine::Log => {
                !queues.appends.is_empty() || !queues.jobs_done.is_empty() || queues.flush
            }
            // A store whose files do not keep up takes nothing more until they do.
            Machine::Apply => !queues.apply.is_empty() && !self.apply.is_backlogged(),
            Machine::Checkpoint => !queues.state_done.is_empty() || self.checkpoint_is_due(now),
            Machine::Lease => !queues.lease.is_empty() || self.lease_is_due(now),
            Machine::Compaction => self.apply.compaction_pending(),
        }
    }

    /// The machines that have something to do, in the server's order.
    pub fn ready(&self, now: Moment) -> impl Iterator<Item = Machine> {
        Machine::ALL
            .into_iter()
            .filter(move |&machine| self.is_ready(machine, now))
    }

    /// Lets one machine work off what waits for it; apply takes one input at a time. Does nothing
    /// when nothing waits.
    pub fn step(&mut self, machine: Machine, now: Moment) {
        match machine {
            Machine::Consensus => self.step_consensus(),
            Machine::Log => self.step_log(),
            Machine::Apply => self.step_apply(),
            Machine::Lease => self.step_lease(now),
            Machine::Compaction => self.step_compaction(),
            Machine::Checkpoint => self.step_checkpoint(now),
        }
    }

    /// Steps until only the background has something to do, and that once.
    pub fn run(&mut self, now: Moment) {
        self.run_foreground(now);
        if self.apply.compaction_pending() {
            self.step(Machine::Compaction, now);
            self.run_foreground(now);
        }
    }

    fn run_foreground(&mut self, now: Moment) {
        loop {
            let foreground = |machine: &Machine| *machine != Machine::Compaction;
            let Some(machine) = self.ready(now).find(foreground) else {
                return;
            };
            self.step(machine, now);
        }
    }

    /// The next thing to be done outside.
    pub fn take_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`run`](Self::run) again if no input comes before; `None` for not at all. Ticks
    /// are inputs and not counted.
    pub fn deadline(&self) -> Option<Moment> {
        if self.apply.compaction_pending() {
            return Some(Moment::default());
        }
        self.foreground_deadline()
    }

    /// The same for a shell that gives the steps of a compaction a time of its own: what the other machines wait for.
    pub fn foreground_deadline(&self) -> Option<Moment> {
        let checkpoint = self.checkpoint_deadline();
        [self.lease.next_deadline(), checkpoint]
            .into_iter()
            .flatten()
            .min()
    }

    /// How far the replay is; `None` when it is over or there was none.
    pub fn replay(&self) -> Option<Replay> {
        let (applied, end) = (self.apply.applied(), self.consensus.replay_end());
        (applied < end).then_some(Replay { applied, end })
    }

    /// Where consensus stands.
    pub fn status(&self) -> Status {
        self.consensus.status()
    }

    /// How far each member is, by ascending id; empty unless this member leads.
    pub fn progress(&self) -> Vec<PeerProgress> {
        self.consensus.progress()
    }

    /// The voters and learners, each list ascending.
    pub fn conf_state(&self) -> raftpb::ConfState {
        self.consensus.conf_state()
    }

    /// The log entry at this index, while it is in memory. For tests and the simulator.
    pub fn entry(&self, index: LogIndex) -> Option<raftpb::Entry> {
        self.consensus.entry(index)
    }

    /// All leases as the deadlines know them.
    pub fn leases(&self) -> &Deadlines {
        &self.lease
    }

    /// The replicated state.
    pub fn apply(&self) -> &Apply {
        &self.apply
    }

    /// Panics with the rule that broke. For tests and the simulator: it looks at everything.
    pub fn check_invariants(&self) {
        self.consensus.check_invariants();
        self.log.check_invariants();
        self.apply.check_invariants();
        self.lease.check_invariants();
        self.checkpoints.check_invariants(self.apply.applied());
        self.check_log_follows_consensus();
        self.check_apply_follows_consensus();
    }

    fn check_log_follows_consensus(&self) {
        let last = self.status().last;
        let queued = !self.queues.appends.is_empty();
        assert!(
            queued || self.log.last_index() <= last,
            "the log holds what consensus gave it"
        );
    }

    fn check_apply_follows_consensus(&self) {
        let applied = self.apply.applied();
        assert!(
            self.status().applied <= applied,
            "consensus learns of progress after it was made"
        );
        assert!(
            applied <= self.status().committed,
            "applied what is committed"
        );
    }
}

// One function per machine.
impl Core {
    fn step_consensus(&mut self) {
        while let Some(input) = self.queues.consensus.pop_front() {
            self.consensus.input(input);
        }
        // After the inputs: a membership change comes before the progress that covers it, and what
        // becomes durable only now does not count against requests that were there before.
        if let Some(index) = self.queues.applied.take() {
            self.consensus.input(consensus::Input::Applied(index));
        }
        if let Some(ticket) = self.queues.persisted.take() {
            self.consensus.input(consensus::Input::Persisted(ticket));
        }
        self.consensus.poll();
        let mut deliveries = self.deliveries.take();
        while let Some(output) = self.consensus.take_output() {
            self.router.route_consensus(output, &mut deliveries);
        }
        for delivery in deliveries.drain(..) {
            self.deliver(delivery);
        }
        self.deliveries.put_back(deliveries);
    }

    fn step_log(&mut self) {
        // Appends first, so that they are in the group that a finished job lets go.
        while let Some(append) = self.queues.appends.pop_front() {
            match append {
                LogInput::Append(append) => self.log.append(append),
                LogInput::Snapshot {
                    ticket,
                    snapshot,
                    hard_state,
                    received,
                } => {
                    self.checkpoints
                        .recording(LogIndex(snapshot.index()), ticket);
                    if received {
                        self.log
                            .append_received_snapshot(ticket, &snapshot, hard_state);
                    } else {
                        self.log
                            .append_snapshot(ticket, &snapshot, Some(hard_state));
                    }
                }
            }
        }
        while let Some(job) = self.queues.jobs_done.pop_front() {
            self.log.done(job);
        }
        if std::mem::take(&mut self.queues.flush) {
            self.log.flush();
        }
        self.drain_log();
        self.checkpoint_recorded();
    }

    fn drain_log(&mut self) {
        while let Some(output) = self.log.take_output() {
            let delivery = self.router.route_log(output);
            self.deliver(delivery);
        }
    }

    fn step_apply(&mut self) {
        if let Some(input) = self.queues.apply.pop_front() {
            let replayed = self.replay().is_some();
            let installs = matches!(input, apply::Input::Install(_));
            let entries = match &input {
                apply::Input::Committed(entries) => entries.len(),
                _ => 0,
            };
            self.apply.input(input);
            if installs {
                self.state_installed();
            }
            self.drain_apply(replayed, entries);
        }
    }

    fn step_compaction(&mut self) {
        let records_max = self.compact_step_records;
        self.apply.input(apply::Input::CompactStep { records_max });
        self.drain_apply(false, 0);
        if !self.apply.compaction_pending() {
            self.plan_copy();
        }
    }

    /// `entries`: how many were applied, each of which has changed one revision at most.
    fn drain_apply(&mut self, replayed: bool, entries: usize) {
        let mut batches = Vec::new();
        while let Some(effect) = self.apply.take_effect() {
            match effect {
                Effect::ReadReady(tokens) => {
                    self.reads_ready(tokens);
                    continue;
                }
                Effect::Events(batch) if !replayed => {
                    if batches.is_empty() {
                        // The list goes to another thread, which frees it.
                        batches.reserve(entries);
                    }
                    batches.push(batch);
                    continue;
                }
                // Watchers hear of changes before they hear that these are history.
                Effect::CompactionScheduled { .. } => self.deliver_events(&mut batches),
                _ => {}
            }
            if let Some(delivery) = self.router.route_apply(effect, replayed) {
                self.deliver(delivery);
            }
        }
        self.deliver_events(&mut batches);
        self.drain_store();
        let freed = std::iter::from_fn(|| self.apply.store_mut().take_freed());
        self.outputs.extend(freed.map(Output::Free));
    }

    fn deliver_events(&mut self, batches: &mut Vec<EventBatch>) {
        if !batches.is_empty() {
            let delivery = self.router.route_events(std::mem::take(batches));
            self.deliver(delivery);
        }
    }

    /// Some reads are questions of the lease deadlines or follow a received state, the others come from outside.
    fn reads_ready(&mut self, mut tokens: Vec<ReadToken>) {
        for token in tokens.extract_if(.., |token| token.0 >= CONFIRM_TOKENS) {
            if token.0 >= INSTALLED_TOKENS {
                self.outputs.push_back(Output::AnswersLost);
                continue;
            }
            let round = router::round_of(token);
            self.queues.lease.push_back(lease::Input::Confirmed(round));
        }
        if !tokens.is_empty() {
            self.outputs.push_back(Output::ReadReady(tokens));
        }
    }

    fn step_lease(&mut self, now: Moment) {
        while let Some(input) = self.queues.lease.pop_front() {
            self.lease.input(now, input);
        }
        if self.lease_is_due(now) {
            self.lease_ticked = Some(now);
            self.lease.input(now, lease::Input::Tick);
        }
        while let Some(output) = self.lease.take_output() {
            let delivery = self.router.route_lease(output);
            self.deliver(delivery);
        }
    }

    /// Whether time alone gives the deadlines work; once per moment, so that no run can be endless.
    fn lease_is_due(&self, now: Moment) -> bool {
        let due = self
            .lease
            .next_deadline()
            .is_some_and(|deadline| deadline <= now);
        due && self.lease_ticked != Some(now)
    }

    /// Gives a received state to apply. Older ones that nobody asked for are needed no more.
    fn install(&mut self, index: LogIndex) {
        let newer = self.received.split_off(&LogIndex(index.0 + 1));
        let mut older = std::mem::replace(&mut self.received, newer);
        let state = older.remove(&index);
        for index in older.into_keys() {
            self.snapshot_done(index, false);
        }
        match state {
            Some(state) => {
                self.queues.apply.push_back(apply::Input::Install(state));
            }
            None => self.outputs.push_back(Output::Stop {
                reason: format!("the state of snapshot {} was never received", index.0),
            }),
        }
    }

    pub(super) fn snapshot_done(&mut self, index: LogIndex, installed: bool) {
        self.outputs
            .push_back(Output::SnapshotDone { index, installed });
    }

    /// Consensus names the entry that it knows to be applied; the state may be further.
    fn send_snapshot(&mut self, number: SnapshotNumber, mut message: Box<raftpb::Message>) {
        let state = Backend::new(&self.apply);
        message.snapshot = Some(raftpb::Snapshot {
            data: None,
            metadata: Some(state.metadata()),
        });
        self.outputs.push_back(Output::SendSnapshot {
            number,
            message,
            state,
        });
    }

    fn deliver(&mut self, delivery: Delivery) {
        let queues = &mut self.queues;
        match delivery {
            Delivery::Consensus(consensus::Input::Persisted(ticket)) => {
                queues.persisted = queues.persisted.max(Some(ticket));
                self.durable = self.durable.max(ticket);
            }
            Delivery::Consensus(consensus::Input::Applied(index)) => {
                queues.applied = queues.applied.max(Some(index));
            }
            Delivery::Consensus(input) => queues.consensus.push_back(input),
            Delivery::Append(append) => queues.appends.push_back(append),
            Delivery::Install(index) => self.install(index),
            Delivery::Drop(index) => {
                if self.received.remove(&index).is_some() {
                    self.snapshot_done(index, false);
                }
            }
            Delivery::SendSnapshot(number, message) => self.send_snapshot(number, message),
            Delivery::Apply(input) => {
                if let apply::Input::Committed(entries) = &input {
                    self.checkpoints.note_entries(entries);
                }
                queues.apply.push_back(input);
            }
            Delivery::Lease(input) => queues.lease.push_back(input),
            Delivery::Outside(output) => self.outputs.push_back(output),
        }
    }
}

mod durability;
#[cfg(test)]
mod tests;
