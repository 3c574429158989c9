//! The log as a plain machine: what is written where and in which order.
//!
//! # Theory
//!
//! An append is encoded at once into the *group* that is being gathered. When no foreground job is
//! in flight and the group has something to make durable, it is sealed: the whole group becomes
//! one write and one sync, and the next group begins. So the disk always has one group in hand,
//! and appends that arrive meanwhile share the next one.
//!
//! Every group begins with a checksum record. Readers of the format take that record anywhere; for
//! us it is the proof, after a crash, that everything before it had been durable (see
//! the module `tear`).
//!
//! An append that has nothing to make durable (only the commit index moved) waits in the group for
//! company: it reaches the disk with the next write. Writing it alone and unsynced would leave
//! bytes at risk *before* bytes that are later made durable.
//!
//! When a group ends at or beyond the segment size, a cut follows its write: the first records of
//! the next file are encoded as the group is sealed, so that the running checksum stays one chain.
//!
//! The background fills zeros ahead of the groups, makes the next file ready and removes old files. Zeros ahead save a
//! small group the disk's own bookkeeping of new bytes, which takes longer than the group. For large groups they would
//! be the same bytes written twice, so none are written while groups are large.
//!
//! # Invariants
//!
//! - Each lane has at most one job in flight.
//! - Tickets ascend, and `Persisted(n)` comes after every job that holds an append up to `n` that
//!   had something to make durable.
//! - No group is written over bytes that a zero-fill in flight may still touch, and no zero-fill
//!   begins before the end of what has been sealed.
//! - Files are removed oldest first, one at a time, and never the current one.

use std::collections::VecDeque;

use kvorum_proto::ids::LogIndex;
use kvorum_proto::raftpb::{Entry, HardState};
use kvorum_proto::walpb::Snapshot;

use super::Options;
use super::frame::{Encoder, Metadata};
use super::job::{Job, JobId, Lane, Work};
use super::segment::{SegmentName, Spare};

/// Most bytes that one zero-fill job writes, so that a group that has caught up waits for little.
const ZERO_STEP_BYTES: u64 = 1 << 20;
/// While groups have usually more bytes than this, no zeros are written ahead of them.
const ZERO_GROUP_BYTES_MAX: usize = 128 << 10;
/// One group in so many makes what is usual.
const USUAL_GROUPS: usize = 8;
/// Memory of a written group is used again while it is not larger than so many usual groups, and than
/// [`SPARE_BYTES_MAX`].
const SPARE_GROUPS_MAX: usize = 8;
/// See [`SPARE_GROUPS_MAX`].
const SPARE_BYTES_MAX: usize = 32 << 20;
/// Commit indexes wait for the next group up to this many bytes, then they are written alone.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// Orders appends; each is greater than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something to be logged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Append {
    /// Comes back in [`Output::Persisted`].
    pub ticket: Ticket,
    /// The hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Entries in ascending order without a gap. The first may lie at or below the last index in
    /// the log: then it and those behind it replace the tail.
    pub entries: Vec<Entry>,
    /// Whether raft asks for durability. Entries, a new term and a new vote are made durable in
    /// any case.
    pub must_sync: bool,
}

/// What the log wants done or has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Run this on the executor of its lane, then call [`Log::done`].
    Job(Job),
    /// Every append up to this ticket is durable; of an append that only moved the commit index,
    /// that everything before it is.
    Persisted(Ticket),
}

/// Where a log stands when it is opened.
#[derive(Debug)]
pub(super) struct Position {
    pub(super) metadata: Metadata,
    /// The files, oldest first; the last is the current one.
    pub(super) segments: VecDeque<SegmentName>,
    /// End of the valid bytes in the current file, a multiple of eight.
    pub(super) offset: u64,
    /// Checksum of the last record.
    pub(super) crc: u32,
    pub(super) last_index: LogIndex,
    pub(super) hard_state: HardState,
}

/// The foreground job in flight.
#[derive(Debug)]
enum Flight {
    Write { id: JobId, ticket: Option<Ticket> },
    Cut { id: JobId },
}

/// The file that is made ready to be the next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    None,
    Preparing(Spare),
    Ready(Spare),
}

/// The write-ahead log of one member.
#[derive(Debug)]
pub struct Log {
    options: Options,
    metadata: Metadata,
    segments: VecDeque<SegmentName>,
    /// End of what has been sealed for the current file.
    offset: u64,
    /// The current file is filled (by zeros or groups) up to here; at least `offset` unless a cut
    /// is under way.
    filled: u64,
    last_index: LogIndex,
    hard_state: HardState,
    released: LogIndex,
    /// The disk has little room: nothing is kept that is not needed.
    is_short: bool,

    /// The group being gathered. Empty, or begins with a checksum record.
    group: Encoder,
    group_ticket: Option<Ticket>,
    group_must_sync: bool,
    last_ticket: Option<Ticket>,
    /// Bytes of a group, as a moving average.
    group_bytes_usual: usize,
    /// Memory for the next group, empty.
    spare: Vec<u8>,

    foreground: Option<Flight>,
    /// The work that follows the write in flight.
    cut: Option<Work>,
    /// A sealed group that waits for a zero-fill to get out of its way.
    sealed: Option<(Work, Option<Ticket>)>,
    background: Option<(JobId, Work)>,
    next: Next,
    next_job: u64,
    outputs: VecDeque<Output>,
}

impl Log {
    pub(super) fn new(position: Position, options: Options) -> Self {
        let mut log = Self {
            options,
            metadata: position.metadata,
            segments: position.segments,
            offset: position.offset,
            filled: position.offset,
            last_index: position.last_index,
            hard_state: position.hard_state,
            released: LogIndex(0),
            is_short: false,
            group: Encoder::new(position.crc),
            group_ticket: None,
            group_must_sync: false,
            last_ticket: None,
            group_bytes_usual: 0,
            spare: Vec::new(),
            foreground: None,
            cut: None,
            sealed: None,
            background: None,
            next: Next::None,
            next_job: 1,
            outputs: VecDeque::new(),
        };
        log.advance();
        log
    }

    /// Logs entries and a hard state, in that order.
    ///
    /// # Panics
    ///
    /// When tickets do not ascend or an index is left out: the caller is broken.
    pub fn append(&mut self, append: Append) {
        let Append {
            ticket,
            hard_state,
            entries,
            must_sync,
        } = append;
        self.take_ticket(ticket);
        let mut must_sync = must_sync || !entries.is_empty();
        for (position, entry) in entries.iter().enumerate() {
            let index = entry.index.unwrap_or(0);
            let last = self.last_index.0;
            assert!(index > 0, "entries are numbered from 1");
            assert!(
                if position == 0 {
                    index <= last + 1
                } else {
                    index == last + 1
                },
                "an entry with index {index} must not follow {last}"
            );
            self.record(|group| group.entry(entry));
            self.last_index = LogIndex(index);
        }
        if let Some(state) = hard_state {
            must_sync |= self.hard_state_needs_sync(&state);
            self.state(state);
        }
        self.finish_append(ticket, must_sync);
    }

    /// Logs that a snapshot of the state at an index is durable, so that replay may start there.
    ///
    /// A snapshot sent by the leader may lie beyond the log: then `hard_state` brings the commit
    /// index that reaches it. It is written behind the snapshot, because replay passes over a
    /// snapshot that is not committed and so opens every prefix of the two.
    ///
    /// # Panics
    ///
    /// When tickets do not ascend, or the snapshot lies beyond the commit index.
    pub fn append_snapshot(
        &mut self,
        ticket: Ticket,
        snapshot: &Snapshot,
        hard_state: Option<HardState>,
    ) {
        let index = LogIndex(snapshot.index.unwrap_or(0));
        self.last_index = self.last_index.max(index);
        self.snapshot(ticket, snapshot, hard_state);
    }

    /// Logs a snapshot that the leader sent in the place of its log: the log begins anew behind it,
    /// whatever stood there. See [`append_snapshot`](Self::append_snapshot).
    ///
    /// # Panics
    ///
    /// When tickets do not ascend, or the snapshot lies beyond the commit index.
    pub fn append_received_snapshot(
        &mut self,
        ticket: Ticket,
        snapshot: &Snapshot,
        hard_state: HardState,
    ) {
        self.last_index = LogIndex(snapshot.index.unwrap_or(0));
        self.snapshot(ticket, snapshot, Some(hard_state));
    }

    fn snapshot(&mut self, ticket: Ticket, snapshot: &Snapshot, hard_state: Option<HardState>) {
        self.take_ticket(ticket);
        self.record(|group| group.snapshot(snapshot));
        if let Some(state) = hard_state {
            self.state(state);
        }
        assert!(
            snapshot.index.unwrap_or(0) <= self.hard_state.commit.unwrap_or(0),
            "a snapshot holds only what is committed"
        );
        self.finish_append(ticket, true);
    }

    /// Entries up to this index are no longer needed, because a snapshot record of this index or a
    /// later one is durable. Files that hold nothing else are removed, but never below the number
    /// that [`Options::max_wals`] keeps.
    ///
    /// Source: etcd v3.7.1, `server/storage/wal/wal.go`, `ReleaseLockTo`.
    pub fn release(&mut self, index: LogIndex) {
        self.released = self.released.max(index);
        self.advance();
    }

    /// While the disk is short of room, no files are kept beyond those that a start needs.
    pub fn set_short(&mut self, is_short: bool) {
        self.is_short = is_short;
        self.advance();
    }

    /// Writes what still waits in memory for company, before the process ends.
    pub fn flush(&mut self) {
        self.group_must_sync |= self.group.length() > 0;
        self.advance();
    }

    /// The disk has done this job.
    ///
    /// # Panics
    ///
    /// When the job is not in flight.
    pub fn done(&mut self, job: JobId) {
        match (&self.foreground, &self.background) {
            (Some(Flight::Write { id, ticket }), _) if *id == job => {
                let ticket = *ticket;
                self.foreground = None;
                self.persisted(ticket);
            }
            (Some(Flight::Cut { id }), _) if *id == job => {
                self.foreground = None;
                self.persisted(None);
            }
            (_, Some((id, _))) if *id == job => self.background_done(),
            _ => panic!("job {} is not in flight", job.0),
        }
        self.advance();
    }

    /// Gives back the memory of a job that is done. A group of large values is larger than what an allocator keeps,
    /// and new memory costs the system more than the copy that goes into it.
    pub fn reuse(&mut self, job: Job) {
        let Work::Write { mut bytes, .. } = job.work else {
            return;
        };
        let useful = self.group_bytes_usual.saturating_mul(SPARE_GROUPS_MAX);
        bytes.clear();
        if (self.spare.capacity()..=useful.min(SPARE_BYTES_MAX)).contains(&bytes.capacity()) {
            self.spare = bytes;
        } else if self.spare.capacity() > useful {
            self.spare = Vec::new();
        }
    }

    /// The next thing to do or to tell, in order.
    pub fn take_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Bytes gathered for the next write: the caller slows down its appends by them.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.group.length()
    }

    /// Whether no foreground job is in flight or wanted.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.foreground.is_none()
            && self.sealed.is_none()
            && self.cut.is_none()
            && !self.group_must_sync
    }

    /// The last index in the log; that of the snapshot it starts with when there is no entry.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.last_index
    }

    /// Checks the invariants that a state can show.
    ///
    /// # Panics
    ///
    /// When one is broken.
    pub fn check_invariants(&self) {
        assert!(!self.segments.is_empty(), "there is a current file");
        assert!(
            self.filled >= self.offset,
            "what is sealed counts as filled"
        );
        assert!(self.offset.is_multiple_of(8), "groups are whole frames");
        let mut files = self.segments.iter().zip(self.segments.iter().skip(1));
        assert!(
            files.all(|(a, b)| a.sequence + 1 == b.sequence),
            "files follow one another"
        );
        assert!(
            self.group_ticket <= self.last_ticket,
            "the group holds the newest tickets"
        );
    }

    fn take_ticket(&mut self, ticket: Ticket) {
        assert!(self.last_ticket < Some(ticket), "tickets ascend");
        self.last_ticket = Some(ticket);
    }

    fn record(&mut self, encode: impl FnOnce(&mut Encoder)) {
        if self.group.length() == 0 {
            self.group.checksum();
        }
        encode(&mut self.group);
    }

    fn state(&mut self, state: HardState) {
        if !is_empty(&state) {
            self.record(|group| group.state(&state));
            self.hard_state = state;
        }
    }

    fn finish_append(&mut self, ticket: Ticket, must_sync: bool) {
        self.group_ticket = Some(ticket);
        self.group_must_sync |= must_sync;
        if !self.group_must_sync && self.foreground.is_none() && self.sealed.is_none() {
            self.persisted(None);
        }
        self.group_must_sync |= self.group.length() >= WAITING_BYTES_MAX;
        self.advance();
    }

    /// A group is durable, or there was none: what needed nothing else is told too.
    fn persisted(&mut self, written: Option<Ticket>) {
        let waiting = if self.group_must_sync {
            None
        } else {
            self.group_ticket.take()
        };
        if let Some(ticket) = written.max(waiting) {
            self.outputs.push_back(Output::Persisted(ticket));
        }
    }

    /// Term and vote are promises to others and must be durable; the commit index is not.
    ///
    /// Source: raft v3.7 line, `node.go`, `MustSync`.
    fn hard_state_needs_sync(&self, state: &HardState) -> bool {
        state.term.unwrap_or(0) != self.hard_state.term.unwrap_or(0)
            || state.vote.unwrap_or(0) != self.hard_state.vote.unwrap_or(0)
    }

    fn current(&self) -> SegmentName {
        *self
            .segments
            .back()
            .expect("a log has at least its current file")
    }

    /// Hands out whatever can be started now.
    fn advance(&mut self) {
        self.advance_foreground();
        self.advance_background();
    }

    fn advance_foreground(&mut self) {
        if self.foreground.is_some() {
            return;
        }
        if self.sealed.is_none() && self.cut.is_none() && self.group_must_sync {
            self.seal();
        }
        if let Some((write, ticket)) = self.sealed.take() {
            if self.zero_fill_in_the_way(&write) {
                self.sealed = Some((write, ticket));
                return;
            }
            let id = self.hand_out(write);
            self.foreground = Some(Flight::Write { id, ticket });
        } else if let Some(cut) = self.cut.take() {
            if self.zero_fill_in_the_way(&cut) {
                self.cut = Some(cut);
                return;
            }
            let cut = self.with_spare(cut);
            let id = self.hand_out(cut);
            self.foreground = Some(Flight::Cut { id });
        }
    }

    /// Ends the group: it becomes a write, and perhaps a cut behind it.
    fn seal(&mut self) {
        let segment = self.current();
        let offset = self.offset;
        let bytes = self.group.replace_bytes(std::mem::take(&mut self.spare));
        self.group_bytes_usual =
            (self.group_bytes_usual * (USUAL_GROUPS - 1) + bytes.len()) / USUAL_GROUPS;
        self.offset += bytes.len() as u64;
        self.filled = self.filled.max(self.offset);
        self.group_must_sync = false;
        let ticket = self.group_ticket.take();
        self.sealed = Some((
            Work::Write {
                segment,
                offset,
                bytes,
            },
            ticket,
        ));
        if self.offset >= self.options.segment_bytes {
            self.plan_cut();
        }
    }

    fn plan_cut(&mut self) {
        let full = self.current();
        let next = SegmentName {
            sequence: full.sequence + 1,
            first_index: LogIndex(self.last_index.0 + 1),
        };
        self.group.checksum();
        self.group.metadata(&self.metadata);
        if !is_empty(&self.hard_state) {
            self.group.state(&self.hard_state);
        }
        // The last record of a file's head says that the file is one of ours: see `tear`.
        self.group.checksum();
        let head = self.group.take_bytes();
        let used = self.offset;
        self.offset = head.len() as u64;
        self.filled = self.offset;
        self.segments.push_back(next);
        let spare = Spare::Zero;
        self.cut = Some(Work::Cut {
            full,
            used,
            next,
            head,
            spare,
            prepared: false,
        });
    }

    /// Decides, now that the cut starts, which file becomes the next.
    fn with_spare(&mut self, cut: Work) -> Work {
        let Work::Cut {
            full,
            used,
            next,
            head,
            ..
        } = cut
        else {
            return cut;
        };
        let (spare, prepared) = match self.next {
            Next::Ready(spare) => {
                self.next = Next::None;
                self.filled = self.filled.max(self.zeros_of_spare());
                (spare, true)
            }
            Next::Preparing(spare) => (spare.other(), false),
            Next::None => (Spare::Zero, false),
        };
        Work::Cut {
            full,
            used,
            next,
            head,
            spare,
            prepared,
        }
    }

    /// Whether the background is still filling bytes that this work writes or cuts off.
    fn zero_fill_in_the_way(&self, work: &Work) -> bool {
        let Some((
            _,
            Work::ZeroAhead {
                offset: zeros_from, ..
            },
        )) = &self.background
        else {
            return false;
        };
        match work {
            Work::Write { offset, bytes, .. } => offset + bytes.len() as u64 > *zeros_from,
            Work::Cut { .. } => true,
            Work::ZeroAhead { .. } | Work::Prepare { .. } | Work::Remove { .. } => false,
        }
    }

    fn advance_background(&mut self) {
        if self.background.is_some() {
            return;
        }
        let Some(work) = self
            .zero_ahead()
            .or_else(|| self.prepare())
            .or_else(|| self.remove())
        else {
            return;
        };
        match &work {
            Work::ZeroAhead { offset, length, .. } => self.filled = offset + length,
            Work::Prepare { spare, .. } => self.next = Next::Preparing(*spare),
            Work::Write { .. } | Work::Cut { .. } | Work::Remove { .. } => {}
        }
        let id = self.hand_out(work.clone());
        self.background = Some((id, work));
    }

    fn background_done(&mut self) {
        match self.background.take() {
            Some((_, Work::Prepare { spare, .. })) => self.next = Next::Ready(spare),
            Some((_, Work::Remove { segment })) => {
                let removed = self.segments.pop_front();
                assert_eq!(removed, Some(segment), "files are removed oldest first");
            }
            Some((_, Work::ZeroAhead { .. } | Work::Write { .. } | Work::Cut { .. })) | None => {}
        }
    }

    fn zero_ahead(&self) -> Option<Work> {
        let cutting = self.cut.is_some() || matches!(self.foreground, Some(Flight::Cut { .. }));
        let ahead = self.options.ahead_bytes;
        let wanted = self.options.segment_bytes.min(self.offset + ahead);
        let enough = self.filled - self.offset >= ahead.div_ceil(2) || self.filled >= wanted;
        if cutting || enough || self.group_bytes_usual > ZERO_GROUP_BYTES_MAX {
            return None;
        }
        let length = ZERO_STEP_BYTES.min(wanted - self.filled);
        Some(Work::ZeroAhead {
            segment: self.current(),
            offset: self.filled,
            length,
        })
    }

    fn prepare(&self) -> Option<Work> {
        let zeros = self.zeros_of_spare();
        (self.next == Next::None && self.cut.is_none() && self.foreground_cut().is_none())
            .then_some(Work::Prepare {
                spare: Spare::Zero,
                zeros,
            })
    }

    /// The file name that a cut in flight uses must not be prepared anew beside it.
    fn foreground_cut(&self) -> Option<JobId> {
        match self.foreground {
            Some(Flight::Cut { id }) => Some(id),
            Some(Flight::Write { .. }) | None => None,
        }
    }

    fn zeros_of_spare(&self) -> u64 {
        self.options.ahead_bytes.min(self.options.segment_bytes)
    }

    fn remove(&self) -> Option<Work> {
        let keep = if self.is_short {
            1
        } else {
            self.options.max_wals
        };
        let (oldest, second) = (self.segments.front()?, self.segments.get(1)?);
        // The snapshot record that lets go of an index was written after the entry of that index.
        // So the second file or a later one holds it, and replay still finds where to start.
        let needless = second.first_index <= self.released;
        let busy = self.cut.is_some() || self.foreground_cut().is_some();
        (keep != 0 && self.segments.len() > keep && needless && !busy)
            .then_some(Work::Remove { segment: *oldest })
    }

    fn hand_out(&mut self, work: Work) -> JobId {
        let id = JobId(self.next_job);
        self.next_job += 1;
        let job = Job { id, work };
        debug_assert!(matches!(job.lane(), Lane::Foreground | Lane::Background));
        self.outputs.push_back(Output::Job(job));
        id
    }
}

/// Raft never set anything in it: etcd does not write such a state.
fn is_empty(state: &HardState) -> bool {
    [state.term, state.vote, state.commit]
        .iter()
        .all(|field| field.unwrap_or(0) == 0)
}
