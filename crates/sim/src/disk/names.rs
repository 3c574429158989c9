//! Directory entries: a name is durable only when its directory was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::FaultCounts;
use crate::random::Random;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(u64),
    Directory,
}

/// One change of the names in a directory.
#[derive(Clone, Debug)]
enum Change {
    Set(PathBuf, Node),
    Remove(PathBuf),
    /// Both names change together, whatever the crash; they lie in the same directory.
    Rename(PathBuf, PathBuf, Node),
}

/// The tree of names.
#[derive(Clone, Default)]
pub(super) struct Names {
    current: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Changes that no sync has covered, per directory and in order.
    pending: BTreeMap<PathBuf, Vec<Change>>,
}

impl Names {
    pub(super) fn file(&self, path: &Path) -> io::Result<u64> {
        match self.current.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.current.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path.as_path(), *inode)),
            Node::Directory => None,
        })
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        is_root(path) || self.current.contains_key(path)
    }

    pub(super) fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.must_be_directory(directory)?;
        let inside = self
            .current
            .keys()
            .filter(|path| path.parent() == Some(directory));
        Ok(inside
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    pub(super) fn create_file(&mut self, path: &Path, inode: u64) -> io::Result<()> {
        self.create(path, Node::File(inode))
    }

    pub(super) fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.create(path, Node::Directory)
    }

    fn create(&mut self, path: &Path, node: Node) -> io::Result<()> {
        if self.exists(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.must_be_directory(parent(path))?;
        self.change(parent(path).to_owned(), Change::Set(path.to_owned(), node));
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.change(parent(path).to_owned(), Change::Remove(path.to_owned()));
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        if !self.list(path)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(parent(path).to_owned(), Change::Remove(path.to_owned()));
        Ok(())
    }

    /// Renames a file or a directory with all that is in it.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = *self.current.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.must_be_directory(parent(to))?;
        let change = Change::Rename(from.to_owned(), to.to_owned(), node);
        self.change(parent(from).to_owned(), change);
        Ok(())
    }

    /// Makes the names in one directory durable. A rename is covered by a sync of either side.
    pub(super) fn sync(&mut self, directory: &Path) {
        for change in self.pending.remove(directory).into_iter().flatten() {
            apply(&mut self.durable, &change);
        }
    }

    /// Of each directory's unsynced changes a prefix survives.
    pub(super) fn crash(&mut self, random: &mut Random, counts: &mut FaultCounts) {
        for (_, changes) in std::mem::take(&mut self.pending) {
            let kept = random.between(0, changes.len() as u64) as usize;
            counts.names_lost += (changes.len() - kept) as u64;
            for change in &changes[..kept] {
                apply(&mut self.durable, change);
            }
        }
        self.drop_orphans();
        self.current.clone_from(&self.durable);
    }

    /// A name below a directory that was lost is lost too.
    fn drop_orphans(&mut self) {
        let mut reachable = BTreeSet::new();
        // Parents sort before what lies in them.
        for path in self.durable.keys() {
            if is_root(parent(path)) || reachable.contains(parent(path)) {
                reachable.insert(path.clone());
            }
        }
        self.durable.retain(|path, _| reachable.contains(path));
    }

    fn change(&mut self, directory: PathBuf, change: Change) {
        apply(&mut self.current, &change);
        self.pending.entry(directory).or_default().push(change);
    }

    fn must_be_directory(&self, path: &Path) -> io::Result<()> {
        match self.current.get(path) {
            _ if is_root(path) => Ok(()),
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
    match change {
        Change::Set(path, node) => {
            names.insert(path.clone(), *node);
        }
        Change::Remove(path) => {
            names.remove(path);
        }
        Change::Rename(from, to, Node::File(inode)) => {
            names.remove(from);
            names.insert(to.clone(), Node::File(*inode));
        }
        Change::Rename(from, to, node @ Node::Directory) => {
            let inside: Vec<PathBuf> = names
                .keys()
                .filter(|path| path.starts_with(from))
                .cloned()
                .collect();
            names.insert(to.clone(), *node);
            for path in inside {
                let moved = names.remove(&path).expect("the name was just listed");
                if let Ok(rest) = path.strip_prefix(from)
                    && !rest.as_os_str().is_empty()
                {
                    names.insert(to.join(rest), moved);
                }
            }
        }
    }
}

fn is_root(path: &Path) -> bool {
    path.parent().is_none() || path.as_os_str().is_empty()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
