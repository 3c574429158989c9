//! Why a read or a compaction is refused.

use kvorum_storage::segment::Damage;
use thiserror::Error;

/// Why a read has no answer. The texts of what clients see are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The history at `asked` is no longer kept.
    #[error("mvcc: required revision has been compacted")]
    Compacted {
        /// The revision of the request.
        asked: i64,
        /// The lowest revision that can be read.
        compacted: i64,
    },
    /// The store has not reached `asked`.
    #[error("mvcc: required revision is a future revision")]
    Future {
        /// The revision of the request.
        asked: i64,
        /// The newest revision.
        current: i64,
    },
    /// What the disk gave is not what was written. Never an answer: the process must stop.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// A revision the store cannot be compacted at. The texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CompactError {
    /// The store is already compacted at `asked` or above.
    #[error("mvcc: required revision has been compacted")]
    Compacted {
        /// The revision of the request.
        asked: i64,
        /// The revision of the last compaction.
        compacted: i64,
    },
    /// The store has not reached `asked`.
    #[error("mvcc: required revision is a future revision")]
    Future {
        /// The revision of the request.
        asked: i64,
        /// The newest revision.
        current: i64,
    },
    /// What the disk gave is not what was written. The process must stop.
    #[error(transparent)]
    Damaged(#[from] Damage),
}
