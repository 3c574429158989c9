//! The driver of the raft crate; see the folder's door for the theory.

mod inputs;
mod turn;

use std::collections::{BTreeMap, VecDeque};

use kvorum_proto::ids::{LogIndex, MemberId, RequestId, Term};
use kvorum_proto::{raftpb, walpb};
use kvorum_storage::wal::{Append, Ticket};
use raft::eraftpb::{self, ConfState, HardState};
use raft::{RawNode, StateRole};

use super::bootstrap::{self, InitialMember, RestoreError};
use super::flow::Flow;
use super::gates::Gates;
use super::hurry::Hurry;
use super::memory::MemoryLog;
use super::reads::Reads;
use super::{
    Config, Input, Leadership, MESSAGES_IN_FLIGHT_MAX, Output, PeerProgress, Proposal, Role,
    SnapshotNumber, Status, UNCOMMITTED_BYTES_MAX, convert, report,
};
use crate::spare::Spare;

/// One turn of the crate hands out this part of the credit of apply at most.
const TURNS_PER_CREDIT: u64 = 4;

/// One member's consensus: inputs by [`input`](Self::input), then [`poll`](Self::poll), then
/// outputs by [`take_output`](Self::take_output) until there is none.
pub struct Consensus {
    config: Config,
    node: RawNode<MemoryLog>,
    /// Ticks since the start.
    now: u64,
    /// Proposals that did not reach the crate yet, oldest first, with the tick at which they came.
    held: VecDeque<(u64, Held)>,
    held_bytes: usize,
    reads: Reads,
    gates: Gates,
    flow: Flow,
    /// The last index given to `flow`.
    handed_out: LogIndex,
    leadership: Leadership,
    /// Snapshots on their way to the disk, oldest first, with the ticket that they wait for.
    installing: VecDeque<(Ticket, LogIndex)>,
    /// A checkpoint of which the log has to be told.
    checkpointed: Option<walpb::Snapshot>,
    /// Where the configuration was last taken from a snapshot: older changes are in it.
    configured: LogIndex,
    hurry: Option<Hurry>,
    /// What was committed before this start.
    replay_end: LogIndex,
    /// The first write of a new cluster, or of one that goes on with this member alone; nothing else
    /// happens until it is durable.
    birth: Option<Ticket>,
    /// Set until the log was replayed and, by a lone voter, the first campaign begun.
    starting: bool,
    /// Whether the first poll was made: the start itself is its work.
    polled: bool,
    /// How many snapshots were sent, and the newest to each peer until it is known what became of it.
    snapshots_sent: u64,
    snapshots: BTreeMap<MemberId, SnapshotNumber>,
    /// Of proposals that were taken in, and of the ids of those that the crate is given.
    spare_proposals: Spare<Proposal>,
    spare_ids: Spare<RequestId>,
    outputs: VecDeque<Output>,
}

/// A proposal in the crate's form.
struct Held {
    id: RequestId,
    /// The only term in which it counts, and only while this member leads.
    only_in: Option<u64>,
    entry: eraftpb::Entry,
}

impl Held {
    fn bytes(&self) -> usize {
        self.entry.data.len() + self.entry.context.len()
    }
}

impl Consensus {
    /// The first start of a member of a new cluster: its log begins with one configuration change
    /// per initial member.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn bootstrap(config: Config, members: &[InitialMember]) -> Result<Self, RestoreError> {
        let (entries, hard_state) = bootstrap::initial_entries(members);
        let mut voters: Vec<u64> = members.iter().map(|member| member.id.0).collect();
        voters.sort_unstable();
        let conf_state = ConfState {
            voters,
            ..Default::default()
        };
        let (inside, state) = bootstrap::check((0, 0), entries.clone(), hard_state)?;
        let mut consensus = Self::start(config, (0, 0), inside, state, conf_state)?;
        let ticket = consensus.gates.next_ticket();
        consensus.birth = Some(ticket);
        consensus.replay_end = LogIndex(0);
        consensus.outputs.push_back(Output::Append(Append {
            ticket,
            hard_state: Some(hard_state),
            entries,
            must_sync: true,
        }));
        Ok(consensus)
    }

    /// The first start of a member that joins a cluster which exists: its log is empty, and the
    /// leader sends all of it.
    ///
    /// # Errors
    /// When the settings do not fit together.
    pub fn join(config: Config) -> Result<Self, RestoreError> {
        let nothing = (HardState::default(), ConfState::default());
        Self::start(config, (0, 0), Vec::new(), nothing.0, nothing.1)
    }

    /// A later start, from what the write-ahead log held. The configuration at `snapshot` is the
    /// one recorded with it; a log from its beginning has none, and configuration changes bring it
    /// about as they are applied again.
    ///
    /// # Errors
    /// When the log cannot be taken up; see [`RestoreError`].
    pub fn restore(
        config: Config,
        snapshot: &walpb::Snapshot,
        hard_state: raftpb::HardState,
        entries: Vec<raftpb::Entry>,
    ) -> Result<Self, RestoreError> {
        let trimmed = (snapshot.index(), snapshot.term());
        let (entries, state) = bootstrap::check(trimmed, entries, hard_state)?;
        let conf_state = snapshot.conf_state.as_ref().map(convert::conf_state_in);
        Self::start(
            config,
            trimmed,
            entries,
            state,
            conf_state.unwrap_or_default(),
        )
    }

    /// A later start that makes this member the only one: like [`restore`](Self::restore), with membership
    /// changes behind the log that count as committed. Nothing else happens until they are durable.
    ///
    /// # Errors
    /// When the log cannot be taken up; see [`RestoreError`].
    pub fn restore_alone(
        config: Config,
        snapshot: &walpb::Snapshot,
        mut hard_state: raftpb::HardState,
        mut entries: Vec<raftpb::Entry>,
        changes: Vec<raftpb::Entry>,
    ) -> Result<Self, RestoreError> {
        let Some(last) = changes.last().map(raftpb::Entry::index) else {
            return Self::restore(config, snapshot, hard_state, entries);
        };
        hard_state.commit = Some(last);
        entries.extend(changes.iter().cloned());
        let mut consensus = Self::restore(config, snapshot, hard_state, entries)?;
        let ticket = consensus.gates.next_ticket();
        consensus.birth = Some(ticket);
        consensus.outputs.push_back(Output::Append(Append {
            ticket,
            hard_state: Some(hard_state),
            entries: changes,
            must_sync: true,
        }));
        Ok(consensus)
    }

    fn start(
        config: Config,
        trimmed: (u64, u64),
        entries: Vec<eraftpb::Entry>,
        hard_state: HardState,
        conf_state: ConfState,
    ) -> Result<Self, RestoreError> {
        let settings = raft::Config {
            id: config.member.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: trimmed.0,
            max_size_per_msg: config.message_bytes_max,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: config.pre_vote,
            read_only_option: raft::ReadOnlyOption::Safe,
            batch_append: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: config.apply_credit_bytes / TURNS_PER_CREDIT,
            ..Default::default()
        };
        let commit = LogIndex(hard_state.commit);
        let credit = config.apply_credit_bytes;
        let log = MemoryLog::new(trimmed, entries, hard_state, conf_state);
        let node = RawNode::new(&settings, log, &report::logger())
            .map_err(|error| RestoreError::Raft(error.to_string()))?;
        let mut consensus = Consensus {
            reads: Reads::new(config.member, config.boot_nonce),
            config,
            node,
            now: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            gates: Gates::default(),
            flow: Flow::new(commit, credit),
            handed_out: LogIndex(trimmed.0),
            installing: VecDeque::new(),
            checkpointed: None,
            configured: LogIndex(trimmed.0),
            hurry: None,
            leadership: Leadership::default(),
            replay_end: commit,
            birth: None,
            starting: true,
            polled: false,
            snapshots_sent: 0,
            snapshots: BTreeMap::new(),
            spare_proposals: Spare::default(),
            spare_ids: Spare::default(),
            outputs: VecDeque::new(),
        };
        consensus.leadership = consensus.current_leadership();
        consensus.settle_timeout();
        Ok(consensus)
    }

    /// An empty list for proposals, with the room of those that were taken in before.
    pub fn spare_proposals(&mut self) -> Vec<Proposal> {
        self.spare_proposals.take()
    }

    /// Takes an input in. What it leads to appears after [`poll`](Self::poll).
    pub fn input(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Propose(proposals) => self.propose(proposals),
            Input::Intend(data) => self.intend(data),
            Input::ProposeConfChange(change) => self.propose_conf_change(&change),
            Input::Read(token) => {
                if let Err(reason) = self.reads.push(self.now, token) {
                    self.outputs
                        .push_back(Output::ReadRefused { token, reason });
                }
            }
            Input::Persisted(ticket) => self.persisted(ticket),
            Input::Applied(index) => self.applied(index),
            Input::Checkpointed(snapshot) => self.checkpointed = Some(snapshot),
            Input::ConfChanged { index, change } => self.conf_changed(index, &change),
            Input::Message(message) => self.message(*message),
            Input::Snapshot(message) => self.snapshot(&message),
            Input::Unreachable(peer) => self.node.report_unreachable(peer.0),
            Input::SnapshotSent { number, received } => self.snapshot_sent(number, received),
            Input::Closed(peer) => self.closed(peer),
            Input::AdvanceElection => self.advance_election(),
            Input::TransferLeader(to) => self.node.transfer_leader(to.0),
            Input::Campaign => self.campaign(),
        }
        self.settle_timeout();
    }

    /// Does what the inputs made possible.
    pub fn poll(&mut self) {
        self.polled = true;
        if self.birth.is_some() {
            return;
        }
        self.finish_start();
        self.note_leadership();
        loop {
            self.flush_proposals();
            self.begin_reads();
            self.settle_timeout();
            if !self.node.has_ready() {
                break;
            }
            let progress = self.turn();
            if !progress && self.flow.is_backed_up() {
                // Only more committed entries would come, and apply has enough of them.
                break;
            }
        }
        self.record_checkpoint();
        while let Some(batch) = self.flow.next_batch() {
            self.outputs.push_back(Output::Commit(batch));
        }
    }

    /// Whether [`poll`](Self::poll) would do something although no input came: only right after a
    /// start.
    pub fn has_work(&self) -> bool {
        !self.polled
    }

    /// The next thing to be done, in order; `None` when there is no more.
    pub fn take_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Where consensus stands.
    pub fn status(&self) -> Status {
        let raft = &self.node.raft;
        let log = &raft.raft_log;
        Status {
            leadership: self.leadership,
            last: LogIndex(log.last_index()),
            persisted: LogIndex(log.persisted),
            committed: LogIndex(log.committed),
            applied: LogIndex(log.applied),
            proposals_pending: self.held.len() as u64 + (log.last_index() - log.committed),
        }
    }

    /// Whether ticks lead to anything: there is somebody to hear from or to be heard by, or something waits that
    /// a number of ticks ends. A lone voter without learners that leads is none of that: it needs no votes and
    /// sends no heartbeats.
    pub fn needs_ticks(&self) -> bool {
        let others = self.node.raft.prs().iter().count() > 1;
        let waits = !self.held.is_empty() || !self.reads.is_empty();
        others || waits || !self.leadership.alone
    }

    /// Whether this member leads.
    pub fn is_leading(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The last index that is in memory no more.
    pub fn trimmed(&self) -> LogIndex {
        LogIndex(self.node.store().trimmed())
    }

    /// What was committed before this start: entries up to here are replayed.
    pub fn replay_end(&self) -> LogIndex {
        self.replay_end
    }

    /// The voters and learners as of the last applied configuration change, each list ascending.
    pub fn conf_state(&self) -> raftpb::ConfState {
        convert::conf_state_out(&self.node.raft.prs().conf().to_conf_state())
    }

    /// How far each member is, by ascending id; empty unless this member leads.
    pub fn progress(&self) -> Vec<PeerProgress> {
        if !self.is_leading() {
            return Vec::new();
        }
        let this = self.config.member;
        let tracker = self.node.raft.prs();
        let learners = tracker.conf().to_conf_state().learners;
        let mut peers: Vec<_> = tracker
            .iter()
            .map(|(id, progress)| PeerProgress {
                member: MemberId(*id),
                is_learner: learners.contains(id),
                matched: LogIndex(progress.matched),
                is_active: MemberId(*id) == this || progress.recent_active,
            })
            .collect();
        peers.sort_unstable_by_key(|peer| peer.member);
        peers
    }

    /// The entry at this index, while it is in memory. For tests and the simulator.
    pub fn entry(&self, index: LogIndex) -> Option<raftpb::Entry> {
        let entry = self.node.store().entry(index.0)?;
        Some(convert::entry_out(entry.clone()))
    }

    /// Panics with the rule that broke. For tests and the simulator; reads the whole log in memory.
    pub fn check_invariants(&self) {
        self.check_positions();
        self.check_trimmed();
        self.check_timeout();
        assert!(self.gates.ascend(), "tickets ascend");
        assert!(self.reads.is_consistent(), "a round serves reads that wait");
        assert!(
            self.node.store().is_ordered(),
            "entries are consecutive and terms never fall"
        );
    }

    fn check_positions(&self) {
        let log = &self.node.raft.raft_log;
        assert!(
            log.applied <= self.handed_out.0,
            "applied what was handed out"
        );
        assert!(
            self.handed_out.0 <= log.committed,
            "handed out what is committed"
        );
        assert!(
            self.handed_out.0 <= log.persisted,
            "handed out what the local disk has"
        );
        assert!(
            log.committed <= log.last_index(),
            "committed what is in the log"
        );
        assert!(
            log.persisted <= log.last_index(),
            "persisted what is in the log"
        );
    }

    fn check_timeout(&self) {
        let drawn = self.drawn_timeout();
        let timeout = self.node.raft.randomized_election_timeout();
        assert_eq!(timeout, drawn, "the election time-out comes from the seed");
    }

    fn check_trimmed(&self) {
        let trimmed = self.node.store().trimmed();
        let applied = self.node.raft.raft_log.applied;
        assert!(
            self.node.store().is_counted(),
            "bytes of applied entries are counted"
        );
        assert!(
            trimmed <= applied || trimmed == self.configured.0,
            "trimmed what is applied or in a snapshot"
        );
    }
}

// Questions to the crate.
impl Consensus {
    fn current_leadership(&self) -> Leadership {
        let raft = &self.node.raft;
        let settled = raft.state == StateRole::Leader && raft.apply_to_current_term();
        Leadership {
            term: Term(raft.term),
            leader: MemberId(raft.leader_id),
            role: match raft.state {
                StateRole::Follower => Role::Follower,
                StateRole::PreCandidate => Role::PreCandidate,
                StateRole::Candidate => Role::Candidate,
                StateRole::Leader => Role::Leader,
            },
            settled,
            alone: settled && self.is_alone(),
        }
    }

    /// Whether this member is the only voter.
    fn is_alone(&self) -> bool {
        self.node.raft.promotable() && self.node.raft.prs().is_singleton()
    }

    /// Whether these two are enough to decide.
    fn is_quorum(&self, members: [u64; 2]) -> bool {
        let members = members.into_iter().collect();
        self.node.raft.prs().has_quorum(&members)
    }

    /// A lone voter wins in the same call, and the crate then insists that its whole log is
    /// durable. Whoever campaigns looks through the entries that are not applied yet, and those that
    /// a snapshot on its way to apply holds are gone.
    fn may_campaign(&self) -> bool {
        let log = &self.node.raft.raft_log;
        if log.applied < self.node.store().trimmed() {
            return false;
        }
        !self.is_alone() || self.is_leading() || log.persisted == log.last_index()
    }

    /// Whether the crate would take a proposal: it drops them without a leader and while leadership
    /// is handed over.
    fn may_propose(&self) -> bool {
        let raft = &self.node.raft;
        self.birth.is_none() && raft.leader_id != raft::INVALID_ID && raft.lead_transferee.is_none()
    }

    /// Whether the crate would take a read index: a leader must have committed in its term.
    fn may_read(&self) -> bool {
        let raft = &self.node.raft;
        match raft.state {
            StateRole::Leader => raft.commit_to_current_term(),
            StateRole::Follower => raft.leader_id != raft::INVALID_ID,
            StateRole::Candidate | StateRole::PreCandidate => false,
        }
    }

    /// The crate draws a new time-out at random whenever it resets; this one is drawn from the
    /// seed.
    fn settle_timeout(&mut self) {
        let timeout = self.drawn_timeout();
        self.node.raft.set_randomized_election_timeout(timeout);
    }

    fn drawn_timeout(&self) -> usize {
        let Config {
            seed,
            member,
            election_ticks,
            ..
        } = self.config;
        election_timeout(seed, member, Term(self.node.raft.term), election_ticks)
    }
}

fn send(message: raftpb::Message) -> Output {
    Output::Send(Box::new(message))
}

/// A time-out from `ticks` up to twice as many, excluded: a pure function, equal on every run.
fn election_timeout(seed: u64, member: MemberId, term: Term, ticks: usize) -> usize {
    // The finalizer of SplitMix64, once per word.
    let mut hash = seed;
    for word in [member.0, term.0] {
        hash = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
    }
    ticks + (hash % ticks as u64) as usize
}

impl std::fmt::Debug for Consensus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consensus")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
