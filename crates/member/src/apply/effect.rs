//! What follows from applying entries, for the other machines and for who waits.

use std::sync::Arc;

use kvorum_mvcc::{EventBatch, HashKv, View};
use kvorum_proto::ids::{LogIndex, RequestId, Term};
use kvorum_proto::raftpb;

use super::{RequestError, Response};
use crate::alarm::Alarms;
use crate::cluster::{Downgrade, Roster, Version};
use crate::consensus::ReadToken;
use crate::{auth, lease};

/// One consequence. They come in the order in which they must be carried out: a view before the
/// events and replies that rest on it, [`Effect::Applied`] after all of its entries.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Readers see this state from now on.
    Published(ReadView),
    /// The changes of one revision, for watchers.
    Events(EventBatch),
    /// The result of a request that was proposed here.
    Reply {
        /// The request.
        id: RequestId,
        /// What became of it.
        result: Result<Response, RequestError>,
    },
    /// A request that was proposed here is carried out, and its reply comes when what follows from it
    /// is done: nobody has to give it up.
    Accepted {
        /// The request.
        id: RequestId,
    },
    /// These reads may run on the last published view.
    ReadReady(Vec<ReadToken>),
    /// A lease was granted, revoked or written down; for the deadlines.
    Lease(lease::Input),
    /// A membership change was carried out (node 0: refused); consensus must hear of it before
    /// the [`Effect::Applied`] that covers it.
    ConfChanged {
        /// The index of its entry.
        index: LogIndex,
        /// The change.
        change: raftpb::ConfChange,
    },
    /// The last published roster differs from the one before.
    RosterChanged,
    /// The last published alarms differ from those before.
    AlarmsChanged,
    /// The cluster decided on a version.
    ClusterVersionChanged(Version),
    /// History up to a revision is out of reach. Its removal goes on as
    /// [`super::Input::CompactStep`] is given.
    CompactionScheduled {
        /// The compacted revision.
        revision: i64,
    },
    /// The removal of compacted history is done.
    CompactionFinished {
        /// The compacted revision.
        revision: i64,
        /// How many records were removed.
        records: u64,
        /// The hash of what was kept, at that revision.
        hash: HashKv,
    },
    /// A start would replay the log from here.
    Checkpointed(LogIndex),
    /// Every entry up to this one is applied.
    Applied(LogIndex),
    /// This member is no longer part of the cluster and has to stop for good.
    Removed,
    /// An invariant of the log is broken; the process must stop and say why.
    Stop(String),
}

/// All replicated state that readers ask for, at one applied entry.
#[derive(Clone, Debug)]
pub struct ReadView {
    /// The key-value store.
    pub keys: View,
    /// The last entry it contains; 0 before the first.
    pub applied: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// What is not keys and not leases.
    pub cluster: Arc<ClusterState>,
}

/// What the members agreed on beside keys and leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// Who belongs to the cluster.
    pub roster: Roster,
    /// Which alarms are on.
    pub alarms: Alarms,
    /// The version all members speak; none before it is decided.
    pub version: Option<Version>,
    /// Whether the cluster goes down to an older version.
    pub downgrade: Downgrade,
    /// Whether users are asked for.
    pub auth: auth::Status,
    /// Users and roles that came in from an official server.
    pub auth_kept: auth::Kept,
}
