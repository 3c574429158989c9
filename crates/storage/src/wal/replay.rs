//! Reading a log back.
//!
//! [`Replay`] is fed whole files, oldest first. It follows the chain of checksums, holds each
//! record against what raft can have written before, and keeps the entries that count: one with an
//! index that is already there replaces the tail.
//!
//! The kind of a record is not covered by any checksum, so a record is also refused when it
//! contradicts the ones before it: a term or a commit index that falls, an entry at or below the
//! commit index, a commit index beyond the last entry.

use std::path::Path;

use kvorum_proto::ids::LogIndex;
use kvorum_proto::raftpb::{Entry, HardState};
use kvorum_proto::walpb::Snapshot;

use super::error::{Damage, WalError};
use super::frame::{self, Kind, Metadata, Next, Record};
use super::{Recovered, tear};

/// Damage and the offset in the file where it was found, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: usize,
    pub(super) damage: Damage,
}

impl Found {
    pub(super) fn at(self, file: &Path) -> WalError {
        WalError::Damaged {
            file: file.to_owned(),
            offset: self.offset as u64,
            damage: self.damage,
        }
    }
}

/// The end of the last file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Where the valid bytes end.
    pub(super) offset: usize,
    /// Checksum of the last valid record.
    pub(super) crc: u32,
    /// Whether groups in this file begin with a checksum record.
    pub(super) marked: bool,
    /// Where the last group begins; 0 in a file without marks.
    pub(super) group: usize,
    /// Why the bytes behind `offset` are no part of the log, when there are any.
    pub(super) torn: Option<Damage>,
}

/// What was read so far.
#[derive(Debug)]
pub(super) struct Replay {
    crc: u32,
    metadata: Option<Metadata>,
    state: HardState,
    /// The newest snapshot that is known to be committed.
    start: Option<Snapshot>,
    /// Later snapshots that are not yet known to be.
    uncommitted: Vec<Snapshot>,
    /// Index of the first of `entries`.
    first: u64,
    /// Entries without a gap. The committed start needs none before itself, so a jump of the
    /// indexes begins a new run, and `finish` sees whether anything is missing.
    entries: Vec<Entry>,
    /// The last index before the current run, for the error.
    before_run: u64,
}

/// How the reading of one file ended.
struct Stop {
    offset: usize,
    marked: bool,
    group: usize,
    /// Records seen in this file.
    records: usize,
    damage: Option<Damage>,
}

impl Replay {
    pub(super) fn new() -> Self {
        Self {
            crc: 0,
            metadata: None,
            state: HardState::default(),
            start: None,
            uncommitted: Vec::new(),
            first: 0,
            entries: Vec::new(),
            before_run: 0,
        }
    }

    /// Reads a file that others follow: it was synced before they were begun, so any damage is
    /// damage.
    pub(super) fn full_file(&mut self, file: &[u8]) -> Result<(), Found> {
        let stop = self.records(file)?;
        match stop.damage {
            Some(damage) => Err(Found {
                offset: stop.offset,
                damage,
            }),
            None => Ok(()),
        }
    }

    /// Reads the last file, whose end may be torn.
    pub(super) fn last_file(&mut self, file: &[u8]) -> Result<Tail, Found> {
        let Stop {
            offset,
            marked,
            group,
            records,
            damage,
        } = self.records(file)?;
        let torn = match damage {
            Some(damage) => {
                // A file gets its name only after its head is durable.
                let torn = if records < 2 {
                    Err(damage)
                } else {
                    tear::judge(file, offset, marked, damage)
                };
                Some(torn.map_err(|damage| Found { offset, damage })?)
            }
            None => None,
        };
        Ok(Tail {
            offset,
            crc: self.crc,
            marked,
            group,
            torn,
        })
    }

    /// Reads records up to the end of the file or to the first bytes that are none.
    ///
    /// # Errors
    ///
    /// A whole record with the right checksum that cannot be: no crash explains that.
    fn records(&mut self, file: &[u8]) -> Result<Stop, Found> {
        let mut stop = Stop {
            offset: 0,
            marked: false,
            group: 0,
            records: 0,
            damage: None,
        };
        loop {
            let offset = stop.offset;
            let (record, end) = match frame::read(file, offset) {
                Next::Record { record, end } => (record, end),
                Next::End if stop.records < 2 => {
                    return Err(Found {
                        offset,
                        damage: Damage::Head,
                    });
                }
                Next::End => {
                    let clean = file[offset..].iter().all(|byte| *byte == 0);
                    stop.damage = (!clean).then_some(Damage::AfterEnd);
                    return Ok(stop);
                }
                Next::Damaged(damage) => {
                    stop.damage = Some(damage);
                    return Ok(stop);
                }
            };
            if let Err(damage) = self.check(&record) {
                stop.damage = Some(damage);
                return Ok(stop);
            }
            let head = [Kind::Crc, Kind::Metadata];
            if head
                .get(stop.records)
                .is_some_and(|kind| *kind != record.kind)
            {
                return Err(Found {
                    offset,
                    damage: Damage::Head,
                });
            }
            self.apply(&record)
                .map_err(|damage| Found { offset, damage })?;
            if record.kind == Kind::Crc {
                stop.marked |= offset > 0;
                stop.group = offset;
            }
            stop.records += 1;
            stop.offset = end;
        }
    }

    /// Follows the chain of checksums. A checksum record starts it anew where there is none yet.
    fn check(&mut self, record: &Record<'_>) -> Result<(), Damage> {
        let expected = match record.kind {
            Kind::Crc if self.crc == 0 => record.crc,
            Kind::Crc => self.crc,
            Kind::Metadata | Kind::Entry | Kind::State | Kind::Snapshot => {
                crc32c::crc32c_append(self.crc, record.data)
            }
        };
        if record.crc != expected {
            return Err(Damage::Checksum {
                expected,
                found: record.crc,
            });
        }
        self.crc = expected;
        Ok(())
    }

    fn apply(&mut self, record: &Record<'_>) -> Result<(), Damage> {
        match record.kind {
            Kind::Crc => Ok(()),
            Kind::Metadata => self.metadata(frame::metadata(record.data)?),
            Kind::Entry => self.entry(frame::entry(record.data)?),
            Kind::State => self.state(frame::state(record.data)?),
            Kind::Snapshot => {
                self.uncommitted.push(frame::snapshot(record.data)?);
                self.settle_snapshots(false);
                Ok(())
            }
        }
    }

    fn metadata(&mut self, metadata: Metadata) -> Result<(), Damage> {
        match self.metadata {
            Some(known) if known != metadata => Err(Damage::Metadata),
            Some(_) | None => {
                self.metadata = Some(metadata);
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Damage> {
        let index = entry.index.unwrap_or(0);
        if index <= self.commit() {
            return Err(Damage::Contradiction(
                "an entry at or below the commit index",
            ));
        }
        let next = self.first + self.entries.len() as u64;
        if !self.entries.is_empty() && (self.first..=next).contains(&index) {
            self.entries.truncate((index - self.first) as usize);
        } else {
            self.before_run = next.saturating_sub(1);
            self.entries.clear();
            self.first = index;
        }
        if self
            .entries
            .last()
            .is_some_and(|before| before.term > entry.term)
        {
            return Err(Damage::Contradiction(
                "the term of an entry is below that of the one before",
            ));
        }
        self.entries.push(entry);
        Ok(())
    }

    fn state(&mut self, state: HardState) -> Result<(), Damage> {
        if state.term.unwrap_or(0) < self.state.term.unwrap_or(0) {
            return Err(Damage::Contradiction("the term falls"));
        }
        if state.commit.unwrap_or(0) < self.commit() {
            return Err(Damage::Contradiction("the commit index falls"));
        }
        self.state = state;
        self.settle_snapshots(true);
        Ok(())
    }

    fn commit(&self) -> u64 {
        self.state.commit.unwrap_or(0)
    }

    /// A snapshot counts once the commit index has reached it. Entries up to it are let go.
    ///
    /// One that was ahead of the commit index came from a leader, and its commit index follows at
    /// once: then those behind it go too when they do not go on from it, because this log had taken
    /// another way.
    fn settle_snapshots(&mut self, from_leader: bool) {
        let commit = self.commit();
        let settled = |snapshot: &Snapshot| snapshot.index.unwrap_or(0) <= commit;
        for snapshot in self
            .uncommitted
            .extract_if(.., |snapshot| settled(snapshot))
        {
            if self
                .start
                .as_ref()
                .is_none_or(|start| start.index <= snapshot.index)
            {
                let place = snapshot.index.unwrap_or(0).checked_sub(self.first);
                let entry = place.and_then(|place| self.entries.get(place as usize));
                if from_leader && entry.is_some_and(|entry| entry.term != snapshot.term) {
                    self.entries.clear();
                }
                self.start = Some(snapshot);
            }
        }
        if let Some(start) = &self.start {
            self.drop_entries(start.index.unwrap_or(0));
        }
    }

    fn drop_entries(&mut self, to: u64) {
        let needless = (to + 1)
            .saturating_sub(self.first)
            .min(self.entries.len() as u64);
        self.entries.drain(..needless as usize);
        self.first += needless;
    }

    /// Whether the files that were read say all that the log says, when the first of them was begun at this index.
    ///
    /// The entry that the snapshot stands for has to be among them: whether what comes behind goes on from a snapshot of
    /// a leader shows by its term.
    pub(super) fn needs_nothing_before(&self, first_index: LogIndex) -> bool {
        let start = self.start.as_ref().and_then(|start| start.index);
        start.is_some_and(|start| start >= first_index.0)
    }

    /// What the log says, all files read.
    pub(super) fn finish(self) -> Result<Recovered, Damage> {
        let metadata = self.metadata.ok_or(Damage::Head)?;
        let snapshot = self.start.ok_or(Damage::Contradiction(
            "no committed snapshot record to start from",
        ))?;
        let start = LogIndex(snapshot.index.unwrap_or(0));
        if !self.entries.is_empty() && self.first > start.0 + 1 {
            let expected_after = LogIndex(self.before_run.max(start.0));
            return Err(Damage::IndexGap {
                expected_after,
                found: LogIndex(self.first),
            });
        }
        let recovered = Recovered {
            metadata,
            hard_state: self.state,
            snapshot,
            entries: self.entries,
        };
        if self.state.commit.unwrap_or(0) > last_index(&recovered).0 {
            return Err(Damage::Contradiction(
                "the commit index lies beyond the last entry",
            ));
        }
        Ok(recovered)
    }
}

/// The last index that the log knows of.
pub(super) fn last_index(recovered: &Recovered) -> LogIndex {
    let last = recovered.entries.last().map(|entry| entry.index);
    LogIndex(last.unwrap_or(recovered.snapshot.index).unwrap_or(0))
}
