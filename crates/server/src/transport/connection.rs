//! One HTTP/2 connection and all its calls, in one task.
//!
//! The task works in turns. A turn takes what the client sent and what other threads answered, until there is
//! neither, and then writes everything that came of it at once. A unary call never has a task, a timer or a channel
//! of its own: it is an entry in [`Connection::calls`] from its headers to its answer.
//!
//! Invariants:
//! - An entry leaves `calls` when its call is over, so a completion for an unknown stream is late and is ignored.
//! - `next_deadline` is never later than the deadline of any entry.
//! - `unsent` is the sum of what the [`Call::Draining`] entries still hold.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::time::Sleep;

use super::completion::{Completion, Completions, Work};
use super::head::{self, Refusal};
use super::keepalive::Keepalive;
use super::outgoing::Outgoing;
use super::routes::Routes;
use super::stream::StreamState;
use super::stream_call::{Progress, StreamCall, StreamParts};
use super::unary::{Answering, Gathering};
use super::wakers::{TurnWaker, stream_waker};
use super::wire::Wire;
use super::{Body, Call as CallHead, Code, GRPC_OVERHEAD_BYTES, Metadata, MethodKind, Peer};
use super::{Service, Settings, Status, StreamSink};
use crate::config::Span;
use crate::metrics::GrpcMetrics;

/// Bytes of large answers that may wait for a client before further reads are put off.
const UNSENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Answers up to this size are given to the HTTP/2 library without asking for room: they cost no more than the
/// headers of their request did.
const SMALL_ANSWER_BYTES: usize = 2 * 1024;

/// What all connections of a listener share.
pub(super) struct Shared {
    pub(super) service: Arc<dyn Service>,
    pub(super) routes: Routes,
    pub(super) settings: Settings,
    pub(super) metrics: Arc<GrpcMetrics>,
}

/// A call in one of its states.
enum Call {
    /// The body of a unary request is not all there.
    Gathering(Box<Gathering>),
    /// A unary request is with the service.
    Answering(Answering),
    /// A large unary answer waits for flow control.
    Draining(Box<Draining>),
    /// A streaming call.
    Streaming(Box<StreamCall>),
}

struct Draining {
    outgoing: Outgoing,
    waker: Waker,
}

/// One connection. A future that is ready when the connection is over.
pub(super) struct Connection {
    http2: h2::server::Connection<Wire, Bytes>,
    wire: Wire,
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    completions: Arc<Completions>,
    batch: VecDeque<Completion>,
    calls: HashMap<u32, Call>,
    /// Reads put off because the client does not take their predecessors' answers.
    put_off: VecDeque<(u32, Work)>,
    unsent: usize,
    next_deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    keepalive: Keepalive,
    turns: Arc<TurnWaker>,
    /// `turns` as the HTTP/2 library takes it.
    library_waker: Waker,
}

impl Connection {
    pub(super) fn new(
        mut http2: h2::server::Connection<Wire, Bytes>,
        wire: Wire,
        shared: Arc<Shared>,
        peer: Arc<Peer>,
    ) -> Self {
        let keepalive = Keepalive::new(http2.ping_pong(), &shared.settings);
        let turns = TurnWaker::new();
        let library_waker = Waker::from(Arc::clone(&turns));
        Self {
            http2,
            wire,
            shared,
            peer,
            completions: Arc::default(),
            batch: VecDeque::new(),
            calls: HashMap::new(),
            put_off: VecDeque::new(),
            unsent: 0,
            next_deadline: None,
            timer: None,
            keepalive,
            turns,
            library_waker,
        }
    }

    /// Lets the calls in flight end and takes no new ones.
    pub(super) fn start_shutdown(&mut self) {
        self.http2.graceful_shutdown();
    }

    /// Takes every request that arrived. Ready: the connection is over.
    fn poll_requests(&mut self) -> Poll<()> {
        self.turns.begin_poll();
        let waker = self.library_waker.clone();
        let mut cx = Context::from_waker(&waker);
        loop {
            match ready!(self.http2.poll_accept(&mut cx)) {
                Some(Ok((request, respond))) => self.begin(request, respond),
                Some(Err(error)) => {
                    tracing::debug!("remote-addr" = self.peer.address, %error, "client connection failed");
                    return Poll::Ready(());
                }
                None => return Poll::Ready(()),
            }
        }
    }

    fn begin(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (head, body) = request.into_parts();
        let arrived = Instant::now();
        let checked = head::check(&head).and_then(|timeout| {
            let deadline = head::deadline(arrived, timeout)?;
            let found = self.shared.routes.find(head.uri.path());
            let (index, method) = found.map_err(Refusal::of_call)?;
            head::check_encoding(&head.headers)?;
            Ok((deadline, index, method))
        });
        let (deadline, index, method) = match checked {
            Ok(checked) => checked,
            Err(refusal) => {
                // A client that is gone already needs no answer.
                let _ = respond.send_response(head::failure(&refusal), true);
                return;
            }
        };
        let call = CallHead {
            method,
            index,
            metadata: Metadata::new(head.headers),
            deadline,
            peer: Arc::clone(&self.peer),
        };
        let stream = respond.stream_id().as_u32();
        if let Some(deadline) = deadline {
            let earlier = self.next_deadline.is_none_or(|known| deadline < known);
            if earlier {
                self.next_deadline = Some(deadline);
            }
        }
        let message_bytes_max = self
            .shared
            .settings
            .max_request_bytes
            .saturating_add(GRPC_OVERHEAD_BYTES);
        if method.kind == MethodKind::Unary {
            let started = self.shared.metrics.started(index);
            let gathering = Gathering::new(call, body, respond, message_bytes_max, started);
            return self.gather(stream, Box::new(gathering));
        }
        let state = StreamState::new(stream, Some(Arc::clone(&self.completions)), deadline);
        let handler = self
            .shared
            .service
            .stream(call, StreamSink::new(Arc::clone(&state)));
        let streaming = StreamCall::new(StreamParts {
            index,
            kind: method.kind,
            deadline,
            state,
            handler,
            waker: stream_waker(stream, &self.completions),
            requests: body,
            respond,
            message_bytes_max,
            metrics: Arc::clone(&self.shared.metrics),
        });
        self.stream(stream, Box::new(streaming));
    }

    /// Reads on a unary request and gives it to the service once it is whole.
    fn gather(&mut self, stream: u32, mut gathering: Box<Gathering>) {
        match gathering.poll(stream, &self.completions) {
            Poll::Pending => {
                self.calls.insert(stream, Call::Gathering(gathering));
            }
            Poll::Ready(Some(Ok(message))) => {
                self.shared
                    .metrics
                    .received(gathering.call.index, message.len());
                let (call, answering, sink) = gathering.into_answering(stream, &self.completions);
                self.calls.insert(stream, Call::Answering(answering));
                self.shared.service.unary(call, message, sink);
            }
            Poll::Ready(Some(Err(status))) => {
                let (_, answering, sink) = gathering.into_answering(stream, &self.completions);
                self.answer(stream, answering, Err(status));
                // The call has left the table, so what the sink says when it is dropped is ignored.
                drop(sink);
            }
            Poll::Ready(None) => {
                let index = gathering.call.index;
                self.shared
                    .metrics
                    .handled(index, Code::Canceled, gathering.started);
            }
        }
    }

    fn stream(&mut self, stream: u32, mut streaming: Box<StreamCall>) {
        if streaming.poll() == Progress::Open {
            self.calls.insert(stream, Call::Streaming(streaming));
        }
    }

    fn answer(&mut self, stream: u32, mut answering: Answering, result: Result<Body, Status>) {
        let index = answering.index;
        let result = result.and_then(|body| body.check_size().map(|()| body));
        let code = result.as_ref().err().map_or(Code::Ok, Status::code);
        self.shared.metrics.handled(index, code, answering.started);
        self.warn_if_slow(index, answering.started.elapsed(), &result);
        match result {
            Err(status) => {
                let response = head::failure(&Refusal::of_call(status));
                // A client that is gone already needs no answer.
                let _ = answering.respond.send_response(response, true);
            }
            Ok(body) => {
                self.shared.metrics.sent(index, body.written_bytes());
                let Ok(mut send) = answering.respond.send_response(head::answer(), false) else {
                    return;
                };
                if body.written_bytes() <= SMALL_ANSWER_BYTES {
                    let (piece, _) = body.into_pieces();
                    let _ = send.send_data(piece, false);
                    let _ = send.send_trailers(head::trailers(&Ok(())));
                    return;
                }
                let mut outgoing = Outgoing::new(send);
                outgoing.push(body);
                self.unsent += outgoing.left();
                let waker = stream_waker(stream, &self.completions);
                self.drain(stream, Box::new(Draining { outgoing, waker }));
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

    fn drain(&mut self, stream: u32, mut draining: Box<Draining>) {
        let before = draining.outgoing.left();
        let sent = draining
            .outgoing
            .poll_send(&mut Context::from_waker(&draining.waker));
        match sent {
            Poll::Pending => {
                self.unsent -= before - draining.outgoing.left();
                self.calls.insert(stream, Call::Draining(draining));
            }
            Poll::Ready(result) => {
                self.unsent -= before;
                if result.is_ok() {
                    draining.outgoing.finish(head::trailers(&Ok(())));
                }
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Reply { stream, result } => {
                if let Some(answering) = self.take_answering(stream) {
                    self.answer(stream, answering, result);
                }
            }
            Completion::Run { stream, work } if self.unsent > UNSENT_BYTES_MAX => {
                self.put_off.push_back((stream, work));
            }
            Completion::Run { stream, work } => self.run(stream, work),
            Completion::Poll { stream } => match self.calls.remove(&stream) {
                Some(Call::Gathering(gathering)) => self.gather(stream, gathering),
                Some(Call::Draining(draining)) => self.drain(stream, draining),
                Some(Call::Streaming(streaming)) => self.stream(stream, streaming),
                Some(answering @ Call::Answering(_)) => {
                    self.calls.insert(stream, answering);
                }
                None => {}
            },
        }
    }

    fn run(&mut self, stream: u32, work: Work) {
        if let Some(answering) = self.take_answering(stream) {
            self.answer(stream, answering, work());
        }
    }

    fn take_answering(&mut self, stream: u32) -> Option<Answering> {
        match self.calls.remove(&stream)? {
            Call::Answering(answering) => Some(answering),
            other => {
                self.calls.insert(stream, other);
                None
            }
        }
    }

    /// The client reset a stream. Streaming calls and draining answers hear of it by themselves.
    fn cancel(&mut self, stream: u32) {
        if let Some(answering) = self.take_answering(stream) {
            answering.cancel();
            self.shared
                .metrics
                .handled(answering.index, Code::Canceled, answering.started);
        }
    }

    /// Answers the calls whose deadline has passed and finds the next deadline.
    fn expire(&mut self, now: Instant) {
        let expired: Vec<u32> = self
            .calls
            .iter()
            .filter(|(_, call)| call.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(stream, _)| *stream)
            .collect();
        for stream in expired {
            let status = Status::deadline_exceeded();
            match self.calls.remove(&stream) {
                Some(Call::Answering(answering)) => {
                    answering.cancel();
                    self.answer(stream, answering, Err(status));
                }
                Some(Call::Gathering(gathering)) => {
                    let (_, answering, _sink) = gathering.into_answering(stream, &self.completions);
                    self.answer(stream, answering, Err(status));
                }
                Some(Call::Streaming(mut streaming)) => {
                    streaming.fail(status);
                    self.stream(stream, streaming);
                }
                Some(draining @ Call::Draining(_)) => {
                    self.calls.insert(stream, draining);
                }
                None => {}
            }
        }
        self.next_deadline = self.calls.values().filter_map(Call::deadline).min();
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

    /// One turn. Ready: the connection is over.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.turns.begin_turn(cx.waker());
        loop {
            if self.poll_requests().is_ready() {
                return Poll::Ready(());
            }
            let news = self.wire.take_news(!self.calls.is_empty());
            for stream in news.resets {
                self.cancel(stream);
            }
            if news.too_many_pings {
                tracing::warn!(
                    "remote-addr" = self.peer.address,
                    "client pings too often, closing its connection"
                );
                return Poll::Ready(());
            }
            if self.keepalive.poll(cx, news.heard).is_ready() {
                tracing::debug!(
                    "remote-addr" = self.peer.address,
                    "client does not answer pings"
                );
                return Poll::Ready(());
            }
            while self.unsent <= UNSENT_BYTES_MAX
                && let Some((stream, work)) = self.put_off.pop_front()
            {
                self.run(stream, work);
            }
            let mut batch = std::mem::take(&mut self.batch);
            let more = self.completions.take(&mut batch, cx.waker());
            for completion in batch.drain(..) {
                self.complete(completion);
            }
            self.batch = batch;
            if !more && !self.poll_deadlines(cx) && self.turns.end_turn() {
                return Poll::Pending;
            }
        }
    }
}

impl Call {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Gathering(gathering) => gathering.call.deadline,
            Self::Answering(answering) => answering.deadline(),
            Self::Streaming(streaming) => streaming.deadline(),
            // It is answered already; how long the client takes to read is its own affair.
            Self::Draining(_) => None,
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let turn = self.poll_turn(cx);
        match self.wire.poll_flush_turn(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            // What a full socket does not take when the connection is over is lost.
            Poll::Ready(Ok(())) | Poll::Pending => turn,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.completions.close();
        for call in self.calls.values() {
            match call {
                Call::Answering(answering) => {
                    answering.cancel();
                    self.shared
                        .metrics
                        .handled(answering.index, Code::Canceled, answering.started);
                }
                Call::Gathering(gathering) => {
                    self.shared.metrics.handled(
                        gathering.call.index,
                        Code::Canceled,
                        gathering.started,
                    );
                }
                Call::Draining(_) | Call::Streaming(_) => {}
            }
        }
    }
}
