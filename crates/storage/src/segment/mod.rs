//! Value segments: immutable files that hold one run of the history, in the order of revisions.
//!
//! # Theory
//!
//! The newest changes live in memory. When enough of them are there the run is *sealed*: written
//! as one segment file, synced, mapped, and the memory let go. A segment is never changed; it is
//! replaced, together with its neighbours, by one that holds what is still needed of them
//! ([`Merge`]). Segments partition the axis of revisions, so a change is found by its [`Place`]
//! alone: first the segment, then the row in its revision table, by interpolation. Nothing outside
//! keeps a position in a file.
//!
//! A file is header, frames, revision table, sums, key table and trailer; the bytes are described
//! in `docs/formats/segment.md`. The key table holds what an index needs of every change, in the
//! order of keys, so that an index is rebuilt by merging key tables ([`MergedKeys`]) and no value
//! is read for it.
//!
//! Worked example:
//!
//! ```
//! use kvorum_storage::segment::{Builder, Entry, Place, Segment, SegmentId};
//!
//! let mut builder = Builder::new(SegmentId(7));
//! let place = Place { main: 2, sub: 0 };
//! builder.push(&Entry {
//!     place,
//!     key: b"a",
//!     create_revision: 2,
//!     version: 1,
//!     lease: 0,
//!     stored_bytes: 12,
//!     frees_bytes: 0,
//!     encoded: b"\x0a\x01a\x10\x02\x18\x02\x20\x01\x2a\x01b",
//! });
//! let segment = Segment::open(SegmentId(7), builder.finish()).expect("just built");
//! let change = segment.find(place).expect("undamaged").expect("it is there");
//! assert!(change.encoded.ends_with(b"b"));
//! ```
//!
//! # Invariants
//!
//! - A segment holds at least one change; places ascend strictly.
//! - Every byte of a file is under a checksum. Header, tables and trailer are checked when a file is
//!   opened; a change is checked, together with its place, at every read. Damage is an error with
//!   its offset, never an answer.

mod ahead;
mod build;
mod error;
mod keys;
mod layout;
mod merge;
mod merged_keys;
mod read;
mod renumber;
mod scrub;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;

pub use ahead::Ahead;
pub use build::Builder;
pub use error::{Damage, Fault};
pub use keys::{KeyRow, Keys};
pub use merge::{Merge, MergeStep};
pub use merged_keys::MergedKeys;
pub use read::Segment;
pub use scrub::Scrub;

/// Bytes of changes at which the run in memory is sealed. A single change may go beyond.
pub const SEGMENT_BYTES: u64 = 8 << 20;

/// Bytes of a file beyond which merging adds no further segment to it. It bounds the disk space
/// that a merge needs before the old files can go.
pub const MERGED_BYTES_MAX: u64 = 256 << 20;

/// The end of the name of a segment file.
pub const FILE_SUFFIX: &str = ".seg";

/// Where a change lies in the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Store revision; not negative.
    pub main: i64,
    /// Place among the changes of one request, from 0; below 2^32.
    pub sub: i64,
}

/// The number of a segment. Numbers are never used twice in one data directory; they say nothing
/// about the order of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// Name of the file, without its directory.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{:016x}{FILE_SUFFIX}", self.0)
    }

    /// The number of the segment file of that name; `None` when it is no such name.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(FILE_SUFFIX)?;
        let id = SegmentId(u64::from_str_radix(digits, 16).ok()?);
        (id.file_name() == name).then_some(id)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A change to be stored.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where it lies in the history; above that of the entry before.
    pub place: Place,
    /// The key; the same that `encoded` begins with.
    pub key: &'a [u8],
    /// Store revision of the first write of this incarnation of the key; 0 for a tombstone.
    pub create_revision: i64,
    /// Writes of this incarnation so far, from 1; 0 for a tombstone.
    pub version: i64,
    /// The lease the key hangs on; 0 for none.
    pub lease: i64,
    /// Bytes of the pair as etcd stores it: those of `encoded`, or fewer for a tombstone.
    pub stored_bytes: u32,
    /// Logical bytes that die when a compaction passes this place.
    pub frees_bytes: u64,
    /// The `mvccpb.KeyValue` bytes; field 1, the key, comes first.
    pub encoded: &'a [u8],
}

/// A change as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where it lies in the history.
    pub place: Place,
    /// Logical bytes that die when a compaction passes this place.
    pub frees_bytes: u64,
    /// The `mvccpb.KeyValue` bytes: a slice of the file.
    pub encoded: Bytes,
}
