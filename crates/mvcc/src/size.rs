//! How large the store is, in logical bytes.
//!
//! Sizes count records and a fixed estimate for their place in the index, never what a file or an
//! allocator set aside, so that they are the same after a restart and a small quota is usable.
//!
//! *In use* is what the compacted history needs; it falls in the moment of a compaction. *Total*
//! is the most that was in use since the last defragmentation, as freed pages of a database file
//! are used again but not given back.

/// What an empty store counts for, in bytes: about what a fresh database file of etcd takes.
pub const STORE_BASE_BYTES: u64 = 20 * 1024;

/// What a record counts for beside its stored pair, in bytes: its revision and its share of the
/// index.
pub const RECORD_OVERHEAD_BYTES: u64 = 80;

/// Logical size of the store, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// What a quota is compared with; never below `in_use_bytes`.
    pub total_bytes: u64,
    /// What the records that are not compacted take.
    pub in_use_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            total_bytes: STORE_BASE_BYTES,
            in_use_bytes: STORE_BASE_BYTES,
        }
    }
}

impl Sizes {
    pub(crate) fn grow(&mut self, bytes: u64) {
        self.in_use_bytes += bytes;
        self.total_bytes = self.total_bytes.max(self.in_use_bytes);
    }

    pub(crate) fn shrink(&mut self, bytes: u64) {
        assert!(
            bytes + STORE_BASE_BYTES <= self.in_use_bytes,
            "only counted bytes are freed"
        );
        self.in_use_bytes -= bytes;
    }

    pub(crate) fn defragment(&mut self) {
        self.total_bytes = self.in_use_bytes;
    }
}
