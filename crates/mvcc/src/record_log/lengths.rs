//! How long the records are, with as few looks at them as possible.
//!
//! To look at a record of a file costs a miss of the caches. It can be left out for a stretch of changes that free
//! nothing: these are no deletions, which free themselves, and all that stands before such a pair in its file has a
//! fixed length. So the tables of the file, which lie close together, tell how long the pair is.

use kvorum_storage::segment::Damage;

use super::run::{Checksums, OutlineIter, Records, Sealed};
use crate::Revision;
use crate::record::Outline;

/// What is known of a record of which the length is asked.
#[derive(Debug)]
pub(crate) enum Glance<'a> {
    /// A record above the compacted revision, no tombstone, of so many stored bytes.
    Pair(usize),
    /// Any other had to be looked at, without a comparison with its checksum.
    Outline(Revision, Outline<'a>),
}

/// The glances at one run, ascending.
#[derive(Debug)]
pub(super) struct GlanceIter<'a> {
    outlines: OutlineIter<'a>,
    compacted: i64,
    /// The end of the changes that the tables were asked about.
    asked_until: usize,
    /// Whether these free nothing and are not compacted.
    tables_tell: bool,
}

impl<'a> GlanceIter<'a> {
    pub(super) fn of_run(run: &'a Sealed, compacted: i64) -> Self {
        Self::of(OutlineIter::of_run(run, Checksums::Ignored), compacted)
    }

    pub(super) fn of_records(records: &'a Records, compacted: i64) -> Self {
        Self::of(OutlineIter::of_records(records), compacted)
    }

    fn of(outlines: OutlineIter<'a>, compacted: i64) -> Self {
        GlanceIter {
            outlines,
            compacted,
            asked_until: 0,
            tables_tell: false,
        }
    }

    /// The length of the next pair if the tables tell it.
    fn told(&mut self) -> Option<Result<usize, Damage>> {
        let OutlineIter::File { segment, row, .. } = &mut self.outlines else {
            return None;
        };
        if *row == segment.changes() {
            return None;
        }
        if *row == self.asked_until {
            let (until, is_freeing) = segment.frees_until(*row);
            self.asked_until = until;
            self.tables_tell = !is_freeing && segment.place(*row).main > self.compacted;
        }
        self.tables_tell.then(|| {
            *row += 1;
            segment.bytes_if_freeing_nothing(*row - 1)
        })
    }
}

impl<'a> Iterator for GlanceIter<'a> {
    type Item = Result<Glance<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(told) = self.told() {
            return Some(told.map(Glance::Pair));
        }
        let outline = self.outlines.next()?;
        Some(outline.map(|(at, outline)| Glance::Outline(at, outline)))
    }
}
