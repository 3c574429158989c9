//! The real disk.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

#[cfg(target_os = "linux")]
use super::direct::Direct;
use super::{DiskSpace, Mapped, OpenMode, Vfs, VfsFile, map};

/// What makes bytes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// `write_through` is one synchronous write (the meaning of `O_DSYNC`, asked for per write).
    /// Where the system does not know that, it behaves like [`SyncMode::Fdatasync`]. Large writes go past the page
    /// cache where the file system lets them, and are made durable by an `fdatasync`.
    #[default]
    Dsync,
    /// `write_through` is a write and an `fdatasync`.
    Fdatasync,
    /// Nothing is ever synced: `--unsafe-no-fsync`. A crash of the machine loses data.
    Never,
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsVfs {
    sync: SyncMode,
}

impl OsVfs {
    /// A door to the machine's disk that syncs in this way.
    #[must_use]
    pub fn new(sync: SyncMode) -> Self {
        Self { sync }
    }
}

impl Vfs for OsVfs {
    type File = OsFile;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<OsFile> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::CreateNew { mode } => {
                options.write(true).create_new(true).mode(mode);
            }
        }
        Ok(OsFile {
            file: options.open(path)?,
            sync: self.sync,
            #[cfg(target_os = "linux")]
            direct: Direct::default(),
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            // A name that is no text is none that we or etcd ever gave.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn create_directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        DirBuilder::new().mode(mode).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        match self.sync {
            SyncMode::Dsync | SyncMode::Fdatasync => File::open(directory)?.sync_all(),
            SyncMode::Never => Ok(()),
        }
    }

    fn space(&self, directory: &Path) -> io::Result<DiskSpace> {
        let disk = rustix::fs::statvfs(directory)?;
        Ok(DiskSpace {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

/// An open file of the machine.
#[derive(Debug)]
pub struct OsFile {
    file: File,
    sync: SyncMode,
    #[cfg(target_os = "linux")]
    direct: Direct,
}

impl VfsFile for OsFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn map(&self) -> io::Result<Mapped> {
        map::map(&self.file)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_past_cache(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if self.sync != SyncMode::Never && self.direct.write(&self.file, offset, bytes)? {
            return Ok(());
        }
        self.write_at(offset, bytes)
    }

    fn write_through(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if self.sync != SyncMode::Never && self.direct.write(&self.file, offset, bytes)? {
            return self.sync();
        }
        if self.sync == SyncMode::Dsync {
            if write_all_dsync(&self.file, offset, bytes)? {
                return Ok(());
            }
            self.sync = SyncMode::Fdatasync;
        }
        self.write_at(offset, bytes)?;
        self.sync()
    }

    fn reserve(&mut self, length: u64) -> io::Result<()> {
        reserve(&self.file, length)
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.sync {
            SyncMode::Dsync | SyncMode::Fdatasync => self.file.sync_data(),
            SyncMode::Never => Ok(()),
        }
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        try_lock(&self.file)
    }
}

/// Takes the kind of lock that etcd takes, because the other kind does not keep an etcd out: on
/// Linux a write lock of the open file description over the whole file, however long it grows. Unlike
/// the classic lock of `fcntl` it belongs to this open file and not to the process.
///
/// Source: etcd v3.7.1, `client/pkg/fileutil/lock_linux.go`, `ofdTryLockFile`.
#[cfg(target_os = "linux")]
fn try_lock(file: &File) -> io::Result<bool> {
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;

    let whole_file = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        // The system does not know these locks. etcd takes the other kind there, too.
        Err(Errno::EINVAL) => try_flock(file),
        Err(error) => Err(error.into()),
    }
}

/// Elsewhere etcd takes `flock`.
#[cfg(not(target_os = "linux"))]
fn try_lock(file: &File) -> io::Result<bool> {
    try_flock(file)
}

fn try_flock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Writes synchronously; false when the system cannot and nothing can have been made durable.
///
/// Asking per write keeps one file handle, and so one lock, where `O_DSYNC` would need a second.
#[cfg(target_os = "linux")]
fn write_all_dsync(file: &File, offset: u64, bytes: &[u8]) -> io::Result<bool> {
    use rustix::io::{Errno, ReadWriteFlags};

    let mut written = 0;
    while written < bytes.len() {
        let rest = [io::IoSlice::new(&bytes[written..])];
        let at = offset + written as u64;
        match rustix::io::pwritev2(file, &rest, at, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn write_all_dsync(_file: &File, _offset: u64, _bytes: &[u8]) -> io::Result<bool> {
    Ok(false)
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, length: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;

    loop {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, length) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_file: &File, _length: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::vfs::{DIRECTORY_MODE, FILE_MODE};

    /// A directory of its own for one test; gone at the end.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("kvorum-vfs-{}-{number}", std::process::id());
            let place = Self(std::env::temp_dir().join(name));
            OsVfs::default()
                .create_directory(&place.0, DIRECTORY_MODE)
                .unwrap();
            place
        }

        fn file(&self) -> PathBuf {
            self.0.join("file")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const CREATE: OpenMode = OpenMode::CreateNew { mode: FILE_MODE };

    #[test]
    fn bytes_are_read_back_in_every_sync_mode() {
        for sync in [SyncMode::Dsync, SyncMode::Fdatasync, SyncMode::Never] {
            let place = Place::new();
            let disk = OsVfs::new(sync);
            let mut file = disk.open(&place.file(), CREATE).unwrap();
            file.reserve(1 << 16).unwrap();
            assert_eq!(file.length().unwrap(), 0, "taking space leaves the length");
            file.write_through(4, b"durable").unwrap();
            file.write_at(0, b"page").unwrap();
            file.sync().unwrap();
            disk.sync_directory(&place.0).unwrap();
            let mut buffer = [0; 32];
            let read = disk.open(&place.file(), OpenMode::Read).unwrap();
            assert_eq!(read.read_at(0, &mut buffer).unwrap(), 11, "{sync:?}");
            assert_eq!(&buffer[..11], b"pagedurable");
            file.set_length(2).unwrap();
            assert_eq!(read.read_at(1, &mut buffer).unwrap(), 1);
            assert_eq!(read.read_at(9, &mut buffer).unwrap(), 0);
        }
    }

    #[test]
    fn large_writes_are_read_back_wherever_they_begin_and_end() {
        for sync in [SyncMode::Dsync, SyncMode::Fdatasync, SyncMode::Never] {
            let place = Place::new();
            let disk = OsVfs::new(sync);
            let mut file = disk.open(&place.file(), CREATE).unwrap();
            file.reserve(8 << 20).unwrap();
            let mut expected = Vec::new();
            for (number, length) in [300, 200_000, 4096, 1 << 20, 131_072, 3_000_008, 8]
                .into_iter()
                .enumerate()
            {
                let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + number) as u8).collect();
                file.write_through(expected.len() as u64, &bytes).unwrap();
                expected.extend_from_slice(&bytes);
                let mut found = vec![0; expected.len() + 1];
                let read = disk.open(&place.file(), OpenMode::Read).unwrap();
                assert_eq!(read.read_at(0, &mut found).unwrap(), expected.len());
                assert!(found[..expected.len()] == expected, "{sync:?} {length}");
            }
        }
    }

    #[test]
    fn what_is_written_past_the_cache_is_mapped_and_read_back() {
        for sync in [SyncMode::Dsync, SyncMode::Fdatasync, SyncMode::Never] {
            let place = Place::new();
            let disk = OsVfs::new(sync);
            let mut file = disk.open(&place.file(), CREATE).unwrap();
            let mut expected = Vec::new();
            for (number, length) in [1 << 20, 1 << 20, 300_004, 17, 262_144]
                .into_iter()
                .enumerate()
            {
                let bytes: Vec<u8> = (0..length).map(|at| (at * 11 + number) as u8).collect();
                file.write_past_cache(expected.len() as u64, &bytes)
                    .unwrap();
                expected.extend_from_slice(&bytes);
            }
            file.sync().unwrap();
            let map = disk.open(&place.file(), OpenMode::Read).unwrap().map();
            assert!(map.unwrap().bytes() == &expected, "{sync:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn much_is_written_past_the_cache_where_the_disk_lets_it() {
        let place = Place::new();
        let mut file = OsVfs::default().open(&place.file(), CREATE).unwrap();
        file.write_past_cache(0, &vec![7; 1 << 20]).unwrap();
        // A file system that takes no such writes says so once, and is not asked again.
        assert_ne!(file.direct.is_in_use(), file.direct.is_refused());
    }

    #[test]
    fn a_map_outlives_its_file_and_an_empty_one_is_no_error() {
        let place = Place::new();
        let disk = OsVfs::default();
        let mut file = disk.open(&place.file(), CREATE).unwrap();
        assert_eq!(file.map().unwrap().bytes(), "");
        file.write_at(0, b"bytes").unwrap();
        let map = file.map().unwrap();
        drop(file);
        disk.remove(&place.file()).unwrap();
        map.will_need(2..usize::MAX);
        map.will_need(9..12);
        assert_eq!(map.bytes(), "bytes");
    }

    #[test]
    fn only_the_owner_may_enter_and_read() {
        let place = Place::new();
        drop(OsVfs::default().open(&place.file(), CREATE).unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&place.0), mode(&place.file())), (0o700, 0o600));
    }

    #[test]
    fn lock_is_held_by_one_open_file_until_it_is_dropped() {
        let place = Place::new();
        let disk = OsVfs::default();
        let mut first = disk.open(&place.file(), CREATE).unwrap();
        let mut second = disk.open(&place.file(), OpenMode::ReadWrite).unwrap();
        assert!(first.try_lock().unwrap());
        assert!(first.try_lock().unwrap(), "its own lock is not in the way");
        assert!(!second.try_lock().unwrap());
        // A classic lock of this process would be lost when any handle of the file is closed.
        drop(disk.open(&place.file(), OpenMode::Read).unwrap());
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lock_is_the_kind_that_etcd_takes() {
        use nix::fcntl::{FcntlArg, fcntl};
        use nix::libc;

        let place = Place::new();
        let disk = OsVfs::default();
        let mut ours = disk.open(&place.file(), CREATE).unwrap();
        let theirs = disk.open(&place.file(), OpenMode::ReadWrite).unwrap();
        let asked = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let in_the_way = || {
            let mut found = asked;
            fcntl(&theirs.file, FcntlArg::F_OFD_GETLK(&mut found)).unwrap();
            i32::from(found.l_type) != libc::F_UNLCK
        };
        assert!(!in_the_way());
        assert!(ours.try_lock().unwrap());
        assert!(in_the_way());
        theirs.file.try_lock().expect("flock is another matter");
        drop(ours);
        fcntl(&theirs.file, FcntlArg::F_OFD_SETLK(&asked)).unwrap();
        let mut ours = disk.open(&place.file(), OpenMode::ReadWrite).unwrap();
        assert!(!ours.try_lock().unwrap());
    }

    #[test]
    fn names_are_taken_once_and_can_be_moved() {
        let place = Place::new();
        let disk = OsVfs::default();
        drop(disk.open(&place.file(), CREATE).unwrap());
        let again = disk.open(&place.file(), CREATE).map(drop);
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.rename(&place.file(), &place.0.join("moved")).unwrap();
        assert_eq!(disk.list(&place.0).unwrap(), ["moved"]);
        assert!(!disk.exists(&place.file()).unwrap());
        disk.remove(&place.0.join("moved")).unwrap();
        disk.remove_directory(&place.0).unwrap();
    }
}
