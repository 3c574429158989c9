//! Streaming calls: replies given from any thread, with a bound on what waits for a slow reader.
//!
//! A [`StreamSink`] owns a queue of replies that HTTP/2 flow control has not let out yet. The queue never refuses a
//! message, but [`StreamSink::room`] says how much it wants: a service sends no more than that and waits for
//! [`RequestStream::room`](super::RequestStream::room). So a client that opens a watch and never reads costs at most
//! [`STREAM_QUEUED_BYTES_MAX`] and one message.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::completion::{Completion, Completions};
use super::{Body, Code, Status};

/// Bytes of replies that may wait for one stream before it has no room.
pub const STREAM_QUEUED_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of replies that may wait for one stream in memory that they share with others; those behind them are copied.
const SHARED_QUEUED_BYTES_MAX: usize = 4 * 1024;

/// Replies that may wait for one stream before it has no room.
pub const STREAM_QUEUED_MESSAGES_MAX: usize = 1024;

/// Requests of one stream that may be worked on at once; beyond it the transport stops reading the stream.
pub const STREAM_REQUESTS_MAX: usize = 128;

/// What a stream still takes. No room at all is both numbers 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of encoded messages; one message may overshoot it.
    pub bytes: usize,
    /// Number of messages.
    pub messages: usize,
}

impl Room {
    /// Whether nothing should be sent now.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.bytes == 0 || self.messages == 0
    }
}

/// What the connection, the sink and the credits of one streaming call share.
pub(super) struct StreamState {
    stream: u32,
    completions: Option<Arc<Completions>>,
    deadline: Option<Instant>,
    closed: AtomicBool,
    requests: AtomicUsize,
    outbox: Mutex<Outbox>,
}

#[derive(Default)]
struct Outbox {
    messages: VecDeque<Body>,
    bytes: usize,
    finished: Option<Result<(), Status>>,
    /// A poll of this stream is queued already.
    signalled: bool,
    /// The service met a full queue and is to be told when room returns.
    starved: bool,
}

impl Outbox {
    fn room(&self) -> Room {
        let room = Room {
            bytes: STREAM_QUEUED_BYTES_MAX.saturating_sub(self.bytes),
            messages: STREAM_QUEUED_MESSAGES_MAX.saturating_sub(self.messages.len()),
        };
        if room.is_empty() {
            return Room {
                bytes: 0,
                messages: 0,
            };
        }
        room
    }
}

/// The next thing to write on a stream.
pub(super) enum Next {
    Message(Body),
    Finish(Result<(), Status>),
    Nothing,
}

impl StreamState {
    pub(super) fn new(
        stream: u32,
        completions: Option<Arc<Completions>>,
        deadline: Option<Instant>,
    ) -> Arc<Self> {
        Arc::new(Self {
            stream,
            completions,
            deadline,
            closed: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            outbox: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        // Nothing that can panic runs under this lock.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self) {
        if let Some(completions) = &self.completions {
            completions.push(Completion::Poll {
                stream: self.stream,
            });
        }
    }

    fn change(&self, change: impl FnOnce(&mut Outbox)) {
        let mut outbox = self.lock();
        if outbox.finished.is_some() || self.closed.load(Ordering::Relaxed) {
            return;
        }
        change(&mut outbox);
        let signal = !std::mem::replace(&mut outbox.signalled, true);
        drop(outbox);
        if signal {
            self.signal();
        }
    }

    /// Takes the next reply. After [`Next::Nothing`] the next reply queues a poll again.
    pub(super) fn next(&self) -> Next {
        let mut outbox = self.lock();
        if let Some(body) = outbox.messages.pop_front() {
            outbox.bytes -= body.written_bytes();
            return Next::Message(body);
        }
        outbox.signalled = false;
        match &outbox.finished {
            Some(result) => Next::Finish(result.clone()),
            None => Next::Nothing,
        }
    }

    /// Whether the service waits for room and half of the queue is free again. Clears the wish.
    pub(super) fn take_room_returned(&self) -> bool {
        let mut outbox = self.lock();
        let returned = outbox.starved
            && outbox.bytes <= STREAM_QUEUED_BYTES_MAX / 2
            && outbox.messages.len() <= STREAM_QUEUED_MESSAGES_MAX / 2;
        if returned {
            outbox.starved = false;
        }
        returned
    }

    /// Counts a request handed to the service.
    pub(super) fn credit(self: &Arc<Self>) -> Credit {
        self.requests.fetch_add(1, Ordering::AcqRel);
        Credit {
            state: Arc::clone(self),
        }
    }

    /// Whether one more request may be handed to the service.
    pub(super) fn takes_requests(&self) -> bool {
        self.requests.load(Ordering::Acquire) < STREAM_REQUESTS_MAX
    }

    /// Marks the stream as gone and drops what waits.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let mut outbox = self.lock();
        outbox.bytes = 0;
        let messages = std::mem::take(&mut outbox.messages);
        drop(outbox);
        drop(messages);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
            || self
                .completions
                .as_ref()
                .is_some_and(|queue| queue.is_closed())
    }
}

/// Held while a request of a stream is worked on. Dropping it lets the transport hand over another one; a service
/// without a queue of its own drops it at once.
pub struct Credit {
    state: Arc<StreamState>,
}

impl Drop for Credit {
    fn drop(&mut self) {
        if self.state.requests.fetch_sub(1, Ordering::AcqRel) == STREAM_REQUESTS_MAX {
            self.state.signal();
        }
    }
}

impl std::fmt::Debug for Credit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credit").finish_non_exhaustive()
    }
}

/// The last clone of a sink that goes without a finish ends the stream with Internal.
struct Unfinished {
    state: Arc<StreamState>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let status = Status::new(
            Code::Internal,
            "the server dropped the stream without an end",
        );
        self.state
            .change(|outbox| outbox.finished = Some(Err(status)));
    }
}

/// Takes the replies of a streaming call, from any thread. Clones speak to the same stream.
#[derive(Clone)]
pub struct StreamSink {
    inner: Arc<Unfinished>,
}

impl StreamSink {
    pub(super) fn new(state: Arc<StreamState>) -> Self {
        Self {
            inner: Arc::new(Unfinished { state }),
        }
    }

    /// A sink whose replies are read back through a [`StreamOutput`], for calls inside the server and for tests.
    #[must_use]
    pub fn detached() -> (Self, StreamOutput) {
        let state = StreamState::new(0, None, None);
        (Self::new(Arc::clone(&state)), StreamOutput { state })
    }

    /// Queues one reply. Nothing happens if the stream is finished or closed.
    pub fn send(&self, body: Body) {
        self.inner.state.change(|outbox| {
            outbox.bytes += body.written_bytes();
            // A client that does not read must not keep what others have read.
            let waits = outbox.bytes > SHARED_QUEUED_BYTES_MAX;
            let body = if waits { body.into_own() } else { body };
            outbox.messages.push_back(body);
            outbox.starved |= outbox.room().is_empty();
        });
    }

    /// Ends the stream after what is queued. Later replies and a second end are ignored.
    pub fn finish(&self, result: Result<(), Status>) {
        self.inner
            .state
            .change(|outbox| outbox.finished = Some(result));
    }

    /// How much the stream still takes. After an answer without room, or a reply that used it up, the service's
    /// [`RequestStream::room`](super::RequestStream::room) is called once half of the queue is free.
    #[must_use]
    pub fn room(&self) -> Room {
        let mut outbox = self.inner.state.lock();
        let room = outbox.room();
        outbox.starved |= room.is_empty();
        room
    }

    /// Like [`StreamSink::room`], and while more than half of the queue is taken the service's
    /// [`RequestStream::room`](super::RequestStream::room) is called once half of it is free: for a service that goes
    /// on at half and not at the first free place.
    #[must_use]
    pub fn room_until_half_free(&self) -> Room {
        let mut outbox = self.inner.state.lock();
        let is_half_free = outbox.bytes <= STREAM_QUEUED_BYTES_MAX / 2
            && outbox.messages.len() <= STREAM_QUEUED_MESSAGES_MAX / 2;
        outbox.starved |= !is_half_free;
        outbox.room()
    }

    /// Whether nobody reads any more: cancelled, deadline passed, or connection gone. Never turns false again.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.state.is_closed()
    }

    /// When the caller gives up. `None`: never. The transport itself ends the stream then.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.inner.state.deadline
    }
}

impl std::fmt::Debug for StreamSink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamSink").finish_non_exhaustive()
    }
}

/// The reading end of [`StreamSink::detached`].
pub struct StreamOutput {
    state: Arc<StreamState>,
}

impl StreamOutput {
    /// The next queued reply as message bytes; `Some(Err)` is the end of the stream, `None` that nothing waits.
    pub fn take(&self) -> Option<Result<bytes::Bytes, Result<(), Status>>> {
        match self.state.next() {
            Next::Message(body) => Some(Ok(body.into_message())),
            Next::Finish(result) => Some(Err(result)),
            Next::Nothing => None,
        }
    }

    /// Closes the stream as a client that goes away does.
    pub fn close(&self) {
        self.state.close();
    }
}

impl std::fmt::Debug for StreamOutput {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StreamOutput")
            .finish_non_exhaustive()
    }
}
