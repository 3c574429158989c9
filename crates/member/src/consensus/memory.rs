//! The raft log in memory: what the raft crate reads back.
//!
//! It holds the entries after `trimmed`, the last index that was dropped. The write-ahead log is
//! the durable copy; this one exists so that followers can be served and committed entries handed
//! out. An entry shares its bytes with the proposal that made it.
//!
//! Invariants: entries are consecutive and start right after `trimmed`; terms never fall; `applied_bytes` is what the
//! applied ones among them have.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, StorageError};

/// What an entry costs beside its bytes, as the crate counts message sizes.
const ENTRY_OVERHEAD_BYTES: u64 = 24;

/// Room for so many entries is never given back.
const ENTRIES_KEPT_ROOM: usize = 4096;

/// The raft crate's view of the log.
#[derive(Debug)]
pub(super) struct MemoryLog {
    trimmed_index: u64,
    trimmed_term: u64,
    entries: VecDeque<Entry>,
    /// Only read by the crate when it starts.
    initial: HardState,
    /// The last applied entry.
    applied: u64,
    /// What the applied entries held here have together, by [`entry_bytes`].
    applied_bytes: u64,
    /// The configuration as of that entry.
    conf_state: ConfState,
}

impl MemoryLog {
    /// A log that starts after `(index, term)`.
    pub(super) fn new(
        trimmed: (u64, u64),
        entries: Vec<Entry>,
        hard_state: HardState,
        conf_state: ConfState,
    ) -> Self {
        MemoryLog {
            trimmed_index: trimmed.0,
            trimmed_term: trimmed.1,
            entries: entries.into(),
            initial: hard_state,
            applied: trimmed.0,
            applied_bytes: 0,
            conf_state,
        }
    }

    /// Everything up to this index is applied.
    pub(super) fn applied(&mut self, index: u64) {
        let first = self.place_behind(self.applied);
        let end = self.place_behind(index).max(first);
        let bytes = self.entries.range(first..end).map(entry_bytes);
        self.applied_bytes += bytes.sum::<u64>();
        self.applied = index;
    }

    /// Whether this member is all there is: nobody to be served.
    pub(super) fn is_for_itself(&self) -> bool {
        let state = &self.conf_state;
        let others = [
            &state.learners,
            &state.voters_outgoing,
            &state.learners_next,
        ];
        state.voters.len() == 1 && others.iter().all(|members| members.is_empty())
    }

    /// A configuration change was applied.
    pub(super) fn configured(&mut self, state: ConfState) {
        self.conf_state = state;
    }

    /// A snapshot takes the place of all entries.
    pub(super) fn restore(&mut self, snapshot: &SnapshotMetadata) {
        self.entries.clear();
        self.applied_bytes = 0;
        self.trimmed_index = snapshot.index;
        self.trimmed_term = snapshot.term;
        self.conf_state = snapshot.get_conf_state().clone();
    }

    /// Takes new entries; those with an index already present replace the tail.
    ///
    /// # Panics
    /// When an entry would leave a gap or replace a trimmed one: the raft crate never asks for
    /// that.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.trimmed_index && first.index <= self.last() + 1,
            "entries follow the log: index {} after {}..={}",
            first.index,
            self.trimmed_index,
            self.last()
        );
        self.entries
            .truncate((first.index - self.trimmed_index - 1) as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets the entries up to `index`, which stays known by its term.
    pub(super) fn trim(&mut self, index: u64) {
        if index <= self.trimmed_index || index > self.last() {
            return;
        }
        let count = self.place_behind(index);
        let applied = self.place_behind(self.applied).min(count);
        let bytes = self.entries.range(..applied).map(entry_bytes);
        self.applied_bytes -= bytes.sum::<u64>();
        self.trimmed_term = self.entries[count - 1].term;
        self.trimmed_index = index;
        self.entries.drain(..count);
        // The room of a backlog goes back; that of the usual ups and downs stays.
        let kept = self.entries.len().max(ENTRIES_KEPT_ROOM);
        if self.entries.capacity() > kept.saturating_mul(4) {
            self.entries.shrink_to(kept.saturating_mul(2));
        }
    }

    /// Forgets the oldest applied entries until the others have no more than so many bytes.
    pub(super) fn trim_to_bytes(&mut self, bytes_max: u64) {
        let mut over = self.applied_bytes.saturating_sub(bytes_max);
        let mut count = 0;
        for entry in &self.entries {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(entry_bytes(entry));
            count += 1;
        }
        self.trim(self.trimmed_index + count);
    }

    /// The last index dropped; 0 when none was.
    pub(super) fn trimmed(&self) -> u64 {
        self.trimmed_index
    }

    /// The last index held, or the last one dropped when none is.
    pub(super) fn last(&self) -> u64 {
        self.trimmed_index + self.entries.len() as u64
    }

    /// The entry at this index; none when it was dropped or never came.
    pub(super) fn entry(&self, index: u64) -> Option<&Entry> {
        let place = index.checked_sub(self.trimmed_index + 1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }

    /// How many of the entries stand up to this index.
    fn place_behind(&self, index: u64) -> usize {
        let count = index.saturating_sub(self.trimmed_index);
        usize::try_from(count).map_or(self.entries.len(), |count| count.min(self.entries.len()))
    }

    /// Whether the bytes of applied entries are counted rightly.
    pub(super) fn is_counted(&self) -> bool {
        let applied = self.entries.range(..self.place_behind(self.applied));
        self.applied_bytes == applied.map(entry_bytes).sum::<u64>()
    }

    /// Whether the entries are consecutive and their terms never fall.
    pub(super) fn is_ordered(&self) -> bool {
        let mut previous = (self.trimmed_index, self.trimmed_term);
        self.entries.iter().all(|entry| {
            let fits = entry.index == previous.0 + 1 && entry.term >= previous.1;
            previous = (entry.index, entry.term);
            fits
        })
    }
}

impl raft::Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.initial.clone(),
            self.conf_state.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.trimmed_index {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let first = (low - self.trimmed_index - 1) as usize;
        let end = (high - self.trimmed_index - 1) as usize;
        let budget = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0u64;
        let mut out = Vec::with_capacity((end - first).min(1024));
        for entry in self.entries.range(first..end) {
            bytes = bytes.saturating_add(entry_bytes(entry));
            if bytes > budget && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.trimmed_index {
            return Ok(self.trimmed_term);
        }
        if index < self.trimmed_index {
            return Err(StorageError::Compacted.into());
        }
        let place = (index - self.trimmed_index - 1) as usize;
        self.entries
            .get(place)
            .map(|entry| entry.term)
            .ok_or(StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.trimmed_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Where a snapshot of what is applied stands. The state itself is added by who has it.
    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<Snapshot> {
        let term = self.term(self.applied).unwrap_or(0);
        if self.applied < request_index || term == 0 {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut metadata = SnapshotMetadata {
            index: self.applied,
            term,
            ..Default::default()
        };
        metadata.set_conf_state(self.conf_state.clone());
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(metadata);
        Ok(snapshot)
    }
}

fn entry_bytes(entry: &Entry) -> u64 {
    (entry.data.len() + entry.context.len()) as u64 + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use raft::Storage as _;

    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            data: vec![0; 76].into(),
            ..Default::default()
        }
    }

    fn log(entries: &[(u64, u64)]) -> MemoryLog {
        let entries = entries
            .iter()
            .map(|&(index, term)| entry(index, term))
            .collect();
        MemoryLog::new((0, 0), entries, HardState::default(), ConfState::default())
    }

    fn read(log: &MemoryLog, low: u64, high: u64, budget: u64) -> raft::Result<Vec<u64>> {
        let entries = log.entries(low, high, budget, GetEntriesContext::empty(false))?;
        Ok(entries.into_iter().map(|entry| entry.index).collect())
    }

    #[test]
    fn append_replaces_the_tail() {
        let mut log = log(&[(1, 1), (2, 1), (3, 1)]);
        log.append(&[entry(2, 2)]);
        assert_eq!((log.last(), log.term(2)), (2, Ok(2)));
        assert!(log.is_ordered());
    }

    #[test]
    fn trim_keeps_the_term_of_the_last_dropped_entry() {
        let mut log = log(&[(1, 1), (2, 2), (3, 2)]);
        log.trim(2);
        assert_eq!(
            (log.trimmed(), log.last(), log.first_index()),
            (2, 3, Ok(3))
        );
        assert_eq!(log.term(2), Ok(2));
        assert_eq!(log.term(1), Err(StorageError::Compacted.into()));
        assert_eq!(read(&log, 2, 3, 1000), Err(StorageError::Compacted.into()));
        log.trim(9);
        assert_eq!(log.trimmed(), 2, "what is not there cannot be trimmed");
    }

    #[test]
    fn applied_entries_go_by_their_bytes_and_others_stay() {
        let mut log = log(&[(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]);
        log.trim_to_bytes(0);
        assert_eq!(log.trimmed(), 0, "nothing is applied");
        log.applied(4);
        log.trim_to_bytes(399);
        assert_eq!(log.trimmed(), 1, "an entry counts 100 bytes");
        log.trim_to_bytes(300);
        assert_eq!(log.trimmed(), 1);
        log.trim(2);
        log.trim_to_bytes(200);
        assert_eq!(log.trimmed(), 2);
        log.append(&[entry(5, 3), entry(6, 3)]);
        log.trim_to_bytes(0);
        assert_eq!((log.trimmed(), log.last(), log.term(4)), (4, 6, Ok(2)));
        log.restore(&SnapshotMetadata {
            index: 9,
            ..Default::default()
        });
        log.applied(9);
        log.append(&[entry(10, 3)]);
        log.applied(10);
        assert!(log.is_counted());
        log.trim_to_bytes(99);
        assert_eq!((log.trimmed(), log.is_counted()), (10, true));
    }

    #[test]
    fn reads_stop_at_the_budget_but_give_one_entry() {
        let log = log(&[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(read(&log, 1, 4, 0), Ok(vec![1]));
        assert_eq!(read(&log, 1, 4, 200), Ok(vec![1, 2]));
        assert_eq!(read(&log, 1, 4, u64::MAX), Ok(vec![1, 2, 3]));
        assert_eq!(read(&log, 1, 5, 0), Err(StorageError::Unavailable.into()));
    }
}
