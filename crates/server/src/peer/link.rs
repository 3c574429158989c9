//! One peer: its queues, its streams, its tasks.
//!
//! A message to the peer goes to the first of these that is there: the stream of appends (appends alone), the stream
//! of messages, the pipeline. The streams to a peer are those that it has asked for, so a peer that is gone has none.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kvorum_proto::ids::MemberId;
use kvorum_proto::raftpb;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::contact::Contact;
use super::outbox::{Outbox, Refused, StreamBody};
use super::status::PeerStatus;
use super::wire::StreamKind;
use super::{Local, pipeline, probe, reader};
use crate::metrics::{Counter, Histogram};
use crate::transport::HttpConnection;

/// Bytes of messages from one peer that may wait for the core thread. More are not read from its streams.
const ARRIVED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a message costs of [`ARRIVED_BYTES_MAX`] beside its entries, in bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// A peer.
pub(super) struct Link {
    pub(super) id: MemberId,
    pub(super) contact: Contact,
    pub(super) status: PeerStatus,
    /// Rings when the peer calls here.
    pub(super) heard_of: Notify,
    pub(super) received_bytes: Arc<Counter>,
    pub(super) sent_bytes: Arc<Counter>,
    pub(super) sent_failures: Arc<Counter>,
    pub(super) round_trip: Arc<Histogram>,
    local: Arc<Local>,
    streams: [Mutex<Option<Outbox>>; 2],
    pipeline: mpsc::Sender<Box<raftpb::Message>>,
    /// Streams that are read from the peer right now.
    reading: AtomicUsize,
    arrived_bytes: Arc<Semaphore>,
    tasks: OnceLock<Vec<AbortHandle>>,
}

impl Link {
    /// A peer at these URLs; its tasks run until [`stop`](Self::stop).
    pub(super) fn start(local: &Arc<Local>, id: MemberId, urls: Vec<String>) -> Arc<Self> {
        let metrics = local.member.metrics();
        let label = id.to_string();
        let (pipeline, queue) = mpsc::channel(pipeline::QUEUED_MESSAGES_MAX);
        let link = Arc::new(Self {
            id,
            contact: Contact::new(urls.clone()),
            status: PeerStatus::new(local.identity.member, id, metrics),
            heard_of: Notify::new(),
            received_bytes: metrics.peer_received_bytes.with(&[&label]),
            sent_bytes: metrics.peer_sent_bytes.with(&[&label]),
            sent_failures: metrics.peer_sent_failures.with(&[&label]),
            round_trip: metrics.peer_round_trip.with(&[&label]),
            local: Arc::clone(local),
            streams: Default::default(),
            pipeline,
            reading: AtomicUsize::new(0),
            arrived_bytes: Arc::new(Semaphore::new(ARRIVED_BYTES_MAX)),
            tasks: OnceLock::new(),
        });
        let queue: pipeline::Queue = Arc::new(tokio::sync::Mutex::new(queue));
        let runtime = &local.runtime;
        let mut tasks = Vec::new();
        for kind in StreamKind::ALL {
            let task = reader::run(Arc::clone(&link), kind);
            tasks.push(runtime.spawn(task).abort_handle());
        }
        for _ in 0..pipeline::CONNECTIONS {
            let task = pipeline::run(Arc::clone(&link), Arc::clone(&queue));
            tasks.push(runtime.spawn(task).abort_handle());
        }
        let task = probe::run(Arc::clone(&link));
        tasks.push(runtime.spawn(task).abort_handle());
        // Nobody has set it: the link was made above.
        let _ = link.tasks.set(tasks);
        info!("remote-peer-id" = %id, "remote-peer-urls" = ?urls, "started remote peer");
        link
    }

    /// Ends all tasks and streams.
    pub(super) fn stop(&self) {
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
        for kind in StreamKind::ALL {
            if let Some(outbox) = self.slot(kind).take() {
                outbox.close();
            }
        }
        info!("remote-peer-id" = %self.id, "stopped remote peer");
    }

    /// What this side is.
    pub(super) fn local(&self) -> &Local {
        &self.local
    }

    /// Opens a connection to the peer.
    ///
    /// # Errors
    /// See [`Dialer::dial`](super::Dialer::dial).
    pub(super) async fn dial(&self) -> io::Result<HttpConnection> {
        self.contact.dial(&self.local.dialer).await
    }

    fn slot(&self, kind: StreamKind) -> MutexGuard<'_, Option<Outbox>> {
        // Nothing that can panic runs under this lock.
        self.streams[kind as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer has asked for a stream: its body. The one before ends.
    pub(super) fn attach(&self, kind: StreamKind) -> StreamBody {
        let heartbeat = self.local.read_timeout / 3;
        let (outbox, body) = Outbox::new(kind, heartbeat, Arc::clone(&self.sent_bytes));
        if let Some(before) = self.slot(kind).replace(outbox) {
            before.close();
        }
        self.status.activate();
        self.heard_of.notify_waiters();
        info!(
            "stream-writer-type" = kind.name(),
            "local-member-id" = %self.local.identity.member,
            "remote-peer-id" = %self.id,
            "established TCP streaming connection with remote peer"
        );
        body
    }

    /// Queues a message to the peer; false when it is lost.
    pub(super) fn send(&self, message: Box<raftpb::Message>) -> bool {
        let mut message = message;
        for kind in StreamKind::ALL {
            if !kind.carries(&message) {
                continue;
            }
            let slot = self.slot(kind);
            let Some(outbox) = slot.as_ref() else {
                continue;
            };
            match outbox.push(message) {
                Ok(()) => return true,
                Err((_, Refused::Full)) => return self.lost(kind.name()),
                Err((back, Refused::Closed)) => message = back,
            }
        }
        self.pipeline.try_send(message).is_ok() || self.lost("pipeline")
    }

    fn lost(&self, through: &str) -> bool {
        self.sent_failures.increment();
        if self.status.active_since().is_some() {
            warn!("remote-peer-id" = %self.id, through, "dropped internal Raft message since sending buffer is full");
        }
        false
    }

    /// Hands a message of the peer to the core thread; waits while too many are there.
    pub(super) async fn arrived(&self, message: Box<raftpb::Message>) {
        let entries = message.entries.iter().map(|entry| entry.data().len());
        let bytes = MESSAGE_OVERHEAD_BYTES + entries.sum::<usize>();
        let permits = bytes.min(ARRIVED_BYTES_MAX) as u32;
        let room = Arc::clone(&self.arrived_bytes).acquire_many_owned(permits);
        // The semaphore is never closed.
        let Ok(room) = room.await else { return };
        self.local.member.peer_message(message, Some(room));
    }

    /// Tells consensus that messages do not get through.
    pub(super) fn unreachable(&self) {
        self.local.member.peer_unreachable(self.id);
    }

    pub(super) fn reading_begins(&self) {
        self.reading.fetch_add(1, Ordering::AcqRel);
    }

    /// A stream from the peer has ended. When it was the last one and the peer has closed it, consensus hears of it:
    /// the process behind it has probably ended.
    pub(super) fn reading_ends(&self, closed_by_peer: bool) {
        let last = self.reading.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && closed_by_peer {
            self.local.member.peer_closed(self.id);
        }
    }

    /// Whether a stream to or from the peer is there.
    pub(super) fn is_connected(&self) -> bool {
        let writes = StreamKind::ALL
            .into_iter()
            .any(|kind| self.slot(kind).as_ref().is_some_and(Outbox::is_open));
        writes || self.reading.load(Ordering::Acquire) > 0
    }
}
