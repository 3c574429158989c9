//! Whether a peer is reached, and since when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kvorum_proto::ids::MemberId;
use tracing::{info, warn};

use crate::metrics::{Counter, Gauge, Metrics};

/// One peer's standing.
#[derive(Debug)]
pub(super) struct PeerStatus {
    peer: MemberId,
    active_since: Mutex<Option<Instant>>,
    active: Arc<Gauge>,
    disconnected: Arc<Counter>,
}

impl PeerStatus {
    pub(super) fn new(local: MemberId, peer: MemberId, metrics: &Metrics) -> Self {
        let labels = [local.to_string(), peer.to_string()];
        let labels = labels.each_ref().map(String::as_str);
        Self {
            peer,
            active_since: Mutex::default(),
            active: metrics.active_peers.with(&labels),
            disconnected: metrics.disconnected_peers.with(&labels),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing that can panic runs under this lock.
        self.active_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when the peer is reached without a break; `None` when it is not.
    pub(super) fn active_since(&self) -> Option<Instant> {
        *self.lock()
    }

    /// Something went well.
    pub(super) fn activate(&self) {
        let mut since = self.lock();
        if since.is_none() {
            *since = Some(Instant::now());
            info!("peer-id" = %self.peer, "peer became active");
            self.active.set(1.0);
        }
    }

    /// Something failed: what, and why.
    pub(super) fn deactivate(&self, action: &str, error: &dyn std::fmt::Display) {
        let was_active = self.lock().take().is_some();
        if was_active {
            warn!("peer-id" = %self.peer, error = %format_args!("failed to {action} ({error})"), "peer became inactive (message send to peer failed)");
            self.active.set(0.0);
            self.disconnected.increment();
        }
    }
}
