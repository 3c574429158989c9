//! The data directory: what lies in it, who may use it, in which format it is.
//!
//! ```text
//! <data-dir>/            0700; other modes only give a warning
//!   member/              locked by the process that runs the member
//!     wal/               the write-ahead log, in etcd's format; it has locks of its own
//!     state/             our state
//!       format           "kvorum-state N": the format of everything below `state`
//! ```
//!
//! The directory is opened in steps, and each step is safe to repeat: [`identify`] only looks,
//! [`DataDirectory::open`] makes and locks the directories and reads the format,
//! [`DataDirectory::mark_format`] writes the format once the member has decided to stay. A newer
//! format is refused by name, so that an older release never guesses at it.
//!
//! Source: v3.7.1 `server/etcdmain/etcd.go` (`identifyDataDirOrDie`),
//! `client/pkg/fileutil/fileutil.go` (`TouchDirAll`, `CheckDirPermission`, `IsDirWriteable`).

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvorum_storage::checkpoint::{FORMAT, FORMAT_NAME, FORMAT_WORD, format_mark};

use crate::log::Line;

/// Mode of directories that hold data.
const DIRECTORY_MODE: u32 = 0o700;
/// Mode of files that hold data.
const FILE_MODE: u32 = 0o600;
/// Pause between two tries for a lock that another process holds.
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Tries between two lines about a lock that another process holds: ten seconds.
const LOCK_TRIES_PER_LINE: u32 = 100;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A step on the disk failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The directory was used by a member and by a proxy.
    #[error("invalid datadir; both member and proxy directories exist")]
    Ambiguous,
    /// The directory was used by a proxy of an old release.
    #[error("v2 http proxy has already been deprecated in 3.6")]
    Proxy,
    /// The state was written by a newer release.
    #[error(
        "{} says format {found}, and this release reads formats up to {FORMAT}: the data was \
         written by a newer release",
        path.display()
    )]
    NewerFormat {
        /// The format file.
        path: PathBuf,
        /// The format it names.
        found: u32,
    },
    /// The format file is damaged.
    #[error("{} names no format: expected \"{FORMAT_WORD} N\"", path.display())]
    UnreadableFormat {
        /// The format file.
        path: PathBuf,
    },
}

/// Who used a data directory before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Nobody, or it does not exist.
    Empty,
    /// A member.
    Member,
}

/// Looks into a data directory without changing it, and logs what it finds.
///
/// # Errors
/// The directory cannot be listed, or does not belong to a member.
pub fn identify(directory: &Path) -> Result<Contents, DirectoryError> {
    let (contents, lines) = look_into(directory)?;
    for line in lines {
        line.write();
    }
    Ok(contents)
}

fn look_into(directory: &Path) -> Result<(Contents, Vec<Line>), DirectoryError> {
    let shown = directory.display().to_string();
    let mut lines = Vec::new();
    let (mut member, mut proxy) = (false, false);
    for name in list(directory)? {
        match name.as_str() {
            "member" => member = true,
            "proxy" => proxy = true,
            _ => lines.push(
                Line::warn("found invalid file under data directory")
                    .field("filename", name)
                    .field("data-dir", shown.clone()),
            ),
        }
    }
    let (contents, text, kind) = match (member, proxy) {
        (true, true) => return Err(DirectoryError::Ambiguous),
        (false, true) => return Err(DirectoryError::Proxy),
        (true, false) => (
            Contents::Member,
            "server has already been initialized",
            "member",
        ),
        (false, false) => (Contents::Empty, "Initialize and start etcd server", "empty"),
    };
    lines.push(
        Line::info(text)
            .field("data-dir", shown)
            .field("dir-type", kind),
    );
    Ok((contents, lines))
}

/// The names in a directory, sorted; none when it does not exist.
fn list(directory: &Path) -> Result<Vec<String>, DirectoryError> {
    let failed = |source| failure("list", directory, source);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(
            entry
                .map_err(failed)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// A data directory that this process alone uses.
///
/// Invariant: the member directory is locked for as long as this value lives.
#[derive(Debug)]
pub struct DataDirectory {
    member: PathBuf,
    format: Option<u32>,
    _lock: File,
}

impl DataDirectory {
    /// Makes what is missing, locks the member directory, and reads the format of the state.
    ///
    /// While another process holds the lock, the call waits, and says so in the log.
    ///
    /// # Errors
    /// The directory cannot be made, written or locked, or its state is of an unknown format.
    pub fn open(directory: &Path) -> Result<Self, DirectoryError> {
        make_writable(directory)?;
        let member = directory.join("member");
        make_writable(&member)?;
        let lock = lock_waiting(&member)?;
        let format = read_format(&member.join("state").join(FORMAT_NAME))?;
        Ok(Self {
            member,
            format,
            _lock: lock,
        })
    }

    /// The member directory.
    #[must_use]
    pub fn member(&self) -> &Path {
        &self.member
    }

    /// The directory of our state; it may not exist yet.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.member.join("state")
    }

    /// The format of the state, at most [`FORMAT`]; `None` while there is no state.
    #[must_use]
    pub fn format(&self) -> Option<u32> {
        self.format
    }

    /// Whether the directory holds the backend file of an official server.
    #[must_use]
    pub fn has_official_backend(&self) -> bool {
        self.member.join("snap").join("db").exists()
    }

    /// Marks the state as being of [`FORMAT`]; durable on return.
    ///
    /// # Errors
    /// The mark cannot be written.
    pub fn mark_format(&mut self) -> Result<(), DirectoryError> {
        if self.format == Some(FORMAT) {
            return Ok(());
        }
        let state = self.state();
        make_directory(&state)?;
        let (path, unfinished) = (state.join(FORMAT_NAME), state.join("format.tmp"));
        let failed = |source| failure("write", &path, source);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(&unfinished)
            .map_err(failed)?;
        file.write_all(format_mark().as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&unfinished, &path).map_err(failed)?;
        for directory in [&state, &self.member] {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(|source| failure("sync", directory, source))?;
        }
        self.format = Some(FORMAT);
        Ok(())
    }
}

/// Makes a directory with its parents, or warns of its mode; then tries to write in it.
fn make_writable(directory: &Path) -> Result<(), DirectoryError> {
    if directory.exists() {
        let metadata = fs::metadata(directory).map_err(|e| failure("look at", directory, e))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode != DIRECTORY_MODE {
            let shown = format!("d{}", mode_text(mode));
            let error = format!(
                "directory {directory:?} exist, but the permission is {shown:?}. The recommended \
                 permission is \"-rwx------\" to prevent possible unprivileged access to the data"
            );
            Line::warn("check file permission")
                .field("error", error)
                .write();
        }
    } else {
        make_directory(directory)?;
    }
    let probe = directory.join(".touch");
    let failed = |source| failure("write in", directory, source);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(&probe)
        .map_err(failed)?;
    fs::remove_file(&probe).map_err(failed)
}

fn make_directory(directory: &Path) -> Result<(), DirectoryError> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(|source| failure("create", directory, source))
}

/// Permission bits as `rwxr-xr-x`.
fn mode_text(mode: u32) -> String {
    "rwxrwxrwx"
        .chars()
        .zip((0..9).rev())
        .map(|(letter, bit)| if mode >> bit & 1 == 1 { letter } else { '-' })
        .collect()
}

/// Locks a directory, waiting for as long as another process holds the lock.
fn lock_waiting(directory: &Path) -> Result<File, DirectoryError> {
    let mut tries: u32 = 0;
    loop {
        if let Some(lock) = try_lock(directory)? {
            return Ok(lock);
        }
        if tries.is_multiple_of(LOCK_TRIES_PER_LINE) {
            Line::warn("data directory is locked by another process; waiting for it to end")
                .text("path", directory.display())
                .write();
        }
        tries = tries.wrapping_add(1);
        std::thread::sleep(LOCK_RETRY_PAUSE);
    }
}

/// Locks a directory unless another process, or another handle of this one, holds the lock.
fn try_lock(directory: &Path) -> Result<Option<File>, DirectoryError> {
    let failed = |source| failure("lock", directory, source);
    let file = File::open(directory).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The format that a format file names; `None` when there is no file.
fn read_format(path: &Path) -> Result<Option<u32>, DirectoryError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure("read", path, error)),
    };
    let found = text
        .strip_suffix('\n')
        .and_then(|text| text.split_once(' '))
        .filter(|(word, _)| *word == FORMAT_WORD)
        .and_then(|(_, number)| number.parse().ok())
        // The first format is 1.
        .filter(|found| *found > 0)
        .ok_or_else(|| DirectoryError::UnreadableFormat {
            path: path.to_owned(),
        })?;
    if found > FORMAT {
        return Err(DirectoryError::NewerFormat {
            path: path.to_owned(),
            found,
        });
    }
    Ok(Some(found))
}

fn failure(action: &'static str, path: &Path, source: io::Error) -> DirectoryError {
    DirectoryError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Contents, DataDirectory, DirectoryError, FORMAT, look_into, mode_text, try_lock};
    use crate::scratch::Scratch;

    #[test]
    fn a_new_directory_is_private_and_empty() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a/b");
        let (contents, _) = look_into(&path).expect("a missing directory");
        assert_eq!(contents, Contents::Empty);
        let directory = DataDirectory::open(&path).expect("a data directory");
        assert_eq!(directory.format(), None);
        let mode = fs::metadata(&path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        let (contents, _) = look_into(&path).expect("a member's directory");
        assert_eq!(contents, Contents::Member);
    }

    #[test]
    fn strange_names_are_warned_of() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("notes.txt"), "").expect("a file");
        let (_, lines) = look_into(scratch.path()).expect("a directory");
        assert_eq!(
            lines[0].message(),
            "found invalid file under data directory"
        );
        assert_eq!(lines[0].value("filename"), Some(&"notes.txt".into()));
    }

    #[test]
    fn a_directory_of_a_proxy_is_refused() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path().join("proxy")).expect("a directory");
        assert!(matches!(
            look_into(scratch.path()),
            Err(DirectoryError::Proxy)
        ));
        fs::create_dir(scratch.path().join("member")).expect("a directory");
        assert!(matches!(
            look_into(scratch.path()),
            Err(DirectoryError::Ambiguous)
        ));
    }

    #[test]
    fn one_handle_at_a_time_holds_the_lock() {
        let scratch = Scratch::new();
        let directory = DataDirectory::open(scratch.path()).expect("a data directory");
        let member = directory.member().to_owned();
        assert!(try_lock(&member).expect("a look at the lock").is_none());
        drop(directory);
        assert!(try_lock(&member).expect("a look at the lock").is_some());
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let scratch = Scratch::new();
        let mut directory = DataDirectory::open(scratch.path()).expect("a data directory");
        directory.mark_format().expect("a mark");
        assert_eq!(directory.format(), Some(FORMAT));
        let mark = directory.state().join("format");
        drop(directory);
        let again = DataDirectory::open(scratch.path()).expect("the same directory");
        assert_eq!(again.format(), Some(FORMAT));
        drop(again);
        fs::write(&mark, "kvorum-state 2\n").expect("a newer mark");
        let error = DataDirectory::open(scratch.path())
            .expect_err("a newer format")
            .to_string();
        assert!(
            error.contains("says format 2, and this release reads formats up to 1"),
            "{error}"
        );
        for damaged in [
            "",
            "kvorum-state",
            "kvorum-state x\n",
            "other 1\n",
            "kvorum-state 1",
        ] {
            fs::write(&mark, damaged).expect("a damaged mark");
            let error = DataDirectory::open(scratch.path()).expect_err("a damaged mark");
            assert!(
                matches!(error, DirectoryError::UnreadableFormat { .. }),
                "{damaged:?}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_of_the_mark_is_refused_with_its_file() {
        let scratch = Scratch::new();
        let mut directory = DataDirectory::open(scratch.path()).expect("a data directory");
        directory.mark_format().expect("a mark");
        let mark = directory.state().join("format");
        drop(directory);
        let sound = fs::read(&mark).expect("the mark");
        for at in 0..sound.len() * 8 {
            let mut damaged = sound.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            fs::write(&mark, &damaged).expect("a damaged mark");
            let opened = DataDirectory::open(scratch.path());
            let Err(error) = opened else {
                panic!("{:?} is taken", String::from_utf8_lossy(&damaged));
            };
            let error = error.to_string();
            assert!(error.contains(&mark.display().to_string()), "{error}");
            assert_eq!(fs::read(&mark).expect("the mark"), damaged);
        }
    }

    #[test]
    fn modes_are_shown_in_letters() {
        assert_eq!(mode_text(0o755), "rwxr-xr-x");
        assert_eq!(mode_text(0o600), "rw-------");
    }
}
