//! The key index: every key with its history, in key order.
//!
//! A [`History`] holds all changes of a key that the store still keeps. Keys whose newest change is
//! not a tombstone are *live* and weigh 1 in the tree, so live keys of an interval are counted
//! without visiting them.

mod history;

use std::ops::Bound;
use std::sync::Arc;

use crate::btree::{Tree, Weigh};
use crate::{Interval, Record, Revision};
pub(crate) use history::History;

/// Keys in order, each with its changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyIndex {
    keys: Tree<Arc<[u8]>, History>,
}

impl Weigh for History {
    fn weight(&self) -> i64 {
        i64::from(!self.newest().is_tombstone())
    }
}

impl KeyIndex {
    /// The history of a key.
    pub(crate) fn history(&self, key: &[u8]) -> Option<&History> {
        self.keys.get(key)
    }

    /// The history that a record of the log is part of.
    pub(crate) fn of_logged(&self, record: &Record) -> &History {
        self.keys
            .get(record.key())
            .expect("index and log hold the same records")
    }

    /// Whether a record of the log still exists in a store compacted at `compacted`.
    pub(crate) fn keeps(&self, record: &Record, compacted: i64) -> bool {
        record.mod_revision().main > compacted || self.of_logged(record).keeps(record, compacted)
    }

    /// The pair a read sees at a store revision.
    pub(crate) fn live_at(&self, key: &[u8], revision: i64) -> Option<&Record> {
        self.keys.get(key)?.live_at(revision)
    }

    /// Adds the newest change of a key that has a history.
    pub(crate) fn push(&mut self, record: Record) {
        let key = record.clone();
        let pushed = self.keys.update(key.key(), |history| history.push(record));
        assert!(pushed.is_some(), "a key with a history is in the index");
    }

    /// Adds the first change of a key.
    pub(crate) fn insert(&mut self, record: Record) {
        let before = self
            .keys
            .insert(Arc::from(record.key()), History::new(record));
        assert!(before.is_none(), "a first change has no history before it");
    }

    /// Forgets one change of a key, and the key with its last change.
    pub(crate) fn remove(&mut self, key: &[u8], revision: Revision) {
        let left = self.keys.update(key, |history| history.remove(revision));
        if left == Some(false) {
            self.keys.remove(key);
        }
    }

    /// Histories of the keys of an interval, keys ascending.
    pub(crate) fn ascend<'a>(
        &'a self,
        interval: &'a Interval,
    ) -> impl Iterator<Item = &'a History> + use<'a> {
        let upper = interval.upper();
        self.keys
            .ascend(Bound::Included(interval.start.as_ref()))
            .take_while(move |(key, _)| match upper {
                Bound::Unbounded => true,
                Bound::Included(end) => key.as_ref() <= end,
                Bound::Excluded(end) => key.as_ref() < end,
            })
            .map(|(_, history)| history)
    }

    /// Histories of the keys of an interval, keys descending.
    pub(crate) fn descend<'a>(
        &'a self,
        interval: &'a Interval,
    ) -> impl Iterator<Item = &'a History> + use<'a> {
        let start = interval.start.as_ref();
        self.keys
            .descend(interval.upper())
            .take_while(move |(key, _)| key.as_ref() >= start)
            .map(|(_, history)| history)
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
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &History)> {
        self.keys
            .ascend(Bound::<&[u8]>::Unbounded)
            .map(|(key, history)| (key.as_ref(), history))
    }

    /// Panics when an invariant of the tree below does not hold.
    pub(crate) fn check_tree(&self) {
        self.keys.check_invariants();
    }
}
