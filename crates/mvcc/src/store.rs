//! The one writer of the key-value state.
//!
//! The state is a [`View`] that the store alone may change; [`Store::view`] hands out a copy, which
//! costs a few reference counts and never changes again. Requests are applied one after the other,
//! each in a [`WriteTxn`]. There is no undo: whatever can refuse a request is checked before its
//! transaction writes.
//!
//! The history goes into files by jobs that somebody else does: see the module `segments`.
//!
//! Invariants, checked by [`Store::check_invariants`]:
//! - no record is above the current revision, and the compacted revision is not either;
//! - every change in the index has its record in the log, and every change above the compacted
//!   revision that the log holds is in the index;
//! - when no pass is under way, the index holds what exists and nothing else;
//! - the bytes in use are those of the changes that exist;
//! - the book of live bytes says of each run what the index holds of it.

use std::collections::{BTreeMap, VecDeque};

use kvorum_storage::segment::SegmentId;

use crate::compaction::Pass;
use crate::index::History;
use crate::room::Room;
use crate::segments::{Live, Segments};
use crate::size::STORE_BASE_BYTES;
use crate::{Change, Counts, Event, Record, View, WriteTxn};

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
    /// Room for the events of the next transaction; empty.
    pub(crate) event_room: Vec<Event>,
    /// Memory for the next records.
    pub(crate) record_room: Room,
    pub(crate) segments: Segments,
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

    /// Goes on counting where another store stopped, whose place this one takes.
    pub fn count_on(&mut self, before: Counts) {
        self.counts = before;
    }

    /// The newest change of a key, maybe a tombstone.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<Change> {
        self.view.index.history(key).map(History::newest)
    }

    /// Takes a change into index, log and books. It follows all others; `before` is the newest of
    /// its key so far, which the caller has looked up.
    pub(crate) fn take(&mut self, record: Record, before: Option<Change>) {
        let change = Change::of(&record);
        let view = &mut self.view;
        match before {
            Some(_) => view.index.push(record.key(), change),
            None => view.index.insert(record.key(), change),
        }
        // What dies when a compaction passes this place: the pair before it, and a tombstone.
        let mut frees_bytes = before
            .filter(|before| !before.is_tombstone())
            .map_or(0, |before| before.counted_bytes());
        if change.is_tombstone() {
            frees_bytes += change.counted_bytes();
        }
        view.sizes.grow(change.counted_bytes());
        self.segments.appended(&change, record.encoded().len());
        view.log.append(record, frees_bytes);
    }

    /// Seals the active run when it is large enough. Not inside a store revision.
    pub(crate) fn seal_when_due(&mut self) {
        if self.segments.is_due() {
            self.seal();
        }
    }

    /// Panics with the rule that broke when an invariant of the store does not hold, or a file is
    /// damaged. Looks at everything: for tests and the simulator.
    pub fn check_invariants(&self) {
        self.view.index.check_tree();
        self.view.log.check();
        self.check_revisions();
        self.check_index_is_logged();
        self.check_log_is_indexed();
        self.check_removed_only_compacted();
        self.check_sizes();
        self.check_live_bytes();
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

    fn check_index_is_logged(&self) {
        for (key, history) in self.view.index.iter() {
            for change in history.changes() {
                let record = self.view.log.read(&change);
                let record = record.expect("no file is damaged");
                assert_eq!(
                    record.key(),
                    &*key.to_slice(),
                    "a change is indexed under its key"
                );
                assert_eq!(
                    Change::of(&record),
                    change,
                    "the index tells of a change what its record tells"
                );
            }
        }
    }

    fn check_log_is_indexed(&self) {
        let above = crate::Revision::start_of(self.view.compacted + 1);
        for record in self.view.log.from(above) {
            let record = record.expect("no file is damaged");
            assert!(
                self.view
                    .index
                    .contains(record.key(), record.mod_revision()),
                "what is not compacted is in the index"
            );
        }
    }

    /// All changes in the index, and whether each exists.
    fn changes(&self) -> impl Iterator<Item = (Change, bool)> {
        let compacted = self.view.compacted;
        self.view.index.iter().flat_map(move |(_, history)| {
            let changes = history.changes().into_iter();
            changes.map(move |change| {
                let (at, is_tombstone) = (change.mod_revision(), change.is_tombstone());
                (change, history.keeps(at, is_tombstone, compacted))
            })
        })
    }

    fn check_removed_only_compacted(&self) {
        assert!(
            !self.passes.is_empty() || self.changes().all(|(_, exists)| exists),
            "nothing compacted is left after the last pass"
        );
    }

    fn check_sizes(&self) {
        let sizes = self.view.sizes();
        let existing = self.changes().filter(|(_, exists)| *exists);
        let existing: Vec<Change> = existing.map(|(change, _)| change).collect();
        let kept: u64 = existing.iter().map(|change| change.counted_bytes()).sum();
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
        let lingering = existing
            .iter()
            .filter(|change| change.is_tombstone() && change.mod_revision().main == compacted);
        let lingering: u64 = lingering.map(|change| change.counted_bytes()).sum();
        assert_eq!(
            self.lingering_tombstone_bytes, lingering,
            "lingering tombstones are counted"
        );
    }

    fn check_live_bytes(&self) {
        let mut live: BTreeMap<Option<SegmentId>, Live> = BTreeMap::new();
        live.insert(None, Live::default());
        for (id, _) in self.view.log.segments() {
            live.insert(Some(id), Live::default());
        }
        for (change, _) in self.changes() {
            let run = self.view.log.segment_of(change.mod_revision());
            live.entry(run).or_default().add(&change);
        }
        let book = self
            .segments
            .live
            .iter()
            .map(|(id, live)| (Some(*id), *live));
        let book: BTreeMap<_, _> = book.chain([(None, self.segments.active_live)]).collect();
        assert_eq!(book, live, "the book of live bytes is right");
    }
}
