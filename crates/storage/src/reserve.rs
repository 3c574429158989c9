//! Space that a member sets aside on its disk, so that it can still work when the disk is full.
//!
//! The reserve is a file without content whose space is allocated. It is there or not; giving it
//! back is removing the file, which needs no space. When it is given back, the space belongs to
//! whoever writes next, which is why costly requests are refused before (`member::disk_space`).

use std::io;
use std::path::{Path, PathBuf};

use crate::vfs::{DiskSpace, FILE_MODE, OpenMode, Vfs, VfsFile};

/// Name of the file, in the directory of the state.
pub const RESERVE_NAME: &str = "reserve";

/// The reserve in one directory.
#[derive(Clone, Debug)]
pub struct Reserve<V> {
    vfs: V,
    directory: PathBuf,
}

impl<V: Vfs> Reserve<V> {
    /// In this directory, which must exist. Touches nothing.
    pub fn new(vfs: V, directory: &Path) -> Self {
        Reserve {
            vfs,
            directory: directory.to_owned(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(RESERVE_NAME)
    }

    /// Whether it is there.
    ///
    /// # Errors
    ///
    /// When the disk cannot tell.
    pub fn is_held(&self) -> io::Result<bool> {
        self.vfs.exists(&self.path())
    }

    /// Allocates the reserve anew; false when the disk has not so much.
    ///
    /// # Errors
    ///
    /// Any other trouble with the disk.
    pub fn take(&self, bytes: u64) -> io::Result<bool> {
        self.release()?;
        let mode = OpenMode::CreateNew { mode: FILE_MODE };
        let taken = self
            .vfs
            .open(&self.path(), mode)
            .and_then(|mut file| file.reserve(bytes));
        match taken {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => self.release().map(|()| false),
            Err(error) => Err(error),
        }
    }

    /// Gives it back to the disk.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed.
    pub fn release(&self) -> io::Result<()> {
        match self.vfs.remove(&self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Size of the disk and what is free on it.
    ///
    /// # Errors
    ///
    /// When the disk cannot tell.
    pub fn disk(&self) -> io::Result<DiskSpace> {
        self.vfs.space(&self.directory)
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::crash_disk::CrashDisk;

    #[test]
    fn a_reserve_is_there_from_taking_to_giving_back() {
        let reserve = Reserve::new(CrashDisk::new(), Path::new("/"));
        assert!(!reserve.is_held().unwrap());
        reserve.release().unwrap();
        assert!(reserve.take(1 << 20).unwrap());
        assert!(reserve.is_held().unwrap());
        assert!(reserve.take(1 << 10).unwrap(), "it can be taken anew");
        reserve.release().unwrap();
        assert!(!reserve.is_held().unwrap());
    }
}
