//! The bytes of files: what the process sees and what a crash is sure to leave.

use std::collections::{BTreeMap, BTreeSet};

use kvorum_storage::vfs::SECTOR_BYTES;

use super::FaultCounts;
use crate::random::Random;

/// All files, named or not.
#[derive(Clone, Default)]
pub(super) struct Content {
    inodes: BTreeMap<u64, Inode>,
    next: u64,
}

/// One file.
#[derive(Clone, Default)]
pub(super) struct Inode {
    /// What the running process reads.
    pub(super) current: Vec<u8>,
    /// What is on the platter for sure.
    durable: Vec<u8>,
    /// Sectors in which `current` may differ from `durable`.
    dirty: BTreeSet<usize>,
    /// Sectors that a failed sync has left behind: the page cache takes them for clean, so no later
    /// sync covers them until they are written again. Whether they are on the platter, nobody knows.
    forgotten: BTreeSet<usize>,
    reserved_bytes: u64,
    /// The handle that holds the exclusive lock.
    pub(super) locked_by: Option<u64>,
}

impl Content {
    pub(super) fn create(&mut self) -> u64 {
        self.next += 1;
        self.inodes.insert(self.next, Inode::default());
        self.next
    }

    pub(super) fn inode(&self, inode: u64) -> &Inode {
        self.inodes
            .get(&inode)
            .expect("a named or open file has content")
    }

    pub(super) fn inode_mut(&mut self, inode: u64) -> &mut Inode {
        self.inodes
            .get_mut(&inode)
            .expect("a named or open file has content")
    }

    pub(super) fn unlock_all(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.locked_by = None;
        }
    }

    pub(super) fn flip_bit(&mut self, inode: u64, byte: usize, bit: u8) {
        let inode = self.inode_mut(inode);
        inode.current[byte] ^= 1 << (bit % 8);
        if let Some(durable) = inode.durable.get_mut(byte) {
            *durable ^= 1 << (bit % 8);
        }
    }

    /// Draws what is left of each file; those without a name are gone.
    pub(super) fn crash(&mut self, alive: &[u64], random: &mut Random, counts: &mut FaultCounts) {
        self.inodes.retain(|inode, _| alive.contains(inode));
        for inode in self.inodes.values_mut() {
            inode.crash(random, counts);
        }
    }
}

impl Inode {
    /// Bytes that this file takes on the disk.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.reserved_bytes.max(self.current.len() as u64)
    }

    pub(super) fn reserve(&mut self, length: u64) {
        self.reserved_bytes = self.reserved_bytes.max(length);
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if self.current.len() < offset + bytes.len() {
            self.set_length(offset + bytes.len());
        }
        self.current[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.touch(offset, offset + bytes.len());
    }

    pub(super) fn set_length(&mut self, length: usize) {
        let old = self.current.len();
        self.current.resize(length, 0);
        self.touch(old.min(length), old.max(length));
        self.reserved_bytes = self.reserved_bytes.min(length as u64);
    }

    pub(super) fn sync(&mut self) {
        let before = std::mem::replace(&mut self.durable, self.current.clone());
        for sector in &self.forgotten {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES).min(self.durable.len());
            for at in start..end {
                self.durable[at] = before.get(at).copied().unwrap_or(0);
            }
        }
        self.dirty.clear();
    }

    /// A sync failed: the kernel drops its knowledge of what was not written.
    pub(super) fn forget_dirty(&mut self) {
        self.forgotten.append(&mut self.dirty);
    }

    /// Makes the bytes of a range durable, with as much length as they need.
    pub(super) fn sync_range(&mut self, start: usize, end: usize) {
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.current[start..end]);
    }

    fn touch(&mut self, start: usize, end: usize) {
        if start < end {
            for sector in start / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
                self.forgotten.remove(&sector);
                self.dirty.insert(sector);
            }
        }
    }

    /// Each unsynced sector is lost or kept; the length is one of the two or between them.
    fn crash(&mut self, random: &mut Random, counts: &mut FaultCounts) {
        let (low, high) = {
            let (durable, current) = (self.durable.len() as u64, self.current.len() as u64);
            (durable.min(current), durable.max(current))
        };
        let length = match random.below(3) {
            0 => self.durable.len() as u64,
            1 => self.current.len() as u64,
            _ => random.between(low, high),
        };
        let mut survivor = self.durable.clone();
        survivor.resize(length as usize, 0);
        let mut unsure = std::mem::take(&mut self.dirty);
        unsure.append(&mut self.forgotten);
        // How many of four sectors are kept: a write may be lost, torn or kept as a whole.
        let kept_of_four = random.below(5);
        let (mut kept, mut lost) = (0, 0);
        for sector in unsure {
            let start = sector * SECTOR_BYTES;
            let end = (start + SECTOR_BYTES)
                .min(self.current.len())
                .min(survivor.len());
            if start >= end {
                continue;
            }
            if random.chance(kept_of_four, 4) {
                survivor[start..end].copy_from_slice(&self.current[start..end]);
                kept += 1;
            } else {
                lost += 1;
            }
        }
        counts.sectors_kept += kept;
        counts.sectors_lost += lost;
        counts.files_torn += u64::from(kept > 0 && lost > 0);
        self.durable.clone_from(&survivor);
        self.current = survivor;
        self.reserved_bytes = 0;
        self.locked_by = None;
    }
}
