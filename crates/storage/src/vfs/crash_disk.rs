//! A disk in memory that loses power, for the tests of this crate.
//!
//! Each sector of a file, and its length, is a list of versions: the first is the durable one, the
//! others were written since. A crash picks one of each. A directory is a list of changes since
//! its last sync; a crash keeps any of them, and a rename happens wholly or not.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{OpenMode, SECTOR_BYTES, Vfs, VfsFile};

type Sector = [u8; SECTOR_BYTES];

/// What a crash does to everything that is not durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It is gone.
    Lost,
    /// It has reached the disk.
    Kept,
    /// Either, for each sector, length and name by itself.
    Torn { seed: u64 },
}

/// A small generator of numbers that look random; the same seed gives the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }
}

#[derive(Clone, Debug)]
enum Node {
    File {
        sectors: Vec<Vec<Sector>>,
        lengths: Vec<u64>,
    },
    Directory {
        durable: BTreeMap<String, usize>,
        changes: Vec<Change>,
    },
}

#[derive(Clone, Debug)]
enum Change {
    Add(String, usize),
    Remove(String),
    Rename(String, String),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    nodes: Vec<Node>,
    locks: BTreeMap<usize, u64>,
    handles: u64,
    calls: u64,
    /// The power fails in the middle of this call.
    crash_at: Option<u64>,
    /// No space can be taken any more.
    full: bool,
}

/// The disk. Clones are doors to the same one.
#[derive(Clone, Debug)]
pub(crate) struct CrashDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of the disk.
#[derive(Debug)]
pub(crate) struct CrashFile {
    state: Arc<Mutex<State>>,
    node: usize,
    handle: u64,
}

const ROOT: usize = 0;

fn power_failed() -> io::Error {
    io::Error::other("the power has failed")
}

impl State {
    /// Counts a call that changes the disk; true when the power fails in it.
    fn call(&mut self) -> io::Result<bool> {
        self.calls += 1;
        match self.crash_at {
            Some(at) if self.calls > at => Err(power_failed()),
            at => Ok(at == Some(self.calls)),
        }
    }

    fn alive(&self) -> io::Result<()> {
        match self.crash_at {
            Some(at) if self.calls >= at => Err(power_failed()),
            Some(_) | None => Ok(()),
        }
    }

    fn names(&self, node: usize) -> io::Result<BTreeMap<String, usize>> {
        let Node::Directory { durable, changes } = &self.nodes[node] else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        let mut names = durable.clone();
        changes.iter().for_each(|change| change.apply(&mut names));
        Ok(names)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let name = name.to_str().unwrap();
                node = *self.names(node)?.get(name).ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(node)
    }

    fn change(&mut self, directory: &Path, change: Change) -> io::Result<()> {
        let node = self.find(directory)?;
        match &mut self.nodes[node] {
            Node::Directory { changes, .. } => changes.push(change),
            Node::File { .. } => return Err(io::ErrorKind::NotADirectory.into()),
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.nodes.len();
        self.nodes.push(node);
        self.change(path.parent().unwrap(), Change::Add(name_of(path), id))?;
        Ok(id)
    }

    fn file(&mut self, node: usize) -> (&mut Vec<Vec<Sector>>, &mut Vec<u64>) {
        match &mut self.nodes[node] {
            Node::File { sectors, lengths } => (sectors, lengths),
            Node::Directory { .. } => panic!("a directory was opened as a file"),
        }
    }

    /// Writes a new version of the sectors; `durable` forgets the older ones.
    fn write(&mut self, node: usize, offset: u64, bytes: &[u8], durable: bool) {
        let (sectors, lengths) = self.file(node);
        let end = offset as usize + bytes.len();
        if sectors.len() < end.div_ceil(SECTOR_BYTES) {
            sectors.resize(end.div_ceil(SECTOR_BYTES), vec![[0; SECTOR_BYTES]]);
        }
        let mut at = offset as usize;
        while at < end {
            let (number, within) = (at / SECTOR_BYTES, at % SECTOR_BYTES);
            let length = (SECTOR_BYTES - within).min(end - at);
            let mut sector = *sectors[number].last().unwrap();
            sector[within..within + length]
                .copy_from_slice(&bytes[at - offset as usize..at - offset as usize + length]);
            if durable {
                sectors[number].clear();
            }
            sectors[number].push(sector);
            at += length;
        }
        let length = (end as u64).max(*lengths.last().unwrap());
        if durable {
            lengths.clear();
        }
        lengths.push(length);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

impl CrashDisk {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        let root = Node::Directory {
            durable: BTreeMap::new(),
            changes: Vec::new(),
        };
        let state = State {
            nodes: vec![root],
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The power will fail in the middle of the call that is this many calls away; 1 is the next.
    pub(crate) fn crash_in(&self, calls: u64) {
        let mut state = self.state();
        state.crash_at = Some(state.calls + calls);
    }

    /// Calls so far that could change the disk.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// From now on nobody gets space ahead of time.
    pub(crate) fn fill(&self) {
        self.state().full = true;
    }

    /// The process died at its call, but the machine goes on: nothing is lost, nor made durable.
    pub(crate) fn restart(&self) {
        let mut state = self.state();
        state.crash_at = None;
        state.locks.clear();
    }

    /// The disk as the next start finds it.
    pub(crate) fn after_crash(&self, fate: Fate) -> Self {
        let mut dice = Dice(match fate {
            Fate::Torn { seed } => seed,
            Fate::Lost | Fate::Kept => 0,
        });
        let mut pick = |versions: usize| match fate {
            Fate::Lost => 0,
            Fate::Kept => versions - 1,
            Fate::Torn { .. } => dice.below(versions),
        };
        let nodes = self
            .state()
            .nodes
            .iter()
            .map(|node| survivor(node, &mut pick))
            .collect();
        Self {
            state: Arc::new(Mutex::new(State {
                nodes,
                ..State::default()
            })),
        }
    }

    /// All bytes of a file.
    pub(crate) fn contents(&self, path: &Path) -> Vec<u8> {
        let file = self.open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.length().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    }

    /// Replaces a file, durably.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let _ = self.remove(path);
        let mut file = self
            .open(path, OpenMode::CreateNew { mode: 0o600 })
            .unwrap();
        file.write_through(0, bytes).unwrap();
        self.sync_directory(path.parent().unwrap()).unwrap();
    }
}

fn survivor(node: &Node, pick: &mut impl FnMut(usize) -> usize) -> Node {
    match node {
        Node::File { sectors, lengths } => {
            let length = lengths[pick(lengths.len())];
            let mut sectors: Vec<_> = sectors
                .iter()
                .map(|versions| vec![versions[pick(versions.len())]])
                .collect();
            sectors.resize(
                (length as usize).div_ceil(SECTOR_BYTES),
                vec![[0; SECTOR_BYTES]],
            );
            if let Some(last) = sectors.last_mut() {
                let within = length as usize % SECTOR_BYTES;
                if within != 0 {
                    last[0][within..].fill(0);
                }
            }
            Node::File {
                sectors,
                lengths: vec![length],
            }
        }
        Node::Directory { durable, changes } => {
            let mut durable = durable.clone();
            for change in changes {
                if pick(2) == 1 {
                    change.apply(&mut durable);
                }
            }
            Node::Directory {
                durable,
                changes: Vec::new(),
            }
        }
    }
}

impl Vfs for CrashDisk {
    type File = CrashFile;

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<CrashFile> {
        let mut state = self.state();
        state.alive()?;
        let node = match mode {
            OpenMode::Read | OpenMode::ReadWrite => state.find(path)?,
            OpenMode::CreateNew { .. } => {
                let crash = state.call()?;
                let node = state.add(
                    path,
                    Node::File {
                        sectors: Vec::new(),
                        lengths: vec![0],
                    },
                )?;
                if crash {
                    return Err(power_failed());
                }
                node
            }
        };
        state.handles += 1;
        Ok(CrashFile {
            state: self.state.clone(),
            node,
            handle: state.handles,
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        Ok(state.names(state.find(directory)?)?.into_keys().collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        state.alive()?;
        Ok(state.find(path).is_ok())
    }

    fn create_directory(&self, path: &Path, _mode: u32) -> io::Result<()> {
        let mut state = self.state();
        let crash = state.call()?;
        state.add(
            path,
            Node::Directory {
                durable: BTreeMap::new(),
                changes: Vec::new(),
            },
        )?;
        if crash { Err(power_failed()) } else { Ok(()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(
            from.parent(),
            to.parent(),
            "this disk renames within a directory"
        );
        let mut state = self.state();
        let crash = state.call()?;
        state.find(from)?;
        state.change(
            from.parent().unwrap(),
            Change::Rename(name_of(from), name_of(to)),
        )?;
        if crash { Err(power_failed()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let crash = state.call()?;
        state.find(path)?;
        state.change(path.parent().unwrap(), Change::Remove(name_of(path)))?;
        if crash { Err(power_failed()) } else { Ok(()) }
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.call()? {
            return Err(power_failed());
        }
        let node = state.find(directory)?;
        let names = state.names(node)?;
        state.nodes[node] = Node::Directory {
            durable: names,
            changes: Vec::new(),
        };
        Ok(())
    }
}

impl CrashFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl VfsFile for CrashFile {
    fn length(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.alive()?;
        Ok(*state.file(self.node).1.last().unwrap())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        state.alive()?;
        let (sectors, lengths) = state.file(self.node);
        let length = *lengths.last().unwrap() as usize;
        let start = (offset as usize).min(length);
        let count = buffer.len().min(length - start);
        for (position, byte) in buffer[..count].iter_mut().enumerate() {
            let at = start + position;
            *byte = sectors[at / SECTOR_BYTES].last().unwrap()[at % SECTOR_BYTES];
        }
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let crash = state.call()?;
        state.write(self.node, offset, bytes, false);
        if crash { Err(power_failed()) } else { Ok(()) }
    }

    fn write_through(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let crash = state.call()?;
        state.write(self.node, offset, bytes, !crash);
        if crash { Err(power_failed()) } else { Ok(()) }
    }

    fn reserve(&mut self, _length: u64) -> io::Result<()> {
        let state = self.state();
        state.alive()?;
        if state.full {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn set_length(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        let crash = state.call()?;
        let old = *state.file(self.node).1.last().unwrap();
        if length < old {
            // What is cut off reads as zeros when the file grows again.
            state.write(self.node, length, &vec![0; (old - length) as usize], false);
        } else {
            let sectors = state.file(self.node).0;
            sectors.resize(
                (length as usize).div_ceil(SECTOR_BYTES),
                vec![[0; SECTOR_BYTES]],
            );
        }
        state.file(self.node).1.push(length);
        if crash { Err(power_failed()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state();
        if state.call()? {
            return Err(power_failed());
        }
        let (sectors, lengths) = state.file(self.node);
        for versions in sectors {
            versions.drain(..versions.len() - 1);
        }
        lengths.drain(..lengths.len() - 1);
        Ok(())
    }

    fn try_lock(&mut self) -> io::Result<bool> {
        let handle = self.handle;
        let mut state = self.state();
        state.alive()?;
        Ok(*state.locks.entry(self.node).or_insert(handle) == handle)
    }
}

impl Drop for CrashFile {
    fn drop(&mut self) {
        let handle = self.handle;
        self.state().locks.retain(|_, holder| *holder != handle);
    }
}
