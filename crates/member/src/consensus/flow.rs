//! Committed entries on their way to apply.
//!
//! They go in batches of bounded size and only as long as there is credit: what apply has not
//! confirmed counts against it. So a slow apply cannot pile up work, and nothing ever waits for its
//! queue.

use std::collections::VecDeque;

use kvorum_proto::ids::LogIndex;
use kvorum_proto::raftpb;

use super::APPLY_CREDIT_BYTES;

/// How large a batch grows before it is closed, in bytes.
const BATCH_BYTES_MAX: u64 = 1024 * 1024;

/// How large a batch may be, in entries.
const BATCH_ENTRIES_MAX: usize = 4096;

/// What an entry counts beside its data, in bytes.
const ENTRY_OVERHEAD_BYTES: u64 = 64;

const _: () = assert!(
    BATCH_BYTES_MAX < APPLY_CREDIT_BYTES,
    "a batch fits into the credit"
);

/// The entries between commit and apply.
#[derive(Debug, Default)]
pub(super) struct Flow {
    waiting: VecDeque<raftpb::Entry>,
    /// The last index and the bytes of each batch that apply has and did not confirm; ascending.
    unconfirmed: VecDeque<(LogIndex, u64)>,
    unconfirmed_bytes: u64,
    /// How many of them there may be.
    credit_bytes: u64,
    /// A batch ends here, so that replay and new entries never share one.
    boundary: LogIndex,
}

impl Flow {
    pub(super) fn new(boundary: LogIndex, credit_bytes: u64) -> Self {
        Flow {
            boundary,
            credit_bytes,
            ..Flow::default()
        }
    }

    pub(super) fn push(&mut self, entries: impl Iterator<Item = raftpb::Entry>) {
        self.waiting.extend(entries);
    }

    /// The next batch, when there is one and credit for it.
    pub(super) fn next_batch(&mut self) -> Option<Vec<raftpb::Entry>> {
        if self.unconfirmed_bytes >= self.credit_bytes || self.waiting.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let mut batch = Vec::with_capacity(self.waiting.len().min(BATCH_ENTRIES_MAX));
        while let Some(entry) = self.waiting.pop_front() {
            let index = LogIndex(entry.index());
            bytes += entry.data.as_ref().map_or(0, |data| data.len() as u64) + ENTRY_OVERHEAD_BYTES;
            batch.push(entry);
            let full =
                bytes >= BATCH_BYTES_MAX.min(self.credit_bytes) || batch.len() >= BATCH_ENTRIES_MAX;
            if full || index == self.boundary || self.waiting.is_empty() {
                self.unconfirmed.push_back((index, bytes));
                self.unconfirmed_bytes += bytes;
                break;
            }
        }
        Some(batch)
    }

    /// A snapshot holds what waits here.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Apply has confirmed everything up to `index`.
    pub(super) fn confirm(&mut self, index: LogIndex) {
        while let Some(&(last, bytes)) = self.unconfirmed.front() {
            if last > index {
                break;
            }
            self.unconfirmed_bytes -= bytes;
            self.unconfirmed.pop_front();
        }
    }

    /// Whether entries wait for credit.
    pub(super) fn is_backed_up(&self) -> bool {
        !self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(from: u64, to: u64, bytes: usize) -> impl Iterator<Item = raftpb::Entry> {
        (from..=to).map(move |index| raftpb::Entry {
            index: Some(index),
            data: Some(vec![0; bytes].into()),
            ..Default::default()
        })
    }

    fn last(batch: Option<Vec<raftpb::Entry>>) -> Option<u64> {
        batch.and_then(|batch| batch.last().map(raftpb::Entry::index))
    }

    #[test]
    fn nothing_flows_without_credit() {
        let mut flow = Flow::new(LogIndex(0), APPLY_CREDIT_BYTES);
        flow.push(entries(1, 40, 1024 * 1024));
        let mut given = 0;
        while let Some(index) = last(flow.next_batch()) {
            given = index;
        }
        assert_eq!(given, 32);
        assert!(flow.is_backed_up());
        flow.confirm(LogIndex(1));
        assert_eq!(last(flow.next_batch()), Some(33));
        assert_eq!(last(flow.next_batch()), None);
    }

    #[test]
    fn a_batch_ends_at_the_boundary() {
        let mut flow = Flow::new(LogIndex(3), APPLY_CREDIT_BYTES);
        flow.push(entries(1, 5, 10));
        assert_eq!(last(flow.next_batch()), Some(3));
        assert_eq!(last(flow.next_batch()), Some(5));
    }
}
