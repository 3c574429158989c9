//! What a request may be answered with instead of a result.
//!
//! One variant for each row of the official table of errors that this member can produce. A
//! variant names the case and carries its numbers; the gRPC code and the official text are given
//! to it by the one table in the server, keyed by the variant. The texts here are our own and
//! reach logs only.
//!
//! Errors that come out of applying an entry are part of the replicated result: every member
//! computes the same one.

use kvorum_storage::segment::Damage;

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A key is empty.
    #[error("key is empty")]
    EmptyKey,
    /// A put that keeps the value or lease found no pair, or an operation of a transaction has no
    /// content.
    #[error("key not found")]
    KeyNotFound,
    /// A value came together with `ignore_value`.
    #[error("value given although it is to be kept")]
    ValueProvided,
    /// A lease came together with `ignore_lease`.
    #[error("lease given although it is to be kept")]
    LeaseProvided,
    /// A list of a transaction is longer than allowed, or transactions are nested too deeply.
    #[error("too many operations in a transaction")]
    TooManyOps,
    /// A branch of a transaction writes one key twice.
    #[error("a transaction writes one key twice")]
    DuplicateKey,
    /// The client names an API version that is no text.
    #[error("client api version is not valid text")]
    InvalidClientApiVersion,
    /// A sort order or target has no meaning.
    #[error("unknown sort order or target")]
    InvalidSortOption,
    /// The history asked for is gone.
    #[error("revision {asked} is compacted, oldest is {compacted}")]
    Compacted {
        /// The revision in the request.
        asked: i64,
        /// The compacted revision; -1 before the first compaction.
        compacted: i64,
    },
    /// The revision asked for does not exist yet.
    #[error("revision {asked} is ahead of {current}")]
    FutureRevision {
        /// The revision in the request.
        asked: i64,
        /// The store's revision.
        current: i64,
    },
    /// A file of the store is damaged. Never part of the replicated result and never an answer: the
    /// process must stop.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The quota is used up, or an alarm says that a member's is.
    #[error("no space")]
    NoSpace,
    /// No lease has this id.
    #[error("lease not found")]
    LeaseNotFound,
    /// A lease with this id exists.
    #[error("lease already exists")]
    LeaseExist,
    /// The lifetime asked for is above the maximum.
    #[error("lease lifetime is too large")]
    LeaseTtlTooLarge,
    /// This member does not count leases down.
    #[error("not the leader that counts leases down")]
    NotPrimary,
    /// A watch stream ended.
    #[error("watch canceled")]
    WatchCanceled,
    /// A member with this id exists.
    #[error("member already exists")]
    MemberExist,
    /// Another member has this peer address.
    #[error("peer url already in use")]
    PeerUrlExist,
    /// The change would leave too few started members.
    #[error("not enough started members")]
    MemberNotEnoughStarted,
    /// The addresses of a member do not parse, or there are none.
    #[error("bad member urls")]
    MemberBadUrls,
    /// No member has this id, or it was removed.
    #[error("member not found")]
    MemberNotFound,
    /// Only a learner can be promoted.
    #[error("member is no learner")]
    MemberNotLearner,
    /// The learner has not caught up.
    #[error("learner is not ready")]
    LearnerNotReady,
    /// As many learners as allowed are there.
    #[error("too many learners")]
    TooManyLearners,
    /// A change was refused because members do not answer.
    #[error("cluster is unhealthy")]
    Unhealthy,
    /// The proposal is larger than allowed.
    #[error("request is too large")]
    RequestTooLarge,
    /// Too many committed entries wait to be applied.
    #[error("too many requests")]
    TooManyRequests,
    /// The request needs a user and has none.
    #[error("user name is empty")]
    UserEmpty,
    /// The user lacks the permission.
    #[error("permission denied")]
    PermissionDenied,
    /// Users are not asked for.
    #[error("authentication is not enabled")]
    AuthNotEnabled,
    /// The token is unknown or expired.
    #[error("invalid auth token")]
    InvalidAuthToken,
    /// Users or permissions changed since the request was checked.
    #[error("auth revision is old")]
    AuthOldRevision,
    /// The cluster has no leader.
    #[error("no leader")]
    NoLeader,
    /// The call is for the leader.
    #[error("not leader")]
    NotLeader,
    /// The leader changed while a read waited.
    #[error("leader changed")]
    LeaderChanged,
    /// The cluster's version does not know this call.
    #[error("not capable")]
    NotCapable,
    /// The member is stopping.
    #[error("server stopped")]
    Stopped,
    /// The request did not finish in time.
    #[error("request timed out")]
    Timeout,
    /// The request did not finish in time, and the leader was lost shortly before.
    #[error("request timed out after the leader was lost")]
    TimeoutDueToLeaderFail,
    /// The request did not finish in time, and a quorum could not be reached.
    #[error("request timed out without a quorum")]
    TimeoutDueToConnectionLost,
    /// Committed entries were not applied in time.
    #[error("waiting for the applied index took too long")]
    TimeoutWaitAppliedIndex,
    /// The leadership was not handed over before the caller's deadline.
    #[error("leader transfer took too long")]
    TimeoutLeaderTransfer,
    /// An alarm says that the members' data differ.
    #[error("corrupt cluster")]
    Corrupt,
    /// A learner does not answer this call.
    #[error("not supported for a learner")]
    NotSupportedForLearner,
    /// The leadership cannot go to this member.
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// The target of a downgrade is no version.
    #[error("downgrade target is no version")]
    WrongDowngradeVersionFormat,
    /// The target of a downgrade is not one minor below.
    #[error("downgrade target is not one minor below")]
    InvalidDowngradeTargetVersion,
    /// The cluster's version is not known yet.
    #[error("cluster version is not known")]
    ClusterVersionUnavailable,
    /// A downgrade is running.
    #[error("a downgrade is running")]
    DowngradeInProcess,
    /// The action of a request has no meaning.
    #[error("unknown method")]
    UnknownMethod,
    /// The caller went away.
    #[error("request canceled")]
    Canceled,
    /// The caller's deadline passed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
}
