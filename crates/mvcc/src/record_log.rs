//! The history of the store: every kept record in revision order.
//!
//! Watch catch-up, hashes and snapshots read it; compaction takes records out. It is held in
//! memory, as a tree from revision to record. Everything else goes through the few methods here,
//! so an engine that keeps the records in files can take its place.

use std::ops::{Bound, RangeInclusive};

use crate::btree::{Tree, Weigh};
use crate::{Record, Revision};

/// A record with what it took the place of.
#[derive(Clone, Debug)]
struct Logged {
    record: Record,
    /// Logical bytes that die when this revision is compacted.
    frees_bytes: u64,
}

impl Weigh for Logged {
    fn weight(&self) -> i64 {
        self.frees_bytes as i64
    }
}

/// Kept records, ascending by revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordLog {
    records: Tree<Revision, Logged>,
}

impl RecordLog {
    /// Adds the newest record. `frees_bytes`: what a compaction that passes it will free.
    pub(crate) fn append(&mut self, record: Record, frees_bytes: u64) {
        let revision = record.mod_revision();
        assert!(
            self.last().is_none_or(|last| last < revision),
            "revisions ascend"
        );
        self.records.insert(
            revision,
            Logged {
                record,
                frees_bytes,
            },
        );
    }

    /// Takes a record out.
    pub(crate) fn remove(&mut self, revision: Revision) {
        self.records.remove(&revision);
    }

    /// Records from a place in history on, ascending.
    pub(crate) fn from(&self, start: Revision) -> impl Iterator<Item = &Record> {
        self.records
            .ascend(Bound::Included(&start))
            .map(|(_, logged)| &logged.record)
    }

    /// Number of records above a store revision.
    pub(crate) fn count_above(&self, revision: i64) -> i64 {
        let through = self
            .records
            .sum_before(Bound::Included(&Revision::end_of(revision)));
        self.records.sum().entries - through.entries
    }

    /// Bytes that records of these store revisions free.
    pub(crate) fn frees_bytes(&self, mains: RangeInclusive<i64>) -> u64 {
        let (first, last) = mains.into_inner();
        let mut sum = self
            .records
            .sum_before(Bound::Included(&Revision::end_of(last)));
        sum -= self
            .records
            .sum_before(Bound::Excluded(&Revision::start_of(first)));
        sum.weight as u64
    }

    /// Number of records.
    pub(crate) fn len(&self) -> i64 {
        self.records.sum().entries
    }

    /// The place of the newest record.
    pub(crate) fn last(&self) -> Option<Revision> {
        self.records.last().map(|(revision, _)| *revision)
    }

    /// Panics when an invariant of the tree below does not hold.
    pub(crate) fn check_tree(&self) {
        self.records.check_invariants();
    }
}
