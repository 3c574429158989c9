//! Whether users are asked for. Users and roles themselves are not here yet: requests that would
//! change them are refused before they are proposed, so the status never changes. Users and roles
//! that came in with the data of an official server are [kept](Kept) as they are.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;

/// The switch and the revision counter of the auth store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether requests need a user.
    pub enabled: bool,
    /// Counts changes of users, roles and permissions; 1 in an empty store.
    pub revision: u64,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
        }
    }
}

/// Users and roles as an official server stored them, by the key they had in its file.
///
/// Nobody reads them here; they go back into every file that is made from the state, so that
/// nothing is lost on the way through us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Pairs of the bucket `authUsers`.
    pub users: BTreeMap<Bytes, Bytes>,
    /// Pairs of the bucket `authRoles`.
    pub roles: BTreeMap<Bytes, Bytes>,
}

/// Whether a request of the log changes users, roles, or whether users are asked for. Members of
/// ours never propose one; logs of official members may hold them.
pub fn is_change(payload: &Payload) -> bool {
    matches!(
        payload,
        Payload::AuthEnable(_)
            | Payload::AuthDisable(_)
            | Payload::AuthUserAdd(_)
            | Payload::AuthUserDelete(_)
            | Payload::AuthUserChangePassword(_)
            | Payload::AuthUserGrantRole(_)
            | Payload::AuthUserRevokeRole(_)
            | Payload::AuthRoleAdd(_)
            | Payload::AuthRoleDelete(_)
            | Payload::AuthRoleGrantPermission(_)
            | Payload::AuthRoleRevokePermission(_)
    )
}
