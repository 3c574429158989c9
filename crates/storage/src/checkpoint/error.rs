//! What can go wrong with the state on disk.

use std::io;
use std::path::PathBuf;

use crate::segment;

/// An error of the state's files. None of them may be retried on the same files.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk refused.
    #[error("{}: {operation} failed", file.display())]
    Disk {
        /// The file or directory concerned.
        file: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// The manifest cannot be what was written.
    #[error(
        "{}: damaged at offset {offset}: {damage}; \
         restore this member from its peers or a backup, the file was left as it is", file.display()
    )]
    Manifest {
        /// The manifest.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        damage: ManifestDamage,
    },
    /// A segment cannot be what was written.
    #[error(
        "{}: damaged at offset {}: {}; \
         restore this member from its peers or a backup, the file was left as it is",
        file.display(), damage.offset, damage.fault
    )]
    Segment {
        /// The segment's file.
        file: PathBuf,
        /// What is wrong.
        damage: segment::Damage,
    },
    /// A segment is there and sound, but another than the manifest lists.
    #[error(
        "{}: not the segment that the manifest lists; \
         restore this member from its peers or a backup, the file was left as it is", file.display()
    )]
    OtherSegment {
        /// The segment's file.
        file: PathBuf,
    },
}

impl StateError {
    /// Whether the disk refused because it is full.
    #[must_use]
    pub fn is_full_disk(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Disk { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

/// What is wrong at one place of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestDamage {
    /// The file ends before its parts do, or goes on behind them.
    #[error("the file has {length} bytes, which is not its length")]
    Length {
        /// Length of the file, in bytes.
        length: u64,
    },
    /// The first bytes are not those of a manifest.
    #[error("not a manifest")]
    Magic,
    /// The file is of a newer format than this release reads.
    #[error("format version {found} is newer than {known}, the newest known")]
    Newer {
        /// Version in the file.
        found: u32,
        /// The newest version that this release reads.
        known: u32,
    },
    /// A part does not match its checksum.
    #[error("checksum is {actual:#010x}, expected {expected:#010x}")]
    Checksum {
        /// Checksum in the file.
        expected: u32,
        /// Checksum of the bytes.
        actual: u32,
    },
    /// The listed segments overlap or are out of order.
    #[error("the listed segments are out of order")]
    Order,
}
