//! Opens what a command is given.

use std::fmt::Display;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kvorum_cli::{Failure, Line};
use kvorum_storage::bolt::{Patch, ReadError, Reader, rewrite};
use kvorum_storage::vfs::{FILE_MODE, FileOutput, OpenMode, OsFile, OsVfs, Vfs as _};

/// How often a file that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// The database of an official server in a data directory.
pub(crate) fn database_of(data_directory: &Path) -> PathBuf {
    data_directory.join("member").join("snap").join("db")
}

/// Fails as Go does when there is no such file.
pub(crate) fn stat(path: &Path) -> Result<(), Failure> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(disk("stat", path, &error)),
    }
}

/// What Go says of a step on the disk that failed.
pub(crate) fn disk(step: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::error(format!("{step} {}: {}", path.display(), reason(error)))
}

/// The reason as Go spells it: in lower case, without a number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) if error.raw_os_error().is_some() => text.to_lowercase(),
        _ => text,
    }
}

/// Opens a database to read it.
pub(crate) fn open(path: &Path) -> Result<Reader<OsFile>, Failure> {
    let file = OsVfs::default().open(path, OpenMode::Read);
    let file = file.map_err(|error| disk("open", path, &error))?;
    read(path, file)
}

/// Opens the database of a data directory that no server may use meanwhile: it is locked, as servers
/// lock it, for as long as the second value lives.
pub(crate) fn open_locked(path: &Path, line: &Line) -> Result<(Reader<OsFile>, File), Failure> {
    let lock = OpenOptions::new().read(true).write(true).open(path);
    let lock = lock.map_err(|error| disk("open", path, &error))?;
    let timeout = line.duration("timeout");
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok((open(path)?, lock)),
            Err(TryLockError::WouldBlock) if !timeout.is_zero() && start.elapsed() >= timeout => {
                return Err(in_file(path, &"in use by another process: timeout"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::Error(error)) => return Err(disk("lock", path, &error)),
        }
    }
}

fn read(path: &Path, file: OsFile) -> Result<Reader<OsFile>, Failure> {
    Reader::open(file).map_err(|error| match error {
        ReadError::NoMeta { .. } => in_file(path, &format_args!("invalid database: {error}")),
        _ => in_file(path, &error),
    })
}

/// What is wrong with a file.
pub(crate) fn in_file(path: &Path, error: &dyn Display) -> Failure {
    Failure::error(format!("{}: {error}", path.display()))
}

/// Whether a data directory holds our state.
pub(crate) fn is_ours(data_directory: &Path) -> bool {
    data_directory.join("member").join("state").exists()
}

/// Length of a file, in bytes.
pub(crate) fn length(path: &Path) -> Result<u64, Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) => Err(disk("stat", path, &error)),
    }
}

/// Puts a changed copy of a database in its place. A crash leaves the old or the new.
pub(crate) fn replace(path: &Path, file: &Reader<OsFile>, patch: &Patch) -> Result<(), Failure> {
    let unfinished = path.with_extension("tmp");
    let failed = |error: io::Error| disk("write", &unfinished, &error);
    let vfs = OsVfs::default();
    if unfinished.exists() {
        vfs.remove(&unfinished).map_err(failed)?;
    }
    let new = OpenMode::CreateNew { mode: FILE_MODE };
    let output = FileOutput::new(vfs.open(&unfinished, new).map_err(failed)?);
    let output = rewrite(file, patch, output).map_err(|error| in_file(path, &error))?;
    output.finish().map_err(failed)?;
    vfs.rename(&unfinished, path)
        .and_then(|()| vfs.sync_directory(path.parent().unwrap_or(Path::new("."))))
        .map_err(|error| disk("rename", &unfinished, &error))
}

/// An error with everything that led to it.
pub(crate) fn chain(error: &dyn std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    Failure::error(text)
}
