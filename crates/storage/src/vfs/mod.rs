//! The one door to the disk.
//!
//! Nobody else in the core crates calls the operating system for files. Each call here is one call
//! to the disk, so that a simulated disk can fail, delay or crash at every one of them. What
//! survives a crash is exactly this:
//!
//! - bytes passed to [`VfsFile::write_through`] once it has returned, and bytes written or lengths
//!   set before a [`VfsFile::sync`] that has returned;
//! - names created, renamed or removed in a directory before a [`Vfs::sync_directory`] on it that
//!   has returned. A file's bytes may be durable while its name is not.
//!
//! Everything else may survive wholly, in 512-byte sectors, or not at all. `write_through` vouches
//! for its own range only: bytes that `write_at` put elsewhere in the same file stay at risk.

#[cfg(test)]
pub(crate) mod crash_disk;
#[cfg(target_os = "linux")]
mod direct;
mod map;
mod os;
mod output;

use std::io;
use std::path::Path;

use bytes::Bytes;

pub use map::Mapped;
pub use os::{OsFile, OsVfs, SyncMode};
pub use output::FileOutput;

/// Mode bits of directories, as etcd sets them: only the owner may enter.
pub const DIRECTORY_MODE: u32 = 0o700;
/// Mode bits of files, as etcd sets them: only the owner may read or write.
pub const FILE_MODE: u32 = 0o600;
/// The unit in which disks write: after a crash a sector holds its old or its new bytes.
pub const SECTOR_BYTES: usize = 512;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; it is only read.
    Read,
    /// The file must exist; it is read and written.
    ReadWrite,
    /// The file must not exist; it is created empty with these mode bits, read and written.
    CreateNew {
        /// Permission bits such as [`FILE_MODE`].
        mode: u32,
    },
}

/// The room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// What files of this process may still take.
    pub free_bytes: u64,
    /// The whole disk.
    pub total_bytes: u64,
}

/// A file system. Clones share the same disk.
///
/// # Errors
///
/// Every call passes on what the disk says; [`io::ErrorKind`] is kept, so that a full disk is
/// `StorageFull` and a missing file `NotFound`.
pub trait Vfs: Clone + Send + 'static {
    /// An open file of this file system.
    type File: VfsFile;

    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File>;
    /// Names in a directory, in no particular order, without `.` and `..`.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Whether a file or directory of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Creates one directory; its parent must exist and the name must be free.
    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()>;
    /// Renames a file or a directory; a file at the target is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes the name of a file; open handles stay usable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, directory: &Path) -> io::Result<()>;
    /// The room on the disk that holds a directory. A disk without an end has all there is.
    fn space(&self, directory: &Path) -> io::Result<DiskSpace> {
        let _ = directory;
        Ok(DiskSpace {
            free_bytes: u64::MAX,
            total_bytes: u64::MAX,
        })
    }
}

/// An open file. Dropping it closes it and gives up its lock.
///
/// # Errors
///
/// As for [`Vfs`]. After a failed write or sync nothing is known about the bytes: do not retry.
pub trait VfsFile: Send + 'static {
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file, 0 beyond it.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// All bytes of a file that nobody writes any more. They may be read from the disk only when
    /// they are looked at, and stay readable when the file is removed.
    fn map(&self) -> io::Result<Mapped> {
        let length = usize::try_from(self.length()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        let read = self.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(Bytes::from(bytes).into())
    }
    /// Writes all bytes to the page cache; a gap before `offset` reads as zeros.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// The same for much that nobody reads soon: past the page cache where the disk lets it. No more durable than with
    /// [`VfsFile::write_at`].
    fn write_past_cache(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }
    /// Writes all bytes; they and the length that makes them readable are durable on return.
    fn write_through(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Takes space on the disk for the first `length` bytes without changing the length. A disk
    /// that cannot do so ahead of time says `Ok`; only a full one fails, with `StorageFull`.
    fn reserve(&mut self, length: u64) -> io::Result<()>;
    /// Cuts the file or extends it by zeros.
    fn set_length(&mut self, length: u64) -> io::Result<()>;
    /// Makes bytes and length durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Takes the exclusive lock of the whole file without waiting; false when another open file
    /// holds it, in this process or in any other. The file must be open for writing. An official
    /// etcd takes the same kind of lock, so that each keeps the other out.
    fn try_lock(&mut self) -> io::Result<bool>;
}
