//! A disk that behaves as badly as a disk may.
//!
//! It keeps two versions of everything: what the running process sees (`current`) and what a power
//! loss is sure to leave (`durable`). Bytes, lengths and directory entries become durable exactly
//! as [`kvorum_storage::vfs`] promises and not earlier. A failed sync leaves its bytes where no later
//! sync covers them, as the Linux page cache does. At a crash each sector that was written but
//! not synced is drawn to be lost or kept, each file's length is drawn between its durable
//! and its current one, and of the names changed in a directory a prefix survives.
//!
//! Faults are planned from outside by the number of the disk call ([`Disk::calls`]): crash before
//! or after the call, fail it, or run out of space. After a crash every call fails until
//! [`Disk::restart`].

mod content;
mod names;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use kvorum_storage::vfs::{OpenMode, Vfs, VfsFile};

use crate::random::Random;
use content::{Content, Inode};
use names::Names;

/// What happens at a planned disk call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes before the call does anything.
    CrashBefore,
    /// The power goes when the call has been carried out but nobody has heard of it.
    CrashAfter,
    /// The call fails with an input/output error; what it was to make durable is not.
    Fail,
    /// The call is refused because the disk is full.
    Full,
}

/// How many faults of each kind have really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Crashes at a disk call.
    pub crashes: u64,
    /// Reads that failed with an input/output error, of bytes or of names.
    pub failed_reads: u64,
    /// Syncs that failed so.
    pub failed_syncs: u64,
    /// Every other call that failed so.
    pub failed_writes: u64,
    /// Syncs that were acknowledged and made nothing durable.
    pub lies: u64,
    /// Calls refused because the disk was full.
    pub full: u64,
    /// Sectors whose unsynced bytes were lost in a crash.
    pub sectors_lost: u64,
    /// Sectors whose unsynced bytes survived a crash.
    pub sectors_kept: u64,
    /// Files of which a crash kept some unsynced sectors and lost others.
    pub files_torn: u64,
    /// Changes of names lost in a crash.
    pub names_lost: u64,
    /// Bits flipped at rest.
    pub bits_flipped: u64,
}

/// A simulated disk; clones share it.
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    content: Content,
    names: Names,
    random: Random,
    calls: u64,
    plan: Vec<(u64, Fault)>,
    capacity_bytes: u64,
    crashed: bool,
    /// Syncs are acknowledged and do nothing.
    lies: bool,
    /// Grows at each restart, so that handles of a dead process stay dead.
    boot: u64,
    next_handle: u64,
    counts: FaultCounts,
    /// `None` while nobody wants to know.
    trace: Option<Vec<String>>,
}

impl Disk {
    /// An empty disk of unlimited size whose luck in crashes comes from the seed.
    #[must_use]
    pub fn new(random: Random) -> Self {
        let state = State {
            content: Content::default(),
            names: Names::default(),
            random,
            calls: 0,
            plan: Vec::new(),
            capacity_bytes: u64::MAX,
            crashed: false,
            lies: false,
            boot: 0,
            next_handle: 0,
            counts: FaultCounts::default(),
            trace: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A disk of its own that holds the same; open files stay with the original.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut state = self.lock().clone();
        state.boot += 1;
        state.content.unlock_all();
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Disk calls made so far, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Lets the call with this number (the first has 0) meet a fault.
    pub fn plan(&self, call: u64, fault: Fault) {
        self.lock().plan.push((call, fault));
    }

    /// Forgets every planned fault that has not happened.
    pub fn forget_plan(&self) {
        self.lock().plan.clear();
    }

    /// Sets the size of the disk; `u64::MAX` means without limit.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity_bytes = bytes;
    }

    /// From now on every sync is acknowledged and makes nothing durable.
    pub fn lie(&self) {
        self.lock().lies = true;
    }

    /// Whether it does that.
    #[must_use]
    pub fn lies(&self) -> bool {
        self.lock().lies
    }

    /// Bytes taken by files at present.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Whether the power has gone and [`Self::restart`] has not been called.
    #[must_use]
    pub fn is_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Takes the power away now.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// Ends the process without a power loss: all it wrote is still in the page cache.
    pub fn kill_process(&self) {
        let mut state = self.lock();
        state.boot += 1;
        state.content.unlock_all();
    }

    /// Brings the power back: what survived is there, locks are gone.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.crashed = false;
        state.boot += 1;
        state.content.unlock_all();
    }

    /// What has really happened so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.lock().counts
    }

    /// Names of all files, with their current lengths.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.lock();
        let lengths = state.names.files().map(|(path, inode)| {
            (
                path.to_owned(),
                state.content.inode(inode).current.len() as u64,
            )
        });
        lengths.collect()
    }

    /// Flips one bit of a file at rest, on disk and in the page cache.
    ///
    /// # Panics
    ///
    /// When there is no such file or byte: a plan that misses proves nothing.
    pub fn flip_bit(&self, path: &Path, byte: u64, bit: u8) {
        let mut state = self.lock();
        let inode = state.names.file(path).expect("the file to damage exists");
        state.content.flip_bit(inode, byte as usize, bit);
        state.counts.bits_flipped += 1;
    }

    /// Hands out the lines written about each call since the last time, and has them written from
    /// now on.
    #[must_use]
    pub fn take_trace(&self) -> Vec<String> {
        self.lock().trace.replace(Vec::new()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no holder of the simulated disk panics")
    }
}

fn power_is_gone() -> io::Error {
    io::Error::other("simulated power loss")
}

impl State {
    /// Counts a call and carries out what is planned for it: `Ok(true)` asks for a crash after it.
    fn begin(&mut self, what: &str, path: &Path) -> io::Result<bool> {
        if self.crashed {
            return Err(power_is_gone());
        }
        let number = self.calls;
        self.calls += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{number} {what} {}", path.display()));
        }
        let Some(position) = self.plan.iter().position(|(call, _)| *call == number) else {
            return Ok(false);
        };
        match self.plan.swap_remove(position).1 {
            Fault::CrashBefore => {
                self.crash();
                Err(power_is_gone())
            }
            Fault::CrashAfter => Ok(true),
            Fault::Fail => {
                *match what {
                    "read" | "list" | "exists" | "length" | "open" => &mut self.counts.failed_reads,
                    "sync" | "sync range" | "sync directory" => &mut self.counts.failed_syncs,
                    _ => &mut self.counts.failed_writes,
                } += 1;
                Err(io::Error::other("simulated input/output error"))
            }
            Fault::Full => {
                self.counts.full += 1;
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }

    fn crash(&mut self) {
        if self.crashed {
            return;
        }
        self.crashed = true;
        self.counts.crashes += 1;
        self.names.crash(&mut self.random, &mut self.counts);
        let alive: Vec<u64> = self.names.files().map(|(_, inode)| inode).collect();
        self.content
            .crash(&alive, &mut self.random, &mut self.counts);
    }

    /// Files without a name take nothing: whoever has them open writes little.
    fn used_bytes(&self) -> u64 {
        self.names
            .files()
            .map(|(_, inode)| self.content.inode(inode).taken_bytes())
            .sum()
    }

    /// Whether a sync that comes now is a lie; counts it.
    fn is_lie(&mut self) -> bool {
        self.counts.lies += u64::from(self.lies);
        self.lies
    }

    fn take_space(&mut self, more_bytes: u64) -> io::Result<()> {
        if self.capacity_bytes == u64::MAX {
            return Ok(());
        }
        if self.used_bytes().saturating_add(more_bytes) > self.capacity_bytes {
            self.counts.full += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Disk {
    fn call<T>(
        &self,
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        let crash_after = state.begin(what, path)?;
        let result = act(&mut state);
        if !crash_after {
            return result;
        }
        state.crash();
        // A file that was opened just now is closed again, which takes the lock.
        drop(state);
        drop(result);
        Err(power_is_gone())
    }
}

impl Vfs for Disk {
    type File = DiskFile;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<DiskFile> {
        self.call("open", path, |state| {
            let inode = match mode {
                OpenMode::Read | OpenMode::ReadWrite => state.names.file(path)?,
                OpenMode::CreateNew { .. } => {
                    let inode = state.content.create();
                    state.names.create_file(path, inode)?;
                    inode
                }
            };
            state.next_handle += 1;
            Ok(DiskFile {
                disk: self.clone(),
                path: path.to_owned(),
                inode,
                handle: state.next_handle,
                boot: state.boot,
            })
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.call("list", directory, |state| state.names.list(directory))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.call("exists", path, |state| Ok(state.names.exists(path)))
    }

    fn create_directory(&self, path: &Path, _mode: u32) -> io::Result<()> {
        self.call("create directory", path, |state| {
            state.names.create_directory(path)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", from, |state| state.names.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path, |state| state.names.remove_file(path))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.call("remove directory", path, |state| {
            state.names.remove_directory(path)
        })
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.call("sync directory", directory, |state| {
            if !state.is_lie() {
                state.names.sync(directory);
            }
            Ok(())
        })
    }
}

/// An open file of a simulated disk.
pub struct DiskFile {
    disk: Disk,
    path: PathBuf,
    inode: u64,
    handle: u64,
    boot: u64,
}

impl DiskFile {
    fn call<T>(
        &self,
        what: &str,
        act: impl FnOnce(&mut State, &Self) -> io::Result<T>,
    ) -> io::Result<T> {
        self.disk.call(what, &self.path, |state| {
            if state.boot != self.boot {
                return Err(io::Error::other("this handle belongs to a dead process"));
            }
            act(state, self)
        })
    }

    /// After a failed sync no later one covers the same bytes.
    fn after_sync(&self, synced: io::Result<()>) -> io::Result<()> {
        if synced.is_err() {
            let mut state = self.disk.lock();
            if !state.crashed && state.boot == self.boot {
                state.content.inode_mut(self.inode).forget_dirty();
            }
        }
        synced
    }

    /// Space for a write that may make the file longer.
    fn take_space(state: &mut State, inode: u64, end: u64) -> io::Result<()> {
        let taken = state.content.inode(inode).taken_bytes();
        state.take_space(end.saturating_sub(taken))
    }
}

impl VfsFile for DiskFile {
    fn length(&self) -> io::Result<u64> {
        self.call("length", |state, file| {
            Ok(state.content.inode(file.inode).current.len() as u64)
        })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.call("read", |state, file| {
            let current = &state.content.inode(file.inode).current;
            let start = (offset as usize).min(current.len());
            let count = buffer.len().min(current.len() - start);
            buffer[..count].copy_from_slice(&current[start..start + count]);
            Ok(count)
        })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.call("write", |state, file| {
            Self::take_space(state, file.inode, offset + bytes.len() as u64)?;
            state
                .content
                .inode_mut(file.inode)
                .write(offset as usize, bytes);
            Ok(())
        })
    }

    fn write_through(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Two calls to the disk: the bytes reach the cache, then the platter. A fault between them
        // leaves the bytes at risk, which is what a torn group write is.
        self.write_at(offset, bytes)?;
        let synced = self.call("sync range", |state, file| {
            let end = offset as usize + bytes.len();
            if !state.is_lie() {
                let inode = state.content.inode_mut(file.inode);
                inode.sync_range(offset as usize, end);
            }
            Ok(())
        });
        self.after_sync(synced)
    }

    fn reserve(&mut self, length: u64) -> io::Result<()> {
        self.call("reserve", |state, file| {
            Self::take_space(state, file.inode, length)?;
            state.content.inode_mut(file.inode).reserve(length);
            Ok(())
        })
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        self.call("set length", |state, file| {
            Self::take_space(state, file.inode, length)?;
            state
                .content
                .inode_mut(file.inode)
                .set_length(length as usize);
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let synced = self.call("sync", |state, file| {
            if !state.is_lie() {
                state.content.inode_mut(file.inode).sync();
            }
            Ok(())
        });
        self.after_sync(synced)
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        self.call("lock", |state, file| {
            let inode: &mut Inode = state.content.inode_mut(file.inode);
            Ok(*inode.locked_by.get_or_insert(file.handle) == file.handle)
        })
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        // After a crash the file may be gone, and its lock with it.
        if state.boot == self.boot && !state.crashed {
            let inode = state.content.inode_mut(self.inode);
            if inode.locked_by == Some(self.handle) {
                inode.locked_by = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
