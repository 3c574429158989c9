//! The store as a checkpoint writes it down, and a store from that.
//!
//! An image names the segments of the history and says what does not follow from them. It is taken
//! between two requests, and is of use once its segments are written. A compaction that is still
//! under way counts as done: the store that comes of the image never knew what was to be removed. Only
//! the hash that such a compaction has not finished is missing there, as all of them are in etcd after a
//! start.
//!
//! To restore a store, no record is read: the index is built from the key tables of the segments,
//! which are merged in key order, and straight into full leaves.

use kvorum_storage::segment::{Damage, KeyRow, MergedKeys, Segment, SegmentId};
use thiserror::Error;

use crate::hash::{KeptHashes, Section};
use crate::index::{History, IndexLoader, KeyIndex};
use crate::record_log::RecordLog;
use crate::segment_image::SegmentImage;
use crate::segments::Live;
use crate::size::STORE_BASE_BYTES;
use crate::store::Store;
use crate::{Change, HashKv, Sizes, View};

/// What a checkpoint writes down of a store, beside its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreImage {
    /// The store revision of the newest change; 1 while there is none.
    pub current_revision: i64,
    /// The revision of the last compaction; -1 for none.
    pub compact_revision: i64,
    /// Logical size, the total included.
    pub sizes: Sizes,
    /// The hashes of the last compactions, revisions ascending.
    pub hashes: Vec<HashKv>,
    /// The segments that hold the history, in its order.
    pub segments: Vec<SegmentId>,
    /// What the last compactions hashed of segments in which nothing has died since: the next one need
    /// not read these.
    pub sections: Vec<KeptSection>,
    /// The number that the next segment gets.
    pub next_segment: SegmentId,
}

/// What a segment adds to the hash of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptSection {
    /// The segment.
    pub segment: SegmentId,
    /// CRC-32C of what is hashed of it.
    pub hash: u32,
    /// How many bytes that is.
    pub bytes: u64,
}

/// Why an image and segments do not make a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// A segment is damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The segments are not those that the image names.
    #[error("segment {found} stands where the checkpoint lists {listed}")]
    OtherSegments {
        /// The number of the first segment that is not listed there; 0 for a missing one.
        found: SegmentId,
        /// What the image lists there; 0 for nothing.
        listed: SegmentId,
    },
    /// The segments overlap, or go beyond the revision of the image.
    #[error("segment {segment} does not follow in the history")]
    OutOfOrder {
        /// The first segment that does not fit.
        segment: SegmentId,
    },
    /// What the segments hold is not what the image counted.
    #[error("segments hold {held} bytes in use, the checkpoint counted {counted}")]
    OtherSize {
        /// Bytes in use by the segments.
        held: u64,
        /// Bytes in use by the image.
        counted: u64,
    },
}

impl Store {
    /// Seals the active run and writes down the store as it is now. The image is of use when
    /// [`Store::are_written`] says so of its segments. Not inside a transaction.
    pub fn image(&mut self) -> StoreImage {
        self.seal();
        // Before a compaction has looked at everything new, nobody knows in which segments something died.
        let sections = if self.is_marking() {
            Vec::new()
        } else {
            self.segments.sections()
        };
        StoreImage {
            current_revision: self.view.current,
            compact_revision: self.view.compacted,
            sizes: self.view.sizes,
            hashes: self.view.hashes.known(),
            segments: self.view.log.segments().map(|(id, _)| id).collect(),
            sections,
            next_segment: SegmentId(self.segments.next_id),
        }
    }

    /// The store of which an image was taken, over the segments that it names, in their order.
    ///
    /// # Errors
    ///
    /// [`RestoreError`] when they do not fit together, or one is damaged.
    pub fn restore(image: &StoreImage, segments: Vec<Segment>) -> Result<Self, RestoreError> {
        check_listed(image, &segments)?;
        check_order(image, &segments)?;
        let mut rows = Rows::new(image.compact_revision, &segments)?;
        let mut keys = IndexLoader::default();
        while let Some(history) = rows.next_key()? {
            keys.push(&rows.key, history);
        }
        let index = KeyIndex::of_loaded(keys);
        let held = STORE_BASE_BYTES + rows.in_use_bytes;
        let counted = image.sizes.in_use_bytes;
        if held != counted {
            return Err(RestoreError::OtherSize { held, counted });
        }
        let mut store = Store {
            lingering_tombstone_bytes: rows.lingering_tombstone_bytes,
            ..Store::default()
        };
        for kept in &image.sections {
            if image.segments.contains(&kept.segment) {
                let section = Section::of(kept.hash, kept.bytes);
                store.segments.keep_section(kept.segment, section);
            }
        }
        let ids = segments.iter().map(Segment::id);
        store.segments.live = ids.zip(rows.live).collect();
        store.segments.next_id = image.next_segment.0;
        store.view = View {
            index,
            log: RecordLog::of_segments(segments),
            current: image.current_revision,
            compacted: image.compact_revision,
            hashes: KeptHashes::of_known(&image.hashes),
            sizes: image.sizes,
        };
        Ok(store)
    }
}

impl View {
    /// The history as segments to be made, numbered from `first`, and the image with which [`Store::restore`] makes a
    /// store of them. Nothing is written or sealed here: what is in memory only becomes a segment too, and one that is
    /// written is read once and handed out as it is.
    pub fn export(&self, first: SegmentId) -> (StoreImage, Vec<SegmentImage>) {
        let images = self.log.images(first);
        let image = StoreImage {
            current_revision: self.current,
            compact_revision: self.compacted,
            sizes: self.sizes,
            hashes: self.hashes.known(),
            segments: images.iter().map(SegmentImage::id).collect(),
            // These belong to the store, and to its compactions.
            sections: Vec::new(),
            next_segment: SegmentId(first.0 + images.len() as u64),
        };
        (image, images)
    }
}

fn check_listed(image: &StoreImage, segments: &[Segment]) -> Result<(), RestoreError> {
    let count = image.segments.len().max(segments.len());
    for number in 0..count {
        let listed = image.segments.get(number).copied();
        let found = segments.get(number).map(Segment::id);
        if listed != found {
            return Err(RestoreError::OtherSegments {
                found: found.unwrap_or(SegmentId(0)),
                listed: listed.unwrap_or(SegmentId(0)),
            });
        }
    }
    Ok(())
}

fn check_order(image: &StoreImage, segments: &[Segment]) -> Result<(), RestoreError> {
    let mut last = 0;
    for segment in segments {
        let fits = segment.first().main > last
            && segment.last().main <= image.current_revision
            && segment.id() < image.next_segment;
        if !fits {
            let segment = segment.id();
            return Err(RestoreError::OutOfOrder { segment });
        }
        last = segment.last().main;
    }
    Ok(())
}

/// The key tables of all segments as keys with their histories, without what is compacted.
struct Rows {
    compacted: i64,
    merged: MergedKeys,
    /// The row that comes next.
    row: Option<KeyRow>,
    /// The key that was read last.
    key: Vec<u8>,
    /// The changes of `key`, each with the number of its segment.
    changes: Vec<(Change, usize)>,
    /// For each segment.
    live: Vec<Live>,
    in_use_bytes: u64,
    lingering_tombstone_bytes: u64,
}

impl Rows {
    fn new(compacted: i64, segments: &[Segment]) -> Result<Self, Damage> {
        let mut merged = MergedKeys::new(segments)?;
        Ok(Rows {
            compacted,
            row: merged.advance()?,
            merged,
            key: Vec::new(),
            changes: Vec::new(),
            live: vec![Live::default(); segments.len()],
            in_use_bytes: 0,
            lingering_tombstone_bytes: 0,
        })
    }

    /// Goes to the next key of which something is left, and returns that.
    fn next_key(&mut self) -> Result<Option<History>, Damage> {
        while self.row.is_some() {
            self.take_key()?;
            if let Some(history) = self.history() {
                return Ok(Some(history));
            }
        }
        Ok(None)
    }

    /// Reads all changes of the next key and keeps those that exist.
    fn take_key(&mut self) -> Result<(), Damage> {
        self.key.clear();
        self.key.extend_from_slice(self.merged.key());
        self.changes.clear();
        while let Some(row) = self.row.filter(|_| self.merged.key() == self.key) {
            let change = Change::of_row(&row);
            let main = change.mod_revision().main;
            if main <= self.compacted {
                // Of what the compaction reached only the newest is left, see `History::keeps`.
                self.changes.clear();
            }
            if main >= self.compacted || !change.is_tombstone() {
                self.changes.push((change, self.merged.source()));
            }
            self.row = self.merged.advance()?;
        }
        Ok(())
    }

    /// Counts the changes of the key and makes its history; `None` when it has none.
    fn history(&mut self) -> Option<History> {
        let mut history: Option<History> = None;
        for (change, source) in &self.changes {
            self.live[*source].add(change);
            self.in_use_bytes += change.counted_bytes();
            if change.is_tombstone() && change.mod_revision().main == self.compacted {
                self.lingering_tombstone_bytes += change.counted_bytes();
            }
            match &mut history {
                None => history = Some(History::new(*change)),
                Some(history) => history.push(*change),
            }
        }
        history
    }
}
