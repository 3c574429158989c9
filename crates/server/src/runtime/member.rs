//! The member as the services see it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kvorum_member::apply::{ReadView, RequestError, Response};
use kvorum_member::check;
use kvorum_member::cluster::Change;
use kvorum_member::consensus::{Leadership, Status as ConsensusStatus};
use kvorum_member::core::{self, Core};
use kvorum_member::lease;
use kvorum_member::quota::{self, Quota};
use kvorum_mvcc::View;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{AlarmType, ResponseHeader};
use kvorum_proto::ids::{ClusterId, LeaseId, MemberId};
use kvorum_proto::raftpb;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::core_thread::{Command, LeaseQuestion};
use super::door::Door;
use super::entry::Asked;
use super::measure;
use super::request_ids::RequestIds;
use super::turn::{self, Gathered, SpareLists};
use super::waiters::{LeaseAnswer, LeaseWaiter, Proposed, Waiter};
use super::watch_thread::WatchHandle;
use crate::api::v3::status;
use crate::metrics::Metrics;
use crate::peer::Dialer;
use crate::peer::Peers;
use crate::transport::{Body, ReplySink};

/// Who this member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
}

/// What the flags say about requests and members.
#[derive(Clone, Copy, Debug)]
pub struct MemberSettings {
    /// How much may be stored.
    pub quota: Quota,
    /// How long a request may take: 5 s and two election timeouts.
    pub request_timeout: Duration,
    /// Refuse membership changes that endanger the quorum (`--strict-reconfig-check`).
    pub strict_reconfig_check: bool,
    /// Most learners that there may be (`--max-learners`).
    pub learners_max: usize,
}

/// A handle to the running member; clones are the same member.
#[derive(Clone)]
pub struct Member(Arc<Shared>);

pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) metrics: Arc<Metrics>,
    door: Arc<Door>,
    watch: WatchHandle,
    /// Set once, before the core thread starts; peers hold their member.
    peers: OnceLock<Peers>,
    settings: MemberSettings,
    request_ids: RequestIds,
    view: RwLock<ReadView>,
    /// What is stored as of `view`, for the quota.
    stored_bytes: AtomicU64,
    /// Term and leader as of the last step of the core thread, for headers.
    term: AtomicU64,
    leader: AtomicU64,
    /// Whether linearizable reads need no round; see `Leadership::alone`.
    alone: AtomicBool,
    /// Whether this member has no vote, as of `view`.
    is_learner: AtomicBool,
    /// Whether the disk has no room for more.
    disk_short: AtomicBool,
    stopping: AtomicBool,
    range_times: measure::RangeTimes,
    spare_lists: SpareLists,
}

impl Member {
    /// A member whose core thread is yet to start.
    pub(super) fn new(
        identity: Identity,
        view: ReadView,
        watch: WatchHandle,
        metrics: Arc<Metrics>,
        door: Arc<Door>,
        request_ids: RequestIds,
        settings: MemberSettings,
    ) -> Self {
        Self(Arc::new(Shared {
            identity,
            metrics,
            door,
            watch,
            peers: OnceLock::new(),
            settings,
            request_ids,
            stored_bytes: AtomicU64::new(view.keys.sizes().total_bytes),
            term: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            alone: AtomicBool::new(false),
            is_learner: AtomicBool::new(is_learner(&identity, &view)),
            disk_short: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            range_times: measure::RangeTimes::default(),
            spare_lists: SpareLists::default(),
            view: RwLock::new(view),
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

    /// The same for threads of their own.
    pub(crate) fn shared_metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The door to the watchers.
    #[must_use]
    pub fn watch(&self) -> &WatchHandle {
        &self.0.watch
    }

    /// The other members, once there is a way to them.
    #[must_use]
    pub(crate) fn peers(&self) -> Option<&Peers> {
        self.0.peers.get()
    }

    /// How other members are called; without any TLS of its own while there is no way to them.
    pub(crate) fn dialer(&self) -> Dialer {
        let peers = self.peers();
        peers
            .map(|peers| peers.local().dialer.clone())
            .unwrap_or_default()
    }

    pub(super) fn set_peers(&self, peers: Peers) {
        // Called once.
        let _ = self.0.peers.set(peers);
    }

    /// What the flags say about requests and members.
    #[must_use]
    pub fn settings(&self) -> MemberSettings {
        self.0.settings
    }

    /// Whether this member leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader() == self.0.identity.member
    }

    /// Whether this member has no vote.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.0.is_learner.load(Ordering::Relaxed)
    }

    /// The quota in force.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.0.settings.quota
    }

    /// The newest published state of the store.
    #[must_use]
    pub fn view(&self) -> View {
        self.read_view().keys
    }

    /// The revision of the newest published state of the store.
    pub(crate) fn current_revision(&self) -> i64 {
        self.held().keys.current_revision()
    }

    fn held(&self) -> RwLockReadGuard<'_, ReadView> {
        // A poisoned lock still holds a whole view: the replacement is one assignment.
        self.0.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest published state of everything.
    #[must_use]
    pub fn read_view(&self) -> ReadView {
        self.held().clone()
    }

    /// Looks at the newest published state, or at that of the turn: as new as anything that the turn asks for.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&ReadView) -> R) -> R {
        turn::look(|| self.read_view(), look)
    }

    /// Lists of commands for turns of connections.
    pub(super) fn spare_lists(&self) -> &SpareLists {
        &self.0.spare_lists
    }

    /// Runs one turn of a connection: its proposals go to the machines together.
    pub(crate) fn turn(&self, work: &mut dyn FnMut()) {
        match turn::gather(work, &self.0.spare_lists) {
            Gathered::One(None) => {}
            Gathered::One(Some(command)) => self.carry_out(command),
            Gathered::Many(commands) => self.carry_out(Command::Many(commands)),
        }
    }

    /// A range or a transaction that only reads was executed.
    pub(crate) fn range_executed(&self, started: Instant, succeeded: bool) {
        let times = &self.0.range_times;
        times.executed(&self.0.metrics, succeeded, started.elapsed());
    }

    /// A range that came at this moment was answered.
    pub(crate) fn range_answered(&self, since: Instant) {
        let times = &self.0.range_times;
        times.requested(&self.0.metrics, since.elapsed());
    }

    pub(super) fn publish(&self, view: ReadView) {
        let stored = view.keys.sizes().total_bytes;
        let is_learner = is_learner(&self.0.identity, &view);
        self.0.is_learner.store(is_learner, Ordering::Relaxed);
        self.0.stored_bytes.store(stored, Ordering::Relaxed);
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

    /// Whether the member is about to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
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
        Body::answer(response.encoded_len(&header), |out| {
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
        self.submit(Asked::Made(payload), bytes_max, Waiter::Client(reply));
    }

    /// Like [`Member::propose`] for a request that a client sent as these bytes.
    pub fn propose_message(
        &self,
        payload: &Payload,
        message: &Bytes,
        bytes_max: usize,
        reply: ReplySink,
    ) {
        let asked = Asked::Sent(payload, message);
        self.submit(asked, bytes_max, Waiter::Client(reply));
    }

    /// Proposes a request on behalf of the server itself.
    pub fn propose_inside(
        &self,
        payload: Payload,
        then: impl FnOnce(Result<Response, RequestError>) + Send + 'static,
    ) {
        let waiter = Waiter::Inside(Box::new(then));
        self.submit(Asked::Made(payload), usize::MAX, waiter);
    }

    fn submit(&self, asked: Asked<'_>, bytes_max: usize, waiter: Waiter) {
        let stored = self.0.stored_bytes.load(Ordering::Relaxed);
        let (cost, is_short) = (
            quota::cost(asked.payload()),
            self.0.disk_short.load(Ordering::Relaxed),
        );
        // A disk without room is a quota that is used up.
        let quota = match is_short {
            true => Quota::Bytes(0),
            false => self.0.settings.quota,
        };
        if let Err(full) = quota::check(stored, quota, cost) {
            self.raise_no_space();
            return answer(waiter, full);
        }
        self.send_proposal(asked, bytes_max, waiter);
    }

    fn send_proposal(&self, asked: Asked<'_>, bytes_max: usize, waiter: Waiter) {
        let proposed = Proposed {
            waiter,
            kind: measure::kind(asked.payload()),
            since: Instant::now(),
        };
        let id = self.0.request_ids.next();
        let data = asked.entry(id);
        match check::proposal(data.len(), bytes_max) {
            Ok(()) => self.send(Command::Propose { id, data, proposed }),
            Err(error) => answer(proposed.waiter, error),
        }
    }

    /// The disk has room, or has none any more. None at all is for all members to know: what they take
    /// comes here, too.
    pub(super) fn set_disk_short(&self, is_short: bool) {
        let was_short = self.0.disk_short.swap(is_short, Ordering::Relaxed);
        if is_short != was_short {
            self.tell_machines(core::Input::DiskShort(is_short));
        }
        if is_short && self.has_leader() {
            self.raise_no_space();
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
            self.send_proposal(Asked::Made(Payload::Alarm(alarm)), usize::MAX, waiter);
        }
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

    /// Asks the lease deadlines about a lease; `then` runs on the core thread.
    pub fn ask_lease(
        &self,
        id: LeaseId,
        ask: LeaseQuestion,
        then: impl FnOnce(LeaseAnswer) + Send + 'static,
    ) {
        self.ask_lease_for(id, ask, LeaseWaiter::Other(Box::new(then)));
    }

    /// The same for whoever waits; it is told on the core thread.
    pub(crate) fn ask_lease_for(&self, id: LeaseId, ask: LeaseQuestion, then: LeaseWaiter) {
        self.send(Command::Lease { id, ask, then });
    }

    /// Looks at the machines between two of their steps; `look` runs on the core thread.
    pub fn inspect(&self, look: impl FnOnce(&Core, ConsensusStatus) + Send + 'static) {
        self.send(Command::Inspect(Box::new(look)));
    }

    /// Returns freed space of the store, then calls `then`.
    pub fn defragment(&self, then: impl FnOnce() + Send + 'static) {
        self.send(Command::Defragment(Box::new(then)));
    }

    /// Takes in a message of a peer; `room` is given back when the machines have it.
    pub(crate) fn peer_message(
        &self,
        message: Box<raftpb::Message>,
        room: Option<OwnedSemaphorePermit>,
    ) {
        self.send(Command::Message { message, room });
    }

    /// Messages to a peer do not get through.
    pub(crate) fn peer_unreachable(&self, peer: MemberId) {
        self.peer_news(core::Input::Unreachable(peer));
    }

    /// A peer has closed its connections.
    pub(crate) fn peer_closed(&self, peer: MemberId) {
        self.peer_news(core::Input::Closed(peer));
    }

    /// Any other news about peers for the machines.
    pub(crate) fn peer_news(&self, news: core::Input) {
        self.tell_machines(news);
    }

    /// News for the machines about what is around them.
    pub(super) fn tell_machines(&self, news: core::Input) {
        self.send(Command::Peer(news));
    }

    /// What the disk holds is not known any more: the member must stop.
    pub(super) fn disk_failed(&self, reason: String) {
        self.send(Command::Failed(reason));
    }

    /// A peer says that this member was removed.
    pub(crate) fn removed_by_peers(&self) {
        self.send(Command::Removed);
    }

    /// Proposes a membership change. Its outcome is the list of members after it.
    ///
    /// # Errors
    ///
    /// Why it was refused, or that nobody knows what became of it.
    pub(crate) async fn propose_change(&self, change: Change) -> Result<Response, RequestError> {
        let id = self.0.request_ids.next();
        let change = change.to_wire(id.0, &self.read_view().cluster.roster);
        let (sender, receiver) = oneshot::channel();
        let then = move |outcome| _ = sender.send(outcome);
        let proposed = Proposed {
            waiter: Waiter::Inside(Box::new(then)),
            kind: "ConfChange",
            since: Instant::now(),
        };
        self.send(Command::ProposeChange {
            id,
            change,
            proposed,
        });
        receiver.await.unwrap_or(Err(RequestError::Stopped))
    }

    /// Begins to hand the leadership over. Whether it went shows in [`leader`](Self::leader).
    pub(crate) fn transfer_leader(&self, to: MemberId) {
        self.peer_news(core::Input::TransferLeader(to));
    }

    /// Asks the lease deadlines of this member about a lease and waits for the answer.
    ///
    /// # Errors
    ///
    /// The member is stopping.
    pub(crate) async fn lease_answer(
        &self,
        id: LeaseId,
        ask: LeaseQuestion,
    ) -> Result<lease::Output, RequestError> {
        let (sender, receiver) = oneshot::channel();
        self.ask_lease(id, ask, move |answer| _ = sender.send(answer));
        receiver.await.unwrap_or(Err(RequestError::Stopped))
    }

    /// The keys that hang on a lease.
    pub(crate) async fn lease_keys(&self, id: LeaseId) -> Vec<Bytes> {
        let (sender, receiver) = oneshot::channel();
        self.inspect(move |core, _| {
            let grant = core.apply().grants().lease(id);
            let keys = grant.map(|grant| grant.keys().cloned().collect());
            let _ = sender.send(keys.unwrap_or_default());
        });
        receiver.await.unwrap_or_default()
    }

    /// Lets the core thread end.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command) {
        if let Some(command) = turn::keep(command) {
            self.send_now(command);
        }
    }

    fn send_now(&self, command: Command) {
        let refused = match self.is_stopping() {
            false => self.0.door.send(command),
            true => Some(command),
        };
        if let Some(command) = refused {
            command.refuse();
        }
    }

    /// Carries out what a turn of a connection has gathered: here if nobody else is at the machines.
    fn carry_out(&self, command: Command) {
        if self.is_stopping() {
            return command.refuse();
        }
        if let Some(command) = self.0.door.turn_here(command) {
            self.send_now(command);
        }
    }
}

fn is_learner(identity: &Identity, view: &ReadView) -> bool {
    let member = view.cluster.roster.member(identity.member);
    member.is_some_and(|member| member.is_learner)
}

fn answer(waiter: Waiter, error: RequestError) {
    match waiter {
        Waiter::Client(reply) => reply.send(Err(status(error))),
        Waiter::Inside(then) => then(Err(error)),
    }
}
