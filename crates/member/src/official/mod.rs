//! The way from the files of an official server to ours, and back.
//!
//! # Theory
//!
//! An official member and one of ours share the log (`member/wal`); they differ in where the state
//! lies. Theirs is one database, `member/snap/db`, which holds the effects of every entry up to
//! its *consistent index* N; beside it `.snap` files tell who the members are. Ours is a checkpoint
//! in `member/state`. So three things can be done without touching a client's data:
//!
//! - [`take_over()`]: a start on the directory of an official member. The database becomes a
//!   checkpoint, the entries between N and the commit index are applied to it, the log stays
//!   where it is, and `member/snap` is kept under a name of its own.
//! - [`found()`]: a database becomes a member of a new cluster (`etcdutl snapshot restore`).
//! - [`give_back()`]: our state becomes a database of the format of a given release, the log gets a
//!   snapshot record at its index (`etcdutl migrate --to-etcd`).
//!
//! # A crash on the way
//!
//! Everything new is made under a name that no start looks at, and made durable; then one rename
//! says that it counts. A take-over moves the official files after that: until then, and whenever an
//! official server has been there since, both are found, and the one that holds the later entry
//! counts. At every moment the directory is the old one or the new one, and [`settle`] clears away
//! what counts for nothing.
//!
//! ```text
//! member/snap/db  member/wal                           official
//! member/snap/db  member/wal  member/state.new         official; state.new is thrown away
//! member/snap/db  member/wal  member/state             ours, which is as new
//! member/official-1/db  member/wal  member/state       ours
//! ```

mod fill;
mod found;
mod give_back;
mod snap;
mod take_over;

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kvorum_proto::ids::LogIndex;
use kvorum_storage::bolt::ReadError;
use kvorum_storage::checkpoint::StateError;
use kvorum_storage::vfs::{OpenMode, Vfs, VfsFile as _};
use kvorum_storage::wal::WalError;

use crate::backend::import::ImportError;
use crate::cluster::Version;

pub use found::{Founding, Site, found, is_free};
pub use give_back::{GivenBack, give_back};
pub use snap::SnapDamage;
pub use take_over::{TakenOver, Taking, settle, take_over};

/// Why files could not be taken over or given back. Unless the disk failed, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OfficialError {
    /// A step on the disk failed.
    #[error("{operation} {}", file.display())]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// With which file or directory.
        file: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A database is damaged, or not from an official server.
    #[error("{}: {error}", file.display())]
    Database {
        /// The database.
        file: PathBuf,
        /// What is wrong with it, and where.
        error: ImportError,
    },
    /// A change in a database does not fit the ones before.
    #[error("{}: {error}", file.display())]
    History {
        /// The database.
        file: PathBuf,
        /// What is wrong.
        error: kvorum_mvcc::ImportError,
    },
    /// A `.snap` file is damaged.
    #[error("{}: {damage}", file.display())]
    Snap {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        damage: SnapDamage,
    },
    /// Somebody still has keys of the version 2 API.
    #[error(
        "{} holds keys of the version 2 API, which no release from 3.6 on serves; \
         move them to the version 3 API with etcd 3.4 first",
        file.display()
    )]
    UserKeys {
        /// The `.snap` file.
        file: PathBuf,
    },
    /// Users are asked for.
    #[error(
        "authentication is on in {}, and this release has none: it would serve everything to \
         everybody; switch it off with the official server first (etcdctl auth disable)",
        file.display()
    )]
    Authentication {
        /// The database.
        file: PathBuf,
    },
    /// The log behind a database changes users.
    #[error(
        "log entry {} behind {} changes users or roles, which this release cannot apply; start the \
         official server on the directory once more and stop it with SIGTERM, so that the change \
         gets into its database",
        index.0, file.display()
    )]
    Users {
        /// The database.
        file: PathBuf,
        /// The first entry that does so.
        index: LogIndex,
    },
    /// The data is of a release that we do not know.
    #[error("{} is of version {version}, which is newer than this release", file.display())]
    Newer {
        /// The database.
        file: PathBuf,
        /// Its storage version, or that of its cluster.
        version: Version,
    },
    /// Database and log do not belong together.
    #[error(
        "{} ends at index {}, and the log goes from {} to {}: files are missing",
        file.display(), applied.0, start.0, end.0
    )]
    OtherLog {
        /// The database.
        file: PathBuf,
        /// The last entry in it.
        applied: LogIndex,
        /// What the log begins behind.
        start: LogIndex,
        /// The last entry in the log.
        end: LogIndex,
    },
    /// An entry behind the database cannot be applied.
    #[error("the log behind {} cannot be applied: {reason}", file.display())]
    Entry {
        /// The database.
        file: PathBuf,
        /// Which entry, and what it is.
        reason: String,
    },
    /// No database can be made of the state.
    #[error("{}: {error}", file.display())]
    Encode {
        /// The database.
        file: PathBuf,
        /// Why not.
        error: crate::backend::BackendError,
    },
    /// Our own state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// Our own state cannot be taken up.
    #[error(transparent)]
    Open(#[from] crate::checkpoint::OpenError),
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] WalError),
}

impl OfficialError {
    fn disk(file: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Disk {
            operation,
            file,
            source,
        }
    }

    fn database(file: &Path) -> impl Fn(ImportError) -> Self {
        let file = file.to_owned();
        move |error| Self::Database {
            file: file.clone(),
            error,
        }
    }

    fn unreadable(file: &Path) -> impl Fn(ReadError) -> Self {
        let failed = Self::database(file);
        move |error| failed(error.into())
    }
}

/// Makes a small file, durable but for its name.
fn write_file<V: Vfs>(vfs: &V, path: &Path, content: &[u8]) -> Result<(), OfficialError> {
    let failed = || OfficialError::disk(path, "write");
    let mode = OpenMode::CreateNew {
        mode: kvorum_storage::vfs::FILE_MODE,
    };
    let mut file = vfs.open(path, mode).map_err(failed())?;
    file.write_at(0, content).map_err(failed())?;
    file.sync().map_err(failed())
}

/// Reads a small file.
fn read_file<V: Vfs>(vfs: &V, path: &Path) -> Result<Bytes, OfficialError> {
    let read = || -> io::Result<Bytes> {
        let file = vfs.open(path, OpenMode::Read)?;
        let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        let count = file.read_at(0, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes.into())
    };
    read().map_err(OfficialError::disk(path, "read"))
}

fn exists<V: Vfs>(vfs: &V, path: &Path) -> Result<bool, OfficialError> {
    vfs.exists(path)
        .map_err(OfficialError::disk(path, "look for"))
}

fn rename<V: Vfs>(vfs: &V, from: &Path, to: &Path) -> Result<(), OfficialError> {
    vfs.rename(from, to)
        .map_err(OfficialError::disk(from, "rename"))
}

fn sync_directory<V: Vfs>(vfs: &V, directory: &Path) -> Result<(), OfficialError> {
    let failed = OfficialError::disk(directory, "sync");
    vfs.sync_directory(directory).map_err(failed)
}

/// An empty directory, whatever an earlier attempt left there.
fn empty_directory<V: Vfs>(vfs: &V, directory: &Path) -> Result<(), OfficialError> {
    remove_directory(vfs, directory)?;
    vfs.create_directory(directory, kvorum_storage::vfs::DIRECTORY_MODE)
        .map_err(OfficialError::disk(directory, "create"))
}

/// Removes a directory that holds files only, if it is there.
fn remove_directory<V: Vfs>(vfs: &V, directory: &Path) -> Result<(), OfficialError> {
    if !exists(vfs, directory)? {
        return Ok(());
    }
    let remove = || -> io::Result<()> {
        for name in vfs.list(directory)? {
            vfs.remove(&directory.join(name))?;
        }
        vfs.remove_directory(directory)
    };
    remove().map_err(OfficialError::disk(directory, "remove"))
}

/// A name with a number that is free: `stem-1`, `stem-2` and so on.
fn free_name<V: Vfs>(vfs: &V, directory: &Path, stem: &str) -> Result<String, OfficialError> {
    let mut number = 1_u64;
    loop {
        let name = format!("{stem}-{number}");
        if !exists(vfs, &directory.join(&name))? {
            return Ok(name);
        }
        number += 1;
    }
}
