//! What the state asks of the disk, and who does it.

use kvorum_mvcc::{SegmentImage, StoreJob};
use kvorum_proto::ids::LogIndex;
use kvorum_storage::checkpoint::{Directory, Manifest, StateError};
use kvorum_storage::segment::{Damage, MergeStep, Segment, SegmentId};
use kvorum_storage::vfs::Vfs;

/// How much of a segment is made or written in one step.
const STEP_BYTES: usize = 256 << 10;
/// Bytes of a segment after which they are synced, although only the whole of it has to be durable: a disk that is given
/// tens of megabytes at once lets the log wait until it is through with them.
const UNSYNCED_BYTES_MAX: usize = 1 << 20;

/// A piece of work for the disk. Jobs are done one after the other, in the order in which they were
/// handed out; one that fails stops the process.
#[derive(Debug)]
pub enum Job {
    /// Something that the store wants.
    Store(StoreJob),
    /// The same for the copier, which nothing waits for.
    Copy(StoreJob),
    /// Replace the manifest.
    Manifest(Box<Manifest>),
    /// Let the received state take the place of the old one.
    Adopt,
}

/// A job that is done.
#[derive(Debug)]
pub enum Done {
    /// A segment is durable, its name included; none when it came out empty.
    Written {
        /// Its number.
        id: SegmentId,
        /// The open file.
        segment: Option<Segment>,
    },
    /// Files are gone.
    Removed,
    /// The manifest of the state at this entry is durable.
    Manifest(LogIndex),
    /// The received state is the only one.
    Adopted,
}

/// Where a job is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// A checkpoint may wait for it.
    State,
    /// Nothing waits for it.
    Copier,
}

impl Job {
    /// Which lane runs it. Each lane does its jobs in order; the lanes need not wait for each other.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Job::Copy(_) => Lane::Copier,
            Job::Store(_) | Job::Manifest(_) | Job::Adopt => Lane::State,
        }
    }
}

/// Does the jobs of one lane.
#[derive(Clone, Debug)]
pub struct Executor<V> {
    directory: Directory<V>,
}

impl<V: Vfs> Executor<V> {
    /// On this directory.
    pub fn new(directory: Directory<V>) -> Self {
        Executor { directory }
    }

    pub(super) fn directory(&self) -> &Directory<V> {
        &self.directory
    }

    pub(super) fn damaged(&self, damage: Damage) -> StateError {
        self.directory.damaged(damage)
    }

    /// Does a job. After each step of a segment, `pace` is told how many bytes it wrote, 0 for one that
    /// only looked at some; it may wait.
    ///
    /// # Errors
    ///
    /// [`StateError`]; nothing is tried again.
    pub fn run(&self, job: Job, pace: impl FnMut(usize)) -> Result<Done, StateError> {
        match job {
            Job::Store(job) | Job::Copy(job) => match job {
                StoreJob::Write(image) => self.write(image, pace),
                StoreJob::Remove(ids) => {
                    for id in ids {
                        self.directory.remove_segment(id)?;
                    }
                    Ok(Done::Removed)
                }
            },
            Job::Manifest(manifest) => {
                self.directory.replace_manifest(&manifest)?;
                Ok(Done::Manifest(manifest.index))
            }
            Job::Adopt => {
                self.directory.adopt_received()?;
                Ok(Done::Adopted)
            }
        }
    }

    fn write(
        &self,
        mut image: SegmentImage,
        mut pace: impl FnMut(usize),
    ) -> Result<Done, StateError> {
        let id = image.id();
        let (mut offset, mut unsynced) = (0, 0);
        loop {
            let step = image.step(STEP_BYTES);
            let step = step.map_err(|damage| self.directory.damaged(damage))?;
            let (bytes, is_last) = match step {
                MergeStep::Chunk(bytes) => (bytes, false),
                MergeStep::Last(bytes) => (bytes, true),
                MergeStep::Empty => return Ok(Done::Written { id, segment: None }),
            };
            for piece in bytes.chunks(STEP_BYTES) {
                self.directory.write_segment(id, offset, piece)?;
                offset += piece.len() as u64;
                unsynced += piece.len();
                if unsynced >= UNSYNCED_BYTES_MAX {
                    self.directory.sync_segment(id)?;
                    unsynced = 0;
                }
                pace(piece.len());
            }
            if bytes.is_empty() {
                pace(0);
            }
            if is_last {
                break;
            }
        }
        let segment = self.directory.finish_segment(id)?;
        self.directory.sync_names()?;
        Ok(Done::Written {
            id,
            segment: Some(segment),
        })
    }
}
