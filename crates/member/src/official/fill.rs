//! A state that nobody runs, brought into files one step after the other.

use std::collections::BTreeMap;

use kvorum_mvcc::Store;
use kvorum_storage::checkpoint::{Directory, Listed, Manifest, StateError};
use kvorum_storage::segment::{SEGMENT_BYTES, SegmentId};
use kvorum_storage::vfs::Vfs;

use crate::apply::{Apply, Input};
use crate::checkpoint::{Done, Executor, Job};

/// Records that are visited in a step of a compaction.
const COMPACT_RECORDS: usize = 10_000;

/// Writes the files of a state.
pub(super) struct Files<V> {
    executor: Executor<V>,
    listed: BTreeMap<SegmentId, Listed>,
}

impl<V: Vfs> Files<V> {
    /// In this directory, which has these files.
    pub(super) fn new(directory: Directory<V>, listed: &[Listed]) -> Self {
        Self {
            executor: Executor::new(directory),
            listed: listed.iter().map(|file| (file.id, *file)).collect(),
        }
    }

    /// A store that makes files of what it is given.
    pub(super) fn new_store() -> Store {
        let mut store = Store::new();
        store.set_segment_bytes(SEGMENT_BYTES);
        store
    }

    /// Does what the store wants done.
    pub(super) fn write(&mut self, store: &mut Store) -> Result<(), StateError> {
        while let Some(job) = store.take_job() {
            match self.executor.run(Job::Store(job), |_| {})? {
                Done::Written { id, segment } => {
                    if let Some(segment) = &segment {
                        self.listed.insert(id, Listed::of(segment));
                    }
                    store.written(id, segment);
                }
                Done::Removed | Done::Manifest(_) | Done::Adopted => {}
            }
        }
        Ok(())
    }

    /// Makes a checkpoint of the state as it is.
    pub(super) fn checkpoint(&mut self, apply: &mut Apply) -> Result<(), StateError> {
        while apply.compaction_pending() {
            apply.input(Input::CompactStep {
                records_max: COMPACT_RECORDS,
            });
        }
        let sealed = apply.seal();
        self.write(apply.store_mut())?;
        while apply.take_effect().is_some() {}
        let listed = sealed.segments.iter().filter_map(|id| self.listed.get(id));
        let manifest = Manifest {
            index: sealed.index,
            term: sealed.term,
            next_segment: sealed.next_segment,
            segments: listed.copied().collect(),
            body: sealed.body,
        };
        self.executor
            .run(Job::Manifest(Box::new(manifest)), |_| {})?;
        Ok(())
    }
}
