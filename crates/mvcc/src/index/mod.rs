//! The key index: every key with its history, in key order.
//!
//! A [`History`] holds all changes of a key that the store still keeps. Keys whose newest change is
//! not a tombstone are *live* and weigh 1 in the tree, so live keys of an interval are counted
//! without visiting them.

mod history;

use std::ops::Bound;

use crate::btree::{KeyRef, Loader, Packed, Tree, Weigh};
use crate::record::Outline;
use crate::{Change, Interval, Record, Revision};
pub(crate) use history::History;

/// Keys in order, each with its changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyIndex {
    keys: Tree<Packed, History>,
}

/// Makes an index of keys that come in order.
pub(crate) type IndexLoader = Loader<Packed, History>;

impl Weigh for History {
    fn weight(&self) -> i64 {
        i64::from(!self.ends_with_tombstone())
    }
}

impl KeyIndex {
    /// The index of all keys that were given to a loader.
    pub(crate) fn of_loaded(loader: IndexLoader) -> Self {
        KeyIndex {
            keys: loader.finish(),
        }
    }

    /// The history of a key.
    pub(crate) fn history(&self, key: &[u8]) -> Option<&History> {
        self.keys.get(key)
    }

    /// Whether a record of the log still exists in a store compacted at `compacted`. A record of
    /// which the index knows nothing was removed by a compaction before.
    pub(crate) fn keeps(&self, record: &Record, compacted: i64) -> bool {
        self.keeps_outlined(record.mod_revision(), &record.outline(), compacted)
    }

    /// The same for a record of which no more is known.
    pub(crate) fn keeps_outlined(
        &self,
        at: Revision,
        outline: &Outline<'_>,
        compacted: i64,
    ) -> bool {
        let kept = |history: &History| history.keeps(at, outline.is_tombstone, compacted);
        at.main > compacted || self.history(outline.key).is_some_and(kept)
    }

    /// Whether a change of a key has not been forgotten.
    pub(crate) fn contains(&self, key: &[u8], at: Revision) -> bool {
        self.history(key)
            .is_some_and(|history| history.contains(at))
    }

    /// The pair a read sees at a store revision.
    pub(crate) fn live_at(&self, key: &[u8], revision: i64) -> Option<Change> {
        self.keys.get(key)?.live_at(revision)
    }

    /// Adds the newest change of a key that has a history.
    pub(crate) fn push(&mut self, key: &[u8], change: Change) {
        let pushed = self.keys.update(key, |history| history.push(change));
        assert!(pushed.is_some(), "a key with a history is in the index");
    }

    /// Adds the first change of a key.
    pub(crate) fn insert(&mut self, key: &[u8], change: Change) {
        let before = self.keys.insert(key, History::new(change));
        assert!(before.is_none(), "a first change has no history before it");
    }

    /// Forgets every change of a key before a place, and with `itself` the one there too; the key
    /// goes with its last change. Calls `forgotten` with each.
    pub(crate) fn forget(
        &mut self,
        key: &[u8],
        at: Revision,
        itself: bool,
        forgotten: impl FnMut(&Change),
    ) {
        // Most changes that a compaction visits have nothing before them: no node is copied then.
        let Some(history) = self.history(key) else {
            return;
        };
        let oldest_dies = if itself {
            history.floor(at).is_some()
        } else {
            let before = Revision {
                sub: at.sub - 1,
                ..at
            };
            history.floor(before).is_some()
        };
        if !oldest_dies {
            return;
        }
        let left = self
            .keys
            .update(key, |history| history.forget(at, itself, forgotten));
        if left == Some(false) {
            self.keys.remove(key);
        }
    }

    /// Keys of an interval with their histories, keys ascending.
    pub(crate) fn ascend<'a>(
        &'a self,
        interval: &'a Interval,
    ) -> impl Iterator<Item = (KeyRef<'a>, &'a History)> + use<'a> {
        // To count them once takes less than to compare each with the end.
        self.keys
            .ascend(Bound::Included(interval.start.as_ref()))
            .take(self.count_known(interval) as usize)
    }

    /// Keys of an interval with their histories, keys descending.
    pub(crate) fn descend<'a>(
        &'a self,
        interval: &'a Interval,
    ) -> impl Iterator<Item = (KeyRef<'a>, &'a History)> + use<'a> {
        self.keys
            .descend(interval.upper())
            .take(self.count_known(interval) as usize)
    }

    /// Keys of an interval that are live now.
    pub(crate) fn count_live(&self, interval: &Interval) -> i64 {
        self.between(interval, |sum| sum.weight)
    }

    /// Keys of an interval that have any history left.
    pub(crate) fn count_known(&self, interval: &Interval) -> i64 {
        self.between(interval, |sum| sum.entries)
    }

    /// Keys that have any history left.
    pub(crate) fn known(&self) -> i64 {
        self.keys.sum().entries
    }

    fn between(&self, interval: &Interval, part: fn(crate::btree::Sum) -> i64) -> i64 {
        if interval.is_empty() {
            return 0;
        }
        let mut sum = self.keys.sum_before(interval.upper());
        sum -= self
            .keys
            .sum_before(Bound::Excluded(interval.start.as_ref()));
        part(sum)
    }

    /// All keys with their histories.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyRef<'_>, &History)> {
        self.keys.ascend(Bound::Unbounded)
    }

    /// Panics when an invariant of the tree or of a history does not hold.
    pub(crate) fn check_tree(&self) {
        self.keys.check_invariants();
        self.iter().for_each(|(_, history)| history.check());
    }
}
