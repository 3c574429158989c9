//! When the steps of a compaction are done: in slices so short that a request behind one hardly notices, with pauses
//! between them in which requests have the machines for themselves.
//!
//! What the operator allows (`--compaction-batch-limit` records, then `--compaction-sleep-interval`) is divided: a slice
//! of a tenth of the records has a tenth of the pause behind it. etcd looks at each record once in a compaction, hashes
//! it and decides; here that is up to three slices, of which only the last one removes something. The others take a
//! fraction of its time, and so does the pause behind them.

use std::time::Duration;

use kvorum_proto::ids::Moment;

/// Records that a slice visits: some microseconds each, since every one that is removed lies somewhere else in the index.
const SLICE_RECORDS: usize = 100;

/// Parts of the pause behind a slice, of which one is enough where nothing was removed.
const LOOK_PARTS: u32 = 4;

/// The slices of compactions, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slices {
    records: usize,
    /// Behind a slice that removes something.
    pause: Duration,
    next: Moment,
}

impl Slices {
    /// Of steps of so many records with a pause behind each.
    pub(super) fn new(step_records: usize, pause: Duration) -> Self {
        let slices = step_records.div_ceil(SLICE_RECORDS).max(1);
        let slices = u32::try_from(slices).unwrap_or(u32::MAX);
        Self {
            records: step_records.min(SLICE_RECORDS),
            pause: pause / slices,
            next: Moment::default(),
        }
    }

    /// Records that a slice visits.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// No slice begins before this.
    pub(super) fn next(&self) -> Moment {
        self.next
    }

    /// A slice is over, and removed so many records.
    pub(super) fn done(&mut self, now: Moment, removed: u64) {
        let parts = if removed == 0 { LOOK_PARTS } else { 1 };
        self.next = now + self.pause / parts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn check(step_records: usize, pause: Duration, records: usize, pauses: [Duration; 2]) {
        let now = Moment(Duration::from_secs(7));
        let mut slices = Slices::new(step_records, pause);
        assert_eq!(slices.records(), records);
        for (removed, pause) in [0, 3].into_iter().zip(pauses) {
            slices.done(now, removed);
            assert_eq!(slices.next(), now + pause, "{removed} removed");
        }
    }

    #[test]
    fn a_step_is_divided_and_its_pause_with_it() {
        check(1000, 10 * MILLISECOND, 100, [MILLISECOND / 4, MILLISECOND]);
        check(50, 4 * MILLISECOND, 50, [MILLISECOND, 4 * MILLISECOND]);
        check(101, 8 * MILLISECOND, 100, [MILLISECOND, 4 * MILLISECOND]);
        check(1000, Duration::ZERO, 100, [Duration::ZERO; 2]);
    }
}
