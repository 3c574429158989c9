//! The write-ahead log, in etcd's format: what raft must remember, made durable before anybody is
//! told of it.
//!
//! # Theory
//!
//! The log is a chain of records over files that follow one another. A record is metadata (whose
//! log this is), an entry, a hard state, a snapshot (the state at this index is safe elsewhere) or
//! a checksum. Every record carries the checksum of all data before it, so a record that was lost,
//! moved or changed is noticed at the next. The bytes are described in `docs/formats/wal.md`.
//!
//! [`Log`] decides and never touches a disk: it turns appends into [`Job`]s and job completions
//! into [`Output::Persisted`]. [`Executor`] and [`BackgroundExecutor`] do the jobs. [`open`] reads
//! the log back, repairs a torn tail and refuses damage.
//!
//! # Invariants
//!
//! - A ticket is reported only after everything appended up to it that asked for durability is
//!   durable; reopening after a crash gives every entry of it back.
//! - Reopening never gives back an entry that was not appended. Entries that were appended but not
//!   reported may be there.
//! - Only bytes that no report can have covered are ever cut. All other damage is refused with file
//!   and offset, and leaves the files as they are.

mod error;
mod executor;
mod frame;
mod job;
mod log;
mod replay;
mod segment;
mod tear;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use kvorum_proto::raftpb::{Entry, HardState};
use kvorum_proto::walpb::Snapshot;

pub use error::{Damage, WalError};
pub use executor::{BackgroundExecutor, Counts, Executor};
pub use frame::Metadata;
pub use job::{Job, JobId, Lane, Work};
pub use log::{Append, Log, Output, Ticket};
pub use segment::{SegmentName, Spare};

use crate::vfs::{DIRECTORY_MODE, OpenMode, Vfs, VfsFile};
use frame::Encoder;
use log::Position;
use replay::Replay;
use segment::{BROKEN_SUFFIX, NEW_DIRECTORY_SUFFIX};

/// Size at which a file is ended and the next begun, as in etcd.
///
/// Source: etcd v3.7.1, `server/storage/wal/wal.go`, `SegmentSizeBytes`.
pub const SEGMENT_BYTES: u64 = 64_000_000;
/// How far the current file is filled with zeros ahead of the groups.
pub const AHEAD_BYTES: u64 = 4 << 20;
/// Files kept when they are no longer needed.
///
/// Source: etcd v3.7.1, `server/embed/config.go`, `DefaultMaxWALs`.
pub const MAX_WALS: usize = 5;

/// How a log is laid out on disk. How it is made durable is the matter of the [`Vfs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A file is ended after the group that reaches this size, in bytes.
    pub segment_bytes: u64,
    /// How far zeros are written ahead of the groups, in bytes; 0 turns it off.
    pub ahead_bytes: u64,
    /// How many files stay when they are no longer needed; 0 keeps all.
    pub max_wals: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            ahead_bytes: AHEAD_BYTES,
            max_wals: MAX_WALS,
        }
    }
}

/// What a log remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovered {
    /// Whose log it is.
    pub metadata: Metadata,
    /// The last hard state; all zero in a new log.
    pub hard_state: HardState,
    /// The newest snapshot that is committed. Index and term are 0 when the log tells all.
    pub snapshot: Snapshot,
    /// The entries behind the snapshot, without a gap.
    pub entries: Vec<Entry>,
}

/// A torn tail that was cut while opening. Nothing that was reported durable was in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The file that was cut.
    pub file: PathBuf,
    /// Where it ends now, in bytes.
    pub offset: u64,
    /// How many bytes that were not zero at the end are gone.
    pub bytes_cut: u64,
    /// The copy made before.
    pub copy: PathBuf,
    /// What stood at the offset.
    pub damage: Damage,
}

/// An open log.
pub struct Opened<V: Vfs> {
    /// What it remembered.
    pub recovered: Recovered,
    /// The tail that had to be cut, for the operator to know.
    pub repair: Option<Repair>,
    /// Decides what is written.
    pub log: Log,
    /// Writes it; holds the lock.
    pub executor: Executor<V>,
    /// Does what may take its time.
    pub background: BackgroundExecutor<V>,
}

/// Whether the directory holds a log.
///
/// # Errors
///
/// When the directory cannot be read. A missing directory holds no log.
pub fn exists(vfs: &impl Vfs, directory: &Path) -> Result<bool, WalError> {
    match list_segments(vfs, directory) {
        Ok(_) => Ok(true),
        Err(WalError::Missing { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a new log. It appears under its name whole or not at all.
///
/// # Errors
///
/// [`WalError::Exists`], [`WalError::DiskFull`], [`WalError::Disk`].
pub fn create<V: Vfs>(
    vfs: &V,
    directory: &Path,
    metadata: Metadata,
    options: Options,
) -> Result<Opened<V>, WalError> {
    let failed = |operation| move |source| WalError::disk(directory, operation, source);
    if vfs.exists(directory).map_err(failed("looking for a log"))? {
        return Err(WalError::Exists {
            directory: directory.to_owned(),
        });
    }
    let mut new = directory.as_os_str().to_owned();
    new.push(NEW_DIRECTORY_SUFFIX);
    let new = PathBuf::from(new);
    empty_directory(vfs, &new).map_err(failed("making room for a new log"))?;

    let path = new.join(SegmentName::FIRST.to_string());
    let mut head = Encoder::new(0);
    head.checksum();
    head.metadata(&metadata);
    head.snapshot(&Snapshot::default());
    // As at the head of every file: it says that the file is one of ours, see `tear`.
    head.checksum();
    let crc = head.crc();
    let head = head.take_bytes();
    let mut file = executor::create_spare(vfs, &path, options.segment_bytes)?;
    lock(&mut file, &path)?;
    file.write_through(0, &head)
        .map_err(|source| WalError::disk(&path, "beginning a new log", source))?;
    vfs.sync_directory(&new)
        .and_then(|()| vfs.rename(&new, directory))
        .and_then(|()| vfs.sync_directory(parent(directory)))
        .map_err(failed("naming a new log"))?;

    let recovered = Recovered {
        metadata,
        hard_state: HardState::default(),
        snapshot: Snapshot {
            index: Some(0),
            term: Some(0),
            conf_state: None,
        },
        entries: Vec::new(),
    };
    let end = End {
        segments: vec![SegmentName::FIRST],
        offset: head.len() as u64,
        crc,
    };
    Ok(opened(vfs, directory, options, file, recovered, None, end))
}

/// Opens a log to go on with it: locks it, reads it and cuts a torn tail.
///
/// # Errors
///
/// [`WalError::Locked`] when somebody else has it open (the caller may try again later),
/// [`WalError::Missing`], [`WalError::Damaged`] and [`WalError::SequenceGap`] with nothing changed
/// on disk, [`WalError::DiskFull`], [`WalError::Disk`].
pub fn open<V: Vfs>(vfs: &V, directory: &Path, options: Options) -> Result<Opened<V>, WalError> {
    let segments = list_segments(vfs, directory)?;
    let last = segments[segments.len() - 1];
    let path = directory.join(last.to_string());
    let failed = |operation| {
        let path = path.clone();
        move |source| WalError::disk(&path, operation, source)
    };
    let mut file = vfs
        .open(&path, OpenMode::ReadWrite)
        .map_err(failed("opening the log"))?;
    lock(&mut file, &path)?;
    // The owner may have begun a new file and let go of this one between the look and the lock.
    if list_segments(vfs, directory)? != segments {
        return Err(WalError::Locked { file: path });
    }

    let (replay, tail, bytes) = replay_needed(vfs, directory, &segments)?;
    let recovered = finish(replay, &path, tail.offset)?;
    remove_spares(vfs, directory)?;
    let repair = match tail.torn {
        Some(damage) => Some(repair(
            vfs,
            directory,
            &path,
            &mut file,
            &bytes,
            tail.offset,
            damage,
        )?),
        None => None,
    };
    file.reserve(options.segment_bytes)
        .map_err(failed("taking space for the log"))?;
    // The sync of the last group may have failed, which ended the process before us. The page cache
    // then shows bytes that it takes for clean and that no later sync would cover: write them again.
    file.write_through(tail.group as u64, &bytes[tail.group..tail.offset])
        .map_err(failed("writing the last group again"))?;
    // A log of an official etcd has no checksum record before its groups; from here on ours has.
    let mut offset = tail.offset;
    if !tail.marked {
        let mut mark = Encoder::new(tail.crc);
        mark.checksum();
        let mark = mark.take_bytes();
        file.write_through(offset as u64, &mark)
            .map_err(failed("writing to the log"))?;
        offset += mark.len();
    }
    // What was read may have been in the page cache only, and so may the names of the file and, when
    // whoever made the log died right after, of its directory: nobody may build on it before it is safe.
    file.sync()
        .and_then(|()| vfs.sync_directory(directory))
        .and_then(|()| vfs.sync_directory(parent(directory)))
        .map_err(failed("syncing the log"))?;
    let end = End {
        segments,
        offset: offset as u64,
        crc: tail.crc,
    };
    Ok(opened(
        vfs, directory, options, file, recovered, repair, end,
    ))
}

/// Reads a log without locking or changing it. A torn tail is left out.
///
/// # Errors
///
/// [`WalError::Missing`], [`WalError::Damaged`], [`WalError::SequenceGap`], [`WalError::Disk`].
pub fn read(vfs: &impl Vfs, directory: &Path) -> Result<Recovered, WalError> {
    let segments = list_segments(vfs, directory)?;
    let (replay, tail, _) = replay_needed(vfs, directory, &segments)?;
    let path = directory.join(segments[segments.len() - 1].to_string());
    finish(replay, &path, tail.offset)
}

/// Where the log ends.
struct End {
    segments: Vec<SegmentName>,
    offset: u64,
    crc: u32,
}

fn opened<V: Vfs>(
    vfs: &V,
    directory: &Path,
    options: Options,
    file: V::File,
    recovered: Recovered,
    repair: Option<Repair>,
    end: End,
) -> Opened<V> {
    let current = end.segments[end.segments.len() - 1];
    let log = Log::new(
        Position {
            metadata: recovered.metadata,
            segments: end.segments.into(),
            offset: end.offset,
            crc: end.crc,
            last_index: replay::last_index(&recovered),
            hard_state: recovered.hard_state,
        },
        options,
    );
    let bytes = options.segment_bytes;
    let directory = directory.to_owned();
    let executor = Executor::new(vfs.clone(), directory.clone(), (current, file), bytes);
    let background = BackgroundExecutor::new(vfs.clone(), directory, bytes);
    Opened {
        recovered,
        repair,
        log,
        executor,
        background,
    }
}

/// The log's files, oldest first; never none.
fn list_segments(vfs: &impl Vfs, directory: &Path) -> Result<Vec<SegmentName>, WalError> {
    let missing = || WalError::Missing {
        directory: directory.to_owned(),
    };
    let names = match vfs.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
        Err(source) => return Err(WalError::disk(directory, "listing the log files", source)),
    };
    let mut segments: Vec<_> = names
        .iter()
        .filter_map(|name| SegmentName::parse(name))
        .collect();
    segments.sort_unstable();
    if let Some(gap) = segments
        .windows(2)
        .find(|pair| pair[0].sequence.checked_add(1) != Some(pair[1].sequence))
    {
        return Err(WalError::SequenceGap {
            directory: directory.to_owned(),
            before: gap[0].to_string(),
            after: gap[1].to_string(),
        });
    }
    if segments.is_empty() {
        Err(missing())
    } else {
        Ok(segments)
    }
}

fn lock(file: &mut impl VfsFile, path: &Path) -> Result<(), WalError> {
    match file.try_lock() {
        Ok(true) => Ok(()),
        Ok(false) => Err(WalError::Locked {
            file: path.to_owned(),
        }),
        Err(source) => Err(WalError::disk(path, "locking the log", source)),
    }
}

/// Reads as few of the last files as hold the newest snapshot record that counts and all that comes behind it: a start
/// has no use for what is older. Gives also the bytes of the last file.
fn replay_needed(
    vfs: &impl Vfs,
    directory: &Path,
    segments: &[SegmentName],
) -> Result<(Replay, replay::Tail, Vec<u8>), WalError> {
    let mut count = 1;
    loop {
        let needed = &segments[segments.len().saturating_sub(count)..];
        let replayed = replay_files(vfs, directory, needed)?;
        let is_whole = needed.len() == segments.len();
        if is_whole || replayed.0.needs_nothing_before(needed[0].first_index) {
            return Ok(replayed);
        }
        // Twice as many: in all no more than twice of what is needed is read.
        count *= 2;
    }
}

/// Reads these files in order; gives also the bytes of the last one.
fn replay_files(
    vfs: &impl Vfs,
    directory: &Path,
    segments: &[SegmentName],
) -> Result<(Replay, replay::Tail, Vec<u8>), WalError> {
    let mut replay = Replay::new();
    let mut bytes = Vec::new();
    let (last, before) = segments.split_last().expect("a log has at least one file");
    for segment in before {
        let path = directory.join(segment.to_string());
        read_file(vfs, &path, &mut bytes)?;
        replay.full_file(&bytes).map_err(|found| found.at(&path))?;
    }
    let path = directory.join(last.to_string());
    read_file(vfs, &path, &mut bytes)?;
    let tail = replay.last_file(&bytes).map_err(|found| found.at(&path))?;
    Ok((replay, tail, bytes))
}

fn finish(replay: Replay, path: &Path, offset: usize) -> Result<Recovered, WalError> {
    let offset = offset as u64;
    replay.finish().map_err(|damage| WalError::Damaged {
        file: path.to_owned(),
        offset,
        damage,
    })
}

/// Reads a whole file; never takes more memory than the file is long.
fn read_file(vfs: &impl Vfs, path: &Path, bytes: &mut Vec<u8>) -> Result<(), WalError> {
    let mut read = || -> std::io::Result<()> {
        let file = vfs.open(path, OpenMode::Read)?;
        let length = usize::try_from(file.length()?).map_err(std::io::Error::other)?;
        bytes.clear();
        bytes.try_reserve_exact(length)?;
        bytes.resize(length, 0);
        let read = file.read_at(0, bytes)?;
        bytes.truncate(read);
        Ok(())
    };
    read().map_err(|source| WalError::disk(path, "reading the log", source))
}

/// Left-overs of a cut that did not come to pass.
fn remove_spares(vfs: &impl Vfs, directory: &Path) -> Result<(), WalError> {
    for spare in Spare::ALL {
        let path = directory.join(spare.name());
        let remove = || match vfs.exists(&path)? {
            true => vfs.remove(&path),
            false => Ok(()),
        };
        remove().map_err(|source| WalError::disk(&path, "removing a left-over", source))?;
    }
    Ok(())
}

/// Keeps a copy of the file, then ends it at `offset`. A crash in between repeats the repair.
fn repair<V: Vfs>(
    vfs: &V,
    directory: &Path,
    path: &Path,
    file: &mut V::File,
    bytes: &[u8],
    offset: usize,
    damage: Damage,
) -> Result<Repair, WalError> {
    let mut copy = path.as_os_str().to_owned();
    copy.push(BROKEN_SUFFIX);
    let copy = PathBuf::from(copy);
    let keep = || -> std::io::Result<()> {
        if vfs.exists(&copy)? {
            vfs.remove(&copy)?;
        }
        let mode = OpenMode::CreateNew {
            mode: crate::vfs::FILE_MODE,
        };
        let mut kept = vfs.open(&copy, mode)?;
        kept.write_at(0, bytes)?;
        kept.sync()?;
        vfs.sync_directory(directory)
    };
    keep().map_err(|source| WalError::disk(&copy, "copying a torn log file", source))?;
    file.set_length(offset as u64)
        .and_then(|()| file.sync())
        .map_err(|source| WalError::disk(path, "cutting a torn log file", source))?;
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    let bytes_cut = used.saturating_sub(offset) as u64;
    Ok(Repair {
        file: path.to_owned(),
        offset: offset as u64,
        bytes_cut,
        copy,
        damage,
    })
}

/// Makes an empty directory, whatever an earlier attempt left there.
fn empty_directory(vfs: &impl Vfs, directory: &Path) -> std::io::Result<()> {
    if vfs.exists(directory)? {
        for name in vfs.list(directory)? {
            vfs.remove(&directory.join(name))?;
        }
        vfs.remove_directory(directory)?;
    }
    vfs.create_directory(directory, DIRECTORY_MODE)
}

fn parent(directory: &Path) -> &Path {
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}
