//! The one table that gives an error of the core its gRPC code and its official text.
//!
//! Client libraries recognise errors by the text, so it is kept byte for byte.
//! Source: v3.7.1 `api/v3rpc/rpctypes/error.go`, `server/etcdserver/api/v3rpc/util.go`.

use kvorum_member::apply::RequestError;

use crate::transport::{Code, Status};

/// The status that an official server sends for this error.
#[must_use]
pub fn status(error: RequestError) -> Status {
    let (code, text) = row(error);
    Status::new(code, text)
}

/// The text alone, for places that carry it inside a message.
#[must_use]
pub fn text(error: RequestError) -> &'static str {
    row(error).1
}

fn row(error: RequestError) -> (Code, &'static str) {
    use Code::*;
    use RequestError as E;
    match error {
        E::EmptyKey => (InvalidArgument, "etcdserver: key is not provided"),
        E::KeyNotFound => (InvalidArgument, "etcdserver: key not found"),
        E::ValueProvided => (InvalidArgument, "etcdserver: value is provided"),
        E::LeaseProvided => (InvalidArgument, "etcdserver: lease is provided"),
        E::TooManyOps => (
            InvalidArgument,
            "etcdserver: too many operations in txn request",
        ),
        E::DuplicateKey => (
            InvalidArgument,
            "etcdserver: duplicate key given in txn request",
        ),
        E::InvalidClientApiVersion => (InvalidArgument, "etcdserver: invalid client api version"),
        E::InvalidSortOption => (InvalidArgument, "etcdserver: invalid sort option"),
        E::Compacted { .. } => (
            OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        E::FutureRevision { .. } => (
            OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        // Whoever asks, the disk no longer says what was written: the panic hook ends the process.
        E::Damaged(damage) => panic!("the store cannot be read: {damage}"),
        E::NoSpace => (
            ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
        ),
        E::LeaseNotFound => (NotFound, "etcdserver: requested lease not found"),
        E::LeaseExist => (FailedPrecondition, "etcdserver: lease already exists"),
        E::LeaseTtlTooLarge => (OutOfRange, "etcdserver: too large lease TTL"),
        E::NotPrimary => (Unknown, "not a primary lessor"),
        E::WatchCanceled => (Canceled, "etcdserver: watch canceled"),
        E::MemberExist => (FailedPrecondition, "etcdserver: member ID already exist"),
        E::PeerUrlExist => (FailedPrecondition, "etcdserver: Peer URLs already exists"),
        // Official servers map these two to values that are no gRPC status, so they arrive as Unknown.
        E::MemberNotEnoughStarted => (
            Unknown,
            "etcdserver: re-configuration failed due to not enough started members",
        ),
        E::TooManyRequests => (Unknown, "etcdserver: too many requests"),
        E::MemberBadUrls => (InvalidArgument, "etcdserver: given member URLs are invalid"),
        E::MemberNotFound => (NotFound, "etcdserver: member not found"),
        E::MemberNotLearner => (
            FailedPrecondition,
            "etcdserver: can only promote a learner member",
        ),
        E::LearnerNotReady => (
            FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        E::TooManyLearners => (
            FailedPrecondition,
            "etcdserver: too many learner members in cluster",
        ),
        E::Unhealthy => (Unavailable, "etcdserver: unhealthy cluster"),
        E::RequestTooLarge => (InvalidArgument, "etcdserver: request is too large"),
        E::UserEmpty => (InvalidArgument, "etcdserver: user name is empty"),
        E::PermissionDenied => (PermissionDenied, "etcdserver: permission denied"),
        E::AuthNotEnabled => (
            FailedPrecondition,
            "etcdserver: authentication is not enabled",
        ),
        E::InvalidAuthToken => (Unauthenticated, "etcdserver: invalid auth token"),
        E::AuthOldRevision => (InvalidArgument, "etcdserver: revision of auth store is old"),
        E::NoLeader => (Unavailable, "etcdserver: no leader"),
        E::NotLeader => (FailedPrecondition, "etcdserver: not leader"),
        E::LeaderChanged => (Unavailable, "etcdserver: leader changed"),
        E::NotCapable => (FailedPrecondition, "etcdserver: not capable"),
        E::Stopped => (Unavailable, "etcdserver: server stopped"),
        E::Timeout => (Unavailable, "etcdserver: request timed out"),
        E::TimeoutDueToLeaderFail => (
            Unavailable,
            "etcdserver: request timed out, possibly due to previous leader failure",
        ),
        E::TimeoutDueToConnectionLost => (
            Unavailable,
            "etcdserver: request timed out, possibly due to connection lost",
        ),
        E::TimeoutWaitAppliedIndex => (
            Unavailable,
            "etcdserver: request timed out, waiting for the applied index took too long",
        ),
        E::TimeoutLeaderTransfer => (
            Unknown,
            "etcdserver: request timed out, leader transfer took too long",
        ),
        E::Corrupt => (DataLoss, "etcdserver: corrupt cluster"),
        E::NotSupportedForLearner => (
            FailedPrecondition,
            "etcdserver: rpc not supported for learner",
        ),
        E::BadLeaderTransferee => (FailedPrecondition, "etcdserver: bad leader transferee"),
        E::WrongDowngradeVersionFormat => (
            InvalidArgument,
            "etcdserver: wrong downgrade target version format",
        ),
        E::InvalidDowngradeTargetVersion => (
            InvalidArgument,
            "etcdserver: invalid downgrade target version",
        ),
        E::ClusterVersionUnavailable => (
            FailedPrecondition,
            "etcdserver: cluster version not found during downgrade",
        ),
        E::DowngradeInProcess => (
            FailedPrecondition,
            "etcdserver: cluster has a downgrade job in progress",
        ),
        E::UnknownMethod => (Unknown, "etcdserver: unknown method"),
        E::Canceled => (Canceled, "etcdserver: request canceled"),
        E::DeadlineExceeded => (DeadlineExceeded, "etcdserver: context deadline exceeded"),
    }
}
