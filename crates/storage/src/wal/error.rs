//! What can go wrong in the log.

use std::io;
use std::path::{Path, PathBuf};

use kvorum_proto::ids::LogIndex;

/// An error of the write-ahead log. None of them may be retried on the same files: after a failed
/// write or sync the process stops, and what is on disk is judged anew by the next start.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Creating a log where one is already.
    #[error("{}: a write-ahead log exists already", directory.display())]
    Exists {
        /// The log's directory.
        directory: PathBuf,
    },
    /// Opening a directory that holds no log file.
    #[error("{}: no write-ahead log file found", directory.display())]
    Missing {
        /// The log's directory.
        directory: PathBuf,
    },
    /// Another process (or an official etcd) has the log open. The caller may wait and open again.
    #[error("{}: file already locked by another process", file.display())]
    Locked {
        /// The file whose lock is held.
        file: PathBuf,
    },
    /// The disk is full.
    #[error("{}: no space left on the disk for the write-ahead log ({operation}); free space and start again", file.display())]
    DiskFull {
        /// The file that could not grow.
        file: PathBuf,
        /// What was being done.
        operation: &'static str,
    },
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
    /// A file is missing between two others.
    #[error(
        "{}: log files are missing between {before} and {after}; \
         put them back, or restore this member from its peers or a backup", directory.display()
    )]
    SequenceGap {
        /// The log's directory.
        directory: PathBuf,
        /// Name of the last file before the gap.
        before: String,
        /// Name of the first file after it.
        after: String,
    },
    /// The bytes cannot be what was written. Nothing was changed on disk.
    #[error(
        "{}: damaged at offset {offset}: {damage}; \
         restore this member from its peers or a backup, the file was left as it is", file.display()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        damage: Damage,
    },
}

/// What is wrong with the bytes at one place of a log file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The length field has impossible bits.
    #[error("impossible frame length field {0:#018x}")]
    Length(u64),
    /// The frame says it is longer than what is left of the file.
    #[error("unexpected end of file: frame of {frame} bytes, {left} bytes left")]
    Truncated {
        /// Bytes of the frame by its length field.
        frame: u64,
        /// Bytes of the file from the frame's start.
        left: u64,
    },
    /// The bytes after a record up to the next multiple of eight are not zero.
    #[error("frame padding is not zero")]
    Padding,
    /// The frame holds no record.
    #[error("not a record")]
    Record,
    /// The record is of a kind that no version of etcd writes.
    #[error("unexpected block type {0}")]
    Kind(u64),
    /// The running checksum says otherwise.
    #[error("walpb: crc mismatch: expected {expected:08x}, found {found:08x}")]
    Checksum {
        /// What the bytes so far give.
        expected: u32,
        /// What the record says.
        found: u32,
    },
    /// The record's data is no message of its kind.
    #[error("the {0} record cannot be decoded")]
    Message(&'static str),
    /// The file does not begin with a checksum and a metadata record.
    #[error("the file does not begin with a checksum and a metadata record")]
    Head,
    /// Bytes follow where the log should have ended.
    #[error("bytes follow the end of the log")]
    AfterEnd,
    /// The end of the log is broken, but records that were written later follow it.
    #[error("{cause}, and later records follow at offset {behind}")]
    Behind {
        /// What is wrong.
        cause: Box<Damage>,
        /// Where the first later record stands, in bytes.
        behind: u64,
    },
    /// Two metadata records differ.
    #[error("conflicting metadata found")]
    Metadata,
    /// An entry is missing.
    #[error("log index {found} follows {expected_after}: entries are missing")]
    IndexGap {
        /// The last index before the gap.
        expected_after: LogIndex,
        /// The index found after it.
        found: LogIndex,
    },
    /// The record contradicts those before it in a way that raft never does.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl WalError {
    /// Names the file and the deed; a full disk becomes [`WalError::DiskFull`].
    pub(super) fn disk(file: &Path, operation: &'static str, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { file, operation }
            }
            _ => Self::Disk {
                file,
                operation,
                source,
            },
        }
    }
}
