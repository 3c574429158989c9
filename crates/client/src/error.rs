//! What can go wrong in a call, in the words that users of etcd know.

use std::fmt;

use kvorum_proto::etcdserverpb::WatchResponse;

/// Texts that every client of etcd recognises and shows without the gRPC code.
///
/// Source: v3.7.1 `api/v3rpc/rpctypes/error.go`, `errStringToError`.
const KNOWN_TEXTS: [&str; 63] = [
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: value is provided",
    "etcdserver: lease is provided",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: invalid client api version",
    "etcdserver: invalid sort option",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: requested lease not found",
    "etcdserver: lease already exists",
    "etcdserver: too large lease TTL",
    "etcdserver: watch canceled",
    "etcdserver: member ID already exist",
    "etcdserver: Peer URLs already exists",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: given member URLs are invalid",
    "etcdserver: member not found",
    "etcdserver: can only promote a learner member",
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: too many learner members in cluster",
    "etcdserver: cluster ID mismatch",
    "etcdserver: request is too large",
    "etcdserver: too many requests",
    "etcdserver: root user does not exist",
    "etcdserver: root user does not have root role",
    "etcdserver: user name already exists",
    "etcdserver: user name is empty",
    "etcdserver: user name not found",
    "etcdserver: role name already exists",
    "etcdserver: role name not found",
    "etcdserver: role name is empty",
    "etcdserver: authentication failed, invalid user ID or password",
    "etcdserver: permission not given",
    "etcdserver: permission denied",
    "etcdserver: role is not granted to the user",
    "etcdserver: permission is not granted to the role",
    "etcdserver: authentication is not enabled",
    "etcdserver: invalid auth token",
    "etcdserver: invalid auth management",
    "etcdserver: revision of auth store is old",
    "etcdserver: no leader",
    "etcdserver: not leader",
    "etcdserver: leader changed",
    "etcdserver: not capable",
    "etcdserver: server stopped",
    "etcdserver: request timed out",
    "etcdserver: request timed out, possibly due to previous leader failure",
    "etcdserver: request timed out, possibly due to connection lost",
    "etcdserver: request timed out, waiting for the applied index took too long",
    "etcdserver: unhealthy cluster",
    "etcdserver: corrupt cluster",
    "etcdserver: rpc not supported for learner",
    "etcdserver: bad leader transferee",
    "etcdserver: wrong downgrade target version format",
    "etcdserver: invalid downgrade target version",
    "etcdserver: cluster version not found during downgrade",
    "etcdserver: cluster has a downgrade job in progress",
    "etcdserver: no inflight downgrade job",
    "etcdserver: request canceled",
    "etcdserver: context deadline exceeded",
];

/// Text with which a member says that it knows no leader.
pub(crate) const NO_LEADER: &str = "etcdserver: no leader";
/// Text of a call with a token that the member does not know.
pub(crate) const INVALID_TOKEN: &str = "etcdserver: invalid auth token";
/// Text of a call with a token from before the newest change of users and roles.
pub(crate) const OLD_AUTH_REVISION: &str = "etcdserver: revision of auth store is old";
/// Text of a call without a token where one is needed.
pub(crate) const NO_USER: &str = "etcdserver: user name is empty";
/// Text of a member that knows nobody by name.
pub(crate) const AUTH_NOT_ENABLED: &str = "etcdserver: authentication is not enabled";
/// Text of a call that a learner does not serve.
pub(crate) const NOT_FOR_LEARNER: &str = "etcdserver: rpc not supported for learner";

/// The answer of a server, or of the connection to it, that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// gRPC code.
    pub code: Code,
    /// What the server says.
    pub message: String,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Whether the text is one of etcd's own and so says all without the code.
    pub fn is_known(&self) -> bool {
        KNOWN_TEXTS.contains(&self.message.as_str())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_known() {
            return f.write_str(&self.message);
        }
        write!(f, "rpc error: code = {} desc = {}", self.code, self.message)
    }
}

impl std::error::Error for Status {}

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u32);

/// Names as they are written in error texts, by number.
const CODE_NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

impl Code {
    /// Success.
    pub const OK: Code = Code(0);
    /// The caller took the call back.
    pub const CANCELED: Code = Code(1);
    /// An error outside the table of codes.
    pub const UNKNOWN: Code = Code(2);
    /// The time of the call ran out.
    pub const DEADLINE_EXCEEDED: Code = Code(4);
    /// There is no such thing.
    pub const NOT_FOUND: Code = Code(5);
    /// The caller may not do this.
    pub const PERMISSION_DENIED: Code = Code(7);
    /// A limit was exceeded.
    pub const RESOURCE_EXHAUSTED: Code = Code(8);
    /// The state of the cluster forbids it.
    pub const FAILED_PRECONDITION: Code = Code(9);
    /// The other side broke a rule of the protocol.
    pub const INTERNAL: Code = Code(13);
    /// Nobody serves the call now.
    pub const UNAVAILABLE: Code = Code(14);
    /// The server does not know who the caller is.
    pub const UNAUTHENTICATED: Code = Code(16);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match CODE_NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "Code({})", self.0),
        }
    }
}

/// Why a call of this library brought no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The server refused, or the connection broke after the request was sent.
    #[error(transparent)]
    Status(Status),
    /// The time given to the call ran out.
    #[error("context deadline exceeded")]
    DeadlineExceeded {
        /// The method that was called, as `/package.Service/Method`.
        method: &'static str,
        /// The endpoints that were tried, separated by commas.
        endpoints: String,
        /// Why no endpoint could be reached; none when one was and did not answer.
        reason: Option<String>,
    },
    /// The list of endpoints is empty.
    #[error("etcdclient: no available endpoints")]
    NoEndpoints,
    /// An endpoint cannot be understood.
    #[error("endpoint {endpoint:?}: {reason}")]
    BadEndpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up: a file that cannot be used, or a certificate without its key.
    #[error("{0}")]
    Tls(String),
    /// A page cannot be had.
    #[error("{url}: {reason}")]
    Page {
        /// Where it should be.
        url: String,
        /// Why it is not to be had.
        reason: String,
    },
    /// The name service knows no servers.
    #[error("{0}")]
    Discovery(String),
    /// The server ended a watch; the response says why and carries the compacted revision.
    #[error("{}", watch_canceled(.0))]
    WatchCanceled(Box<WatchResponse>),
    /// The lease of a session ended while a lock or an election was waited for.
    #[error("mutex: session is expired")]
    SessionExpired,
    /// Proclaim by somebody who does not lead.
    #[error("election: not leader")]
    NotLeader,
    /// A server answered with a message that breaks the rules of the protocol.
    #[error("the server's answer breaks the protocol: {0}")]
    Protocol(&'static str),
}

impl Error {
    /// The status in it, if a server answered with one.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the server refused with this text.
    pub fn says(&self, text: &str) -> bool {
        self.status().is_some_and(|status| status.message == text)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Error::Status(status)
    }
}

/// The text of a cancelled watch; of one that never was it is the reason as it came.
///
/// Source: v3.7.1 `client/v3/watch.go`, `WatchResponse.Err` and `addSubstream`.
fn watch_canceled(response: &WatchResponse) -> String {
    if response.compact_revision != 0 {
        return "etcdserver: mvcc: required revision has been compacted".to_owned();
    }
    if response.cancel_reason.is_empty() {
        return "etcdserver: mvcc: required revision is a future revision".to_owned();
    }
    if response.created {
        return response.cancel_reason.clone();
    }
    Status::new(Code::FAILED_PRECONDITION, &response.cancel_reason).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_etcd_stand_alone_and_others_bear_the_code() {
        for (code, message, text) in [
            (Code::UNAVAILABLE, NO_LEADER, "etcdserver: no leader"),
            (Code::UNKNOWN, "x", "rpc error: code = Unknown desc = x"),
            (Code(77), "x", "rpc error: code = Code(77) desc = x"),
        ] {
            assert_eq!(Status::new(code, message).to_string(), text);
        }
    }

    #[test]
    fn a_cancelled_watch_says_what_was_wrong() {
        let response = |compact_revision, cancel_reason: &str| {
            let response = WatchResponse {
                compact_revision,
                cancel_reason: cancel_reason.to_owned(),
                ..WatchResponse::default()
            };
            Error::WatchCanceled(Box::new(response)).to_string()
        };
        assert_eq!(
            response(7, ""),
            "etcdserver: mvcc: required revision has been compacted"
        );
        assert_eq!(
            response(0, ""),
            "etcdserver: mvcc: required revision is a future revision"
        );
        assert_eq!(
            response(0, "etcdserver: permission denied"),
            "etcdserver: permission denied"
        );
    }
}
