//! What does the store's jobs in tests: files in memory, and what survives a crash.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use kvorum_storage::segment::{MergeStep, Segment, SegmentId};

use crate::{SegmentImage, Store, StoreImage, StoreJob};

/// Bytes of budget for a step of an image: few, so that images take many steps.
const STEP_BYTES: usize = 100;

/// Files, jobs that wait, and checkpoints.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<SegmentId, Bytes>,
    jobs: VecDeque<StoreJob>,
    /// The last durable checkpoint.
    pub(super) durable: Option<StoreImage>,
    /// A checkpoint whose segments are not all written.
    pub(super) begun: Option<StoreImage>,
}

impl Disk {
    /// Does the job at a place in the queue, if there is any job.
    pub(super) fn work(&mut self, store: &mut Store, place: usize) {
        self.jobs.extend(std::iter::from_fn(|| store.take_job()));
        if self.jobs.is_empty() {
            return;
        }
        match self.jobs.remove(place % self.jobs.len()) {
            Some(StoreJob::Write(image)) => {
                let id = image.id();
                let file = make(image);
                if let Some(file) = file.clone() {
                    self.files.insert(id, file);
                }
                store.written(id, file.map(|file| open(id, file)));
            }
            Some(StoreJob::Remove(ids)) => {
                for id in ids {
                    assert!(self.files.remove(&id).is_some(), "a file goes once");
                }
            }
            None => {}
        }
    }

    /// Does all jobs.
    pub(super) fn finish(&mut self, store: &mut Store) {
        self.work(store, 0);
        while !self.jobs.is_empty() {
            self.work(store, 0);
        }
    }

    /// Makes a checkpoint durable if its segments are; returns whether it did.
    pub(super) fn checkpoint(&mut self, store: &mut Store) -> bool {
        let written = |image: &mut StoreImage| store.are_written(&image.segments);
        let Some(image) = self.begun.take_if(written) else {
            return false;
        };
        store.checkpointed(&image.segments);
        self.durable = Some(image);
        true
    }

    /// The process dies: a new one begins with the last checkpoint and the files it lists.
    pub(super) fn crash(&mut self) -> Store {
        self.jobs.clear();
        self.begun = None;
        let Some(image) = &self.durable else {
            self.files.clear();
            return Store::new();
        };
        self.files.retain(|id, _| image.segments.contains(id));
        let segments = image.segments.iter();
        let segments = segments.map(|id| open(*id, self.files[id].clone()));
        Store::restore(image, segments.collect()).expect("a checkpoint opens")
    }
}

/// The whole file; `None` for one without anything.
pub(super) fn make(mut image: SegmentImage) -> Option<Bytes> {
    let mut file = BytesMut::new();
    loop {
        match image.step(STEP_BYTES).expect("undamaged") {
            MergeStep::Chunk(chunk) => file.extend_from_slice(&chunk),
            MergeStep::Last(chunk) => {
                file.extend_from_slice(&chunk);
                return Some(file.freeze());
            }
            MergeStep::Empty => return None,
        }
    }
}

pub(super) fn open(id: SegmentId, file: Bytes) -> Segment {
    Segment::open(id, file).expect("what was written opens")
}
