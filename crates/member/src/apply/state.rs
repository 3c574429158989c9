//! The replicated state itself.

use std::sync::Arc;

use kvorum_mvcc::{EventBatch, Interval, Store};
use kvorum_proto::ids::{LogIndex, Term};

use super::effect::{ClusterState, ReadView};
use super::writer::Writer;
use crate::lease::Grants;

/// Everything that applied entries have made.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) grants: Grants,
    cluster: Arc<ClusterState>,
    pub(super) applied: LogIndex,
    pub(super) term: Term,
}

impl State {
    /// A state from its parts.
    pub(super) fn restore(
        store: Store,
        grants: Grants,
        cluster: Arc<ClusterState>,
        applied: LogIndex,
        term: Term,
    ) -> Self {
        State {
            store,
            grants,
            cluster,
            applied,
            term,
        }
    }

    /// The state for readers.
    pub(super) fn read_view(&self) -> ReadView {
        ReadView {
            keys: self.store.view(),
            applied: self.applied,
            term: self.term,
            cluster: Arc::clone(&self.cluster),
        }
    }

    /// What is not keys and not leases.
    pub(super) fn cluster(&self) -> &ClusterState {
        &self.cluster
    }

    /// The same, to be changed. Views that were handed out keep the old one.
    pub(super) fn cluster_mut(&mut self) -> &mut ClusterState {
        Arc::make_mut(&mut self.cluster)
    }

    /// Writes in one transaction; also returns its changes, if there are any.
    pub(super) fn write<R>(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> R,
    ) -> (R, Option<EventBatch>) {
        let mut writer = Writer::new(self.store.begin(), &mut self.grants);
        let result = write(&mut writer);
        (result, writer.finish())
    }

    /// Panics when an invariant is broken. Looks at everything.
    pub(super) fn check_invariants(&self) {
        self.store.check_invariants();
        self.grants.check_invariants();
        let view = self.store.view();
        let all = Interval::all();
        let attached: Vec<_> = self
            .grants
            .iter()
            .flat_map(|(id, grant)| grant.keys().map(move |key| (key, id)))
            .collect();
        for (key, id) in &attached {
            let held = view.change(key).map(|pair| pair.lease());
            assert_eq!(
                held,
                Some(*id),
                "an attached key has a pair that names the lease"
            );
        }
        let named = view
            .live_changes(&all)
            .filter(|(_, pair)| self.grants.lease(pair.lease()).is_some());
        assert_eq!(
            named.count(),
            attached.len(),
            "a pair that names a lease hangs on it"
        );
    }
}
