//! What is watched: each distinct key or range once, however many watchers share it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{End, Interval};

use super::interval_tree::{IntervalTree, Upper};
use super::slots::{Slot, Slots};
use super::stream::Watcher;

/// The keys that the two fields of a create request name; nothing when there can be none.
///
/// An empty key stands for the smallest one.
///
/// Source: etcd v3.7.1, `server/etcdserver/api/v3rpc/watch.go` (`recvLoop`).
pub(super) fn watched(key: &[u8], range_end: &[u8]) -> Option<Interval> {
    let start = if key.is_empty() { &[0] } else { key };
    // Copied: a slice of a request would keep the whole request in memory as long as the watcher.
    let start = Bytes::copy_from_slice(start);
    let interval = Interval::from_wire(start, Bytes::copy_from_slice(range_end));
    (!interval.is_empty()).then_some(interval)
}

/// Intervals with a value each, searched by a key in them: single keys in a map, ranges in a tree.
#[derive(Debug)]
pub(super) struct Index<T> {
    keys: BTreeMap<Bytes, T>,
    ranges: IntervalTree<T>,
}

impl<T: Copy> Index<T> {
    /// No interval yet.
    pub(super) const fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            ranges: IntervalTree::new(),
        }
    }

    /// Adds an interval that is not there yet.
    pub(super) fn insert(&mut self, interval: &Interval, value: T) {
        match upper(interval) {
            None => {
                self.keys.insert(interval.start.clone(), value);
            }
            Some(end) => self.ranges.insert(interval.start.clone(), end, value),
        }
    }

    /// Calls `found` with the value of every interval that holds `key`.
    pub(super) fn matching(&self, key: &[u8], mut found: impl FnMut(T)) {
        if let Some(value) = self.keys.get(key) {
            found(*value);
        }
        self.ranges.stab(key, &mut found);
    }

    fn find(&self, interval: &Interval) -> Option<T> {
        match upper(interval) {
            None => self.keys.get(&interval.start).copied(),
            Some(end) => self.ranges.find(&interval.start, &end),
        }
    }

    fn remove(&mut self, interval: &Interval) {
        match upper(interval) {
            None => self.keys.remove(&interval.start),
            Some(end) => self.ranges.remove(&interval.start, &end),
        };
    }

    /// Panics if the tree is out of order; returns the number of intervals.
    pub(super) fn check_invariants(&self) -> usize {
        self.keys.len() + self.ranges.check_invariants()
    }
}

/// The end of a range; nothing for a single key.
fn upper(interval: &Interval) -> Option<Upper> {
    match &interval.end {
        End::Single => None,
        End::Unbounded => Some(Upper::Unbounded),
        End::Before(end) => Some(Upper::Before(end.clone())),
    }
}

/// One distinct interval and who watches it.
#[derive(Debug)]
pub(super) struct Target {
    /// The keys.
    pub(super) interval: Interval,
    /// The watchers that wait for the next revision. Those that are behind stand at their stream
    /// instead, so that a stuck stream costs an event nothing.
    pub(super) synced: BTreeSet<Slot<Watcher>>,
    /// How many watchers there are, behind or not; never zero.
    pub(super) watchers: usize,
}

/// All targets.
///
/// Invariant: a target is in the index under its interval exactly as long as it has a watcher.
#[derive(Debug)]
pub(super) struct Targets {
    all: Slots<Target>,
    index: Index<Slot<Target>>,
}

impl Targets {
    /// Nothing is watched.
    pub(super) const fn new() -> Self {
        Self {
            all: Slots::new(),
            index: Index::new(),
        }
    }

    /// Adds a watcher to the target of `interval`, which is made when it is the first one.
    pub(super) fn acquire(&mut self, interval: Interval) -> Slot<Target> {
        let slot = self.index.find(&interval).unwrap_or_else(|| {
            let target = Target {
                interval: interval.clone(),
                synced: BTreeSet::new(),
                watchers: 0,
            };
            let slot = self.all.insert(target);
            self.index.insert(&interval, slot);
            slot
        });
        self.all[slot].watchers += 1;
        slot
    }

    /// Takes a watcher from a target, which goes with its last one.
    pub(super) fn release(&mut self, slot: Slot<Target>) {
        let target = &mut self.all[slot];
        target.watchers -= 1;
        if target.watchers == 0 {
            let target = self.all.remove(slot);
            self.index.remove(&target.interval);
        }
    }

    /// Calls `found` with every target that holds `key`.
    pub(super) fn matching(&self, key: &[u8], found: impl FnMut(Slot<Target>)) {
        self.index.matching(key, found);
    }

    /// All targets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot<Target>, &Target)> {
        self.all.iter()
    }

    /// Panics if index and targets do not agree.
    pub(super) fn check_invariants(&self) {
        assert_eq!(
            self.index.check_invariants(),
            self.all.len(),
            "the index holds each target"
        );
        for (slot, target) in self.all.iter() {
            assert_eq!(
                self.index.find(&target.interval),
                Some(slot),
                "a target is found by its interval"
            );
            assert!(target.watchers > 0, "a target goes with its last watcher");
        }
    }
}

impl std::ops::Index<Slot<Target>> for Targets {
    type Output = Target;

    fn index(&self, slot: Slot<Target>) -> &Target {
        &self.all[slot]
    }
}

impl std::ops::IndexMut<Slot<Target>> for Targets {
    fn index_mut(&mut self, slot: Slot<Target>) -> &mut Target {
        &mut self.all[slot]
    }
}
