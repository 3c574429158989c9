//! A disk in memory that loses, at a crash, every byte that was not synced. Names are durable at
//! once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use kvorum_storage::vfs::{DiskSpace, OpenMode, Vfs, VfsFile};

#[derive(Clone, Debug, Default)]
struct Bytes {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

type Contents = Arc<Mutex<Bytes>>;

/// The disk; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryDisk {
    files: Arc<Mutex<BTreeMap<PathBuf, Contents>>>,
    /// Bytes that it says it has room for; none: without an end. It takes more.
    total_bytes: Arc<Mutex<Option<u64>>>,
    /// How many calls that make something durable go well before one finds the disk full; none: all do.
    syncs_left: SyncsLeft,
}

type SyncsLeft = Arc<Mutex<Option<usize>>>;

/// A file of it.
#[derive(Debug)]
pub(super) struct MemoryFile {
    contents: Contents,
    syncs_left: SyncsLeft,
}

impl MemoryDisk {
    /// A bit of a file is wrong from now on; the second time it is right again.
    pub(super) fn flip(&self, file: &Path, offset: usize) {
        let files = hold(&self.files);
        hold(&files[file]).cached[offset] ^= 4;
    }

    /// It has room for so many bytes.
    pub(super) fn set_total(&self, bytes: u64) {
        *hold(&self.total_bytes) = Some(bytes);
    }

    /// After so many calls that make something durable one finds the disk full.
    pub(super) fn fill_up_after(&self, syncs: usize) {
        *hold(&self.syncs_left) = Some(syncs);
    }

    /// Whether that call is still to come; from now on it does not.
    pub(super) fn has_room_after_all(&self) -> bool {
        hold(&self.syncs_left).take().is_some()
    }

    /// Power is lost.
    pub(super) fn crash(&self) {
        for contents in hold(&self.files).values() {
            let mut bytes = hold(contents);
            bytes.cached = bytes.durable.clone();
        }
    }
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("one thread")
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Vfs for MemoryDisk {
    type File = MemoryFile;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<MemoryFile> {
        let mut files = hold(&self.files);
        if let OpenMode::CreateNew { .. } = mode {
            files.insert(path.to_owned(), Contents::default());
        }
        let file = |contents| MemoryFile {
            contents,
            syncs_left: Arc::clone(&self.syncs_left),
        };
        files.get(path).cloned().map(file).ok_or_else(missing)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let files = hold(&self.files);
        let inside = files
            .keys()
            .filter_map(|path| path.strip_prefix(directory).ok());
        let names: Vec<_> = inside
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        if names.is_empty() {
            Err(missing())
        } else {
            Ok(names)
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(hold(&self.files).keys().any(|name| name.starts_with(path)))
    }

    fn create_directory(&self, _: &Path, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = hold(&self.files);
        let moved: Vec<_> = files
            .keys()
            .filter(|path| path.starts_with(from))
            .cloned()
            .collect();
        for path in moved {
            let rest = path.strip_prefix(from).expect("filtered by it");
            let target = if rest.as_os_str().is_empty() {
                to.to_owned()
            } else {
                to.join(rest)
            };
            let contents = files.remove(&path).ok_or_else(missing)?;
            files.insert(target, contents);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        hold(&self.files).remove(path).map(drop).ok_or_else(missing)
    }

    fn remove_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn space(&self, _: &Path) -> io::Result<DiskSpace> {
        let files = hold(&self.files);
        let used: usize = files.values().map(|file| hold(file).cached.len()).sum();
        let total_bytes = hold(&self.total_bytes).unwrap_or(u64::MAX);
        Ok(DiskSpace {
            free_bytes: total_bytes.saturating_sub(used as u64),
            total_bytes,
        })
    }
}

impl MemoryFile {
    fn find_room(&self) -> io::Result<()> {
        let mut left = hold(&self.syncs_left);
        match *left {
            Some(0) => {
                *left = None;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Some(syncs) => *left = Some(syncs - 1),
            None => {}
        }
        Ok(())
    }
}

impl VfsFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(hold(&self.contents).cached.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = hold(&self.contents);
        let rest = bytes.cached.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, new: &[u8]) -> io::Result<()> {
        write(&mut hold(&self.contents).cached, offset, new);
        Ok(())
    }

    fn write_through(&mut self, offset: u64, new: &[u8]) -> io::Result<()> {
        self.find_room()?;
        let mut bytes = hold(&self.contents);
        write(&mut bytes.cached, offset, new);
        write(&mut bytes.durable, offset, new);
        Ok(())
    }

    fn reserve(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        hold(&self.contents).cached.resize(length as usize, 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.find_room()?;
        let mut bytes = hold(&self.contents);
        bytes.durable = bytes.cached.clone();
        Ok(())
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}

fn write(bytes: &mut Vec<u8>, offset: u64, new: &[u8]) {
    let end = offset as usize + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset as usize..end].copy_from_slice(new);
}
