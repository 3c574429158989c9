//! The multi-version store: every change gets a revision, and old revisions stay readable until
//! they are compacted.
//!
//! [`Store`] is the one writer. A request is applied in a [`WriteTxn`], whose changes share one new
//! revision and come back as an [`EventBatch`] for watchers. Readers hold a [`View`]: the state at
//! one moment, immutable, taken from the store or from the [`ViewCell`] where the writer publishes.
//!
//! Two things hold the state: the key index (key to its [`Change`]s, in memory) and the record log
//! (revision to [`Record`], with the values; the newest in memory, the others in segment files that
//! are mapped). Both are copy-on-write, so a view is a few references and a batch of writes copies
//! each node it touches once. A record is encoded once, when it is applied; ranges, events, hashes
//! and snapshots use the same bytes.
//!
//! The store touches no disk: it hands out [`StoreJob`]s ([`Store::take_job`]), a checkpoint asks
//! it for a [`StoreImage`], and [`Store::restore`] makes it again of the image and the segments.
//!
//! Worked example, on an empty store (revision 1):
//!
//! ```
//! use bytes::Bytes;
//! use kvorum_mvcc::{Interval, Store};
//! use kvorum_proto::ids::LeaseId;
//!
//! let mut store = Store::new();
//! let mut txn = store.begin();
//! txn.put(b"a", b"1", LeaseId(0));
//! txn.put(b"b", b"1", LeaseId(0));
//! let batch = txn.finish().expect("two changes");
//! assert_eq!((batch.revision, batch.events.len()), (2, 2));
//!
//! let before = store.view();
//! let mut txn = store.begin();
//! txn.delete_range(&Interval::single(Bytes::from_static(b"a")));
//! assert_eq!(txn.finish().expect("one change").revision, 3);
//!
//! let pair = before.get(b"a").expect("undamaged").expect("it is there");
//! assert_eq!(pair.value(), b"1");
//! assert_eq!(store.view().change(b"a"), None);
//! assert!(store.view().get_at(b"a", 2).expect("2 is not compacted").is_some());
//! ```

mod btree;
mod change;
mod compaction;
mod counts;
mod crc;
mod error;
mod event;
mod few;
mod hash;
mod image;
mod import;
mod index;
mod interval;
pub mod range;
mod record;
mod record_log;
mod revision;
mod room;
mod scrub;
mod segment_image;
mod segments;
mod size;
mod store;
mod view;
mod view_cell;
pub mod watch;
mod write_txn;

#[cfg(test)]
mod tests;

pub use btree::KeyRef;
pub use change::Change;
pub use compaction::{CompactFinished, CompactStep};
pub use counts::Counts;
pub use error::{CompactError, ReadError};
pub use event::{Event, EventBatch};
pub use few::Few;
pub use hash::{HASHES_KEPT_MAX, HashKv};
pub use image::{KeptSection, RestoreError, StoreImage};
pub use import::ImportError;
pub use interval::{End, Interval};
pub use range::{RangeReply, Reader};
pub use record::Record;
pub use record_log::Freed;
pub use revision::{NEVER_COMPACTED, REVISION_FIRST, Revision};
pub use scrub::{Scrub, Scrubbed};
pub use segment_image::SegmentImage;
pub use segments::{COPIED_BYTES_MAX, SegmentCounts, StoreJob, UNWRITTEN_RUNS_MAX};
pub use size::{RECORD_OVERHEAD_BYTES, STORE_BASE_BYTES, Sizes};
pub use store::Store;
pub use view::{History, HistoryBounds, Stored, StoredLength, View};
pub use view_cell::ViewCell;
pub use write_txn::WriteTxn;
