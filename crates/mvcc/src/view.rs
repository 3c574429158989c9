//! The key-value state at one moment, for any number of readers.
//!
//! A view is immutable. It answers reads at every revision from its compacted to its current one,
//! whatever the store does meanwhile; what it keeps in memory is freed with it.
//!
//! What the index knows ([`Change`]) is answered from memory and cannot fail. A [`Record`] may come
//! from a segment file, and reading it fails when the file is damaged: then there is no answer, and
//! the process has to stop.

use kvorum_proto::etcdserverpb::RangeRequest;
use kvorum_storage::segment::Damage;

use crate::btree::KeyRef;
use crate::hash::{Hasher, KeptHashes, hash_rest};
use crate::index::KeyIndex;
use crate::range::{self, RangeError, RangeReply, Reader};
use crate::record_log::{Glance, RecordLog};
use crate::revision::{NEVER_COMPACTED, REVISION_FIRST};
use crate::{Change, Event, EventBatch, HashKv, Interval, ReadError, Record, Revision, Sizes};

/// The state of the store at one moment. A clone costs a few reference counts.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) index: KeyIndex,
    pub(crate) log: RecordLog,
    pub(crate) current: i64,
    pub(crate) compacted: i64,
    pub(crate) hashes: KeptHashes,
    pub(crate) sizes: Sizes,
}

/// A record as a database file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Where in the history the change was made.
    pub mod_revision: Revision,
    /// Whether it is a delete.
    pub is_tombstone: bool,
    /// [`Record::stored`].
    pub pair: &'a [u8],
}

/// How long a [`Stored`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredLength {
    /// Whether it is a delete.
    pub is_tombstone: bool,
    /// Length of its pair, in bytes.
    pub pair_bytes: usize,
}

/// How much history one call returns. A revision is never split, so the last one may go over.
#[derive(Clone, Copy, Debug)]
pub struct HistoryBounds {
    /// Most distinct revisions; 0 counts as 1.
    pub revisions_max: usize,
    /// Encoded bytes of pairs after which no further revision is begun.
    pub bytes_max: usize,
}

/// A stretch of history.
#[derive(Clone, Debug)]
pub struct History {
    /// Whole revisions, ascending.
    pub batches: Vec<EventBatch>,
    /// Where to go on: everything from the asked revision up to, but without, this one is in
    /// `batches`. Above the current revision when the history was read to its end.
    pub next_revision: i64,
}

impl Default for View {
    /// The state of an empty store.
    fn default() -> Self {
        View {
            index: KeyIndex::default(),
            log: RecordLog::default(),
            current: REVISION_FIRST,
            compacted: NEVER_COMPACTED,
            hashes: KeptHashes::default(),
            sizes: Sizes::default(),
        }
    }
}

impl View {
    /// The store revision of the newest change; 1 while there is none.
    pub fn current_revision(&self) -> i64 {
        self.current
    }

    /// The lowest revision that can be read; -1 while nothing was compacted.
    pub fn compact_revision(&self) -> i64 {
        self.compacted
    }

    /// Logical size of the store.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Keys in the index: those with a pair, and deleted ones whose history is still held.
    pub fn keys(&self) -> i64 {
        self.index.known()
    }

    /// Turns the revision of a request into the one to read at: 0 and below mean the newest.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the revision is below the compacted or above the current one.
    pub fn readable(&self, asked: i64) -> Result<i64, ReadError> {
        if asked <= 0 {
            return Ok(self.current);
        }
        if asked > self.current {
            return Err(ReadError::Future {
                asked,
                current: self.current,
            });
        }
        self.check_compacted(asked)?;
        Ok(asked)
    }

    /// Checks the revision of a range inside a transaction. Unlike for a range of its own, a
    /// negative revision is compared too, so that it is refused once anything was compacted.
    ///
    /// Source: etcd v3.7.1, `server/etcdserver/txn/range.go` (`checkRange`).
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the revision is below the compacted or above the current one.
    pub fn check_txn_revision(&self, asked: i64) -> Result<(), ReadError> {
        if asked == 0 {
            return Ok(());
        }
        if asked > self.current {
            return Err(ReadError::Future {
                asked,
                current: self.current,
            });
        }
        self.check_compacted(asked)
    }

    fn check_compacted(&self, asked: i64) -> Result<(), ReadError> {
        if asked < self.compacted {
            return Err(ReadError::Compacted {
                asked,
                compacted: self.compacted,
            });
        }
        Ok(())
    }

    /// What the index knows of the pair at a key, at the newest revision.
    pub fn change(&self, key: &[u8]) -> Option<Change> {
        let newest = self.index.history(key)?.newest();
        Some(newest).filter(|newest| !newest.is_tombstone())
    }

    /// The pair at a key, at the newest revision.
    ///
    /// # Errors
    ///
    /// [`Damage`] when the file that holds it is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<Record>, Damage> {
        let change = self.change(key);
        change.map(|change| self.log.read(&change)).transpose()
    }

    /// The pair at a key, at a revision as in [`View::readable`].
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the revision cannot be read.
    pub fn get_at(&self, key: &[u8], revision: i64) -> Result<Option<Record>, ReadError> {
        let revision = self.readable(revision)?;
        let change = self.index.live_at(key, revision);
        Ok(change.map(|change| self.log.read(&change)).transpose()?)
    }

    /// The keys of an interval that have a pair at the newest revision, ascending, with what the
    /// index knows of it.
    pub fn live_changes<'a>(
        &'a self,
        interval: &'a Interval,
    ) -> impl Iterator<Item = (KeyRef<'a>, Change)> {
        self.index
            .ascend(interval)
            .map(|(key, history)| (key, history.newest()))
            .filter(|(_, newest)| !newest.is_tombstone())
    }

    /// The pairs of an interval at the newest revision, keys ascending. Each can fail to be read
    /// when its file is damaged.
    pub fn live<'a>(
        &'a self,
        interval: &'a Interval,
    ) -> impl Iterator<Item = Result<Record, Damage>> + 'a {
        self.live_changes(interval)
            .map(|(_, change)| self.log.read(&change))
    }

    /// Number of pairs of an interval, at a revision as in [`View::readable`].
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the revision cannot be read.
    pub fn count(&self, interval: &Interval, revision: i64) -> Result<i64, ReadError> {
        let revision = self.readable(revision)?;
        Ok(range::count(self, interval, revision)?)
    }

    /// Answers a range request; see [`range::execute`].
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the revision cannot be read.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeReply, ReadError> {
        range::execute(self, request)
    }

    /// The same, refused when the pairs to return take more than `bytes_max` bytes as encoded. Nearly all of what is
    /// too long is refused without being read.
    ///
    /// # Errors
    ///
    /// [`RangeError`].
    pub fn range_within(
        &self,
        request: &RangeRequest,
        bytes_max: usize,
    ) -> Result<RangeReply, RangeError> {
        range::execute_within(self, request, bytes_max)
    }

    /// The changes from a revision on, in order. At the compacted revision itself the history is
    /// complete; above the current revision it is empty.
    ///
    /// # Errors
    ///
    /// [`ReadError::Compacted`] when `from` is below the compacted revision, and
    /// [`ReadError::Damaged`].
    pub fn history(&self, from: i64, bounds: HistoryBounds) -> Result<History, ReadError> {
        self.check_compacted(from)?;
        let mut batches: Vec<EventBatch> = Vec::new();
        let mut events: Vec<Event> = Vec::new();
        let mut bytes = 0;
        let mut records = self.records_from(Revision::start_of(from));
        let mut coming = records.next().transpose()?;
        while let Some(record) = coming {
            bytes += record.encoded().len();
            let revision = record.mod_revision().main;
            events.push(Event { record });
            coming = records.next().transpose()?;
            let next = coming.as_ref().map(|next| next.mod_revision().main);
            if next == Some(revision) {
                continue;
            }
            batches.push(EventBatch {
                revision,
                events: events.drain(..).collect(),
            });
            let full = batches.len() >= bounds.revisions_max || bytes >= bounds.bytes_max;
            if let Some(next_revision) = next.filter(|_| full) {
                return Ok(History {
                    batches,
                    next_revision,
                });
            }
        }
        Ok(History {
            batches,
            next_revision: from.max(self.current + 1),
        })
    }

    /// The pair an event replaced: what a read one revision earlier sees. `None` for the first put
    /// of a key, and when that revision is compacted.
    ///
    /// # Errors
    ///
    /// [`Damage`] when the file that holds it is damaged.
    pub fn previous(&self, event: &Event) -> Result<Option<Record>, Damage> {
        let before = event.record.mod_revision().main - 1;
        if event.is_create() || before < self.compacted {
            return Ok(None);
        }
        let change = self.index.live_at(event.record.key(), before);
        change.map(|change| self.log.read(&change)).transpose()
    }

    /// Every record that exists, in revision order: what a database file of etcd holds. Each can
    /// fail to be read when its file is damaged.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, Damage>> {
        self.records_from(Revision::default())
    }

    /// Every record that exists as a database file holds it, in revision order.
    pub fn stored(&self) -> impl Iterator<Item = Result<Stored<'_>, Damage>> {
        self.log.outlines().filter_map(move |outline| {
            let (at, outline) = match outline {
                Ok(outline) => outline,
                Err(damage) => return Some(Err(damage)),
            };
            let exists = self.index.keeps_outlined(at, &outline, self.compacted);
            exists.then_some(Ok(Stored {
                mod_revision: at,
                is_tombstone: outline.is_tombstone,
                pair: outline.stored,
            }))
        })
    }

    /// How long each of them is. What lies in files is not compared with its checksum, so this may be wrong where
    /// [`View::stored`] meets damage.
    pub fn stored_lengths(&self) -> impl Iterator<Item = Result<StoredLength, Damage>> {
        self.log.glances(self.compacted).filter_map(move |glance| {
            let (at, outline) = match glance {
                Ok(Glance::Outline(at, outline)) => (at, outline),
                Ok(Glance::Pair(pair_bytes)) => {
                    let is_tombstone = false;
                    return Some(Ok(StoredLength {
                        is_tombstone,
                        pair_bytes,
                    }));
                }
                Err(damage) => return Some(Err(damage)),
            };
            let exists = self.index.keeps_outlined(at, &outline, self.compacted);
            exists.then_some(Ok(StoredLength {
                is_tombstone: outline.is_tombstone,
                pair_bytes: outline.stored.len(),
            }))
        })
    }

    fn records_from(&self, start: Revision) -> impl Iterator<Item = Result<Record, Damage>> {
        let exists = |record: &Record| self.index.keeps(record, self.compacted);
        self.log
            .from(start)
            .filter(move |record| record.as_ref().map_or(true, exists))
    }

    /// Hashes the history up to a revision, 0 for the newest. At the revision of one of the last
    /// [`crate::HASHES_KEPT_MAX`] compactions, the hash is that of the moment before it.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the revision is below the compacted or above the current one, or a file
    /// is damaged.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, ReadError> {
        if let Some(kept) = self.hashes.at(revision, &self.index, &self.log)? {
            return Ok(kept);
        }
        // A negative number is taken as it is: nothing lies below it.
        // Source: etcd v3.7.1, `server/storage/mvcc/kvstore.go` (`hashByRev`).
        let revision = match revision {
            ..0 => revision,
            _ => self.readable(revision)?,
        };
        let hasher = Hasher::new(revision, self.compacted, false);
        Ok(hash_rest(
            hasher,
            Revision::default(),
            &self.index,
            &self.log,
        )?)
    }
}

impl Reader for View {
    fn view(&self) -> &View {
        self
    }
}
