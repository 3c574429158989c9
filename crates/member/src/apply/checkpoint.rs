//! What a checkpoint takes of the state, and the state from a checkpoint or a snapshot.

use std::sync::Arc;

use kvorum_mvcc::{Interval, Store};
use kvorum_proto::ids::LeaseId;
use kvorum_proto::raftpb;
use kvorum_storage::checkpoint::Listed;
use kvorum_storage::segment::{Segment, SegmentId};

use super::Effect;
use super::machine::{Apply, Local};
use super::state::State;
use crate::backend::Backend;
use crate::backend::import::Imported;
use crate::checkpoint::{Sealed, encode_body};
use crate::lease::Grants;

impl Apply {
    /// With the state of a checkpoint or a snapshot: the store has its keys, in these files, and
    /// `imported` is everything else. Which keys hang on a lease follows from the keys, as in etcd.
    pub fn restore(local: Local, imported: Imported, store: Store, files: Vec<Listed>) -> Self {
        let mut apply = Apply::new(local);
        apply.removal.pending = store.is_compacting();
        let grants = grants(&imported, &store);
        let cluster = Arc::new(imported.cluster);
        apply.state = State::restore(store, grants, cluster, imported.applied, imported.term);
        apply.files = files;
        apply
    }

    /// The files that the state was restored from.
    pub fn files(&self) -> &[Listed] {
        &self.files
    }

    pub(crate) fn set_files(&mut self, files: Vec<Listed>) {
        self.files = files;
    }

    /// What this member is.
    pub fn local(&self) -> Local {
        self.local
    }

    /// The voters and learners.
    pub fn conf_state(&self) -> raftpb::ConfState {
        let metadata = Backend::new(self).metadata();
        metadata.conf_state.unwrap_or_default()
    }

    /// Whether nothing more should be applied until files are written.
    pub fn is_backlogged(&self) -> bool {
        self.state.store.is_backlogged()
    }

    /// The store, to let it write files. Its keys are changed by entries alone.
    pub(crate) fn store_mut(&mut self) -> &mut Store {
        &mut self.state.store
    }

    /// Takes the state as it is now for a checkpoint.
    pub(crate) fn seal(&mut self) -> Sealed {
        let image = self.state.store.image();
        let backend = Backend::new(self);
        let metadata = backend.metadata();
        self.effects
            .push_back(Effect::Published(self.state.read_view()));
        Sealed {
            index: self.state.applied,
            term: self.state.term,
            conf_state: metadata.conf_state.unwrap_or_default(),
            body: encode_body(&backend, &image),
            segments: image.segments,
            next_segment: image.next_segment,
        }
    }

    /// A segment is written: readers let go of what was in memory.
    pub(crate) fn store_written(&mut self, id: SegmentId, segment: Option<Segment>) {
        self.state.store.written(id, segment);
        self.effects
            .push_back(Effect::Published(self.state.read_view()));
    }

    pub(crate) fn push_effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }
}

fn grants(imported: &Imported, store: &Store) -> Grants {
    let mut grants = Grants::new();
    for lease in &imported.leases {
        let id = LeaseId(lease.id);
        grants.grant(id, lease.ttl);
        grants.checkpoint(id, lease.remaining_ttl);
    }
    if !grants.is_empty() {
        for (key, pair) in store.view().live_changes(&Interval::all()) {
            if pair.lease() != LeaseId(0) {
                grants.attach(&key.to_slice(), pair.lease());
            }
        }
    }
    grants
}
