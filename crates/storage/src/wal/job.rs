//! What the log asks of the disk, as data.

use super::segment::{SegmentName, Spare};

/// One job's name; never used twice by one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// Where a job is run. At most one job of each lane is handed out at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for it: run by [`super::Executor`].
    Foreground,
    /// Nobody waits for it, and it may be slow: run by [`super::BackgroundExecutor`].
    Background,
}

/// A piece of work for the disk. When it is done the shell says so with [`super::Log::done`];
/// when it fails the process stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What to pass to [`super::Log::done`].
    pub id: JobId,
    /// What to do.
    pub work: Work,
}

/// A write of at most this many bytes takes the disk hardly longer than an empty one: two waits for it are most of either.
const SMALL_WRITE_BYTES: usize = 112 << 10;

impl Job {
    /// Whether this is a group so small that it is mostly waiting for the disk.
    #[must_use]
    pub fn is_small_write(&self) -> bool {
        matches!(&self.work, Work::Write { bytes, .. } if bytes.len() <= SMALL_WRITE_BYTES)
    }

    /// Which executor runs it.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self.work {
            Work::Write { .. } | Work::Cut { .. } => Lane::Foreground,
            Work::ZeroAhead { .. } | Work::Prepare { .. } | Work::Remove { .. } => Lane::Background,
        }
    }
}

/// The kinds of work. Offsets and lengths are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Write one group and make it durable.
    Write {
        /// The current file.
        segment: SegmentName,
        /// Where the group begins.
        offset: u64,
        /// The group.
        bytes: Vec<u8>,
    },
    /// End the current file and begin the next.
    Cut {
        /// The file that is full.
        full: SegmentName,
        /// Its used length, to which it is cut.
        used: u64,
        /// The name of the next file.
        next: SegmentName,
        /// The first records of the next file.
        head: Vec<u8>,
        /// The name under which the next file is made.
        spare: Spare,
        /// Whether [`Work::Prepare`] has made it already.
        prepared: bool,
    },
    /// Fill the current file with zeros ahead of the groups.
    ZeroAhead {
        /// The current file.
        segment: SegmentName,
        /// Where the zeros begin; nothing else is written there before this job is done.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Make a file ready to become the next one.
    Prepare {
        /// The name under which it is made.
        spare: Spare,
        /// How many bytes are filled with zeros.
        zeros: u64,
    },
    /// Remove the oldest file, for good when done.
    Remove {
        /// That file.
        segment: SegmentName,
    },
}
