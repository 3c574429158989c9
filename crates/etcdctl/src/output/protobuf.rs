//! The format `protobuf`: the message as it travels, without a line feed.
//!
//! Two oddities of the official tool are kept, as scripts may live with them: answers about leases
//! are their header alone, and a revoked lease has no form at all.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/printer_protobuf.go`.

use kvorum_proto::etcdserverpb::{AuthUserDeleteResponse, ResponseHeader, WatchResponse};
use prost::Message as _;

use super::{Reply, unsupported};
use kvorum_cli::Failure;
use kvorum_cli::failure::BAD_FEATURE;

pub(super) fn render(reply: &Reply) -> Result<Vec<u8>, Failure> {
    let header = |header: &Option<ResponseHeader>| header.unwrap_or_default().encode_to_vec();
    Ok(match reply {
        Reply::Put(response) => response.encode_to_vec(),
        Reply::Range(response) => response.encode_to_vec(),
        Reply::Delete(response) => response.encode_to_vec(),
        Reply::Txn(response) => response.encode_to_vec(),
        Reply::Watch(response) => {
            let shown = WatchResponse {
                watch_id: 0,
                cancel_reason: String::new(),
                fragment: false,
                ..response.clone()
            };
            shown.encode_to_vec()
        }
        Reply::LeaseGrant(response) => header(&response.header),
        Reply::LeaseKeepAlive(response) => header(&response.header),
        Reply::LeaseTimeToLive(response, _) => header(&response.header),
        Reply::Leases(response) => header(&response.header),
        Reply::LeaseRevoke(..) => {
            let text = "marshal unsupported for type *clientv3.LeaseRevokeResponse";
            return Err(Failure::new(BAD_FEATURE, text));
        }
        Reply::Alarms(response) => response.encode_to_vec(),
        Reply::Members(response) => response.encode_to_vec(),
        Reply::MemberAdded(response) => response.encode_to_vec(),
        Reply::MemberRemoved(_, response) => response.encode_to_vec(),
        Reply::MemberUpdated(_, response) => response.encode_to_vec(),
        Reply::MemberPromoted(_, response) => response.encode_to_vec(),
        Reply::LeaderMoved(_, _, response) => response.encode_to_vec(),
        // All answers that are a header alone have the same form.
        Reply::Done(_, header) => AuthUserDeleteResponse { header: *header }.encode_to_vec(),
        Reply::Role(_, response) => response.encode_to_vec(),
        Reply::Roles(response) => response.encode_to_vec(),
        Reply::User(_, response) => response.encode_to_vec(),
        Reply::Users(response) => response.encode_to_vec(),
        Reply::AuthStatus(response) => response.encode_to_vec(),
        Reply::Downgrade(_, response) => response.encode_to_vec(),
        Reply::Health(_) | Reply::Status(_) | Reply::Hashes(_) => {
            return Err(unsupported("protobuf"));
        }
    })
}
