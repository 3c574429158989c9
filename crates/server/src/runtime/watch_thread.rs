//! The thread that owns all watchers.
//!
//! Connections and the core thread speak to it through one queue. After each batch it gives the hub a bounded amount
//! of catch-up work and hands the messages to their streams.
//!
//! A stream's queue belongs to the transport, so the hub is told what has left it by comparing: the messages handed
//! over in order against how many the queue still holds. When the queue is full the transport calls back once half of
//! it is free again; until then the stream's watchers stay cursors.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use kvorum_member::apply::RequestError;
use kvorum_mvcc::View;
use kvorum_mvcc::watch::{Config, Input, Message, Output, Room, StreamId, WatchHub};
use tokio::sync::mpsc::UnboundedSender;

use super::waiters::NumberMap;
use super::{Clock, measure};
use crate::api::v3::status;
use crate::metrics::Metrics;
use crate::transport::{
    Body, Credit, STREAM_QUEUED_BYTES_MAX, STREAM_QUEUED_MESSAGES_MAX, StreamSink,
};

/// Inputs taken in one turn, so that messages leave also under a flood.
const BATCH_INPUTS_MAX: usize = 1024;
/// History read for watchers that are behind, in one turn; see [`WatchHub::poll`].
const CATCH_UP_BUDGET: usize = 1000;
/// Messages, and bytes of them, that a stream was given before it is asked what has left: its queue is shared with the
/// connection's thread. Far below what it may hold, so nothing ever waits for this.
const UNASKED_MESSAGES_MAX: usize = 16;
const UNASKED_BYTES_MAX: usize = 64 << 10;
const _: () = assert!(UNASKED_MESSAGES_MAX <= STREAM_QUEUED_MESSAGES_MAX / 8);
const _: () = assert!(UNASKED_BYTES_MAX <= STREAM_QUEUED_BYTES_MAX / 8);

/// The longest sleep without a deadline.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Where the messages of a stream go.
pub enum Target {
    /// To a client.
    Client(StreamSink),
    /// To something inside the server that takes whole messages at once.
    Inside(UnboundedSender<Bytes>),
}

// The large variant is the ordinary one: boxing it would cost an allocation per event.
#[allow(clippy::large_enum_variant)]
enum Command {
    Open {
        stream: StreamId,
        target: Target,
        requires_leader: bool,
        /// A state of the store at or after all that was not told while no stream was open.
        view: View,
    },
    Hub {
        input: Input,
        credit: Option<Credit>,
    },
    Room {
        stream: StreamId,
    },
    Close {
        stream: StreamId,
    },
    Stop,
}

/// The door to the watchers; clones are the same door.
#[derive(Clone)]
pub struct WatchHandle {
    commands: Sender<Command>,
    next_stream: Arc<AtomicU64>,
    /// Streams open; while there is none the hub is not told of events.
    streams: Arc<AtomicUsize>,
}

impl WatchHandle {
    /// Opens a stream and gives it a name. `view` takes the newest published state.
    ///
    /// The stream is counted before `view` is called, and the core thread publishes before it looks at the count: so
    /// an event is in that state, or it is told to the hub.
    #[must_use]
    pub fn open(
        &self,
        target: Target,
        requires_leader: bool,
        view: impl FnOnce() -> View,
    ) -> StreamId {
        self.streams.fetch_add(1, Ordering::SeqCst);
        let stream = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        self.send(Command::Open {
            stream,
            target,
            requires_leader,
            view: view(),
        });
        stream
    }

    /// Tells the hub what the machines have for it. Events are left out while nobody could hear them.
    pub(super) fn tell(&self, input: Input) {
        let unheard =
            matches!(input, Input::Events { .. }) && self.streams.load(Ordering::SeqCst) == 0;
        if !unheard {
            self.input(input, None);
        }
    }

    /// Gives the hub an input; `credit` is held while the stream is full.
    pub fn input(&self, input: Input, credit: Option<Credit>) {
        self.send(Command::Hub { input, credit });
    }

    /// The stream's queue has room again.
    pub fn room(&self, stream: StreamId) {
        self.send(Command::Room { stream });
    }

    /// The stream is over; to be said once for each stream opened.
    pub fn close(&self, stream: StreamId) {
        self.streams.fetch_sub(1, Ordering::SeqCst);
        self.send(Command::Close { stream });
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.send(Command::Stop);
    }

    fn send(&self, command: Command) {
        // A thread that is gone has taken the process with it or is on the way out.
        let _ = self.commands.send(command);
    }
}

/// A thread that is not started yet: its door exists before the hub's first view does.
pub(super) struct Pending {
    commands: Receiver<Command>,
}

/// The door and what is needed to start the thread behind it.
#[must_use]
pub(super) fn door() -> (WatchHandle, Pending) {
    let (sender, receiver) = channel();
    let handle = WatchHandle {
        commands: sender,
        next_stream: Arc::new(AtomicU64::new(1)),
        streams: Arc::default(),
    };
    (handle, Pending { commands: receiver })
}

impl Pending {
    /// Starts the thread over a store at `view`.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub(super) fn start(
        self,
        config: Config,
        view: View,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<JoinHandle<()>> {
        let mut watchers = Watchers {
            hub: WatchHub::new(config, view),
            clock,
            metrics,
            streams: NumberMap::default(),
            touched: Vec::new(),
        };
        let body = move || watchers.run(&self.commands);
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(body)
    }
}

/// One stream as the thread knows it.
struct Stream {
    target: Target,
    /// Sizes of the messages handed over and not known to have left, oldest first.
    handed: VecDeque<usize>,
    /// The sum of them.
    handed_bytes: usize,
    /// Requests that are not read on because the queue is full.
    held: Vec<Credit>,
    touched: bool,
}

struct Watchers {
    hub: WatchHub,
    clock: Clock,
    metrics: Arc<Metrics>,
    streams: NumberMap<StreamId, Stream>,
    /// Streams that got messages in this turn.
    touched: Vec<StreamId>,
}

impl Watchers {
    fn run(&mut self, commands: &Receiver<Command>) {
        loop {
            let sleep = match self.hub.next_deadline() {
                _ if self.hub.has_work() => Duration::ZERO,
                Some(deadline) => self.clock.until(deadline).min(SLEEP_MAX),
                None => SLEEP_MAX,
            };
            let mut next = match commands.recv_timeout(sleep) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut taken = 0;
            while let Some(command) = next {
                if !self.take(command) {
                    return self.finish_all();
                }
                taken += 1;
                next = if taken < BATCH_INPUTS_MAX {
                    commands.try_recv().ok()
                } else {
                    None
                };
            }
            let now = self.clock.now();
            if self
                .hub
                .next_deadline()
                .is_some_and(|deadline| deadline <= now)
            {
                self.hub.step(now, Input::Tick);
            }
            self.hub.poll(CATCH_UP_BUDGET);
            self.deliver();
            measure::watch_counts(&self.metrics, &self.hub.counts());
        }
    }

    /// Takes one command; false ends the thread.
    fn take(&mut self, command: Command) -> bool {
        let now = self.clock.now();
        match command {
            Command::Open {
                stream,
                target,
                requires_leader,
                view,
            } => {
                // What was not told while there was no stream.
                self.hub.step(now, Input::Compacted { view });
                let state = Stream {
                    target,
                    handed: VecDeque::new(),
                    handed_bytes: 0,
                    held: Vec::new(),
                    touched: false,
                };
                self.streams.insert(stream, state);
                let window = Room {
                    messages: STREAM_QUEUED_MESSAGES_MAX,
                    bytes: STREAM_QUEUED_BYTES_MAX,
                };
                self.hub.step(
                    now,
                    Input::StreamOpened {
                        stream,
                        window,
                        requires_leader,
                    },
                );
            }
            Command::Hub { input, credit } => {
                let stream = stream_of(&input);
                self.hub.step(now, input);
                // Answers must be in the queue before it is asked whether it is full.
                if let (Some(stream), Some(credit)) = (stream, credit) {
                    self.deliver();
                    self.hold_if_full(stream, credit);
                }
            }
            Command::Room { stream } => self.room(stream),
            Command::Close { stream } => {
                self.streams.remove(&stream);
                self.hub.step(now, Input::StreamClosed { stream });
            }
            Command::Stop => return false,
        }
        true
    }

    /// Hands all messages to their streams and tells the hub what has left since.
    fn deliver(&mut self) {
        let mut last = None;
        let mut since = Instant::now();
        while let Some(output) = self.hub.take_output() {
            match output {
                Output::Message(message) => since = self.hand_over(&message, since, &mut last),
                Output::Damaged(damage) => panic!("the history cannot be read: {damage}"),
                Output::NoLeader { stream } => {
                    if let Some(Stream {
                        target: Target::Client(sink),
                        ..
                    }) = self.streams.remove(&stream)
                    {
                        sink.finish(Err(status(RequestError::NoLeader)));
                    }
                }
            }
        }
        for stream in std::mem::take(&mut self.touched) {
            self.room(stream);
        }
    }

    /// Gives a message that is the first one or comes after another one, given at `since`, to its stream. Returns when.
    fn hand_over(&mut self, message: &Message, since: Instant, last: &mut Option<Last>) -> Instant {
        let name = message.stream;
        let Some(stream) = self.streams.get_mut(&name) else {
            return since;
        };
        let bytes = message.bytes();
        match &stream.target {
            Target::Client(sink) => sink.send(Last::body(last, message)),
            Target::Inside(sender) => {
                let mut whole = Vec::with_capacity(bytes);
                whole.put_slice(&message.head);
                whole.put_slice(&message.body);
                // A reader that is gone closes its stream itself.
                let _ = sender.send(whole.into());
            }
        }
        let now = Instant::now();
        measure::watch_sent(&self.metrics, message.kind, message.events, now - since);
        stream.handed.push_back(bytes);
        stream.handed_bytes += bytes;
        let is_much = stream.handed.len() >= UNASKED_MESSAGES_MAX
            || stream.handed_bytes >= UNASKED_BYTES_MAX
            || !stream.held.is_empty();
        if is_much && !std::mem::replace(&mut stream.touched, true) {
            self.touched.push(name);
        }
        now
    }

    /// Tells the hub what has left the stream's queue.
    fn room(&mut self, name: StreamId) {
        let Some(stream) = self.streams.get_mut(&name) else {
            return;
        };
        stream.touched = false;
        let queued = match &stream.target {
            Target::Client(sink) => {
                // The hub lets a full stream go on when half of its window is free, so that is what it must hear of.
                let room = sink.room_until_half_free();
                if room.is_empty() {
                    // The transport calls back.
                    return;
                }
                STREAM_QUEUED_MESSAGES_MAX - room.messages
            }
            Target::Inside(_) => 0,
        };
        stream.held.clear();
        let gone_messages = stream.handed.len().saturating_sub(queued);
        let gone_bytes = stream.handed.drain(..gone_messages).sum();
        stream.handed_bytes -= gone_bytes;
        if gone_messages > 0 {
            let gone = Room {
                messages: gone_messages,
                bytes: gone_bytes,
            };
            self.hub
                .step(self.clock.now(), Input::Room { stream: name, gone });
        }
    }

    /// A stream whose queue is full is not read on: its answers would need memory too.
    fn hold_if_full(&mut self, name: StreamId, credit: Credit) {
        if let Some(stream) = self.streams.get_mut(&name)
            && let Target::Client(sink) = &stream.target
            && sink.room().is_empty()
        {
            stream.held.push(credit);
        }
    }

    fn finish_all(&mut self) {
        for (_, stream) in self.streams.drain() {
            if let Target::Client(sink) = stream.target {
                sink.finish(Err(status(RequestError::Stopped)));
            }
        }
    }
}

fn stream_of(input: &Input) -> Option<StreamId> {
    match input {
        Input::Create { stream, .. }
        | Input::Cancel { stream, .. }
        | Input::Progress { stream } => Some(*stream),
        _ => None,
    }
}

/// The message handed over last. Many streams in a row get the same one, and then share what is written.
struct Last {
    /// Held, so that no other message can lie where it does.
    head: Bytes,
    rest: Bytes,
    body: Body,
}

impl Last {
    /// What is written for a message.
    fn body(last: &mut Option<Self>, message: &Message) -> Body {
        let is_same = |a: &Bytes, b: &Bytes| a.as_ptr() == b.as_ptr() && a.len() == b.len();
        if let Some(last) = last
            && is_same(&last.head, &message.head)
            && is_same(&last.rest, &message.body)
            && let Some(body) = last.body.again()
        {
            return body;
        }
        let body = Body::encode(message.bytes(), |out| {
            out.put_slice(&message.head);
            out.put_slice(&message.body);
        });
        *last = body.again().map(|body| Self {
            head: message.head.clone(),
            rest: message.body.clone(),
            body,
        });
        body
    }
}
