//! A state on its way between two members of ours: its files as they are.
//!
//! # Theory
//!
//! etcd's database file says what a state is to everybody, and costs a walk over all of it on one side and an import on
//! the other. Between members of ours that is not needed: a segment file is immutable and the index is made of its tables.
//! So the segments are sent as they are, but for the number in their header ([`kvorum_mvcc::View::export`]), what is in
//! memory only as one more of them, and at the end a manifest without a list, which has everything else. The receiver
//! writes each segment to the file that it will be; when all are durable, what they make is a received state like any
//! other (see [`receive`](super::receive())), and until then they are files that no manifest lists.
//!
//! The bytes are in `docs/formats/stream.md`: a head, then chunks, each with its kind, its length and a checksum over
//! the whole stream up to its end. So a byte that is wrong, missing or in another place is found before it is written.
//!
//! # Invariants
//!
//! - The sender reads every record of a segment and its tables before it sends the first byte of it: damage on its disk
//!   goes no further.
//! - The receiver holds no more than one chunk and the manifest in memory, and believes no length before its bytes are there.
//! - Nothing that was received counts before [`Receiving::finish`] found all of it whole and of the entry it was
//!   announced for.

mod receiving;
mod sending;

use kvorum_mvcc::RestoreError;
use kvorum_storage::checkpoint::{ManifestDamage, StateError};

use super::body::BodyError;

pub use receiving::Receiving;
pub use sending::{SendStep, Sending};

/// The newest form of the stream that this release sends and receives. It receives older ones too.
pub const FORM: u32 = 1;

const MAGIC: [u8; 8] = *b"KVORUMst";
/// Magic and form.
const HEAD_BYTES: usize = 12;
/// Kind, length, checksum.
const CHUNK_HEAD_BYTES: usize = 9;
/// Most bytes in a chunk, without what stands before them.
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Longest manifest that is received, in bytes: that of some ten million leases.
const MANIFEST_BYTES_MAX: usize = 1 << 30;

/// What the bytes of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The next of a segment.
    Segment = 1,
    /// The last of a segment.
    SegmentEnd = 2,
    /// The next of the manifest, which comes behind all segments.
    Manifest = 3,
    /// The last of the manifest, and of everything.
    ManifestEnd = 4,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::Segment,
            Self::SegmentEnd,
            Self::Manifest,
            Self::ManifestEnd,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// Continues the checksum of a stream over a chunk.
fn checksum(before: u32, kind: u8, bytes: &[u8]) -> u32 {
    let length = bytes.len() as u32;
    let head = crc32c::crc32c_append(before, &[kind]);
    let head = crc32c::crc32c_append(head, &length.to_le_bytes());
    crc32c::crc32c_append(head, bytes)
}

/// Why a stream is no state. Nothing of it is used.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It does not begin like one.
    #[error("not a state")]
    Magic,
    /// It is of a newer form than this release reads.
    #[error("form {found} is newer than {FORM}, the newest known")]
    Newer {
        /// Its form.
        found: u32,
    },
    /// It ends before its end.
    #[error("the state is cut short")]
    Cut,
    /// It goes on behind its end.
    #[error("bytes follow the end of the state")]
    Longer,
    /// A chunk of a kind that does not exist, or not there.
    #[error("a chunk of kind {0} stands where none can")]
    Kind(u8),
    /// A chunk or a manifest is longer than allowed.
    #[error("a part has {length} bytes, more than {limit}")]
    Length {
        /// Its length.
        length: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// What came is not what was sent.
    #[error("checksum is {actual:#010x}, expected {expected:#010x}")]
    Checksum {
        /// As it was sent.
        expected: u32,
        /// Of what came.
        actual: u32,
    },
    /// A segment is whole and no segment.
    #[error("segment {number} of the state: {damage}")]
    Segment {
        /// Which one, from 0.
        number: u64,
        /// What is wrong.
        damage: kvorum_storage::segment::Damage,
    },
    /// There are more or fewer segments than the manifest says.
    #[error("{found} segments came, and the manifest counts {counted}")]
    Count {
        /// How many came.
        found: u64,
        /// How many the manifest counts.
        counted: u64,
    },
    /// The manifest is none.
    #[error("manifest of the state, offset {offset}: {damage}")]
    Manifest {
        /// Where in it.
        offset: u64,
        /// What is wrong.
        damage: ManifestDamage,
    },
    /// The manifest is whole and cannot be understood.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The segments are whole and make no history.
    #[error(transparent)]
    History(#[from] RestoreError),
    /// A file could not be written. That it is not there does no harm.
    #[error("{0}")]
    Write(#[source] StateError),
}
