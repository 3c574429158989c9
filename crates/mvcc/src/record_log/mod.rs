//! The history of the store: every kept record in revision order.
//!
//! Watch catch-up, hashes and snapshots read it from a place on; everything else asks for the
//! record at the revision of an index entry. The history is a row of *runs*. Only the last, the
//! active one, grows; it lies in memory. When it is large enough it is *sealed*: it is written as
//! a segment file, and from then on its records are read from the mapped file. What has not been
//! written yet stays in memory, so readers never wait for a disk.
//!
//! A record may be here although no compaction left it over: it goes when the copier replaces its
//! segment. Whether a record exists is for the index to say.
//!
//! Invariants:
//! - runs do not overlap and ascend; a store revision lies in one run;
//! - the record of every index entry is in the run that its revision belongs to.

mod lengths;
mod run;

use std::ops::RangeInclusive;
use std::sync::Arc;

use kvorum_storage::segment::{Damage, Segment, SegmentId};

use crate::record::Outline;
use crate::segment_image::SegmentImage;
use crate::{Change, Record, Revision};
pub(crate) use lengths::Glance;
use lengths::GlanceIter;
use run::{Checksums, Held, OutlineIter, RunIter, Sealed};
pub(crate) use run::{Records, entry};

/// What files have taken the place of. To drop it frees the memory, if no view holds it any more: that
/// takes milliseconds, which the writer's thread should not spend.
#[derive(Debug)]
pub struct Freed(#[expect(dead_code, reason = "it is only dropped")] Vec<Sealed>);

/// The records, ascending by revision. A clone costs a few reference counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordLog {
    sealed: Arc<Vec<Sealed>>,
    active: Records,
}

impl RecordLog {
    /// A history that lies in segment files, in order, with an empty active run.
    pub(crate) fn of_segments(segments: Vec<Segment>) -> Self {
        RecordLog {
            sealed: Arc::new(segments.into_iter().map(Sealed::of_segment).collect()),
            active: Records::default(),
        }
    }

    /// Adds the newest record. `frees_bytes`: what a compaction that passes it will free.
    pub(crate) fn append(&mut self, record: Record, frees_bytes: u64) {
        let revision = record.mod_revision();
        assert!(
            self.last().is_none_or(|last| last < revision),
            "revisions ascend"
        );
        self.active.insert(
            &revision,
            run::Logged {
                record,
                frees_bytes,
            },
        );
    }

    /// Takes a record of the active run out.
    pub(crate) fn remove_active(&mut self, at: Revision) -> Option<Record> {
        self.active.remove(&at).map(|logged| logged.record)
    }

    /// The record of an index entry.
    ///
    /// # Errors
    ///
    /// [`Damage`] when the file that holds it is damaged.
    pub(crate) fn read(&self, change: &Change) -> Result<Record, Damage> {
        let at = change.mod_revision();
        match self.sealed.get(self.run_at(at)) {
            Some(sealed) => sealed.read(at),
            None => Ok(run::read(&self.active, at)),
        }
    }

    /// Records from a place in history on, ascending. After damage nothing more comes of its run.
    pub(crate) fn from(
        &self,
        start: Revision,
    ) -> impl Iterator<Item = Result<Record, Damage>> + '_ {
        let sealed = self.sealed[self.run_at(start)..].iter();
        sealed
            .flat_map(move |sealed| sealed.from(start))
            .chain(RunIter::of_records(&self.active, start))
    }

    /// Place and outline of every record, ascending.
    pub(crate) fn outlines(
        &self,
    ) -> impl Iterator<Item = Result<(Revision, Outline<'_>), Damage>> + '_ {
        let sealed = self.sealed.iter();
        let sealed = sealed.flat_map(|run| OutlineIter::of_run(run, Checksums::Compared));
        sealed.chain(OutlineIter::of_records(&self.active))
    }

    /// What is to be known of every record to tell how long it is, ascending, in a store compacted at `compacted`.
    pub(crate) fn glances(
        &self,
        compacted: i64,
    ) -> impl Iterator<Item = Result<Glance<'_>, Damage>> + '_ {
        let sealed = self.sealed.iter();
        let sealed = sealed.flat_map(move |run| GlanceIter::of_run(run, compacted));
        sealed.chain(GlanceIter::of_records(&self.active, compacted))
    }

    /// Number of records above a store revision.
    pub(crate) fn count_above(&self, revision: i64) -> i64 {
        let start = Revision::end_of(revision);
        let sealed = self.sealed[self.run_at(start)..].iter();
        let sealed: i64 = sealed.map(|sealed| sealed.count_from(start)).sum();
        sealed + run::count_from(&self.active, start)
    }

    /// Bytes that records of these store revisions free.
    ///
    /// # Errors
    ///
    /// [`Damage`] when a file that had to be read is damaged.
    pub(crate) fn frees_bytes(&self, mains: RangeInclusive<i64>) -> Result<u64, Damage> {
        let start = Revision::start_of(*mains.start());
        let mut sum = run::frees_bytes(&self.active, mains.clone());
        for sealed in &self.sealed[self.run_at(start)..] {
            sum += sealed.frees_bytes(mains.clone())?;
        }
        Ok(sum)
    }

    /// The place of the newest record.
    pub(crate) fn last(&self) -> Option<Revision> {
        let active = self.active.last().map(|(revision, _)| *revision);
        active.or_else(|| self.sealed.last().map(|sealed| sealed.last))
    }

    /// The segment that holds the record at a place; `None` when it is in the active run.
    pub(crate) fn segment_of(&self, at: Revision) -> Option<SegmentId> {
        self.sealed.get(self.run_at(at)).map(|sealed| sealed.id)
    }

    /// The written segment that a walk from a place on reads first; `None` when it is not written.
    pub(crate) fn segment_from(&self, start: Revision) -> Option<&Segment> {
        match &self.sealed.get(self.run_at(start))?.held {
            Held::Memory(_) => None,
            Held::File(segment) => Some(segment),
        }
    }

    /// Whether the active run is empty.
    pub(crate) fn is_active_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Ends the active run, which is not empty. Its records become segment `id`.
    pub(crate) fn seal(&mut self, id: SegmentId) -> Records {
        let last = self
            .last()
            .expect("an active run that is sealed has a record");
        let records = std::mem::take(&mut self.active);
        Arc::make_mut(&mut self.sealed).push(Sealed {
            last,
            id,
            held: Held::Memory(records.clone()),
        });
        records
    }

    /// A segment file takes the place of the runs it was made of. They are neighbours, and at
    /// least one; `segment` is `None` when nothing of them was needed. Returns those runs.
    pub(crate) fn replace(&mut self, sources: &[SegmentId], segment: Option<Segment>) -> Freed {
        let runs = Arc::make_mut(&mut self.sealed);
        let start = runs.iter().position(|run| Some(&run.id) == sources.first());
        let start = start.expect("what is replaced is there");
        let replaced = start..start + sources.len();
        let ids: Vec<SegmentId> = runs[replaced.clone()].iter().map(|run| run.id).collect();
        assert_eq!(ids, sources, "neighbours are replaced");
        let freed = runs.splice(replaced, segment.map(Sealed::of_segment));
        Freed(freed.collect())
    }

    /// The segments of the sealed runs, in order; `None` for those that are not written yet.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (SegmentId, Option<&Segment>)> {
        self.sealed.iter().map(|sealed| match &sealed.held {
            Held::Memory(_) => (sealed.id, None),
            Held::File(segment) => (sealed.id, Some(segment.as_ref())),
        })
    }

    /// All runs as segments to be made, numbered in their order from `first`.
    pub(crate) fn images(&self, first: SegmentId) -> Vec<SegmentImage> {
        let ids = (first.0..).map(SegmentId);
        let sealed = self.sealed.iter().map(|sealed| &sealed.held);
        let mut images: Vec<SegmentImage> = sealed
            .zip(ids)
            .map(|(held, id)| match held {
                Held::Memory(records) => SegmentImage::of_run(id, records.clone()),
                Held::File(segment) => SegmentImage::of_file(id, segment),
            })
            .collect();
        if !self.active.is_empty() {
            let id = SegmentId(first.0 + images.len() as u64);
            images.push(SegmentImage::of_run(id, self.active.clone()));
        }
        images
    }

    /// Where in the list of sealed runs a place lies; their number when in the active run.
    fn run_at(&self, at: Revision) -> usize {
        self.sealed.partition_point(|sealed| sealed.last < at)
    }

    /// Panics when an invariant does not hold.
    pub(crate) fn check(&self) {
        self.active.check_invariants();
        let mut end = None;
        for sealed in self.sealed.iter() {
            if let Held::Memory(records) = &sealed.held {
                records.check_invariants();
                let last = records.last().map(|(revision, _)| *revision);
                assert_eq!(last, Some(sealed.last), "a run knows its last record");
            }
            assert!(
                end < Some(sealed.first().main),
                "a store revision lies in one run"
            );
            assert!(sealed.first() <= sealed.last, "a sealed run is not empty");
            end = Some(sealed.last.main);
        }
        let active = RunIter::of_records(&self.active, Revision::default()).next();
        let active = active.and_then(Result::ok);
        let first = active.map(|record| record.mod_revision().main);
        assert!(first.is_none() || end < first, "the active run comes last");
    }
}
