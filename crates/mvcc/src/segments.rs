//! How the history gets into files and out of them again.
//!
//! The store does not touch a disk: it hands out [`StoreJob`]s and is told when they are done.
//!
//! A run is *sealed* when it has [`SEGMENT_BYTES`] or a checkpoint is due, and waits to be written
//! as a segment ([`SegmentImage`] makes the bytes, away from the writer's thread). When the file is
//! durable and mapped, [`Store::written`] lets go of the memory. Until then the write-ahead log has
//! the records, so no reply waits for this.
//!
//! A compaction leaves dead records in the files. The *copier* ([`Store::copy`]) replaces a few
//! neighbouring segments by one with what still exists. The old files stay until a checkpoint that
//! does not list them is durable ([`Store::checkpointed`]), because a start after a crash reads
//! what the last checkpoint lists; and their mapping stays as long as a view needs it.
//!
//! A copy keeps dead tombstones unless it begins with the oldest run: an older file may hold a dead put
//! of the same key, and a start, which builds the index from what is in the files, would take that for
//! alive. As the front of the history is copied, or dies as a whole, they go.
//!
//! Invariants:
//! - segment numbers are never used twice by a store and those restored from its images;
//! - at most one copy is under way, and its sources are written segments;
//! - what is known of live bytes equals what the index holds, for every run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kvorum_storage::segment::{SEGMENT_BYTES, Segment, SegmentId};

use crate::Change;
use crate::hash::Section;
use crate::image::KeptSection;
use crate::record_log::Freed;
use crate::segment_image::SegmentImage;
use crate::store::Store;

/// Sealed runs that may wait to be written before the store is backlogged. Their memory is about
/// twice [`SEGMENT_BYTES`] each.
pub const UNWRITTEN_RUNS_MAX: usize = 4;

/// A segment is copied when less than this part of its bytes is live, in percent.
const LIVE_PERCENT_MIN: u64 = 70;

/// So many small neighbours make one copy worthwhile although nothing in them is dead.
const SMALL_SEGMENTS_MIN: usize = 4;

/// Live bytes that one copy takes together, unless a single segment has more. It bounds the disk
/// space that a copy needs before the old files can go.
pub const COPIED_BYTES_MAX: u64 = 8 * SEGMENT_BYTES;

/// What the store wants done on the disk.
#[derive(Debug)]
pub enum StoreJob {
    /// Write this file and make it durable, directory entry included; then open it and call
    /// [`Store::written`]. A crash in between leaves a file that no checkpoint lists.
    Write(SegmentImage),
    /// Delete these files. Nothing waits for it: what is left of it at a start is not listed.
    Remove(Vec<SegmentId>),
}

/// What of a run still exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) changes: u64,
    /// Stored bytes.
    pub(crate) bytes: u64,
}

impl Live {
    pub(crate) fn add(&mut self, change: &Change) {
        self.changes += 1;
        self.bytes += change.stored_bytes();
    }

    fn remove(&mut self, change: &Change) {
        self.changes -= 1;
        self.bytes -= change.stored_bytes();
    }
}

/// The files in numbers, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentCounts {
    /// Segment files that hold the history.
    pub segments: usize,
    /// Stored bytes of the records in them.
    pub stored_bytes: u64,
    /// Those of them that still exist.
    pub live_bytes: u64,
    /// Sealed runs that wait to be written.
    pub unwritten: usize,
    /// Files that were replaced and wait for a checkpoint to be deleted.
    pub retired: usize,
}

/// The copy that is under way.
#[derive(Debug)]
struct Copy {
    id: SegmentId,
    sources: Vec<SegmentId>,
}

/// The book of runs and files.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) next_id: u64,
    /// Encoded bytes at which the active run is sealed; `None` for never.
    seal_bytes: Option<u64>,
    /// Encoded bytes in the active run.
    active_bytes: u64,
    pub(crate) active_live: Live,
    /// For each sealed run.
    pub(crate) live: BTreeMap<SegmentId, Live>,
    /// What the last compaction hashed of a segment, while nothing in it dies.
    sections: BTreeMap<SegmentId, Section>,
    unwritten: BTreeSet<SegmentId>,
    copy: Option<Copy>,
    /// Bytes of dead tombstones that the copies had to keep.
    kept_dead: BTreeMap<SegmentId, u64>,
    /// Replaced files that a checkpoint may still list.
    retired: BTreeSet<SegmentId>,
    jobs: VecDeque<StoreJob>,
    freed: VecDeque<Freed>,
}

impl Default for Segments {
    fn default() -> Self {
        Segments {
            next_id: 1,
            seal_bytes: None,
            active_bytes: 0,
            active_live: Live::default(),
            live: BTreeMap::new(),
            sections: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            copy: None,
            kept_dead: BTreeMap::new(),
            retired: BTreeSet::new(),
            jobs: VecDeque::new(),
            freed: VecDeque::new(),
        }
    }
}

impl Segments {
    fn take_id(&mut self) -> SegmentId {
        self.next_id += 1;
        SegmentId(self.next_id - 1)
    }

    /// A record comes to the active run.
    pub(crate) fn appended(&mut self, change: &Change, encoded_bytes: usize) {
        self.active_bytes += encoded_bytes as u64;
        self.active_live.add(change);
    }

    /// Whether the hash of any segment is kept.
    pub(crate) fn has_sections(&self) -> bool {
        !self.sections.is_empty()
    }

    /// The kept hash of a segment.
    pub(crate) fn section(&self, id: SegmentId) -> Option<Section> {
        self.sections.get(&id).copied()
    }

    /// Keeps the hash of a segment.
    pub(crate) fn keep_section(&mut self, id: SegmentId, section: Section) {
        self.sections.insert(id, section);
    }

    /// All kept hashes, as they are written down.
    pub(crate) fn sections(&self) -> Vec<KeptSection> {
        let sections = self.sections.iter().map(|(segment, section)| {
            let (hash, bytes) = section.parts();
            KeptSection {
                segment: *segment,
                hash,
                bytes,
            }
        });
        sections.collect()
    }

    /// Something in a segment dies.
    pub(crate) fn forget_section(&mut self, id: SegmentId) {
        self.sections.remove(&id);
    }

    /// A segment with the same live records takes the place of others.
    fn join_sections(&mut self, sources: &[SegmentId], id: SegmentId) {
        let mut joined = Some(Section::default());
        for source in sources {
            let section = self.sections.remove(source);
            joined = joined
                .zip(section)
                .map(|(front, back)| front.followed_by(&back));
        }
        self.sections.extend(joined.map(|section| (id, section)));
    }

    /// Whether the active run is large enough to be sealed.
    pub(crate) fn is_due(&self) -> bool {
        self.seal_bytes
            .is_some_and(|bytes| self.active_bytes >= bytes)
    }
}

impl Store {
    /// Lets the store seal a run when it has so many encoded bytes: [`SEGMENT_BYTES`] where jobs
    /// are taken, fewer in tests. A store that nobody has told keeps the history in memory until
    /// [`Store::seal`]. 0 counts as 1.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segments.seal_bytes = Some(bytes.max(1));
    }

    /// Makes sure that no segment written from now on has a number below this one: to be told of
    /// files that are in the directory although no checkpoint lists them.
    pub fn number_segments_from(&mut self, id: SegmentId) {
        self.segments.next_id = self.segments.next_id.max(id.0);
    }

    /// Ends the active run, so that all that was written so far becomes files. Not inside a
    /// transaction.
    pub fn seal(&mut self) {
        if self.view.log.is_active_empty() {
            return;
        }
        let id = self.segments.take_id();
        let records = self.view.log.seal(id);
        let segments = &mut self.segments;
        segments.active_bytes = 0;
        let live = std::mem::take(&mut segments.active_live);
        segments.live.insert(id, live);
        segments.unwritten.insert(id);
        let image = SegmentImage::of_run(id, records);
        segments.jobs.push_back(StoreJob::Write(image));
    }

    /// The next thing to do on the disk. Jobs may run side by side.
    pub fn take_job(&mut self) -> Option<StoreJob> {
        self.segments.jobs.pop_front()
    }

    /// What files have taken the place of, to be dropped where it delays nobody, after a view was published that does
    /// not hold it.
    pub fn take_freed(&mut self) -> Option<Freed> {
        self.segments.freed.pop_front()
    }

    /// A segment image is written and durable. `segment` is `None` when the image came out empty.
    ///
    /// # Panics
    ///
    /// When the segment is not the one that was handed out.
    pub fn written(&mut self, id: SegmentId, segment: Option<Segment>) {
        let given = segment.as_ref().map_or(id, Segment::id);
        assert_eq!(given, id, "the segment is the one that was to be written");
        if self.segments.unwritten.remove(&id) {
            assert!(segment.is_some(), "a sealed run is not empty");
            let freed = self.view.log.replace(&[id], segment);
            return self.segments.freed.push_back(freed);
        }
        let copy = self.segments.copy.take();
        let copy = copy.filter(|copy| copy.id == id);
        let copy = copy.expect("only what was handed out is written");
        tracing::debug!(segment = %id, "copy is done");
        let mut live = Live::default();
        for source in &copy.sources {
            let gone = self.segments.live.remove(source).unwrap_or_default();
            live.changes += gone.changes;
            live.bytes += gone.bytes;
            self.segments.kept_dead.remove(source);
        }
        self.segments.join_sections(&copy.sources, id);
        if let Some(segment) = &segment {
            self.segments.live.insert(id, live);
            let dead = segment.stored_bytes().saturating_sub(live.bytes);
            self.segments.kept_dead.insert(id, dead);
        } else {
            self.segments.forget_section(id);
        }
        let freed = self.view.log.replace(&copy.sources, segment);
        self.segments.freed.push_back(freed);
        self.segments.retired.extend(copy.sources);
    }

    /// Whether so many runs wait to be written that nothing more should be applied until some are:
    /// more than [`UNWRITTEN_RUNS_MAX`].
    pub fn is_backlogged(&self) -> bool {
        self.segments.unwritten.len() > UNWRITTEN_RUNS_MAX
    }

    /// A checkpoint that lists exactly these segments is durable: files that were replaced and are
    /// not listed can go.
    pub fn checkpointed(&mut self, listed: &[SegmentId]) {
        let listed: BTreeSet<_> = listed.iter().copied().collect();
        let gone: Vec<SegmentId> = self.segments.retired.difference(&listed).copied().collect();
        self.segments.retired.retain(|id| listed.contains(id));
        if !gone.is_empty() {
            self.segments.jobs.push_back(StoreJob::Remove(gone));
        }
    }

    /// Whether every one of these segments is written.
    pub fn are_written(&self, ids: &[SegmentId]) -> bool {
        ids.iter().all(|id| !self.segments.unwritten.contains(id))
    }

    /// Begins to replace some neighbouring segments by one where that is worth it and no copy is
    /// under way; returns whether it did. The copying itself is a [`StoreJob::Write`].
    pub fn copy(&mut self) -> bool {
        if self.segments.copy.is_some() || self.is_compacting() {
            return false;
        }
        let Some(sources) = self.worth_copying() else {
            return false;
        };
        let id = self.segments.take_id();
        let ids: Vec<SegmentId> = sources.iter().map(Segment::id).collect();
        let first = self.view.log.segments().next().map(|(id, _)| id);
        let is_oldest = ids.first().copied() == first;
        tracing::debug!(segment = %id, sources = ids.len(), "copy begins");
        self.segments.copy = Some(Copy { id, sources: ids });
        let image = SegmentImage::of_merge(id, sources, self.view.index.clone(), is_oldest);
        self.segments.jobs.push_back(StoreJob::Write(image));
        true
    }

    /// The files in numbers.
    pub fn segment_counts(&self) -> SegmentCounts {
        let mut counts = SegmentCounts {
            unwritten: self.segments.unwritten.len(),
            retired: self.segments.retired.len(),
            ..SegmentCounts::default()
        };
        for (id, segment) in self.view.log.segments() {
            let Some(segment) = segment else { continue };
            counts.segments += 1;
            counts.stored_bytes += segment.stored_bytes();
            counts.live_bytes += self.segments.live.get(&id).map_or(0, |live| live.bytes);
        }
        counts
    }

    /// A change is forgotten: its record is dead wherever it lies.
    pub(crate) fn note_dead(&mut self, change: &Change) {
        let at = change.mod_revision();
        let segments = &mut self.segments;
        // A dead tombstone is needed as long as files may hold older changes of its key: a start
        // would take them for alive.
        let is_needed = change.is_tombstone() && self.view.log.segments().next().is_some();
        let live = match self.view.log.segment_of(at) {
            None if is_needed => Some(&mut segments.active_live),
            None => {
                let record = self.view.log.remove_active(at);
                let bytes = record.map_or(0, |record| record.encoded().len());
                segments.active_bytes = segments.active_bytes.saturating_sub(bytes as u64);
                Some(&mut segments.active_live)
            }
            Some(id) => segments.live.get_mut(&id),
        };
        live.expect("each run is in the book").remove(change);
    }

    /// The first neighbours that are mostly dead, else the first that are many and small.
    fn worth_copying(&self) -> Option<Vec<Segment>> {
        let mut candidates = Vec::new();
        for (id, segment) in self.view.log.segments() {
            // Runs are written in order but for rare cases; those wait for the next time.
            let Some(segment) = segment else { break };
            let live = self.segments.live.get(&id).map_or(0, |live| live.bytes);
            // Nothing is older than the first, so a copy of it keeps no tombstone.
            let dead = self.segments.kept_dead.get(&id).copied().unwrap_or(0);
            let kept_dead = if candidates.is_empty() { 0 } else { dead };
            candidates.push(Candidate {
                segment,
                needed_bytes: live + kept_dead,
            });
        }
        let mostly_dead = |candidate: &Candidate<'_>| {
            candidate.needed_bytes * 100 < candidate.segment.stored_bytes() * LIVE_PERCENT_MIN
        };
        let seal_bytes = self.segments.seal_bytes.unwrap_or(SEGMENT_BYTES);
        let small = |candidate: &Candidate<'_>| candidate.needed_bytes < seal_bytes / 2;
        let group = first_group(&candidates, mostly_dead, 1)
            .or_else(|| first_group(&candidates, small, SMALL_SEGMENTS_MIN))?;
        Some(
            group
                .iter()
                .map(|candidate| candidate.segment.clone())
                .collect(),
        )
    }
}

/// A written segment that the copier looks at.
struct Candidate<'a> {
    segment: &'a Segment,
    /// Stored bytes that a copy would keep.
    needed_bytes: u64,
}

/// The first neighbours that all are as wanted, at least so many.
fn first_group<'a, 'b>(
    candidates: &'a [Candidate<'b>],
    wanted: impl Fn(&Candidate<'_>) -> bool,
    least: usize,
) -> Option<&'a [Candidate<'b>]> {
    candidates
        .chunk_by(|a, b| wanted(a) && wanted(b))
        .filter(|group| wanted(&group[0]))
        .map(bounded)
        .find(|group| group.len() >= least)
}

/// The part of a group that is copied at once: not more than [`COPIED_BYTES_MAX`], and without a
/// front that is larger than all the rest, so that a large segment is not copied for each small one
/// that comes behind it.
fn bounded<'a, 'b>(mut group: &'a [Candidate<'b>]) -> &'a [Candidate<'b>] {
    let bytes = |group: &[Candidate<'_>]| group.iter().map(|c| c.needed_bytes).sum::<u64>();
    while let [first, rest @ ..] = group {
        if rest.is_empty() || first.needed_bytes <= bytes(rest) {
            break;
        }
        group = rest;
    }
    while group.len() > 1 && bytes(group) > COPIED_BYTES_MAX {
        group = &group[..group.len() - 1];
    }
    group
}
