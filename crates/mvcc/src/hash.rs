//! HashKV: one number for the history of a store, to compare members.
//!
//! The hash at revision R of a store compacted at C is the CRC-32C of the text `key` followed by
//! revision key and stored pair of these records, in order:
//! - above C and not above R: all, tombstones too;
//! - not above C: those that a read at R sees. If a read at R sees no key at all, the others that
//!   compaction C kept count too;
//! - but no tombstone exactly at C: it is kept for watchers, and older releases did not keep it.
//!
//! Every compaction also yields the hash at its revision with the compacted revision from *before*
//! it. The last ten are kept, so that members which compacted at different moments can still be
//! compared at a compaction revision. While a pass makes its hash, and before it removes anything,
//! a view holds how far it has come, and takes the rest from its own records when asked: the answer
//! is the same before, during and after the pass, and nothing is pinned for it.
//!
//! Most of what lies in files is the same from one compaction to the next. A segment that lies below
//! the compaction before is hashed apart, as a [`Section`], which is kept; as long as nothing in the
//! segment dies, the next compaction joins it to its hash and does not read the file.
//!
//! Source: etcd v3.7.1, `server/storage/mvcc/hash.go`; the definition with its test vectors was
//! checked against running releases.

use std::collections::VecDeque;
use std::sync::Arc;

use kvorum_storage::segment::Damage;

use crate::crc;
use crate::index::{History, KeyIndex};
use crate::record_log::RecordLog;
use crate::{Record, Revision};

/// Name of the bucket of etcd's database that holds the records; it opens the hash.
const BUCKET: &[u8] = b"key";

/// How many hashes of compactions are kept.
pub const HASHES_KEPT_MAX: usize = 10;

/// A hash of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C.
    pub hash: u32,
    /// The revision that the hash reaches up to.
    pub revision: i64,
    /// The compacted revision that the hash was made with; -1 when never compacted.
    pub compact_revision: i64,
}

/// Takes the records of a store in order and hashes those that count.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    revision: i64,
    compacted: i64,
    /// The hash made by compaction `revision` takes tombstones exactly there as seen.
    at_compaction: bool,
    /// The hash when some key is seen at `revision`, without the section.
    seen_only: u32,
    /// What follows it and is hashed apart.
    section: Option<Section>,
    /// The hash when no key is; dropped at the first that is.
    if_none_seen: Option<u32>,
}

impl Hasher {
    pub(crate) fn new(revision: i64, compacted: i64, at_compaction: bool) -> Self {
        let start = crc32c::crc32c(BUCKET);
        Hasher {
            revision,
            compacted,
            at_compaction,
            seen_only: start,
            section: None,
            if_none_seen: Some(start),
        }
    }

    /// Takes the next record, at or below the revision of the hash. The index is asked for its
    /// history only when it matters; it has none when a compaction removed the key.
    pub(crate) fn offer(&mut self, record: &Record, index: &KeyIndex) {
        let main = record.mod_revision().main;
        let old = main <= self.compacted;
        let mut seen = false;
        if old || self.if_none_seen.is_some() {
            let Some(history) = index.history(record.key()) else {
                return;
            };
            if !history.keeps(record.mod_revision(), record.is_tombstone(), self.compacted) {
                return;
            }
            seen = self.sees(record, history);
            if seen {
                self.if_none_seen = None;
            }
        }
        if main == self.compacted && record.is_tombstone() {
            return;
        }
        if !old || seen {
            match &mut self.section {
                Some(section) => section.append(record),
                None => self.seen_only = append(self.seen_only, record).0,
            }
        }
        if let Some(hash) = &mut self.if_none_seen {
            *hash = append(*hash, record).0;
        }
    }

    /// Hashes what comes apart, so that it can be kept.
    pub(crate) fn begin_section(&mut self) {
        self.end_section();
        self.section = Some(Section::default());
    }

    /// Joins what was hashed apart, if there is any, and returns it.
    pub(crate) fn end_section(&mut self) -> Option<Section> {
        let section = self.section.take()?;
        self.seen_only = section.join(self.seen_only);
        Some(section)
    }

    /// Takes a section that was hashed for a compaction before. Everything of it existed then and
    /// is seen now, and nothing else of its records exists.
    pub(crate) fn take_section(&mut self, section: Section) {
        self.end_section();
        self.seen_only = section.join(self.seen_only);
        if section.bytes > 0 {
            self.if_none_seen = None;
        }
    }

    /// The compacted revision that the hash is made with.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    fn sees(&self, record: &Record, history: &History) -> bool {
        let newest = history.floor(Revision::end_of(self.revision));
        let is_newest = newest.is_some_and(|at| at.mod_revision() == record.mod_revision());
        let shown = !record.is_tombstone()
            || (self.at_compaction && record.mod_revision().main == self.revision);
        is_newest && shown
    }

    pub(crate) fn finish(mut self) -> HashKv {
        self.end_section();
        HashKv {
            hash: self.if_none_seen.unwrap_or(self.seen_only),
            revision: self.revision,
            compact_revision: self.compacted,
        }
    }
}

/// Hashes a history from a place on, below which the hasher has taken everything.
pub(crate) fn hash_rest(
    mut hasher: Hasher,
    next: Revision,
    index: &KeyIndex,
    log: &RecordLog,
) -> Result<HashKv, Damage> {
    let end = Revision::end_of(hasher.revision);
    for record in log.from(next) {
        let record = record?;
        if record.mod_revision() > end {
            break;
        }
        hasher.offer(&record, index);
    }
    Ok(hasher.finish())
}

/// The part of a hash that some records make, whatever comes before and after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    /// CRC-32C of their bytes.
    hash: u32,
    /// How many bytes these are.
    bytes: u64,
}

impl Section {
    /// Of so many bytes with this CRC-32C.
    pub(crate) fn of(hash: u32, bytes: u64) -> Self {
        Section { hash, bytes }
    }

    /// CRC-32C of the bytes, and their number.
    pub(crate) fn parts(&self) -> (u32, u64) {
        (self.hash, self.bytes)
    }

    fn append(&mut self, record: &Record) {
        let (hash, bytes) = append(self.hash, record);
        self.hash = hash;
        self.bytes += bytes as u64;
    }

    /// The hash of what `before` is the hash of, and these records behind it.
    fn join(&self, before: u32) -> u32 {
        crc::join(before, self.hash, self.bytes)
    }

    /// These records and those that follow them as one.
    pub(crate) fn followed_by(&self, next: &Section) -> Section {
        Section {
            hash: next.join(self.hash),
            bytes: self.bytes + next.bytes,
        }
    }
}

/// Adds the revision key of etcd's database and the stored pair; also returns their length.
fn append(hash: u32, record: &Record) -> (u32, usize) {
    let Revision { main, sub } = record.mod_revision();
    let mut key = [0; 18];
    key[..8].copy_from_slice(&main.to_be_bytes());
    key[8] = b'_';
    key[9..17].copy_from_slice(&sub.to_be_bytes());
    key[17] = b't';
    let key_bytes = if record.is_tombstone() { 18 } else { 17 };
    let hash = crc32c::crc32c_append(hash, &key[..key_bytes]);
    let stored = record.stored();
    (
        crc32c::crc32c_append(hash, stored),
        key_bytes + stored.len(),
    )
}

/// The hashes of the last compactions, revisions ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptHashes(Arc<VecDeque<KeptHash>>);

#[derive(Clone, Debug)]
enum KeptHash {
    Known(HashKv),
    /// The pass of the compaction has taken everything below `next`.
    Pending {
        hasher: Hasher,
        next: Revision,
    },
}

impl KeptHash {
    fn revision(&self) -> i64 {
        match self {
            KeptHash::Known(hash) => hash.revision,
            KeptHash::Pending { hasher, .. } => hasher.revision,
        }
    }
}

impl KeptHashes {
    /// Notes a compaction whose pass has not begun.
    pub(crate) fn begin(&mut self, hasher: Hasher) {
        let hashes = Arc::make_mut(&mut self.0);
        hashes.push_back(KeptHash::Pending {
            hasher,
            next: Revision::default(),
        });
        if hashes.len() > HASHES_KEPT_MAX {
            hashes.pop_front();
        }
    }

    /// Notes how far the pass has come.
    pub(crate) fn advance(&mut self, hasher: &Hasher, next: Revision) {
        self.replace(KeptHash::Pending {
            hasher: hasher.clone(),
            next,
        });
    }

    /// Notes the hash of a finished pass.
    pub(crate) fn finish(&mut self, hash: HashKv) {
        self.replace(KeptHash::Known(hash));
    }

    fn replace(&mut self, by: KeptHash) {
        let hashes = Arc::make_mut(&mut self.0);
        // With many compactions waiting, this one may have left the list already.
        if let Some(kept) = hashes
            .iter_mut()
            .find(|kept| kept.revision() == by.revision())
        {
            *kept = by;
        }
    }

    /// The hash of the compaction at exactly this revision. `index` and `log` are those of the view
    /// that holds the list.
    ///
    /// # Errors
    ///
    /// [`Damage`] when a file that had to be read is damaged.
    pub(crate) fn at(
        &self,
        revision: i64,
        index: &KeyIndex,
        log: &RecordLog,
    ) -> Result<Option<HashKv>, Damage> {
        let kept = self.0.iter().find(|kept| kept.revision() == revision);
        kept.map(|kept| match kept {
            KeptHash::Known(hash) => Ok(*hash),
            KeptHash::Pending { hasher, next } => hash_rest(hasher.clone(), *next, index, log),
        })
        .transpose()
    }

    /// The hashes as they are written down: without those that are still being made.
    pub(crate) fn known(&self) -> Vec<HashKv> {
        let known = self.0.iter().filter_map(|kept| match kept {
            KeptHash::Known(hash) => Some(*hash),
            KeptHash::Pending { .. } => None,
        });
        known.collect()
    }

    /// The hashes as they were written down.
    pub(crate) fn of_known(hashes: &[HashKv]) -> Self {
        let kept = hashes.iter().map(|hash| KeptHash::Known(*hash));
        KeptHashes(Arc::new(kept.collect()))
    }
}
