//! The state of a member as etcd's database file.
//!
//! # Theory
//!
//! Official etcd keeps all replicated state of a member in one file: buckets of key-value pairs, by
//! name ([`schema`] has the names, `docs/formats/bolt.md` the bytes). Ours lives in memory, and this
//! room says what of it stands where in such a file. [`Backend`] is that state at one applied log
//! entry; it never changes, so writes go on while it is read. [`Sizing`] and [`Encoding`] walk it in the
//! order of the file:
//!
//! | bucket | from |
//! |---|---|
//! | `key` | every record that exists: history above the compacted revision, and what it kept |
//! | `lease` | the grants, with the rest of a lifetime where one was written down |
//! | `members`, `members_removed`, `cluster`, `alarm`, `auth` | [`ClusterState`] |
//! | `authRoles`, `authUsers` | what came in from an official server, unread |
//! | `meta` | the applied entry, its term, the voters, the compacted revision, the version |
//!
//! A file needs two walks over the same state: [`Sizing`] learns where the pages end, and so how
//! long the file is; [`Encoding`] makes its bytes. Both go in steps whose size the caller chooses.
//! [`import`] is the way back.
//!
//! # Invariants
//!
//! - Keys, leases and everything else in a [`Backend`] are from the same applied entry: it is taken
//!   from the apply machine between two inputs.
//! - The compacted revision stands in the file as a finished compaction, because records that are
//!   compacted away and not yet removed are not in it.
//! - Keys of a bucket ascend as bytes. That is not the order of the ids in them: a negative lease
//!   comes behind the positive ones, and member `a` behind member `10`.
//!
//! [`ClusterState`]: crate::apply::ClusterState

mod encode;
pub mod import;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use kvorum_mvcc::{Stored, View};
use kvorum_proto::etcdserverpb::AlarmType;
use kvorum_proto::ids::LeaseId;
use kvorum_proto::{leasepb, raftpb};
use kvorum_storage::bolt::schema::{self, RevisionKey};
use kvorum_storage::segment::Damage;
use prost::Message as _;
use serde::Serialize;

use crate::apply::{Apply, ReadView};
use crate::cluster::{Member, STORAGE_VERSION, Version};
use crate::lease::Grants;

pub use encode::{BackendError, Encoding, Sizing};

/// The replicated state at one applied entry, as it goes into a file.
#[derive(Clone, Debug)]
pub struct Backend {
    view: ReadView,
    /// In the order of their keys.
    leases: Vec<leasepb::Lease>,
    /// Of the server that is to read the file.
    version: Version,
}

/// The version that brought the term and the voters into the file.
const WITH_TERM: Version = minor(5);
/// The version that brought the version into the file.
const WITH_VERSION: Version = minor(6);

const fn minor(minor: u64) -> Version {
    let (major, patch) = (3, 0);
    Version {
        major,
        minor,
        patch,
    }
}

/// What comes next in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A bucket begins; what follows is in it. Names ascend, and every bucket of etcd comes.
    Bucket(&'static [u8]),
    /// A pair of the bucket begun last. Keys ascend.
    Pair {
        /// Never empty.
        key: Vec<u8>,
        /// May be empty.
        value: Bytes,
    },
}

/// What comes next in a file, where it lies.
#[derive(Clone, Debug)]
pub(crate) enum Piece<'a> {
    /// Of any bucket but that of the keys.
    Item(Item),
    /// A pair of the bucket of the keys.
    Change { key: RevisionKey, pair: &'a [u8] },
}

/// How long what comes next in a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// A bucket begins, as [`Item::Bucket`].
    Bucket(&'static [u8]),
    /// Bytes of a pair, as [`Item::Pair`].
    Pair { key: usize, value: usize },
}

impl Length {
    fn of(item: &Item) -> Self {
        match item {
            Item::Bucket(name) => Length::Bucket(name),
            Item::Pair { key, value } => Length::Pair {
                key: key.len(),
                value: value.len(),
            },
        }
    }
}

impl Backend {
    /// The state as of the last entry applied.
    ///
    /// Leases are copied here, 24 bytes each: a read view, of which one is published per batch of
    /// entries, does not have them, so that puts do not pay for snapshots. A hundred thousand
    /// leases take about a millisecond, once per snapshot.
    pub fn new(apply: &Apply) -> Self {
        Self {
            view: apply.read_view(),
            leases: leases(apply.grants()),
            version: STORAGE_VERSION,
        }
    }

    /// The newest store revision in it.
    pub fn revision(&self) -> i64 {
        self.view.keys.current_revision()
    }

    /// The keys of it.
    pub(crate) fn keys(&self) -> &View {
        &self.view.keys
    }

    /// Where it stands in the log, as a message with a snapshot says it.
    pub fn metadata(&self) -> raftpb::SnapshotMetadata {
        let roster = &self.view.cluster.roster;
        let learners = roster.members().filter(|member| member.is_learner);
        let conf_state = raftpb::ConfState {
            voters: roster.voters().map(id_of).collect(),
            learners: learners.map(id_of).collect(),
            auto_leave: Some(false),
            ..Default::default()
        };
        raftpb::SnapshotMetadata {
            conf_state: Some(conf_state),
            index: Some(self.view.applied.0),
            term: Some(self.view.term.0),
        }
    }

    /// Version of the file, as its readers know it.
    pub fn version(&self) -> String {
        self.version.of_cluster().to_string()
    }

    /// The same as a server of this version writes it down, from 3.4 on: without the fields that
    /// came later, and of a cluster that is not newer.
    pub fn written_for(mut self, version: Version) -> Self {
        self.version = version.of_cluster().min(STORAGE_VERSION);
        self
    }

    /// Everything in the order of the file. The same with each call. A record can fail to be read
    /// when the file that holds it is damaged; then the process must stop.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Result<Piece<'_>, Damage>> + Send {
        let around = |item: Item| Ok(Piece::Item(item));
        self.before_keys()
            .chain(bucket(schema::KEY, []))
            .map(around)
            .chain(self.changes())
            .chain(self.behind_keys().map(around))
    }

    /// How long each of them is. The records are not compared with their checksums, so the lengths may be wrong
    /// where the items themselves meet damage.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = Result<Length, Damage>> + Send {
        let around = |item: Item| Ok(Length::of(&item));
        self.before_keys()
            .chain(bucket(schema::KEY, []))
            .map(around)
            .chain(self.lengths_of_changes())
            .chain(self.behind_keys().map(around))
    }

    fn lengths_of_changes(&self) -> impl Iterator<Item = Result<Length, Damage>> + Send {
        self.view.keys.stored_lengths().map(|stored| {
            let stored = stored?;
            Ok(Length::Pair {
                key: RevisionKey::bytes(stored.is_tombstone),
                value: stored.pair_bytes,
            })
        })
    }

    /// The same without the bucket of the keys.
    pub fn items_without_keys(&self) -> impl Iterator<Item = Item> {
        self.before_keys().chain(self.behind_keys())
    }

    fn before_keys(&self) -> impl Iterator<Item = Item> + Send {
        let auth = &self.view.cluster.auth_kept;
        bucket(schema::ALARM, self.alarms())
            .chain(bucket(schema::AUTH, self.auth()))
            .chain(bucket(schema::AUTH_ROLES, kept(&auth.roles)))
            .chain(bucket(schema::AUTH_USERS, kept(&auth.users)))
            .chain(bucket(schema::CLUSTER, self.cluster()))
    }

    fn behind_keys(&self) -> impl Iterator<Item = Item> + Send {
        bucket(schema::LEASE, self.leases.iter().map(lease))
            .chain(bucket(schema::MEMBERS, self.members()))
            .chain(bucket(schema::MEMBERS_REMOVED, self.removed()))
            .chain(bucket(schema::META, self.meta()))
    }

    fn alarms(&self) -> Vec<Item> {
        let raised = self.view.cluster.alarms.list(AlarmType::None as i32);
        sorted(raised.iter().map(|alarm| (alarm.encode_to_vec(), vec![])))
    }

    /// Until authentication is switched on, official members write down the revision alone.
    ///
    /// Source: etcd v3.7.1, `server/auth/store.go` (`NewAuthStore`).
    fn auth(&self) -> Vec<Item> {
        let status = self.view.cluster.auth;
        let enabled = status
            .enabled
            .then(|| (schema::auth::ENABLED.to_vec(), schema::auth::ON.to_vec()));
        let revision = schema::number(status.revision).to_vec();
        let revision = (schema::auth::REVISION.to_vec(), revision);
        sorted(enabled.into_iter().chain([revision]))
    }

    fn cluster(&self) -> Vec<Item> {
        let cluster = &self.view.cluster;
        let version = cluster.version.map(|version| {
            let version = version.min(self.version);
            let key = schema::cluster::CLUSTER_VERSION.to_vec();
            (key, version.to_string().into_bytes())
        });
        let downgrade = cluster.downgrade.target.as_deref();
        let downgrade = downgrade.filter(|_| self.version == STORAGE_VERSION);
        let downgrade = downgrade.map(|target| {
            let running = RunningDowngrade {
                target_version: target,
                enabled: true,
            };
            (schema::cluster::DOWNGRADE.to_vec(), json(&running))
        });
        sorted(version.into_iter().chain(downgrade))
    }

    fn changes(&self) -> impl Iterator<Item = Result<Piece<'_>, Damage>> + Send {
        self.view.keys.stored().map(|stored| {
            let stored = stored?;
            Ok(Piece::Change {
                key: revision_key(&stored),
                pair: stored.pair,
            })
        })
    }

    fn members(&self) -> Vec<Item> {
        let members = self.view.cluster.roster.members();
        sorted(members.map(|member| {
            let key = schema::member_key(member.id());
            (key.into_bytes(), member.context())
        }))
    }

    fn removed(&self) -> Vec<Item> {
        let removed = self.view.cluster.roster.removed();
        sorted(removed.map(|id| {
            let key = schema::member_key(id);
            (key.into_bytes(), schema::REMOVED.to_vec())
        }))
    }

    fn meta(&self) -> Vec<Item> {
        use schema::meta;
        let ReadView {
            keys,
            applied,
            term,
            ..
        } = &self.view;
        let consistent = schema::number(applied.0).to_vec();
        let mut pairs = vec![(meta::CONSISTENT_INDEX, consistent)];
        if self.version >= WITH_TERM {
            pairs.push((meta::TERM, schema::number(term.0).to_vec()));
            pairs.push((meta::CONF_STATE, self.conf_state()));
        }
        if self.version >= WITH_VERSION {
            pairs.push((meta::STORAGE_VERSION, self.version().into_bytes()));
        }
        // -1: nothing was ever compacted.
        if keys.compact_revision() >= 0 {
            let compacted = RevisionKey {
                main: keys.compact_revision(),
                sub: 0,
                tombstone: false,
            };
            pairs.push((meta::SCHEDULED_COMPACT, compacted.encode()));
            pairs.push((meta::FINISHED_COMPACT, compacted.encode()));
        }
        sorted(pairs.into_iter().map(|(key, value)| (key.to_vec(), value)))
    }

    /// The configuration of raft follows from the roster: a change enters both with one entry.
    fn conf_state(&self) -> Vec<u8> {
        let roster = &self.view.cluster.roster;
        let learners = roster.members().filter(|member| member.is_learner);
        json(&ConfState {
            voters: roster.voters().map(id_of).collect(),
            learners: learners.map(id_of).collect(),
            auto_leave: false,
        })
    }
}

/// The JSON of `raftpb.ConfState` as official 3.7.1 writes it. Joint configurations never come up, so
/// two of its lists are always empty and do not stand here, and nothing leaves one by itself.
#[derive(Serialize)]
struct ConfState {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

/// Source: etcd v3.7.1, `server/etcdserver/version/downgrade.go` (`DowngradeInfo`).
#[derive(Serialize)]
struct RunningDowngrade<'a> {
    #[serde(rename = "target-version")]
    target_version: &'a str,
    enabled: bool,
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // A struct of strings and numbers has no way to fail.
    serde_json::to_vec(value).expect("numbers and texts always have a JSON form")
}

fn revision_key(stored: &Stored<'_>) -> RevisionKey {
    RevisionKey {
        main: stored.mod_revision.main,
        sub: stored.mod_revision.sub,
        tombstone: stored.is_tombstone,
    }
}

fn id_of(member: &Member) -> u64 {
    member.id().0
}

/// The leases in the order of their keys.
fn leases(grants: &Grants) -> Vec<leasepb::Lease> {
    let mut leases = Vec::with_capacity(grants.len());
    leases.extend(grants.iter().map(|(id, grant)| leasepb::Lease {
        id: id.0,
        ttl: grant.ttl_seconds,
        remaining_ttl: grant.remaining_seconds,
    }));
    // Their bytes sort as unsigned numbers do.
    let negative = leases.partition_point(|lease| lease.id < 0);
    leases.rotate_left(negative);
    leases
}

fn lease(lease: &leasepb::Lease) -> Item {
    Item::Pair {
        key: schema::lease_key(LeaseId(lease.id)).to_vec(),
        value: lease.encode_to_vec().into(),
    }
}

fn kept(pairs: &BTreeMap<Bytes, Bytes>) -> impl Iterator<Item = Item> {
    pairs.iter().map(|(key, value)| Item::Pair {
        key: key.to_vec(),
        value: value.clone(),
    })
}

fn bucket(
    name: &'static [u8],
    pairs: impl IntoIterator<Item = Item>,
) -> impl Iterator<Item = Item> {
    std::iter::once(Item::Bucket(name)).chain(pairs)
}

/// The pairs of a small bucket, keys ascending.
fn sorted(pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<Item> {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable();
    let item = |(key, value): (Vec<u8>, Vec<u8>)| Item::Pair {
        key,
        value: value.into(),
    };
    pairs.into_iter().map(item).collect()
}
