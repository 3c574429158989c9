//! A log under random use, and what it must remember, kept in a plain list.

use std::collections::VecDeque;
use std::path::Path;

use kvorum_proto::ids::{ClusterId, LogIndex, MemberId};

use super::super::*;
use crate::vfs::crash_disk::{CrashDisk, Dice};

/// Small enough that a short history crosses several files.
pub(super) const OPTIONS: Options = Options {
    segment_bytes: 4096,
    ahead_bytes: 2048,
    max_wals: 3,
};

/// The member of the worked example in `docs/formats/wal.md`.
pub(super) const METADATA: Metadata = Metadata {
    node: MemberId(0x8e9e_05c5_2164_694d),
    cluster: ClusterId(0xcdf8_1819_4e3a_8c32),
};

/// One thing that was asked to be remembered.
#[derive(Clone, Debug)]
enum Record {
    Entry(Entry),
    State(HardState),
    Snapshot(Snapshot),
}

/// A normal entry with data of this many bytes; none without.
pub(super) fn entry(term: u64, index: u64, data_bytes: usize) -> Entry {
    Entry {
        r#type: Some(0),
        term: Some(term),
        index: Some(index),
        data: (data_bytes > 0).then(|| {
            (0..data_bytes)
                .map(|at| (at as u8).wrapping_mul(7) ^ index as u8 | 1)
                .collect()
        }),
    }
}

/// A log, the jobs it wants done, and the list of all that was appended.
pub(super) struct History {
    log: Log,
    executor: Executor<CrashDisk>,
    background: BackgroundExecutor<CrashDisk>,
    jobs: VecDeque<Job>,
    memory: Memory,
}

/// What survives the crash: in the heads of those who were told.
#[derive(Clone, Default)]
pub(super) struct Memory {
    dice: Option<Dice>,
    records: Vec<Record>,
    /// So many of the records were reported durable.
    durable: usize,
    /// Appends not reported: ticket, number of records up to it, whether it asked for durability.
    unreported: VecDeque<(Ticket, usize, bool)>,
    ticket: u64,
    term: u64,
    commit: u64,
    last: u64,
    snapshot: u64,
}

impl Memory {
    /// What a log of the first `count` records says.
    fn expected(&self, count: usize) -> (HardState, Snapshot, Vec<Entry>) {
        let mut state = HardState::default();
        let mut snapshot = Snapshot {
            index: Some(0),
            term: Some(0),
            conf_state: None,
        };
        let mut entries: Vec<Entry> = Vec::new();
        for record in &self.records[..count] {
            match record {
                Record::Entry(entry) => {
                    entries.retain(|earlier| earlier.index < entry.index);
                    entries.push(entry.clone());
                }
                Record::State(new) => state = *new,
                Record::Snapshot(new) => snapshot = new.clone(),
            }
        }
        entries.retain(|entry| entry.index > snapshot.index);
        (state, snapshot, entries)
    }

    /// Holds what was recovered against what was appended, and goes on from there.
    pub(super) fn accept(&mut self, recovered: &Recovered) {
        let found = (
            recovered.hard_state,
            recovered.snapshot.clone(),
            recovered.entries.clone(),
        );
        let count = (self.durable..=self.records.len())
            .find(|count| self.expected(*count) == found)
            .unwrap_or_else(|| {
                panic!(
                    "recovered {:?} {:?} and {} entries up to {:?}; reported durable: {:?}",
                    found.0,
                    found.1,
                    found.2.len(),
                    found.2.last().map(|entry| entry.index),
                    self.expected(self.durable)
                )
            });
        self.records.truncate(count);
        self.durable = count;
        self.unreported.clear();
        self.ticket = 0;
        self.term = found.0.term.unwrap_or(0).max(1);
        self.commit = found.0.commit.unwrap_or(0);
        self.snapshot = found.1.index.unwrap_or(0);
        self.last = replay::last_index(recovered).0;
        self.term = self
            .term
            .max(found.2.last().map_or(0, |entry| entry.term.unwrap_or(0)));
    }
}

impl History {
    pub(super) fn create(disk: &CrashDisk, seed: u64) -> Result<Self, WalError> {
        let opened = create(disk, Path::new("/wal"), METADATA, OPTIONS)?;
        let memory = Memory {
            dice: Some(Dice(seed)),
            term: 1,
            ..Memory::default()
        };
        Ok(Self::new(opened, memory))
    }

    /// Opens the log again, or makes it when the crash came before there was one.
    pub(super) fn open(disk: &CrashDisk, mut memory: Memory) -> Result<Self, WalError> {
        if !exists(disk, Path::new("/wal"))? {
            assert_eq!(memory.durable, 0, "a log that reported something is gone");
            return Self::create(disk, 1);
        }
        let before = read(disk, Path::new("/wal"))?;
        let opened = open(disk, Path::new("/wal"), OPTIONS)?;
        assert_eq!(
            before, opened.recovered,
            "reading and opening see the same log"
        );
        memory.accept(&opened.recovered);
        Ok(Self::new(opened, memory))
    }

    fn new(opened: Opened<CrashDisk>, memory: Memory) -> Self {
        let Opened {
            log,
            executor,
            background,
            ..
        } = opened;
        let mut history = Self {
            log,
            executor,
            background,
            jobs: VecDeque::new(),
            memory,
        };
        history.take_outputs();
        history
    }

    pub(super) fn into_memory(self) -> Memory {
        self.memory
    }

    pub(super) fn counts(&self) -> Counts {
        self.executor.counts()
    }

    pub(super) fn all_reported(&self) -> bool {
        self.memory.unreported.is_empty()
    }

    /// One random append or job.
    pub(super) fn step(&mut self) -> Result<(), WalError> {
        let mut dice = self.memory.dice.take().unwrap_or(Dice(1));
        match dice.below(12) {
            0..=2 => self.append_entries(1 + dice.below(3) as u64, dice.below(700)),
            3 => {
                self.memory.last -=
                    dice.below((self.memory.last - self.memory.commit) as usize + 1) as u64;
                self.memory.term += 1;
                self.append_entries(1, dice.below(20));
            }
            4 => self.commit_all(),
            5 => {
                self.snapshot();
                if dice.below(2) == 0 {
                    self.run_all()?;
                    self.release();
                }
            }
            6..=11 => {
                if !self.jobs.is_empty() {
                    let choice = dice.below(self.jobs.len());
                    self.run(choice)?;
                }
            }
            _ => unreachable!("the dice stay below twelve"),
        }
        self.memory.dice = Some(dice);
        Ok(())
    }

    pub(super) fn append_entries(&mut self, count: u64, data_bytes: usize) {
        let memory = &mut self.memory;
        let entries: Vec<_> = (1..=count)
            .map(|number| entry(memory.term, memory.last + number, data_bytes))
            .collect();
        memory.last += count;
        let state = HardState {
            term: Some(memory.term),
            vote: Some(METADATA.node.0),
            commit: Some(memory.commit),
        };
        self.append(Some(state), entries);
    }

    pub(super) fn commit_all(&mut self) {
        let memory = &mut self.memory;
        memory.commit = memory.last;
        let state = HardState {
            term: Some(memory.term),
            vote: Some(METADATA.node.0),
            commit: Some(memory.commit),
        };
        self.append(Some(state), Vec::new());
    }

    pub(super) fn snapshot(&mut self) {
        let memory = &mut self.memory;
        if memory.commit == memory.snapshot {
            return;
        }
        memory.snapshot = memory.commit;
        let snapshot = Snapshot {
            index: Some(memory.commit),
            term: Some(memory.term),
            conf_state: None,
        };
        memory.records.push(Record::Snapshot(snapshot.clone()));
        let ticket = self.ticket(true);
        self.log.append_snapshot(ticket, &snapshot, None);
        self.take_outputs();
    }

    /// Lets go of what the last snapshot covers, which must have been reported.
    pub(super) fn release(&mut self) {
        assert!(self.all_reported());
        self.log.release(LogIndex(self.memory.snapshot));
        self.take_outputs();
    }

    pub(super) fn set_short(&mut self) {
        self.log.set_short(true);
        self.take_outputs();
    }

    pub(super) fn flush(&mut self) {
        self.log.flush();
        self.take_outputs();
    }

    pub(super) fn run_all(&mut self) -> Result<(), WalError> {
        while !self.jobs.is_empty() {
            self.run(0)?;
        }
        Ok(())
    }

    fn append(&mut self, hard_state: Option<HardState>, entries: Vec<Entry>) {
        let durable = !entries.is_empty();
        self.memory
            .records
            .extend(entries.iter().cloned().map(Record::Entry));
        self.memory.records.extend(hard_state.map(Record::State));
        let ticket = self.ticket(durable);
        self.log.append(Append {
            ticket,
            hard_state,
            entries,
            must_sync: false,
        });
        self.take_outputs();
    }

    fn ticket(&mut self, durable: bool) -> Ticket {
        self.memory.ticket += 1;
        let ticket = Ticket(self.memory.ticket);
        self.memory
            .unreported
            .push_back((ticket, self.memory.records.len(), durable));
        ticket
    }

    fn run(&mut self, choice: usize) -> Result<(), WalError> {
        let job = self.jobs.remove(choice).unwrap();
        match job.lane() {
            Lane::Foreground => self.executor.run(&job)?,
            Lane::Background => self.background.run(&job)?,
        }
        self.log.done(job.id);
        self.take_outputs();
        Ok(())
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.log.take_output() {
            match output {
                Output::Job(job) => self.jobs.push_back(job),
                Output::Persisted(reported) => {
                    let memory = &mut self.memory;
                    while let Some((_, records, durable)) = memory
                        .unreported
                        .pop_front_if(|(ticket, ..)| *ticket <= reported)
                    {
                        if durable {
                            memory.durable = records;
                        }
                    }
                }
            }
        }
        assert!(self.jobs.len() <= 2, "one job of each lane");
        self.log.check_invariants();
    }
}
