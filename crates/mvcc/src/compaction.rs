//! Forgetting history.
//!
//! A compaction at C takes effect at once: reads below C are refused, and a record at or below C
//! exists only if it is the newest of its key there and not a tombstone, unless the tombstone lies
//! exactly at C (`History::keeps`). Everything that looks at records asks that question, so nothing
//! visible depends on when the records are taken out of memory.
//!
//! The taking out is a *pass*: it walks the records from the oldest up to C in bounded steps,
//! removes those that no longer exist, and computes the hash at C on the way. Passes run one after
//! the other in the order of their compactions. Because a pass walks upwards, the record that
//! decides about an older one is still there when the older one is visited.
//!
//! Source: etcd v3.7.1, `server/storage/mvcc/key_index.go` (`compact`) and
//! `server/storage/mvcc/kvstore_compaction.go`.

use crate::hash::Hasher;
use crate::size::record_bytes;
use crate::store::Store;
use crate::{CompactError, Record, Revision, View};

/// The removal of what one compaction made superfluous.
#[derive(Debug)]
pub(crate) struct Pass {
    compacted: i64,
    /// Where the next step goes on.
    next: Revision,
    removed: u64,
    hasher: Hasher,
}

/// What a step of removal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactStep {
    /// Records that this step removed.
    pub removed: u64,
    /// The compaction whose last record this step visited.
    pub finished: Option<CompactFinished>,
    /// Whether there is more to do.
    pub pending: bool,
}

/// A compaction of which nothing is left to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactFinished {
    /// The compacted revision.
    pub revision: i64,
    /// Records removed in all its steps.
    pub removed: u64,
    /// Hash of the history at the revision, made with the compacted revision before.
    pub hash: crate::HashKv,
}

impl Store {
    /// Forgets what only reads below `revision` could see, at once for every reader of a later
    /// view. [`Store::compact_step`] removes it from memory.
    ///
    /// # Errors
    ///
    /// [`CompactError::Compacted`] at or below the last compaction, [`CompactError::Future`] above
    /// the current revision.
    pub fn compact(&mut self, revision: i64) -> Result<(), CompactError> {
        let (compacted, current) = (self.view.compacted, self.view.current);
        if revision <= compacted {
            return Err(CompactError::Compacted {
                asked: revision,
                compacted,
            });
        }
        if revision > current {
            return Err(CompactError::Future {
                asked: revision,
                current,
            });
        }
        let hasher = Hasher::new(revision, compacted, true);
        self.view.hashes.begin(hasher.clone());
        self.free_bytes(revision);
        self.view.compacted = revision;
        self.passes.push_back(Pass {
            compacted: revision,
            next: Revision::default(),
            removed: 0,
            hasher,
        });
        Ok(())
    }

    /// Visits at most `budget` records (at least one) and removes those that no longer exist.
    pub fn compact_step(&mut self, budget: usize) -> CompactStep {
        let Some(mut pass) = self.passes.pop_front() else {
            return CompactStep::default();
        };
        let end = Revision::end_of(pass.compacted);
        let visited: Vec<Record> = self
            .view
            .log
            .from(pass.next)
            .take_while(|record| record.mod_revision() <= end)
            .take(budget.max(1))
            .cloned()
            .collect();
        let removed = visited
            .iter()
            .map(|record| self.visit(record, &mut pass))
            .sum();
        pass.removed += removed;
        self.counts.compacted_records += removed;
        let mut step = CompactStep {
            removed,
            finished: None,
            pending: true,
        };
        match visited.last() {
            // A full step may have more behind it; the next one finds out.
            Some(last) if visited.len() == budget.max(1) => {
                let Revision { main, sub } = last.mod_revision();
                pass.next = Revision { main, sub: sub + 1 };
                self.view.hashes.advance(&pass.hasher, pass.next);
                self.passes.push_front(pass);
            }
            _ => {
                let hash = pass.hasher.finish();
                self.view.hashes.finish(hash);
                let (revision, removed) = (pass.compacted, pass.removed);
                step.finished = Some(CompactFinished {
                    revision,
                    removed,
                    hash,
                });
                step.pending = !self.passes.is_empty();
            }
        }
        step
    }

    /// Whether removal has work left.
    pub fn is_compacting(&self) -> bool {
        !self.passes.is_empty()
    }

    /// Gives back the bytes that are no longer in use.
    pub fn defragment(&mut self) {
        self.view.sizes.defragment();
    }

    /// Hashes a record and removes it if it no longer exists; returns how many were removed.
    fn visit(&mut self, record: &Record, pass: &mut Pass) -> u64 {
        let history = self.view.index.of_logged(record);
        pass.hasher.offer(record, || history);
        if history.keeps(record, pass.compacted) {
            return 0;
        }
        self.view.index.remove(record.key(), record.mod_revision());
        self.view.log.remove(record.mod_revision());
        1
    }

    /// Lowers the bytes in use by what a compaction at `revision` makes superfluous.
    ///
    /// A put dies when the compaction reaches the change after it, a tombstone when it passes the
    /// tombstone itself; the log sums both by the revision that brings them about. Tombstones
    /// exactly at `revision` live on until the next compaction.
    fn free_bytes(&mut self, revision: i64) {
        let view = &mut self.view;
        let passed = view.log.frees_bytes(view.compacted + 1..=revision);
        let lingering = lingering_tombstone_bytes(view, revision);
        view.sizes
            .shrink(passed + self.lingering_tombstone_bytes - lingering);
        self.lingering_tombstone_bytes = lingering;
    }
}

/// Bytes of the tombstones that a compaction at exactly their revision keeps.
fn lingering_tombstone_bytes(view: &View, revision: i64) -> u64 {
    view.log
        .from(Revision::start_of(revision))
        .take_while(|record| record.mod_revision().main == revision)
        .filter(|record| record.is_tombstone())
        .filter(|record| view.index.keeps(record, revision))
        .map(record_bytes)
        .sum()
}
