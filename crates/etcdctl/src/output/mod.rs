//! From a response to the bytes that a user or a script reads.
//!
//! Each format is a pure function of a [`Reply`]. A format that has no form for a reply says so,
//! and the command fails with that.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/printer.go` and the files beside it.

mod fields;
mod json;
mod protobuf;
mod simple;
mod table;

use kvorum_proto::etcdserverpb::{
    AlarmResponse, AuthRoleGetResponse, AuthRoleListResponse, AuthStatusResponse,
    AuthUserGetResponse, AuthUserListResponse, DeleteRangeResponse, DowngradeResponse,
    HashKvResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, MemberAddResponse, MemberListResponse,
    MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse, MoveLeaderResponse,
    PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
};
use kvorum_proto::ids::MemberId;

use kvorum_cli::Failure;
use kvorum_cli::failure::BAD_FEATURE;
use kvorum_cli::print_bytes;

/// The value of `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

/// How to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    pub(crate) format: Format,
    /// Bytes, and some IDs, in hex.
    pub(crate) hex: bool,
    /// Values without their keys.
    pub(crate) values_only: bool,
}

/// What can be written.
pub(crate) enum Reply {
    Put(PutResponse),
    Range(RangeResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Watch(WatchResponse),
    LeaseGrant(LeaseGrantResponse),
    /// With the ID of the lease, which the response lacks.
    LeaseRevoke(i64, LeaseRevokeResponse),
    LeaseKeepAlive(LeaseKeepAliveResponse),
    /// With whether keys were asked for.
    LeaseTimeToLive(LeaseTimeToLiveResponse, bool),
    Leases(LeaseLeasesResponse),
    Alarms(AlarmResponse),
    Members(MemberListResponse),
    MemberAdded(MemberAddResponse),
    MemberRemoved(MemberId, MemberRemoveResponse),
    MemberUpdated(MemberId, MemberUpdateResponse),
    MemberPromoted(MemberId, MemberPromoteResponse),
    Health(Vec<Health>),
    Status(Vec<(String, StatusResponse)>),
    Hashes(Vec<(String, HashKvResponse)>),
    /// A change of users or roles, or the like, whose answer is a header alone: what it did.
    Done(String, Option<ResponseHeader>),
    /// With the name of the role.
    Role(String, AuthRoleGetResponse),
    Roles(AuthRoleListResponse),
    /// With the name of the user.
    User(String, AuthUserGetResponse),
    Users(AuthUserListResponse),
    AuthStatus(AuthStatusResponse),
    /// With the word for what was done.
    Downgrade(&'static str, DowngradeResponse),
    /// From and to whom.
    LeaderMoved(MemberId, MemberId, MoveLeaderResponse),
}

/// What `endpoint health` found out about one endpoint.
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) healthy: bool,
    /// How long the answer took, as text.
    pub(crate) took: String,
    /// What is wrong; empty when nothing is.
    pub(crate) error: String,
}

impl Printer {
    /// Writes the reply to standard output.
    ///
    /// # Errors
    /// The format has no form for it.
    pub(crate) fn print(&self, reply: &Reply) -> Result<(), Failure> {
        let bytes = self.render(reply)?;
        print_bytes(&bytes);
        Ok(())
    }

    fn render(&self, reply: &Reply) -> Result<Vec<u8>, Failure> {
        let (name, rendered) = match self.format {
            Format::Simple => return Ok(simple::render(self, reply)),
            Format::Json => return Ok(json::render(self, reply).into_bytes()),
            Format::Fields => ("fields", fields::render(self, reply)),
            Format::Protobuf => return protobuf::render(reply),
            Format::Table => ("table", table::render(reply)),
        };
        rendered
            .map(String::into_bytes)
            .ok_or_else(|| unsupported(name))
    }
}

fn unsupported(format: &str) -> Failure {
    Failure::new(
        BAD_FEATURE,
        format!("{format} not supported as output format"),
    )
}
