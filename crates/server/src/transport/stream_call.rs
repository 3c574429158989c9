//! One streaming call: its requests on the way in, its replies on the way out.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;

use super::framing::MessageDecoder;
use super::head::{self, Refusal};
use super::outgoing::{Gone, Outgoing};
use super::stream::{Next, StreamState};
use super::{Code, MethodKind, RequestStream, Status};
use crate::metrics::{GrpcMetrics, Started};

/// Whether a call goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Open,
    Over,
}

/// A streaming call. Dropping it, for whatever reason, tells the service that it is over.
pub(super) struct StreamCall {
    index: usize,
    kind: MethodKind,
    deadline: Option<Instant>,
    state: Arc<StreamState>,
    handler: Box<dyn RequestStream>,
    waker: Waker,
    /// `None` once the client has sent everything.
    requests: Option<RecvStream>,
    decoder: MessageDecoder,
    replies: Replies,
    messages: u64,
    told_finished: bool,
    /// The client reset the stream, or the connection is lost.
    lost: bool,
    /// Set when the call ends on our side before the service ended it.
    failure: Option<Status>,
    metrics: Arc<GrpcMetrics>,
    started: Started,
    handled: Option<Code>,
}

enum Replies {
    /// No reply yet: a failure now is an answer of headers alone.
    Waiting(SendResponse<Bytes>),
    Flowing(Outgoing),
}

/// What a new [`StreamCall`] is made of.
pub(super) struct StreamParts {
    pub(super) index: usize,
    pub(super) kind: MethodKind,
    pub(super) deadline: Option<Instant>,
    pub(super) state: Arc<StreamState>,
    pub(super) handler: Box<dyn RequestStream>,
    pub(super) waker: Waker,
    pub(super) requests: RecvStream,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) message_bytes_max: usize,
    pub(super) metrics: Arc<GrpcMetrics>,
}

impl StreamCall {
    pub(super) fn new(parts: StreamParts) -> Self {
        Self {
            index: parts.index,
            kind: parts.kind,
            deadline: parts.deadline,
            state: parts.state,
            handler: parts.handler,
            waker: parts.waker,
            requests: Some(parts.requests),
            decoder: MessageDecoder::new(parts.message_bytes_max),
            replies: Replies::Waiting(parts.respond),
            messages: 0,
            told_finished: false,
            lost: false,
            failure: None,
            started: parts.metrics.started(parts.index),
            metrics: parts.metrics,
            handled: None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ends the call with `status`; replies still queued are dropped.
    pub(super) fn fail(&mut self, status: Status) {
        self.state.close();
        self.failure.get_or_insert(status);
    }

    /// Does what can be done now.
    pub(super) fn poll(&mut self) -> Progress {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        if self.failure.is_none() {
            self.read(&mut cx);
        }
        if self.lost {
            return Progress::Over;
        }
        match self.write(&mut cx) {
            Poll::Pending => Progress::Open,
            Poll::Ready(Ok(code)) => {
                self.handled = Some(code);
                Progress::Over
            }
            Poll::Ready(Err(Gone)) => Progress::Over,
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Err(status) = self.hand_over() {
                return self.fail(status);
            }
            // The rest waits where it is until the service has worked off what it has: flow control holds the
            // client back.
            if !self.state.takes_requests() {
                return;
            }
            let Some(requests) = &mut self.requests else {
                return self.tell_finished();
            };
            match requests.poll_data(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(data))) => {
                    // Only fails for more than was received.
                    let _ = requests.flow_control().release_capacity(data.len());
                    self.decoder.push(data);
                }
                Poll::Ready(None) => self.requests = None,
                Poll::Ready(Some(Err(_))) => {
                    self.requests = None;
                    self.lost = true;
                    return;
                }
            }
        }
    }

    /// Hands whole requests to the service, as long as it takes them.
    fn hand_over(&mut self) -> Result<(), Status> {
        while self.state.takes_requests() && !self.has_its_request() {
            let Some(message) = self.decoder.next()? else {
                break;
            };
            self.messages += 1;
            self.metrics.received(self.index, message.len());
            self.handler.message(message, self.state.credit());
        }
        if self.has_its_request() {
            // What else the client sends is not read.
            self.requests = None;
            self.decoder = MessageDecoder::new(0);
        }
        Ok(())
    }

    fn has_its_request(&self) -> bool {
        self.kind == MethodKind::ServerStream && self.messages > 0
    }

    fn tell_finished(&mut self) {
        if self.told_finished {
            return;
        }
        self.told_finished = true;
        if self.decoder.is_torn() {
            return self.fail(Status::new(Code::Internal, "unexpected EOF"));
        }
        if self.kind == MethodKind::ServerStream && self.messages == 0 {
            return self.fail(Status::new(
                Code::Internal,
                "cardinality violation: received no request message from non-client-streaming RPC",
            ));
        }
        self.handler.finished();
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<Code, Gone>> {
        loop {
            if let Some(status) = self.failure.take() {
                return Poll::Ready(self.end(Err(status)));
            }
            if let Replies::Flowing(outgoing) = &mut self.replies
                && outgoing.poll_send(cx)?.is_pending()
            {
                return Poll::Pending;
            }
            match self.state.next() {
                Next::Message(body) => {
                    if let Err(status) = body.check_size() {
                        return Poll::Ready(self.end(Err(status)));
                    }
                    self.metrics.sent(self.index, body.written_bytes());
                    self.outgoing()?.push(body);
                }
                Next::Finish(result) => return Poll::Ready(self.end(result)),
                Next::Nothing => break,
            }
            if self.state.take_room_returned() {
                self.handler.room();
            }
        }
        if self.state.take_room_returned() {
            self.handler.room();
        }
        // A reset shows up in the data while requests are read; afterwards it is asked for.
        let gone = match &mut self.replies {
            _ if self.requests.is_some() => Poll::Pending,
            Replies::Waiting(respond) => respond.poll_reset(cx).map(|_| ()),
            Replies::Flowing(outgoing) => outgoing.poll_gone(cx),
        };
        gone.map(|()| Err(Gone))
    }

    /// The writing half; sends the headers before the first message.
    fn outgoing(&mut self) -> Result<&mut Outgoing, Gone> {
        if let Replies::Waiting(respond) = &mut self.replies {
            let send = respond
                .send_response(head::answer(), false)
                .map_err(|_| Gone)?;
            self.replies = Replies::Flowing(Outgoing::new(send));
        }
        match &mut self.replies {
            Replies::Flowing(outgoing) => Ok(outgoing),
            Replies::Waiting(_) => Err(Gone),
        }
    }

    fn end(&mut self, result: Result<(), Status>) -> Result<Code, Gone> {
        let code = result.as_ref().err().map_or(Code::Ok, Status::code);
        match (&mut self.replies, result) {
            (Replies::Waiting(respond), Err(status)) => {
                let response = head::failure(&Refusal::of_call(status));
                respond.send_response(response, true).map_err(|_| Gone)?;
            }
            (_, result) => self.outgoing()?.finish(head::trailers(&result)),
        }
        Ok(code)
    }
}

impl Drop for StreamCall {
    fn drop(&mut self) {
        self.state.close();
        self.handler.closed();
        self.metrics.handled(
            self.index,
            self.handled.unwrap_or(Code::Canceled),
            self.started,
        );
    }
}
