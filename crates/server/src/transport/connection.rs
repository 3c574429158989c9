//! One HTTP/2 connection and all its calls, in one task.
//!
//! The task works in turns. A turn takes what the client sent and what other threads answered, until there is
//! neither, and then writes everything that came of it at once. A unary call never has a task, a timer or a channel
//! of its own: it is an entry in the table of streams from its headers to its answer.
//!
//! Invariants:
//! - An entry leaves the table when its call is over, so a completion for an unknown stream is late and is ignored.
//! - `next_deadline` is never later than the deadline of any call.
//! - `abandoned` is the number of calls that are over for the client while the service still works on them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use super::completion::{Completion, Completions, Work};
use super::frames::{ErrorCode, PREFACE};
use super::head::{self, Head, Refusal};
use super::http2::{Event, Http2};
use super::keepalive::Keepalive;
use super::pings::PingGuard;
use super::routes::Routes;
use super::socket::Socket;
use super::stream::StreamState;
use super::stream_call::{Progress, StreamCall, StreamParts};
use super::unary::{Answering, Gathering};
use super::{Body, Call as CallHead, Code, GRPC_OVERHEAD_BYTES, MethodKind, Peer};
use super::{ReplySink, Service, Settings, Status, StreamSink};
use crate::config::Span;
use crate::metrics::GrpcMetrics;

/// Bytes of answers that may wait for a client before further reads are put off.
pub(super) const UNSENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Calls that may be over for the client while a service still works on them; at more the client is not read. A
/// client that opens and resets streams without end costs no more than these.
const ABANDONED_MAX: usize = 1024;

/// Bytes read at once. The room is shared by all connections of a thread.
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static READ_ROOM: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) service: Arc<dyn Service>,
    pub(super) routes: Routes,
    pub(super) settings: Settings,
    pub(super) metrics: Arc<GrpcMetrics>,
}

/// A call in one of its states.
pub(super) enum Call {
    /// The body of a unary request is not all there.
    Gathering(Gathering),
    /// A unary request is with the service.
    Answering(Answering),
    /// A call is answered, and a part of that waits for flow control.
    Draining,
    /// A streaming call.
    Streaming(Box<StreamCall>),
}

/// What a look at the socket found.
enum Requests {
    Came,
    /// Nothing, and the socket wakes the task when that changes.
    None,
    /// Nobody looked.
    PutOff,
    /// Nothing will come after the client's end, or an error.
    Over,
}

/// One connection. A future that is ready when the connection is over.
pub(super) struct Connection {
    http2: Http2<Call>,
    socket: Socket,
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    completions: Arc<Completions>,
    batch: VecDeque<Completion>,
    /// The beginning of a frame whose rest has not come.
    torn: Vec<u8>,
    /// Reads put off because the client does not take their predecessors' answers.
    put_off: VecDeque<(u32, Work)>,
    abandoned: usize,
    next_deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    keepalive: Keepalive,
    pings: PingGuard,
    /// Anything arrived since the keepalive was told.
    heard: bool,
    /// The client was told why the connection ends: nothing but that is to be written.
    broken: bool,
}

impl Connection {
    /// A connection that began with `first`: a whole preface, and perhaps more.
    pub(super) fn new(socket: Socket, first: &Bytes, shared: Arc<Shared>, peer: Arc<Peer>) -> Self {
        let settings = &shared.settings;
        let mut connection = Self {
            http2: Http2::new(settings.max_concurrent_streams),
            socket,
            peer,
            completions: Arc::default(),
            batch: VecDeque::new(),
            torn: Vec::new(),
            put_off: VecDeque::new(),
            abandoned: 0,
            next_deadline: None,
            timer: None,
            keepalive: Keepalive::new(settings),
            pings: PingGuard::new(settings.keepalive_min_time),
            heard: false,
            broken: false,
            shared,
        };
        connection.take(&first[PREFACE.len().min(first.len())..]);
        connection
    }

    /// Ready once the client has said what HTTP/2 begins with, or the connection is over.
    pub(super) fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut *self).poll(cx) {
            Poll::Pending if !self.http2.is_opened() => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// Lets the calls in flight end and takes no new ones.
    pub(super) fn start_shutdown(&mut self) {
        self.http2.start_shutdown();
    }

    /// Ends all calls and gives back the socket, for the last words.
    pub(super) fn end(&mut self) -> &mut Socket {
        self.completions.close();
        for call in self.http2.take_calls() {
            count_cancelled(&self.shared.metrics, &call);
        }
        &mut self.socket
    }

    /// Takes bytes of the client.
    fn take(&mut self, bytes: &[u8]) {
        self.heard |= !bytes.is_empty();
        if self.torn.is_empty() {
            let rest = self.take_frames(bytes);
            self.torn.extend_from_slice(rest);
            return;
        }
        let mut torn = std::mem::take(&mut self.torn);
        torn.extend_from_slice(bytes);
        let rest = self.take_frames(&torn).len();
        if rest > 0 {
            torn.drain(..torn.len() - rest);
            self.torn = torn;
        }
    }

    /// Takes whole frames and returns what is left.
    fn take_frames<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        let shared = Arc::clone(&self.shared);
        while !self.broken {
            match self.http2.next(&mut bytes, &shared.routes) {
                Ok(Some(event)) => self.event(event),
                Ok(None) => break,
                Err(broken) => {
                    tracing::debug!("remote-addr" = self.peer.address, reason = ?broken.0, "client connection failed");
                    self.give_up(broken.0, b"");
                }
            }
        }
        bytes
    }

    fn give_up(&mut self, code: ErrorCode, debug: &[u8]) {
        self.broken = true;
        self.http2.give_up(code, debug);
    }

    fn event(&mut self, event: Event<'_, Call>) {
        match event {
            Event::Call {
                stream,
                head,
                ended,
            } => self.begin(stream, head, ended),
            Event::Data {
                stream,
                data,
                ended,
            } => self.data(stream, data, ended),
            Event::Reset(call) => self.cancel(&call),
            Event::Ping => {
                if self.http2.outbox.take_answered() {
                    self.pings.forgive();
                }
                if self.pings.ping(Instant::now(), self.http2.has_streams()) {
                    tracing::warn!(
                        "remote-addr" = self.peer.address,
                        "client pings too often, closing its connection"
                    );
                    self.give_up(ErrorCode::EnhanceYourCalm, b"too_many_pings");
                }
            }
        }
    }

    fn begin(&mut self, stream: u32, head: Arc<Head>, ended: bool) {
        let Head::Call(found) = &*head else { return };
        let deadline = match head::deadline(found.timeout) {
            Ok(deadline) => deadline,
            Err(status) => {
                return self.http2.refuse(stream, ended, &Refusal::of_call(status));
            }
        };
        if let Some(deadline) = deadline {
            let earlier = self.next_deadline.is_none_or(|known| deadline < known);
            if earlier {
                self.next_deadline = Some(deadline);
            }
        }
        let index = found.index;
        if found.method.kind == MethodKind::Unary {
            let started = self.shared.metrics.started(index);
            let gathering = Gathering::new(head, index, deadline, started);
            self.http2.open(stream, ended, Call::Gathering(gathering));
            if ended {
                self.data(stream, &[], ended);
            }
            return;
        }
        let kind = found.method.kind;
        let state = StreamState::new(stream, Some(Arc::clone(&self.completions)), deadline);
        let sink = StreamSink::new(Arc::clone(&state));
        let handler = self
            .shared
            .service
            .stream(self.call_head(&head, deadline), sink);
        let streaming = StreamCall::new(StreamParts {
            stream,
            index,
            kind,
            deadline,
            state,
            handler,
            ended,
            message_bytes_max: self.message_bytes_max(),
            metrics: Arc::clone(&self.shared.metrics),
        });
        self.http2.open(stream, ended, Call::Draining);
        self.stream(stream, Box::new(streaming));
    }

    fn message_bytes_max(&self) -> usize {
        let settings = &self.shared.settings;
        settings
            .max_request_bytes
            .saturating_add(GRPC_OVERHEAD_BYTES)
    }

    /// The call as the service sees it.
    fn call_head(&self, head: &Head, deadline: Option<Instant>) -> CallHead {
        let Head::Call(found) = head else {
            unreachable!("only calls are taken in");
        };
        CallHead {
            method: found.method,
            index: found.index,
            metadata: found.metadata.clone(),
            deadline,
            peer: Arc::clone(&self.peer),
        }
    }

    fn data(&mut self, stream: u32, data: &[u8], ended: bool) {
        let message_bytes_max = self.message_bytes_max();
        let Some(call) = self.http2.call(stream) else {
            return;
        };
        match call {
            Call::Gathering(gathering) => {
                let request = gathering.take(data, ended, message_bytes_max);
                self.http2.release(stream, data.len());
                if let Some(request) = request {
                    self.serve(stream, request);
                }
            }
            Call::Streaming(streaming) => {
                streaming.take(data, ended);
                self.poll_stream(stream);
            }
            // The client sends more than its one request.
            Call::Answering(_) | Call::Draining => self.http2.release(stream, data.len()),
        }
    }

    /// Gives a unary request to the service, or refuses it.
    fn serve(&mut self, stream: u32, request: Result<Bytes, Status>) {
        let Some(call) = self.http2.call(stream) else {
            return;
        };
        let Call::Gathering(gathering) = call else {
            return;
        };
        let message = match request {
            Ok(message) => message,
            Err(status) => {
                let (index, started) = (gathering.index, gathering.started);
                return self.answer(stream, index, started, Err(status));
            }
        };
        let answering = gathering.answering();
        let (head, deadline) = (Arc::clone(&gathering.head), gathering.deadline);
        self.shared.metrics.received(answering.index, message.len());
        *call = Call::Answering(answering);
        let head = self.call_head(&head, deadline);
        let unsent = self.http2.unsent() + self.completions.made_bytes();
        let has_room = unsent <= UNSENT_BYTES_MAX;
        let sink = ReplySink::new(stream, Arc::clone(&self.completions), deadline, has_room);
        self.shared.service.unary(head, message, sink);
    }

    /// Lets a streaming call do what it can.
    fn poll_stream(&mut self, stream: u32) {
        if let Some(call) = self.http2.call(stream)
            && matches!(call, Call::Streaming(_))
            && let Call::Streaming(streaming) = std::mem::replace(call, Call::Draining)
        {
            self.stream(stream, streaming);
        }
    }

    fn stream(&mut self, stream: u32, mut streaming: Box<StreamCall>) {
        if streaming.poll(&mut self.http2) == Progress::Open
            && let Some(call) = self.http2.call(stream)
        {
            *call = Call::Streaming(streaming);
        }
    }

    fn answer(
        &mut self,
        stream: u32,
        index: usize,
        started: crate::metrics::Started,
        result: Result<Body, Status>,
    ) {
        let result = result.and_then(|body| body.check_size().map(|()| body));
        let code = result.as_ref().err().map_or(Code::Ok, Status::code);
        self.shared.metrics.handled(index, code, started);
        self.warn_if_slow(index, started.elapsed(), &result);
        if let Some(call) = self.http2.call(stream) {
            *call = Call::Draining;
        }
        match result {
            Err(status) => drop(self.http2.finish(stream, Err(status))),
            Ok(body) => {
                self.shared.metrics.sent(index, body.written_bytes());
                drop(self.http2.answer(stream, body));
            }
        }
    }

    /// Source: etcd v3.7.1 `server/etcdserver/api/v3rpc/interceptor.go`, `logExpensiveRequestStats`.
    fn warn_if_slow(&self, index: usize, spent: Duration, result: &Result<Body, Status>) {
        let limit = self.shared.settings.warning_unary_duration;
        if limit.is_zero() || spent <= limit {
            return;
        }
        let response_bytes = result.as_ref().map_or(0, Body::written_bytes);
        tracing::warn!(
            "time spent" = %Span::from(spent),
            remote = self.peer.address,
            "response type" = self.shared.service.methods()[index].path,
            "request count" = 1,
            "response count" = u8::from(result.is_ok()),
            "response size" = response_bytes,
            "request stats"
        );
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Reply { stream, result } => match self.answering(stream) {
                Some((index, started)) => self.answer(stream, index, started, result),
                None => self.abandoned = self.abandoned.saturating_sub(1),
            },
            Completion::Run { stream, work } if self.http2.unsent() > UNSENT_BYTES_MAX => {
                self.put_off.push_back((stream, work));
            }
            Completion::Run { stream, work } => self.run(stream, work),
            Completion::Closed { stream, kept } => {
                if let Some(Call::Answering(answering)) = self.http2.call(stream) {
                    answering.kept.push(kept);
                }
            }
            Completion::Poll { stream } => self.poll_stream(stream),
        }
    }

    fn run(&mut self, stream: u32, work: Work) {
        match self.answering(stream) {
            Some((index, started)) => self.answer(stream, index, started, work()),
            None => self.abandoned = self.abandoned.saturating_sub(1),
        }
    }

    /// Which method a call that is with the service is of, and when it started.
    fn answering(&mut self, stream: u32) -> Option<(usize, crate::metrics::Started)> {
        match self.http2.call(stream) {
            Some(Call::Answering(answering)) => Some((answering.index, answering.started)),
            _ => None,
        }
    }

    /// A stream was reset. Streaming calls hear of it by being dropped.
    fn cancel(&mut self, call: &Call) {
        self.abandoned += usize::from(matches!(call, Call::Answering(_)));
        count_cancelled(&self.shared.metrics, call);
    }

    /// Answers the calls whose deadline has passed and finds the next deadline.
    fn expire(&mut self, now: Instant) {
        let is_expired = |call: &Call| call.deadline().is_some_and(|deadline| deadline <= now);
        let expired: Vec<u32> = self
            .http2
            .calls()
            .filter(|(_, call)| is_expired(call))
            .map(|(stream, _)| stream)
            .collect();
        for stream in expired {
            let status = Status::deadline_exceeded();
            match self.http2.call(stream) {
                Some(Call::Answering(answering)) => {
                    let (index, started) = (answering.index, answering.started);
                    self.abandoned += 1;
                    self.answer(stream, index, started, Err(status));
                }
                Some(Call::Gathering(gathering)) => {
                    let (index, started) = (gathering.index, gathering.started);
                    self.answer(stream, index, started, Err(status));
                }
                Some(Call::Streaming(streaming)) => {
                    streaming.fail(status);
                    self.poll_stream(stream);
                }
                Some(Call::Draining) | None => {}
            }
        }
        let deadlines = self.http2.calls().filter_map(|(_, call)| call.deadline());
        self.next_deadline = deadlines.min();
    }

    /// Lets due deadlines pass and sleeps until the next. Returns whether calls were answered.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.next_deadline else {
            return false;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if timer.deadline() > deadline.into() || timer.is_elapsed() {
            timer.as_mut().reset(deadline.into());
        }
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.expire(Instant::now());
        true
    }

    /// Reads what the socket has, unless the client does not read either.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Requests {
        if !self.http2.outbox.has_room() || self.abandoned > ABANDONED_MAX {
            return Requests::PutOff;
        }
        READ_ROOM.with_borrow_mut(|room| {
            let mut buffer = ReadBuf::new(room);
            match self.socket.poll_read(cx, &mut buffer) {
                Poll::Pending => Requests::None,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let shared = Arc::clone(&self.shared);
                    shared.service.turn(&mut || self.take(buffer.filled()));
                    Requests::Came
                }
                Poll::Ready(_) => Requests::Over,
            }
        })
    }

    /// Works off what other threads have answered. Returns whether there was anything.
    fn take_completions(&mut self, cx: &mut Context<'_>) -> bool {
        let mut batch = std::mem::take(&mut self.batch);
        let more = !batch.is_empty() || self.completions.take(&mut batch, cx.waker());
        if more {
            let shared = Arc::clone(&self.shared);
            shared.service.turn(&mut || {
                for completion in batch.drain(..) {
                    self.complete(completion);
                }
            });
        }
        self.batch = batch;
        more
    }

    /// Gives the socket what waits. Ready: it has failed.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.http2.pump();
            for stream in self.http2.take_drained() {
                self.poll_stream(stream);
            }
            let unwritten = self.http2.outbox.unwritten();
            if unwritten.is_empty() {
                return match self.socket.poll_flush(cx) {
                    Poll::Ready(Err(_)) => Poll::Ready(()),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                };
            }
            match self.socket.poll_write(cx, unwritten) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(bytes)) if bytes > 0 => self.http2.outbox.written(bytes),
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    }

    /// One turn. Ready: the connection is over.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut socket_wakes = false;
        loop {
            let mut news = false;
            if !socket_wakes {
                match self.poll_requests(cx) {
                    Requests::Came => news = true,
                    Requests::None => socket_wakes = true,
                    Requests::PutOff => {}
                    Requests::Over => return Poll::Ready(()),
                }
            }
            if self.broken {
                return Poll::Ready(());
            }
            let (heard, http2) = (std::mem::take(&mut self.heard), &mut self.http2);
            if self.keepalive.poll(cx, heard, || http2.ping()).is_ready() {
                tracing::debug!(
                    "remote-addr" = self.peer.address,
                    "client does not answer pings"
                );
                return Poll::Ready(());
            }
            while self.http2.unsent() <= UNSENT_BYTES_MAX
                && let Some((stream, work)) = self.put_off.pop_front()
            {
                self.run(stream, work);
            }
            news |= self.take_completions(cx);
            news |= self.poll_deadlines(cx);
            if self.http2.is_finished() {
                return Poll::Ready(());
            }
            if !news {
                return Poll::Pending;
            }
        }
    }
}

impl Call {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Gathering(gathering) => gathering.deadline,
            Self::Answering(answering) => answering.deadline,
            Self::Streaming(streaming) => streaming.deadline(),
            // It is answered already; how long the client takes to read is its own affair.
            Self::Draining => None,
        }
    }
}

/// Counts a call that ends without an answer. Streaming calls count themselves.
fn count_cancelled(metrics: &GrpcMetrics, call: &Call) {
    let (index, started) = match call {
        Call::Gathering(gathering) => (gathering.index, gathering.started),
        Call::Answering(answering) => (answering.index, answering.started),
        Call::Draining | Call::Streaming(_) => return,
    };
    metrics.handled(index, Code::Canceled, started);
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.completions.awake(&mut this.batch);
        loop {
            let turn = self.poll_turn(cx);
            let could_read = self.http2.outbox.has_room();
            // What a full socket does not take when the connection is over is lost.
            let failed = self.poll_flush(cx);
            if turn.is_ready() || failed.is_ready() {
                return Poll::Ready(());
            }
            // What was not read for a full outbox, or put off for unsent answers, may go on now.
            let goes_on = !could_read && self.http2.outbox.has_room()
                || !self.put_off.is_empty() && self.http2.unsent() <= UNSENT_BYTES_MAX;
            if !goes_on {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
    }
}
