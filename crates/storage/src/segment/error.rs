//! What can be wrong with a segment file.

use super::SegmentId;

/// Bytes of a segment that cannot be what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {}: damaged at offset {offset}: {fault}", segment.file_name())]
pub struct Damage {
    /// The damaged segment.
    pub segment: SegmentId,
    /// Where in its file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong at one place of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file ends before its fixed parts do.
    #[error("the file is cut short at {length} bytes")]
    Short {
        /// Length of the file, in bytes.
        length: u64,
    },
    /// The first or last bytes are not those of a segment.
    #[error("not a segment file")]
    Magic,
    /// The file is of a newer format than this release reads.
    #[error("format version {found} is newer than {known}, the newest known")]
    Newer {
        /// Version in the file.
        found: u32,
        /// The newest version that this release reads.
        known: u32,
    },
    /// The file holds another segment than its name says.
    #[error("the file holds segment {found}")]
    Id {
        /// Segment in the file.
        found: SegmentId,
    },
    /// Header, tables or trailer do not match their checksum.
    #[error("checksum of the tables is {actual:#010x}, expected {expected:#010x}")]
    TableChecksum {
        /// Checksum in the file.
        expected: u32,
        /// Checksum of the bytes.
        actual: u32,
    },
    /// The parts do not fit into the file.
    #[error("impossible layout")]
    Layout,
    /// The revision table is not in order.
    #[error("revision table is out of order")]
    RowOrder,
    /// A row of the key table cannot be read.
    #[error("malformed key table")]
    KeyTable,
    /// A change does not match its checksum.
    #[error("checksum of the change at {main}.{sub} is {actual:#010x}, expected {expected:#010x}")]
    Checksum {
        /// Store revision of the change.
        main: i64,
        /// Place inside the store revision.
        sub: i64,
        /// Checksum in the file.
        expected: u32,
        /// Checksum of the bytes.
        actual: u32,
    },
    /// A change cannot be read although its checksum is right.
    #[error("malformed change at {main}.{sub}")]
    Frame {
        /// Store revision of the change.
        main: i64,
        /// Place inside the store revision.
        sub: i64,
    },
}
