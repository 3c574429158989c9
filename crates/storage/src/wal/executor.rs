//! Does the log's jobs on a disk. Blocking, and without a thread: the shell decides where each
//! lane runs.

use std::path::{Path, PathBuf};

use super::error::WalError;
use super::job::{Job, Work};
use super::segment::{SegmentName, Spare};
use crate::vfs::{FILE_MODE, OpenMode, Vfs, VfsFile};

/// Zeros are written in pieces of this many bytes.
const ZEROS: &[u8] = &[0; 64 << 10];

/// What an executor has done since it was opened, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of groups and file heads written, zeros ahead not counted.
    pub bytes_written: u64,
    /// Groups written and made durable.
    pub groups: u64,
    /// Files begun after the first.
    pub cuts: u64,
}

/// Runs foreground jobs, and holds the lock of the current file.
#[derive(Debug)]
pub struct Executor<V: Vfs> {
    vfs: V,
    directory: PathBuf,
    current: (SegmentName, V::File),
    segment_bytes: u64,
    counts: Counts,
}

impl<V: Vfs> Executor<V> {
    pub(super) fn new(
        vfs: V,
        directory: PathBuf,
        current: (SegmentName, V::File),
        segment_bytes: u64,
    ) -> Self {
        Self {
            vfs,
            directory,
            current,
            segment_bytes,
            counts: Counts::default(),
        }
    }

    /// Does a job of the foreground lane; on return its effects are durable.
    ///
    /// # Errors
    ///
    /// When the disk refuses. The job must not be tried again: the process stops.
    ///
    /// # Panics
    ///
    /// On a job of the other lane or of another log.
    pub fn run(&mut self, job: &Job) -> Result<(), WalError> {
        match &job.work {
            Work::Write {
                segment,
                offset,
                bytes,
            } => self.write(*segment, *offset, bytes),
            Work::Cut {
                full,
                used,
                next,
                head,
                spare,
                prepared,
            } => {
                self.end_current(*full, *used)?;
                self.begin(*next, head, *spare, *prepared)
            }
            Work::ZeroAhead { .. } | Work::Prepare { .. } | Work::Remove { .. } => {
                panic!("a background job was given to the foreground")
            }
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn write(&mut self, segment: SegmentName, offset: u64, bytes: &[u8]) -> Result<(), WalError> {
        let (name, file) = &mut self.current;
        assert_eq!(*name, segment, "groups go to the current file");
        file.write_through(offset, bytes).map_err(|source| {
            WalError::disk(
                &self.directory.join(name.to_string()),
                "writing a group",
                source,
            )
        })?;
        self.counts.bytes_written += bytes.len() as u64;
        self.counts.groups += 1;
        Ok(())
    }

    /// Its groups are durable already; if the cut is lost in a crash, zeros stand there instead.
    fn end_current(&mut self, full: SegmentName, used: u64) -> Result<(), WalError> {
        let (name, file) = &mut self.current;
        assert_eq!(*name, full, "the current file is the one that is full");
        file.set_length(used).map_err(|source| {
            WalError::disk(
                &self.directory.join(name.to_string()),
                "ending a full file",
                source,
            )
        })
    }

    /// The file gets its name only when its head is durable, and its lock before its name.
    fn begin(
        &mut self,
        next: SegmentName,
        head: &[u8],
        spare: Spare,
        prepared: bool,
    ) -> Result<(), WalError> {
        let made = self.directory.join(spare.name());
        let named = self.directory.join(next.to_string());
        let mut file = if prepared {
            self.vfs
                .open(&made, OpenMode::ReadWrite)
                .map_err(|source| WalError::disk(&made, "opening the next file", source))?
        } else {
            create_spare(&self.vfs, &made, self.segment_bytes)?
        };
        match file.try_lock() {
            Ok(true) => {}
            Ok(false) => return Err(WalError::Locked { file: made }),
            Err(source) => return Err(WalError::disk(&made, "locking the next file", source)),
        }
        file.write_through(0, head)
            .map_err(|source| WalError::disk(&made, "beginning the next file", source))?;
        self.vfs
            .rename(&made, &named)
            .and_then(|()| self.vfs.sync_directory(&self.directory))
            .map_err(|source| WalError::disk(&named, "naming the next file", source))?;
        self.current = (next, file);
        self.counts.bytes_written += head.len() as u64;
        self.counts.cuts += 1;
        Ok(())
    }
}

/// Runs background jobs; it may live on another thread than the [`Executor`].
#[derive(Debug)]
pub struct BackgroundExecutor<V: Vfs> {
    vfs: V,
    directory: PathBuf,
    segment_bytes: u64,
    /// The file that was last filled ahead, so that it is opened once.
    filling: Option<(SegmentName, V::File)>,
}

impl<V: Vfs> BackgroundExecutor<V> {
    pub(super) fn new(vfs: V, directory: PathBuf, segment_bytes: u64) -> Self {
        Self {
            vfs,
            directory,
            segment_bytes,
            filling: None,
        }
    }

    /// Does a job of the background lane; on return its effects are durable.
    ///
    /// # Errors
    ///
    /// When the disk refuses; [`WalError::DiskFull`] when there is no room for the next file. The
    /// job must not be tried again.
    ///
    /// # Panics
    ///
    /// On a job of the other lane.
    pub fn run(&mut self, job: &Job) -> Result<(), WalError> {
        match &job.work {
            Work::ZeroAhead {
                segment,
                offset,
                length,
            } => self.zero_ahead(*segment, *offset, *length),
            Work::Prepare { spare, zeros } => self.prepare(*spare, *zeros),
            Work::Remove { segment } => self.remove(*segment),
            Work::Write { .. } | Work::Cut { .. } => {
                panic!("a foreground job was given to the background")
            }
        }
    }

    fn zero_ahead(
        &mut self,
        segment: SegmentName,
        offset: u64,
        length: u64,
    ) -> Result<(), WalError> {
        let path = self.directory.join(segment.to_string());
        let failed = |source| WalError::disk(&path, "filling a file with zeros", source);
        let file = match &mut self.filling {
            Some((open, file)) if *open == segment => file,
            filling => {
                let file = self.vfs.open(&path, OpenMode::ReadWrite).map_err(failed)?;
                &mut filling.insert((segment, file)).1
            }
        };
        write_zeros(file, offset, length)
            .and_then(|()| file.sync())
            .map_err(failed)
    }

    fn prepare(&mut self, spare: Spare, zeros: u64) -> Result<(), WalError> {
        let path = self.directory.join(spare.name());
        let mut file = create_spare(&self.vfs, &path, self.segment_bytes)?;
        write_zeros(&mut file, 0, zeros)
            .and_then(|()| file.sync())
            .map_err(|source| WalError::disk(&path, "preparing the next file", source))
    }

    fn remove(&mut self, segment: SegmentName) -> Result<(), WalError> {
        let path = self.directory.join(segment.to_string());
        self.filling.take_if(|(open, _)| *open == segment);
        self.vfs
            .remove(&path)
            .and_then(|()| self.vfs.sync_directory(&self.directory))
            .map_err(|source| WalError::disk(&path, "removing an old file", source))
    }
}

/// Creates a file that is to become a log file, with its space taken; a left-over is replaced.
pub(super) fn create_spare<V: Vfs>(
    vfs: &V,
    path: &Path,
    segment_bytes: u64,
) -> Result<V::File, WalError> {
    let create = || -> std::io::Result<V::File> {
        if vfs.exists(path)? {
            vfs.remove(path)?;
        }
        let mut file = vfs.open(path, OpenMode::CreateNew { mode: FILE_MODE })?;
        file.reserve(segment_bytes)?;
        Ok(file)
    };
    create().map_err(|source| WalError::disk(path, "preparing the next file", source))
}

fn write_zeros(file: &mut impl VfsFile, offset: u64, length: u64) -> std::io::Result<()> {
    let end = offset + length;
    let mut at = offset;
    while at < end {
        let piece = (end - at).min(ZEROS.len() as u64) as usize;
        file.write_at(at, &ZEROS[..piece])?;
        at += piece as u64;
    }
    Ok(())
}
