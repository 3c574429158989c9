//! The one writer of the key-value state.
//!
//! The state is a [`View`] that the store alone may change; [`Store::view`] hands out a copy, which
//! costs a few reference counts and never changes again. Requests are applied one after the other,
//! each in a [`WriteTxn`]. There is no undo: whatever can refuse a request is checked before its
//! transaction writes.
//!
//! Invariants, checked by [`Store::check_invariants`]:
//! - no record is above the current revision, and the compacted revision is not either;
//! - index and log hold the same records;
//! - every record that exists is physically there; at most compacted ones are there beside them;
//! - the bytes in use are those of the records that exist.

use std::collections::VecDeque;

use crate::compaction::Pass;
use crate::size::{STORE_BASE_BYTES, record_bytes};
use crate::{Counts, View, WriteTxn};

/// The multi-version store of one member.
#[derive(Debug, Default)]
pub struct Store {
    /// The state as of now; its nodes are shared with the views handed out.
    pub(crate) view: View,
    /// Compactions whose records are not all removed yet, oldest first.
    pub(crate) passes: VecDeque<Pass>,
    /// Bytes of tombstones exactly at the compacted revision; the next compaction frees them.
    pub(crate) lingering_tombstone_bytes: u64,
    pub(crate) counts: Counts,
}

impl Store {
    /// An empty store at revision 1.
    pub fn new() -> Self {
        Store::default()
    }

    /// The state as of now.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Begins to apply one request. All its changes get one new store revision.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// The store revision of the newest change; 1 while there is none.
    pub fn current_revision(&self) -> i64 {
        self.view.current_revision()
    }

    /// The revision of the last compaction; -1 while there is none.
    pub fn compact_revision(&self) -> i64 {
        self.view.compact_revision()
    }

    /// What has been done since the store was made.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Panics with the rule that broke when an invariant of the store does not hold. Looks at
    /// everything: for tests and the simulator.
    pub fn check_invariants(&self) {
        self.view.index.check_tree();
        self.view.log.check_tree();
        self.check_revisions();
        self.check_index_and_log_agree();
        self.check_removed_only_compacted();
        self.check_sizes();
    }

    fn check_revisions(&self) {
        let View {
            current, compacted, ..
        } = &self.view;
        assert!(
            compacted <= current,
            "a store is compacted at a revision that it reached"
        );
        let last = self.view.log.last().map_or(0, |last| last.main);
        assert!(last <= *current, "no record is above the current revision");
    }

    fn check_index_and_log_agree(&self) {
        let mut indexed = 0;
        for (key, history) in self.view.index.iter() {
            for change in history.changes() {
                assert_eq!(change.key(), key, "a change is indexed under its key");
                let logged = self.view.log.from(change.mod_revision()).next();
                assert_eq!(logged, Some(change), "an indexed change is in the log");
                indexed += 1;
            }
        }
        assert_eq!(
            indexed,
            self.view.log.len(),
            "a logged change is in the index"
        );
    }

    fn check_removed_only_compacted(&self) {
        if self.passes.is_empty() {
            let kept = self.view.records().count() as i64;
            assert_eq!(
                kept,
                self.view.log.len(),
                "nothing compacted is left after the last pass"
            );
        }
    }

    fn check_sizes(&self) {
        let sizes = self.view.sizes();
        let kept: u64 = self.view.records().map(record_bytes).sum();
        assert_eq!(
            sizes.in_use_bytes,
            STORE_BASE_BYTES + kept,
            "bytes in use are those kept"
        );
        assert!(
            sizes.total_bytes >= sizes.in_use_bytes,
            "what is in use is part of the total"
        );
        let compacted = self.view.compacted;
        let lingering = self
            .view
            .records()
            .filter(|record| record.is_tombstone() && record.mod_revision().main == compacted);
        let lingering: u64 = lingering.map(record_bytes).sum();
        assert_eq!(
            self.lingering_tombstone_bytes, lingering,
            "lingering tombstones are counted"
        );
    }
}
