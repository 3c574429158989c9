//! Consensus: which entries are in the log, in which order, and what is committed.
//!
//! [`Consensus`] drives the `raft` crate, which nothing outside this folder sees. It is a machine
//! like the others of a member: inputs in, outputs out, no clock, no thread, no chance. Time comes
//! as ticks; the crate draws election timeouts at random, so they are set again after each call to
//! a function of seed, member and term.
//!
//! # The order of things
//!
//! New entries leave as [`Output::Append`] under a [`Ticket`]; tickets ascend. When the log says
//! [`Input::Persisted`] the crate counts this member's copy, and messages that promise durability
//! (votes, acknowledgements) leave. Committed entries leave as [`Output::Commit`], and only those
//! the local disk has. Apply answers with [`Input::Applied`], a watermark.
//!
//! ```text
//! Propose ─► Append(ticket) ─► Persisted(ticket) ─► Commit(entries) ─► Applied(index)
//! Read    ─► one ReadIndex round for all that wait ─► ReadReady(tokens, index)
//! Snapshot ─► AppendSnapshot(ticket) ─► Persisted(ticket) ─► Install(index) ─► Applied(index)
//! ```
//!
//! A leader's messages leave at once, side by side with its own disk. A follower's wait for the disk
//! when they promise something; forwarded requests, answers to heartbeats and pre-votes do not.
//!
//! # What is held here and what is refused
//!
//! The crate drops a proposal when there is no leader or while leadership is handed over, and a
//! read index before the leader's first commit of its term, without a word. Both are held here
//! instead, up to named bounds and not longer than a request may take; then they are refused. What a
//! leader proposes on its own ([`Input::Intend`]) counts in its term only.
//!
//! # When a leader goes
//!
//! Its closed connections ([`Input::Closed`]) make the others forget it and ask for pre-votes in
//! turn (the module `hurry`), so a new one is there before a time-out has passed. A leader without a
//! quorum steps down by itself.
//!
//! # Invariants
//!
//! * applied ≤ handed out ≤ committed ≤ last index; what was handed out is on the local disk
//! * persisted ≤ last index; trimmed ≤ applied
//! * tickets ascend by one; a message that waits for a ticket leaves after it
//! * a read context is never used twice, not even over restarts (the boot nonce is in it)

mod bootstrap;
mod convert;
mod driver;
mod flow;
mod gates;
mod hurry;
mod memory;
mod reads;
mod report;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use kvorum_proto::ids::{LogIndex, MemberId, RequestId, Term};
use kvorum_proto::{raftpb, walpb};
use kvorum_storage::wal::{Append, Ticket};

pub use bootstrap::{InitialMember, RestoreError, initial_entries};
pub use convert::ConvertError;
pub use driver::Consensus;

/// The largest distance between committed and applied entries at which proposals are taken. What the
/// local disk does not have yet does not count: it is not apply that is late.
/// Source: etcd 3.7.1 `server/etcdserver/v3_server.go`, `maxGapBetweenApplyAndCommitIndex`; its commit
/// index there is that of what was handed to apply (`server.go`, `updateCommittedIndex`).
pub const PENDING_APPLY_ENTRIES_MAX: u64 = 5_000;

/// The same for proposals that a follower has passed on, who took them by its own measure. Beyond
/// that they are dropped without an answer; etcd takes them without a bound.
pub const FORWARDED_PENDING_APPLY_ENTRIES_MAX: u64 = 50_000;

/// The largest raft message in bytes of entries, unless the configuration says otherwise.
/// Source: etcd 3.7.1 `server/etcdserver/raft.go`, `maxSizePerMsg`.
pub const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;

/// How many append messages may be under way to one follower.
/// Source: etcd 3.7.1 `server/etcdserver/raft.go`, `maxInflightMsgs`.
pub const MESSAGES_IN_FLIGHT_MAX: usize = 512;

/// How many bytes of proposals may lie in the log uncommitted; beyond that they are refused.
pub const UNCOMMITTED_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// How many proposals are held while nobody leads; beyond that they are refused.
pub const HELD_PROPOSALS_MAX: usize = 10_000;

/// How many bytes of proposals are held while nobody leads; beyond that they are refused.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many bytes of committed entries may be with apply unconfirmed.
pub const APPLY_CREDIT_BYTES: u64 = 32 * 1024 * 1024;

/// How many bytes of applied entries stay in memory for slow followers, unless the configuration says otherwise; the oldest
/// go, and a follower that needs them gets the state. etcd counts entries only, which are gigabytes where values are
/// large.
pub const CATCH_UP_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The same while there is no other member. One that is added needs what comes behind the state that it gets.
pub const CATCH_UP_BYTES_ALONE: u64 = 8 * 1024 * 1024;

/// How many reads may wait for a read index; beyond that they are refused.
pub const READS_WAITING_MAX: usize = 262_144;

/// What one member's consensus is set up with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member; never 0.
    pub member: MemberId,
    /// Where election timeouts come from, beside member and term.
    pub seed: u64,
    /// A number that no earlier start of this member had: part of every read context.
    pub boot_nonce: u64,
    /// Ticks between heartbeats of a leader; at least 1.
    pub heartbeat_ticks: usize,
    /// Ticks without a leader before a member campaigns (up to twice as many); above
    /// `heartbeat_ticks`.
    pub election_ticks: usize,
    /// Ask for votes without raising the term first (`--pre-vote`).
    pub pre_vote: bool,
    /// The log in memory is trimmed each time so many entries were applied (`--snapshot-count`).
    pub snapshot_count: u64,
    /// How many applied entries stay in memory for slow followers.
    pub catch_up_entries: u64,
    /// How many bytes of them stay at most; see [`CATCH_UP_BYTES_MAX`] and [`CATCH_UP_BYTES_ALONE`].
    pub catch_up_bytes_max: u64,
    /// How many bytes of committed entries may be with apply unconfirmed; beyond that the others wait.
    pub apply_credit_bytes: u64,
    /// The largest raft message in bytes of entries; a message has at least one entry, whatever its size.
    pub message_bytes_max: u64,
    /// How long a proposal or read is held while nobody leads.
    pub request_timeout_ticks: u64,
}

impl Config {
    /// etcd's defaults for the member, with ticks of 100 ms.
    pub fn new(member: MemberId, seed: u64, boot_nonce: u64) -> Self {
        Config {
            member,
            seed,
            boot_nonce,
            heartbeat_ticks: 1,
            election_ticks: 10,
            pre_vote: true,
            snapshot_count: 10_000,
            catch_up_entries: 5_000,
            catch_up_bytes_max: CATCH_UP_BYTES_MAX,
            apply_credit_bytes: APPLY_CREDIT_BYTES,
            message_bytes_max: MESSAGE_BYTES_MAX,
            request_timeout_ticks: 70,
        }
    }
}

/// Something that waits for its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Who waits for it; 0 for nobody.
    pub id: RequestId,
    /// An encoded `InternalRaftRequest`.
    pub data: Bytes,
}

/// A read that waits until it may run; chosen by the caller, unique among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// What consensus is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// One heartbeat interval has passed.
    Tick,
    /// Requests to be put into the log, in this order.
    Propose(Vec<Proposal>),
    /// A request of a leader's own. It goes into the log by this member in this term, or is dropped:
    /// what a leader wants may be wrong once another one leads.
    Intend(Bytes),
    /// A membership change to be put into the log. Its id is the request that waits for it.
    ProposeConfChange(raftpb::ConfChange),
    /// A read wants the index it must see.
    Read(ReadToken),
    /// All appends up to this ticket are durable.
    Persisted(Ticket),
    /// Everything up to this index is applied.
    Applied(LogIndex),
    /// The state at this snapshot is durable, and the log is to say so: answered by
    /// [`Output::AppendSnapshot`] when everything that reaches it is on its way to the log.
    Checkpointed(walpb::Snapshot),
    /// Apply carried out a membership change (member 0: apply refused it). Comes before the
    /// `Applied` that covers it.
    ConfChanged {
        /// The index of its entry.
        index: LogIndex,
        /// The change.
        change: raftpb::ConfChange,
    },
    /// A message from a peer; none that carries a snapshot.
    Message(Box<raftpb::Message>),
    /// A message from the leader with a snapshot, whose state was received whole. Answered by
    /// [`Output::Install`] or [`Output::SnapshotRefused`].
    Snapshot(Box<raftpb::Message>),
    /// A message to this peer was lost on the way, or its connection is down.
    Unreachable(MemberId),
    /// What became of a snapshot that was sent.
    SnapshotSent {
        /// Which one.
        number: SnapshotNumber,
        /// Whether the peer has received it whole.
        received: bool,
    },
    /// All connections from this peer are closed. When it leads, it has probably died: this member
    /// asks soon whether it would be elected, in an order among the members that avoids collisions.
    Closed(MemberId),
    /// The peers are connected, or enough time was given for it: a member that has just started and
    /// knows no leader counts its first election time-out as nearly over
    /// (`--initial-election-tick-advance`).
    /// Source: etcd 3.7.1 `server/etcdserver/server.go`, `adjustTicks`.
    AdvanceElection,
    /// Hand leadership over to this member.
    TransferLeader(MemberId),
    /// Try to become leader now.
    Campaign,
}

/// What consensus wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write this to the log and say when it is durable.
    Append(Append),
    /// Write to the log that the state at a snapshot, from the leader or our own, is durable, and say
    /// when that is durable itself. Tickets are those of [`Output::Append`].
    AppendSnapshot {
        /// Comes back in [`Input::Persisted`].
        ticket: Ticket,
        /// The snapshot; the log before it counts no more.
        snapshot: walpb::Snapshot,
        /// The hard state that reaches it.
        hard_state: raftpb::HardState,
        /// Whether the leader sent it: then the log behind it counts no more either.
        received: bool,
    },
    /// Apply these in order. Never empty.
    Commit(Vec<raftpb::Entry>),
    /// The snapshot at this index is durable in the log: its state takes the place of what was
    /// applied so far. What is committed next follows it.
    Install(LogIndex),
    /// The snapshot at this index is not wanted: it is not newer than what is there.
    SnapshotRefused(LogIndex),
    /// These reads may run once `index` is applied.
    ReadReady {
        /// The reads, in the order in which they came.
        tokens: Vec<ReadToken>,
        /// What they must see.
        index: LogIndex,
    },
    /// The request did not enter the log and never will.
    Refused {
        /// The request.
        id: RequestId,
        /// Why.
        reason: Refusal,
    },
    /// The read cannot be confirmed.
    ReadRefused {
        /// The read.
        token: ReadToken,
        /// Why.
        reason: Refusal,
    },
    /// For the peer named in it.
    Send(Box<raftpb::Message>),
    /// For the peer named in it, which needs entries that are gone: the message with the whole
    /// state as it is applied now or later. Nothing else is sent to that peer until
    /// [`Input::SnapshotSent`] comes.
    SendSnapshot(SnapshotNumber, Box<raftpb::Message>),
    /// Term, leader or role changed.
    Leadership(Leadership),
    /// An invariant broke; the process must stop.
    Stop(String),
}

/// Counts the snapshots that a member has sent since its start, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotNumber(pub u64);

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too much is under way already.
    TooManyRequests,
    /// No leader was found while the request was held.
    NoLeader,
    /// This member is not in the cluster any more.
    Removed,
    /// The membership change is none that etcd defines.
    Malformed,
}

/// The part that this member plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it would get votes.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The current term.
    pub term: Term,
    /// The leader of that term; 0 while unknown.
    pub leader: MemberId,
    /// What this member is.
    pub role: Role,
    /// This member leads and has applied an entry of its own term: whatever an earlier leader put
    /// into the log is decided.
    pub settled: bool,
    /// It is settled and the only voter: whatever was ever acknowledged in the cluster is applied
    /// here, so a linearizable read needs no round and may run on the published view at once.
    ///
    /// Nobody but this member can acknowledge a write while this holds. It falls when a change that
    /// adds a voter is applied, and the output that says so comes before the first message to the
    /// new voter. A read that began before that may still run: it is concurrent with whatever the
    /// larger cluster decides.
    pub alone: bool,
}

/// How far a peer is, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The peer; the leader itself is among them.
    pub member: MemberId,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// The last index that it is known to have.
    pub matched: LogIndex,
    /// Whether it was heard of within the last election time-out.
    pub is_active: bool,
}

/// Where consensus stands, for status replies and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Who leads.
    pub leadership: Leadership,
    /// The last index in the log.
    pub last: LogIndex,
    /// The last index on the local disk.
    pub persisted: LogIndex,
    /// The last index known to be committed.
    pub committed: LogIndex,
    /// The last index applied.
    pub applied: LogIndex,
    /// How many proposals are held or uncommitted.
    pub proposals_pending: u64,
}
