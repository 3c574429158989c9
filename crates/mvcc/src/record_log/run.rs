//! One stretch of the history, wherever it lies.

use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use kvorum_storage::segment::{Ahead, Damage, Entry, Fault, Segment, SegmentId, Stored};

use crate::btree::{Iter, Tree, Weigh};
use crate::record::Outline;
use crate::{Change, Record, Revision};

/// A record with what it took the place of.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(super) record: Record,
    /// Logical bytes that die when this revision is compacted.
    pub(super) frees_bytes: u64,
}

impl Weigh for Logged {
    const COMES_IN_ORDER: bool = true;

    fn weight(&self) -> i64 {
        self.frees_bytes as i64
    }
}

/// Records in memory, ascending by revision.
pub(crate) type Records = Tree<Vec<Revision>, Logged>;

/// A sealed run: no record comes to it any more.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    /// The place of its last record.
    pub(super) last: Revision,
    pub(super) id: SegmentId,
    pub(super) held: Held,
}

/// Where the records of a sealed run lie.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// In memory, until the segment file is written.
    Memory(Records),
    /// In a segment file.
    File(Arc<Segment>),
}

impl Sealed {
    pub(super) fn of_segment(segment: Segment) -> Self {
        Sealed {
            last: segment.last().into(),
            id: segment.id(),
            held: Held::File(Arc::new(segment)),
        }
    }

    pub(super) fn first(&self) -> Revision {
        match &self.held {
            Held::Memory(records) => {
                let first = records.ascend(Bound::Unbounded).next();
                first.map_or(self.last, |(revision, _)| *revision)
            }
            Held::File(segment) => segment.first().into(),
        }
    }

    /// The record at a place that the index names, which is therefore there.
    pub(super) fn read(&self, at: Revision) -> Result<Record, Damage> {
        match &self.held {
            Held::Memory(records) => Ok(read(records, at)),
            Held::File(segment) => {
                let stored = segment.find(at.into())?;
                // The key table that the index was built from and the revision table disagree.
                let stored = stored.ok_or_else(|| malformed(segment, at))?;
                decode(segment, stored)
            }
        }
    }

    /// Records from a place on.
    pub(super) fn from(&self, start: Revision) -> RunIter<'_> {
        match &self.held {
            Held::Memory(records) => RunIter::of_records(records, start),
            Held::File(segment) => RunIter::File {
                segment,
                row: segment.lower_bound(start.into()),
                ahead: Ahead::default(),
            },
        }
    }

    /// Number of records from a place on.
    pub(super) fn count_from(&self, start: Revision) -> i64 {
        match &self.held {
            Held::Memory(records) => count_from(records, start),
            Held::File(segment) => (segment.changes() - segment.lower_bound(start.into())) as i64,
        }
    }

    /// Bytes that records of these store revisions free.
    pub(super) fn frees_bytes(&self, mains: RangeInclusive<i64>) -> Result<u64, Damage> {
        match &self.held {
            Held::Memory(records) => Ok(frees_bytes(records, mains)),
            Held::File(segment) => segment.frees_bytes(mains),
        }
    }
}

/// The record at a place that the index names.
pub(super) fn read(records: &Records, at: Revision) -> Record {
    let logged = records.get(&at);
    let logged = logged.expect("what the index names is in memory or in a sealed run");
    logged.record.clone()
}

pub(super) fn count_from(records: &Records, start: Revision) -> i64 {
    records.sum().entries - records.sum_before(Bound::Excluded(&start)).entries
}

pub(super) fn frees_bytes(records: &Records, mains: RangeInclusive<i64>) -> u64 {
    let (first, last) = mains.into_inner();
    let mut sum = records.sum_before(Bound::Included(&Revision::end_of(last)));
    sum -= records.sum_before(Bound::Excluded(&Revision::start_of(first)));
    sum.weight as u64
}

fn decode(segment: &Segment, stored: Stored) -> Result<Record, Damage> {
    let at = stored.place.into();
    Record::decode(at, stored.encoded).ok_or_else(|| malformed(segment, at))
}

/// The bytes at a place carry a right checksum and cannot be what we write.
fn malformed(segment: &Segment, at: Revision) -> Damage {
    Damage {
        segment: segment.id(),
        offset: 0,
        fault: Fault::Frame {
            main: at.main,
            sub: at.sub,
        },
    }
}

/// The entry of a segment file for a record.
pub(crate) fn entry(logged: &Logged) -> Entry<'_> {
    let record = &logged.record;
    let change = Change::of(record);
    Entry {
        place: record.mod_revision().into(),
        key: record.key(),
        create_revision: change.create_revision(),
        version: change.version(),
        lease: change.lease().0,
        stored_bytes: record.stored().len() as u32,
        frees_bytes: logged.frees_bytes,
        encoded: record.encoded(),
    }
}

/// Whether records in files are compared with their checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksums {
    Compared,
    /// For what is found out to be wrong later if it is.
    Ignored,
}

/// The outlines of the records of one run, ascending.
#[derive(Debug)]
pub(super) enum OutlineIter<'a> {
    Memory(Iter<'a, Vec<Revision>, Logged>),
    File {
        segment: &'a Segment,
        row: usize,
        ahead: Ahead,
        checksums: Checksums,
    },
}

impl<'a> OutlineIter<'a> {
    pub(super) fn of_run(run: &'a Sealed, checksums: Checksums) -> Self {
        match &run.held {
            Held::Memory(records) => OutlineIter::of_records(records),
            Held::File(segment) => OutlineIter::File {
                segment,
                row: 0,
                ahead: Ahead::default(),
                checksums,
            },
        }
    }

    pub(super) fn of_records(records: &'a Records) -> Self {
        OutlineIter::Memory(records.ascend(Bound::Unbounded))
    }
}

impl<'a> Iterator for OutlineIter<'a> {
    type Item = Result<(Revision, Outline<'a>), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            OutlineIter::Memory(records) => {
                let (at, logged) = records.next()?;
                Some(Ok((*at, logged.record.outline())))
            }
            OutlineIter::File {
                segment,
                row,
                ahead,
                checksums,
            } => {
                if *row == segment.changes() {
                    return None;
                }
                ahead.reach(segment, *row);
                *row += 1;
                let read = match checksums {
                    Checksums::Compared => segment.checked(*row - 1),
                    Checksums::Ignored => segment.unchecked(*row - 1),
                };
                Some(read.and_then(|(place, encoded)| {
                    let at = place.into();
                    let outline = Outline::of(encoded).ok_or_else(|| malformed(segment, at))?;
                    Ok((at, outline))
                }))
            }
        }
    }
}

/// Records of one run, ascending.
#[derive(Debug)]
pub(super) enum RunIter<'a> {
    Memory(Iter<'a, Vec<Revision>, Logged>),
    File {
        segment: &'a Segment,
        row: usize,
        ahead: Ahead,
    },
}

impl<'a> RunIter<'a> {
    pub(super) fn of_records(records: &'a Records, start: Revision) -> Self {
        RunIter::Memory(records.ascend(Bound::Included(&start)))
    }
}

impl Iterator for RunIter<'_> {
    type Item = Result<Record, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            RunIter::Memory(records) => records.next().map(|(_, logged)| Ok(logged.record.clone())),
            RunIter::File {
                segment,
                row,
                ahead,
            } => {
                if *row == segment.changes() {
                    return None;
                }
                ahead.reach(segment, *row);
                *row += 1;
                let stored = segment.at(*row - 1);
                Some(stored.and_then(|stored| decode(segment, stored)))
            }
        }
    }
}
