//! The way back: from etcd's database file to the state of a member.
//!
//! [`Imported::read`] takes everything but the keys, which are few pairs; [`Changes`] streams the
//! history, one change at a time, because a file may be larger than memory should be asked for.
//! Files of 3.4 to 3.7 are understood: an older one lacks fields (the term before 3.5, the storage
//! version before 3.6) and never has others.
//!
//! Nothing is taken on trust. What is not as an official server writes it is refused with the
//! place in the file; [`bolt`] has checked the pages before.
//!
//! [`bolt`]: kvorum_storage::bolt

use bytes::Bytes;
use kvorum_mvcc::{NEVER_COMPACTED, REVISION_FIRST, Revision};
use kvorum_proto::etcdserverpb::AlarmMember;
use kvorum_proto::ids::{LogIndex, MemberId, Term};
use kvorum_proto::leasepb;
use kvorum_proto::mvccpb::KeyValue;
use kvorum_storage::bolt::schema::{self, RevisionKey, SchemaError};
use kvorum_storage::bolt::{Pairs, ReadError, Reader, Source};
use prost::{DecodeError, Message as _};
use serde::Deserialize;

use crate::apply::ClusterState;
use crate::auth;
use crate::cluster::{Change as MemberChange, Member};

/// Why a file cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is damaged or cannot be read.
    #[error(transparent)]
    File(#[from] ReadError),
    /// A bucket that every server makes is missing.
    #[error("no bucket {0:?}: this is not the database of an etcd server")]
    NoBucket(String),
    /// A pair is not what an official server writes.
    #[error("pair {number} of bucket {bucket:?}, on the page at offset {offset}: {damage}")]
    Pair {
        /// Name of the bucket.
        bucket: String,
        /// Which of its pairs, from 0.
        number: u64,
        /// Where the page begins in the file, in bytes.
        offset: u64,
        /// What is wrong.
        damage: PairDamage,
    },
}

/// What is wrong with a pair.
#[derive(Debug, thiserror::Error)]
pub enum PairDamage {
    /// A key or a number does not have its form.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A message does not decode.
    #[error(transparent)]
    Message(#[from] DecodeError),
    /// A JSON text does not decode.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A text has no meaning here.
    #[error("unreadable value {0:?}")]
    Text(String),
    /// Two parts of a pair, or two pairs, contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// What a file says beside its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The last log entry that the file contains; 0 in a file whose server never applied one.
    pub applied: LogIndex,
    /// The term of that entry; 0 when it was not written down (before 3.5).
    pub term: Term,
    /// The format of the file, such as `3.7.0`; none before 3.6.
    pub storage_version: Option<String>,
    /// The last compaction that was begun; -1 for none. What it makes superfluous may be there.
    pub scheduled_compact: i64,
    /// The last compaction that was carried out; -1 for none.
    pub finished_compact: i64,
    /// The leases, in the order of the file.
    pub leases: Vec<leasepb::Lease>,
    /// Members, alarms, versions, authentication.
    pub cluster: ClusterState,
}

impl Default for Imported {
    /// What a file without a pair would say.
    fn default() -> Self {
        Self {
            applied: LogIndex(0),
            term: Term(0),
            storage_version: None,
            scheduled_compact: NEVER_COMPACTED,
            finished_compact: NEVER_COMPACTED,
            leases: Vec::new(),
            cluster: ClusterState::default(),
        }
    }
}

impl Imported {
    /// Reads everything but the keys.
    ///
    /// # Errors
    ///
    /// [`ImportError`].
    pub fn read<S: Source>(file: &Reader<S>) -> Result<Self, ImportError> {
        let mut imported = Self::default();
        for bucket in [schema::KEY, schema::META] {
            if file.bucket(bucket)?.is_none() {
                return Err(ImportError::NoBucket(name(bucket)));
            }
        }
        for bucket in schema::BUCKETS {
            if bucket != schema::KEY {
                each(file, bucket, |key, value| imported.pair(bucket, key, value))?;
            }
        }
        Ok(imported)
    }

    /// The store revision up to which history is forgotten; -1 for none. An official server ends a
    /// compaction that was begun as soon as it opens the file, so it counts.
    pub fn compact_revision(&self) -> i64 {
        self.scheduled_compact.max(self.finished_compact)
    }

    /// The newest store revision, given that of the last change in the file (0 for none). What a
    /// compaction removed may have been newer.
    pub fn current_revision(&self, last_change: i64) -> i64 {
        last_change.max(self.compact_revision()).max(REVISION_FIRST)
    }

    /// Takes in a pair of a bucket other than that of the keys.
    pub(crate) fn pair(
        &mut self,
        bucket: &[u8],
        key: &[u8],
        value: &[u8],
    ) -> Result<(), PairDamage> {
        match bucket {
            schema::META => self.meta(key, value),
            schema::LEASE => self.lease(key, value),
            schema::CLUSTER => self.version(key, value),
            schema::AUTH => self.auth(key, value),
            schema::ALARM => {
                let alarm = AlarmMember::decode(key)?;
                let member = MemberId(alarm.member_id);
                self.cluster.alarms.activate(member, alarm.alarm);
                Ok(())
            }
            schema::MEMBERS => {
                let member: Member = serde_json::from_slice(value)?;
                if schema::decode_member_key(key)? != member.id() {
                    return Err(PairDamage::Contradiction("a member under another's id"));
                }
                self.cluster.roster.apply(MemberChange::Add(member));
                Ok(())
            }
            schema::MEMBERS_REMOVED => {
                let id = schema::decode_member_key(key)?;
                if self.cluster.roster.member(id).is_some() {
                    return Err(PairDamage::Contradiction(
                        "a member that was removed is there",
                    ));
                }
                self.cluster.roster.apply(MemberChange::Remove(id));
                Ok(())
            }
            schema::AUTH_USERS => {
                let kept = &mut self.cluster.auth_kept;
                kept.users.insert(shared(key), shared(value));
                Ok(())
            }
            schema::AUTH_ROLES => {
                let kept = &mut self.cluster.auth_kept;
                kept.roles.insert(shared(key), shared(value));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), PairDamage> {
        use schema::meta;
        match key {
            meta::CONSISTENT_INDEX => self.applied = LogIndex(schema::decode_number(value)?),
            meta::TERM => self.term = Term(schema::decode_number(value)?),
            meta::SCHEDULED_COMPACT => self.scheduled_compact = RevisionKey::decode(value)?.main,
            meta::FINISHED_COMPACT => self.finished_compact = RevisionKey::decode(value)?.main,
            meta::STORAGE_VERSION => self.storage_version = Some(text(value)?),
            // The voters follow from the members. After a restore this field names the old ones.
            _ => {}
        }
        Ok(())
    }

    fn lease(&mut self, key: &[u8], value: &[u8]) -> Result<(), PairDamage> {
        let lease = leasepb::Lease::decode(value)?;
        if schema::decode_lease_key(key)?.0 != lease.id {
            return Err(PairDamage::Contradiction("a lease under another's id"));
        }
        self.leases.push(lease);
        Ok(())
    }

    fn version(&mut self, key: &[u8], value: &[u8]) -> Result<(), PairDamage> {
        match key {
            schema::cluster::CLUSTER_VERSION => {
                let text = text(value)?;
                let version = text.parse().map_err(|_| PairDamage::Text(text))?;
                self.cluster.version = Some(version);
            }
            schema::cluster::DOWNGRADE => {
                let downgrade: RunningDowngrade = serde_json::from_slice(value)?;
                self.cluster.downgrade.target =
                    downgrade.enabled.then_some(downgrade.target_version);
            }
            _ => {}
        }
        Ok(())
    }

    fn auth(&mut self, key: &[u8], value: &[u8]) -> Result<(), PairDamage> {
        let auth::Status { enabled, revision } = &mut self.cluster.auth;
        match key {
            schema::auth::ENABLED => *enabled = value == schema::auth::ON,
            schema::auth::REVISION => *revision = schema::decode_number(value)?,
            _ => {}
        }
        Ok(())
    }
}

/// Source: etcd v3.7.1, `server/etcdserver/version/downgrade.go` (`DowngradeInfo`).
#[derive(Deserialize)]
struct RunningDowngrade {
    #[serde(rename = "target-version", default)]
    target_version: String,
    #[serde(default)]
    enabled: bool,
}

/// One change of one key, as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Where in the history.
    pub revision: Revision,
    /// Whether the key was deleted.
    pub is_tombstone: bool,
    /// The pair; of a delete the key alone. All empty in the one change that raises the revision
    /// of a restored member (`snapshot restore --bump-revision`).
    pub pair: KeyValue,
    /// The value in the file: the pair, encoded.
    pub stored: Bytes,
}

/// The history in a file: revisions ascend, also those that a compaction which was not carried out
/// makes superfluous. Not an `Iterator`, because each step may fail.
#[derive(Debug)]
pub struct Changes<'r, S> {
    pairs: Pairs<'r, S>,
    number: u64,
    last: Option<Revision>,
}

impl<'r, S: Source> Changes<'r, S> {
    /// Before the oldest change.
    ///
    /// # Errors
    ///
    /// [`ImportError`].
    pub fn new(file: &'r Reader<S>) -> Result<Self, ImportError> {
        let bucket = file
            .bucket(schema::KEY)?
            .ok_or_else(|| ImportError::NoBucket(name(schema::KEY)))?;
        Ok(Self {
            pairs: file.pairs(&bucket)?,
            number: 0,
            last: None,
        })
    }

    /// The next change; none behind the newest.
    ///
    /// # Errors
    ///
    /// [`ImportError`]. The walk is over then.
    #[expect(
        clippy::should_implement_trait,
        reason = "each step may fail, which for loops would hide"
    )]
    pub fn next(&mut self) -> Result<Option<Change>, ImportError> {
        let Some((key, value)) = self.pairs.next()? else {
            return Ok(None);
        };
        match change(key, value, self.last) {
            Ok(change) => {
                self.last = Some(change.revision);
                self.number += 1;
                Ok(Some(change))
            }
            Err(damage) => Err(ImportError::Pair {
                bucket: name(schema::KEY),
                number: self.number,
                offset: self.pairs.page_offset(),
                damage,
            }),
        }
    }
}

fn change(key: &[u8], value: &[u8], last: Option<Revision>) -> Result<Change, PairDamage> {
    let RevisionKey {
        main,
        sub,
        tombstone,
    } = RevisionKey::decode(key)?;
    let revision = Revision { main, sub };
    let stored = shared(value);
    let pair = KeyValue::decode(stored.clone())?;
    // Keys ascend as bytes; only a put and a delete at one place could still follow each other.
    if last.is_some_and(|last| last >= revision) {
        return Err(PairDamage::Contradiction("two changes at one revision"));
    }
    let raises_revision = stored.is_empty() && !tombstone;
    if pair.key.is_empty() && !raises_revision {
        return Err(PairDamage::Contradiction("a change without a key"));
    }
    if !tombstone && !raises_revision {
        if pair.mod_revision != main {
            return Err(PairDamage::Contradiction("a pair of another revision"));
        }
        if pair.version < 1 || !(0..=main).contains(&pair.create_revision) {
            return Err(PairDamage::Contradiction("a pair with impossible versions"));
        }
    }
    Ok(Change {
        revision,
        is_tombstone: tombstone,
        pair,
        stored,
    })
}

/// Gives every pair of a bucket away; a bucket that is missing has none.
fn each<S: Source>(
    file: &Reader<S>,
    bucket_name: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), PairDamage>,
) -> Result<(), ImportError> {
    let Some(bucket) = file.bucket(bucket_name)? else {
        return Ok(());
    };
    let mut pairs = file.pairs(&bucket)?;
    let mut number = 0;
    loop {
        let taken = match pairs.next()? {
            Some((key, value)) => take(key, value),
            None => return Ok(()),
        };
        taken.map_err(|damage| ImportError::Pair {
            bucket: name(bucket_name),
            number,
            offset: pairs.page_offset(),
            damage,
        })?;
        number += 1;
    }
}

fn name(bucket: &[u8]) -> String {
    String::from_utf8_lossy(bucket).into_owned()
}

fn text(bytes: &[u8]) -> Result<String, PairDamage> {
    let text = String::from_utf8(bytes.to_vec());
    text.map_err(|_| PairDamage::Text(String::from_utf8_lossy(bytes).into_owned()))
}

fn shared(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
