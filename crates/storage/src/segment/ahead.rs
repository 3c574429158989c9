//! Reading ahead of a walk.

use super::read::Segment;

/// How far ahead of a walk its bytes are asked for, at least; up to twice as far. Disks that count requests
/// are asked rarely, and a walk that ends early has read little for nothing.
const AHEAD_BYTES: usize = 256 << 10;

/// Has the changes of a segment read from the disk before a walk over them gets there. Single changes are
/// read page by page; a walk would wait for each page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Everything before this offset has been asked for.
    until: usize,
}

impl Ahead {
    /// The walk is at the change of this number, which must exist.
    pub fn reach(&mut self, segment: &Segment, row: usize) {
        let at = segment.frame_offset(row);
        if at + AHEAD_BYTES <= self.until {
            return;
        }
        let until = at + 2 * AHEAD_BYTES;
        segment.will_need_changes(row, self.until.max(at)..until);
        self.until = until;
    }
}
