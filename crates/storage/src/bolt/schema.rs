//! What etcd keeps in its backend file: names of buckets, names of keys, encodings of numbers.
//!
//! Numbers are big-endian, so that keys sort as their numbers do. The values of `members` and of
//! the meta key `confState` are JSON; those of `key`, `lease`, `authUsers` and `authRoles` and the
//! keys of `alarm` are messages of `kvorum_proto`. All of these are the matter of who owns the
//! state; here are bytes only.
//!
//! Source: etcd v3.7.1, `server/storage/schema` (`bucket.go`, `cindex.go`, `lease.go`, `auth.go`,
//! `membership.go`) and `server/storage/mvcc/revision.go`.

use kvorum_proto::ids::{LeaseId, MemberId};

/// Bucket of all changes of keys: [`RevisionKey`] to `mvccpb.KeyValue`.
pub const KEY: &[u8] = b"key";
/// Bucket of what the file knows of itself, see [`meta`].
pub const META: &[u8] = b"meta";
/// Bucket of leases: [`lease_key`] to `leasepb.Lease`.
pub const LEASE: &[u8] = b"lease";
/// Bucket of active alarms: `etcdserverpb.AlarmMember` as the key, and an empty value.
pub const ALARM: &[u8] = b"alarm";
/// Bucket of what the cluster agreed on, see [`cluster`].
pub const CLUSTER: &[u8] = b"cluster";
/// Bucket of members: [`member_key`] to JSON.
pub const MEMBERS: &[u8] = b"members";
/// Bucket of members that were removed: [`member_key`] to [`REMOVED`].
pub const MEMBERS_REMOVED: &[u8] = b"members_removed";
/// Bucket of the state of authentication, see [`auth`].
pub const AUTH: &[u8] = b"auth";
/// Bucket of users: name to `authpb.User`.
pub const AUTH_USERS: &[u8] = b"authUsers";
/// Bucket of roles: name to `authpb.Role`.
pub const AUTH_ROLES: &[u8] = b"authRoles";

/// All buckets, in the order in which they stand in a file. etcd makes all of them at once.
pub const BUCKETS: [&[u8]; 10] = [
    ALARM,
    AUTH,
    AUTH_ROLES,
    AUTH_USERS,
    CLUSTER,
    KEY,
    LEASE,
    MEMBERS,
    MEMBERS_REMOVED,
    META,
];

/// Value in [`MEMBERS_REMOVED`].
pub const REMOVED: &[u8] = b"removed";

/// Keys of bucket [`META`].
pub mod meta {
    /// Log index that the file has applied, a [`super::number`].
    pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
    /// Raft term of that index, a [`super::number`]. Missing before 3.5.
    pub const TERM: &[u8] = b"term";
    /// JSON of the voters and learners at that index. Missing before 3.5.
    pub const CONF_STATE: &[u8] = b"confState";
    /// Revision up to which a compaction was begun, a [`super::RevisionKey`] with sub revision 0.
    pub const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
    /// Revision up to which a compaction is done, in the same form.
    pub const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
    /// Version of the file as text, such as `3.6.0`. Missing before 3.6.
    pub const STORAGE_VERSION: &[u8] = b"storageVersion";
}

/// Keys of bucket [`CLUSTER`].
pub mod cluster {
    /// Version of the cluster as text, such as `3.5.0`.
    pub const CLUSTER_VERSION: &[u8] = b"clusterVersion";
    /// JSON of a downgrade that is going on.
    pub const DOWNGRADE: &[u8] = b"downgrade";
}

/// Keys of bucket [`AUTH`].
pub mod auth {
    /// [`ON`] or [`OFF`]; missing means off.
    pub const ENABLED: &[u8] = b"authEnabled";
    /// Revision of users and roles, a [`super::number`].
    pub const REVISION: &[u8] = b"authRevision";
    /// Value of [`ENABLED`] when requests are checked.
    pub const ON: &[u8] = &[1];
    /// Value of [`ENABLED`] when they are not.
    pub const OFF: &[u8] = &[0];
}

/// Bytes that are none of the encodings here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Not the key of a revision.
    #[error("no revision: wrong length, separator or mark, or negative")]
    Revision,
    /// Not a number of eight bytes.
    #[error("no number: {0} bytes instead of 8")]
    Number(usize),
    /// Not the id of a member as text.
    #[error("no member id in hexadecimal digits")]
    Member,
}

/// Length of the key of a revision without mark, in bytes.
const REVISION_BYTES: usize = 17;
/// Place of the byte between main and sub revision.
const SEPARATOR_AT: usize = 8;
const SEPARATOR: u8 = b'_';
/// A last byte of a key that says: the change was a deletion.
const TOMBSTONE: u8 = b't';

/// Key of bucket [`KEY`]: which change it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevisionKey {
    /// Main revision, not negative.
    pub main: i64,
    /// Number of the change within its request, counted from 0.
    pub sub: i64,
    /// Whether the key was deleted.
    pub tombstone: bool,
}

impl RevisionKey {
    /// Length of the encoding, in bytes.
    #[must_use]
    pub fn encoded_bytes(self) -> usize {
        Self::bytes(self.tombstone)
    }

    /// The same for any revision.
    #[must_use]
    pub fn bytes(tombstone: bool) -> usize {
        REVISION_BYTES + usize::from(tombstone)
    }

    /// The key as bytes.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let (bytes, length) = self.encode_in_place();
        bytes[..length].to_vec()
    }

    /// The key as the first of these bytes, and how many of them.
    #[must_use]
    pub fn encode_in_place(self) -> ([u8; REVISION_BYTES + 1], usize) {
        let mut bytes = [0; REVISION_BYTES + 1];
        bytes[..SEPARATOR_AT].copy_from_slice(&self.main.to_be_bytes());
        bytes[SEPARATOR_AT] = SEPARATOR;
        bytes[SEPARATOR_AT + 1..REVISION_BYTES].copy_from_slice(&self.sub.to_be_bytes());
        bytes[REVISION_BYTES] = TOMBSTONE;
        (bytes, self.encoded_bytes())
    }

    /// The key that these bytes are.
    ///
    /// # Errors
    ///
    /// [`SchemaError::Revision`].
    pub fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        let (main, rest) = bytes
            .split_first_chunk::<SEPARATOR_AT>()
            .ok_or(SchemaError::Revision)?;
        let (sub, tombstone) = match rest {
            [SEPARATOR, sub @ ..] if sub.len() == 8 => (sub, false),
            [SEPARATOR, sub @ .., TOMBSTONE] if sub.len() == 8 => (sub, true),
            _ => return Err(SchemaError::Revision),
        };
        let sub: [u8; 8] = sub.try_into().map_err(|_| SchemaError::Revision)?;
        let (main, sub) = (i64::from_be_bytes(*main), i64::from_be_bytes(sub));
        if main < 0 || sub < 0 {
            return Err(SchemaError::Revision);
        }
        Ok(Self {
            main,
            sub,
            tombstone,
        })
    }
}

/// Encodes an index, a term or the revision of authentication.
#[must_use]
pub fn number(value: u64) -> [u8; 8] {
    value.to_be_bytes()
}

/// Decodes what [`number`] encodes.
///
/// # Errors
///
/// [`SchemaError::Number`].
pub fn decode_number(bytes: &[u8]) -> Result<u64, SchemaError> {
    let number = bytes
        .try_into()
        .map_err(|_| SchemaError::Number(bytes.len()))?;
    Ok(u64::from_be_bytes(number))
}

/// Key of bucket [`LEASE`].
#[must_use]
pub fn lease_key(lease: LeaseId) -> [u8; 8] {
    lease.0.to_be_bytes()
}

/// Decodes what [`lease_key`] encodes.
///
/// # Errors
///
/// [`SchemaError::Number`].
pub fn decode_lease_key(bytes: &[u8]) -> Result<LeaseId, SchemaError> {
    decode_number(bytes).map(|number| LeaseId(number.cast_signed()))
}

/// Key of buckets [`MEMBERS`] and [`MEMBERS_REMOVED`]: lower-case hexadecimal without leading
/// zeros.
#[must_use]
pub fn member_key(member: MemberId) -> String {
    format!("{:x}", member.0)
}

/// Decodes what [`member_key`] encodes.
///
/// # Errors
///
/// [`SchemaError::Member`].
pub fn decode_member_key(bytes: &[u8]) -> Result<MemberId, SchemaError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SchemaError::Member)?;
    let id = u64::from_str_radix(text, 16).map_err(|_| SchemaError::Member)?;
    let member = MemberId(id);
    // No sign, no leading zero, no capital letter: one spelling per member.
    if member_key(member) == text {
        Ok(member)
    } else {
        Err(SchemaError::Member)
    }
}
