//! The bytes of a new segment, made away from the writer's thread.

use std::ops::Bound;

use bytes::Bytes;
use kvorum_storage::segment::{
    Builder, Damage, Merge, MergeStep, MergedKeys, Scrub, Segment, SegmentId,
};

use crate::Revision;
use crate::index::KeyIndex;
use crate::record_log::{self, Records};

/// Bytes of budget that looking at one row of a key table counts for.
const KEY_ROW_BYTES: usize = 64;

/// A segment that is to be written. It holds what it is made of, which never changes, so it can be
/// made on any thread, a step at a time.
#[derive(Debug)]
pub struct SegmentImage {
    id: SegmentId,
    making: Making,
}

#[derive(Debug)]
enum Making {
    /// Of a sealed run, as it is: a checkpoint may list it before it is written, so nothing that a
    /// compaction removed since may be left out.
    Run {
        records: Records,
        next: Revision,
        builder: Option<Box<Builder>>,
    },
    /// Of segments.
    Copy(Box<Copying>),
    /// Of a segment, as it is but for its number.
    File {
        /// What of it is still to be read once, so that no damage is passed on.
        scrub: Option<Box<Scrub>>,
        /// What of the file was not handed out.
        pieces: [Bytes; 3],
    },
}

/// The making of one segment out of several, in two walks: over the key tables, to learn what still
/// exists, and over the changes.
#[derive(Debug)]
struct Copying {
    /// What the index knew when the copy began.
    index: KeyIndex,
    /// Whether no run is older than the sources, so that dead tombstones can go.
    is_oldest: bool,
    /// The key tables, once they are walked over; `None` before and after.
    rows: Option<MergedKeys>,
    /// Whether all rows were looked at.
    looked: bool,
    /// One bit per change of all sources, in order: whether it still exists.
    kept: Vec<u64>,
    /// The number of the first change of each source.
    first_rows: Vec<usize>,
    /// How many changes were copied or left out.
    copied: usize,
    merge: Merge,
}

impl SegmentImage {
    pub(crate) fn of_run(id: SegmentId, records: Records) -> Self {
        SegmentImage {
            id,
            making: Making::Run {
                records,
                next: Revision::default(),
                builder: Some(Box::new(Builder::new(id))),
            },
        }
    }

    pub(crate) fn of_merge(
        id: SegmentId,
        sources: Vec<Segment>,
        index: KeyIndex,
        is_oldest: bool,
    ) -> Self {
        let mut changes = 0;
        let first_rows = sources.iter().map(|source| {
            changes += source.changes();
            changes - source.changes()
        });
        let first_rows = first_rows.collect();
        let copying = Copying {
            index,
            is_oldest,
            rows: None,
            looked: false,
            kept: vec![0; changes.div_ceil(64)],
            first_rows,
            copied: 0,
            merge: Merge::new(id, sources),
        };
        SegmentImage {
            id,
            making: Making::Copy(Box::new(copying)),
        }
    }

    pub(crate) fn of_file(id: SegmentId, segment: &Segment) -> Self {
        SegmentImage {
            id,
            making: Making::File {
                pieces: segment.renumbered(id),
                scrub: Some(Box::new(Scrub::new(segment.clone()))),
            },
        }
    }

    /// The number of the segment, and so the name of its file.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Makes the next piece of the file out of about so many bytes. With [`MergeStep::Empty`] there
    /// is nothing to write, and [`crate::Store::written`] is told so.
    ///
    /// # Errors
    ///
    /// [`Damage`] when a segment that is copied is damaged. The process must stop.
    ///
    /// # Panics
    ///
    /// When called again after the last piece.
    pub fn step(&mut self, budget_bytes: usize) -> Result<MergeStep, Damage> {
        match &mut self.making {
            Making::Run {
                records,
                next,
                builder,
            } => Ok(build_step(records, next, builder, budget_bytes)),
            Making::Copy(copying) => copying.step(budget_bytes),
            Making::File { scrub, pieces } => file_step(scrub, pieces, budget_bytes),
        }
    }
}

impl Copying {
    fn step(&mut self, budget_bytes: usize) -> Result<MergeStep, Damage> {
        if !self.looked {
            self.look(budget_bytes)?;
            return Ok(MergeStep::Chunk(Bytes::new()));
        }
        let (kept, copied) = (&self.kept, &mut self.copied);
        self.merge.step(budget_bytes, |_| {
            *copied += 1;
            kept[(*copied - 1) / 64] & (1 << ((*copied - 1) % 64)) != 0
        })
    }

    /// Marks the changes of some rows that still exist, and tombstones as long as they are needed.
    fn look(&mut self, budget_bytes: usize) -> Result<(), Damage> {
        let sources = self.merge.sources();
        let mut rows = match self.rows.take() {
            Some(rows) => rows,
            None => MergedKeys::new(sources)?,
        };
        for _ in 0..budget_bytes / KEY_ROW_BYTES + 1 {
            let Some(row) = rows.advance()? else {
                self.looked = true;
                return Ok(());
            };
            let is_needed = row.version == 0 && !self.is_oldest;
            if is_needed || self.index.contains(rows.key(), row.place.into()) {
                let source = rows.source();
                let number = self.first_rows[source] + sources[source].lower_bound(row.place);
                self.kept[number / 64] |= 1 << (number % 64);
            }
        }
        self.rows = Some(rows);
        Ok(())
    }
}

/// Adds records of a run to a segment.
fn build_step(
    records: &Records,
    next: &mut Revision,
    builder: &mut Option<Box<Builder>>,
    budget_bytes: usize,
) -> MergeStep {
    let building = builder
        .as_mut()
        .expect("an image is not asked for more than its last piece");
    let end = building.frame_bytes() + budget_bytes.max(1) as u64;
    for (at, logged) in records.ascend(Bound::Included(next)) {
        if building.frame_bytes() >= end {
            *next = *at;
            return MergeStep::Chunk(building.take());
        }
        building.push(&record_log::entry(logged));
    }
    let whole = builder.take().map(|builder| builder.finish());
    MergeStep::Last(whole.unwrap_or_default())
}

/// Reads more of a segment, or hands out more of its file when all of it was found to be undamaged.
fn file_step(
    scrub: &mut Option<Box<Scrub>>,
    pieces: &mut [Bytes; 3],
    budget_bytes: usize,
) -> Result<MergeStep, Damage> {
    if let Some(reading) = scrub {
        let (_, is_whole) = reading.step(budget_bytes)?;
        if is_whole {
            *scrub = None;
        }
        return Ok(MergeStep::Chunk(Bytes::new()));
    }
    let [header, middle, end] = pieces;
    for piece in [header, middle] {
        if !piece.is_empty() {
            let length = piece.len().min(budget_bytes.max(1));
            return Ok(MergeStep::Chunk(piece.split_to(length)));
        }
    }
    Ok(MergeStep::Last(std::mem::take(end)))
}
