//! The member as the services see it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use kvorum_member::apply::{ReadView, RequestError, Response};
use kvorum_member::check;
use kvorum_member::consensus::{Leadership, Status as ConsensusStatus};
use kvorum_member::core::{self, Core};
use kvorum_member::lease;
use kvorum_member::quota::{self, Quota};
use kvorum_mvcc::View;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{AlarmType, InternalRaftRequest, RequestHeader, ResponseHeader};
use kvorum_proto::ids::{ClusterId, LeaseId, MemberId, RequestId};
use prost::Message;
use tokio::sync::oneshot;

use super::core_thread::Command;
use super::measure;
use super::request_ids::RequestIds;
use super::waiters::{Proposed, Waiter};
use super::watch_thread::WatchHandle;
use crate::api::v3::status;
use crate::metrics::Metrics;
use crate::transport::{Body, ReplySink};

/// Who this member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
}

/// A handle to the running member; clones are the same member.
#[derive(Clone)]
pub struct Member(Arc<Shared>);

pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) metrics: Arc<Metrics>,
    quota: Quota,
    commands: Arc<OnceLock<Sender<Command>>>,
    watch: WatchHandle,
    request_ids: RequestIds,
    view: RwLock<ReadView>,
    /// Term and leader as of the last step of the core thread, for headers.
    term: AtomicU64,
    leader: AtomicU64,
    /// Whether linearizable reads need no round; see `Leadership::alone`.
    alone: AtomicBool,
    stopping: AtomicBool,
}

impl Member {
    /// A member whose core thread is yet to start.
    pub(super) fn new(
        identity: Identity,
        quota: Quota,
        view: ReadView,
        watch: WatchHandle,
        metrics: Arc<Metrics>,
        commands: Arc<OnceLock<Sender<Command>>>,
        request_ids: RequestIds,
    ) -> Self {
        Self(Arc::new(Shared {
            identity,
            metrics,
            quota,
            commands,
            watch,
            request_ids,
            view: RwLock::new(view),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            alone: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Who this is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.identity
    }

    /// Where everything is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The door to the watchers.
    #[must_use]
    pub fn watch(&self) -> &WatchHandle {
        &self.0.watch
    }

    /// The quota in force.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.0.quota
    }

    /// The newest published state of the store.
    #[must_use]
    pub fn view(&self) -> View {
        self.read_view().keys
    }

    /// The newest published state of everything.
    #[must_use]
    pub fn read_view(&self) -> ReadView {
        // A poisoned lock still holds a whole view: the replacement is one assignment.
        self.0
            .view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn publish(&self, view: ReadView) {
        let mut held = self.0.view.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *held, view);
        drop(held);
        // Freed outside the lock: what only the old view held may be a lot.
        drop(old);
    }

    pub(super) fn set_leadership(&self, leadership: &Leadership) {
        self.0.term.store(leadership.term.0, Ordering::Relaxed);
        self.0.leader.store(leadership.leader.0, Ordering::Relaxed);
        // Whoever reads `true` sees the view that was published before.
        self.0.alone.store(leadership.alone, Ordering::SeqCst);
    }

    pub(super) fn set_stopping(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// The leader as far as this member knows; 0 for none.
    #[must_use]
    pub fn leader(&self) -> MemberId {
        MemberId(self.0.leader.load(Ordering::Relaxed))
    }

    /// Whether a leader is known.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        self.leader() != MemberId(0)
    }

    /// The header of a reply at a store revision; 0 leaves the revision out.
    #[must_use]
    pub fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.0.identity.cluster.0,
            member_id: self.0.identity.member.0,
            revision,
            raft_term: self.0.term.load(Ordering::Relaxed),
        }
    }

    /// The reply body of a response.
    #[must_use]
    pub fn encode(&self, response: &Response) -> Body {
        let header = self.header(0);
        Body::encode(response.encoded_len(&header), |out| {
            response.encode(&header, out);
        })
    }

    /// An id for a lease whose client left the choice to the server.
    #[must_use]
    pub fn next_lease_id(&self) -> LeaseId {
        self.0.request_ids.next_lease()
    }

    /// Proposes a request; the response is encoded into `reply`. `bytes_max` bounds the whole proposal.
    pub fn propose(&self, payload: Payload, bytes_max: usize, reply: ReplySink) {
        self.submit(payload, bytes_max, Waiter::Client(reply));
    }

    /// Proposes a request on behalf of the server itself.
    pub fn propose_inside(
        &self,
        payload: Payload,
        then: impl FnOnce(Result<Response, RequestError>) + Send + 'static,
    ) {
        self.submit(payload, usize::MAX, Waiter::Inside(Box::new(then)));
    }

    fn submit(&self, payload: Payload, bytes_max: usize, waiter: Waiter) {
        let stored = self.view().sizes().total_bytes;
        if let Err(full) = quota::check(stored, self.0.quota, quota::cost(&payload)) {
            self.raise_no_space();
            return answer(waiter, full);
        }
        self.send_proposal(payload, bytes_max, waiter);
    }

    fn send_proposal(&self, payload: Payload, bytes_max: usize, waiter: Waiter) {
        let proposed = Proposed {
            waiter,
            kind: measure::kind(&payload),
            since: Instant::now(),
        };
        let (id, data) = self.encode_request(payload);
        match check::proposal(data.len(), bytes_max) {
            Ok(()) => self.send(Command::Propose { id, data, proposed }),
            Err(error) => answer(proposed.waiter, error),
        }
    }

    /// Tells the cluster that this member's quota is used up, unless it is told already.
    fn raise_no_space(&self) {
        let raised = self
            .read_view()
            .cluster
            .alarms
            .is_raised(AlarmType::Nospace);
        if !raised {
            let alarm = quota::alarm(self.0.identity.member);
            let waiter = Waiter::Inside(Box::new(|_| {}));
            self.send_proposal(Payload::Alarm(alarm), usize::MAX, waiter);
        }
    }

    fn encode_request(&self, payload: Payload) -> (RequestId, bytes::Bytes) {
        let id = self.0.request_ids.next();
        let header = RequestHeader {
            id: id.0,
            ..RequestHeader::default()
        };
        let request = InternalRaftRequest {
            header: Some(header),
            id: 0,
            payload: Some(payload),
        };
        (id, request.encode_to_vec().into())
    }

    /// Whether a read of the newest published view is linearizable now, without a round: this member is the only
    /// voter and nothing was ever acknowledged that its view does not hold.
    #[must_use]
    pub fn reads_at_once(&self) -> bool {
        self.0.alone.load(Ordering::SeqCst)
    }

    /// Calls `then` when a read of the newest published view is linearizable. `then` runs here or on the core thread
    /// and must return at once.
    pub fn read_index(&self, then: impl FnOnce(Result<(), RequestError>) + Send + 'static) {
        if self.reads_at_once() {
            return then(Ok(()));
        }
        self.send(Command::Read(Box::new(then)));
    }

    /// Waits until a read of the newest published view is linearizable.
    ///
    /// # Errors
    ///
    /// Why it cannot be confirmed.
    pub async fn confirm_read(&self) -> Result<(), RequestError> {
        let (sender, receiver) = oneshot::channel();
        self.read_index(move |confirmed| _ = sender.send(confirmed));
        receiver.await.unwrap_or(Err(RequestError::Stopped))
    }

    /// Asks the lease deadlines; `then` runs on the core thread.
    pub fn ask_lease(
        &self,
        ask: impl FnOnce(lease::Token) -> core::Input + Send + 'static,
        then: impl FnOnce(Result<lease::Output, RequestError>) + Send + 'static,
    ) {
        self.send(Command::Lease {
            ask: Box::new(ask),
            then: Box::new(then),
        });
    }

    /// Looks at the machines between two of their steps; `look` runs on the core thread.
    pub fn inspect(&self, look: impl FnOnce(&Core, ConsensusStatus) + Send + 'static) {
        self.send(Command::Inspect(Box::new(look)));
    }

    /// Returns freed space of the store, then calls `then`.
    pub fn defragment(&self, then: impl FnOnce() + Send + 'static) {
        self.send(Command::Defragment(Box::new(then)));
    }

    /// Lets the core thread end.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command) {
        let refused = match self.0.commands.get() {
            Some(sender) if !self.0.stopping.load(Ordering::Relaxed) => {
                sender.send(command).err().map(|refused| refused.0)
            }
            _ => Some(command),
        };
        if let Some(command) = refused {
            command.refuse();
        }
    }
}

fn answer(waiter: Waiter, error: RequestError) {
    match waiter {
        Waiter::Client(reply) => reply.send(Err(status(error))),
        Waiter::Inside(then) => then(Err(error)),
    }
}
