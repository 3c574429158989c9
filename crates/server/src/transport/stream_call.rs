//! One streaming call: its requests on the way in, its replies on the way out.

use std::sync::Arc;
use std::time::Instant;

use super::connection::Call;
use super::framing::MessageDecoder;
use super::http2::Http2;
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
    stream: u32,
    index: usize,
    kind: MethodKind,
    deadline: Option<Instant>,
    state: Arc<StreamState>,
    handler: Box<dyn RequestStream>,
    decoder: MessageDecoder,
    /// Bytes that arrived and were not let go yet: the client's window is smaller by them.
    held: usize,
    /// The client has sent everything.
    ended: bool,
    messages: u64,
    told_finished: bool,
    /// Set when the call ends on our side before the service ended it.
    failure: Option<Status>,
    metrics: Arc<GrpcMetrics>,
    started: Started,
    handled: Option<Code>,
}

/// What a new [`StreamCall`] is made of.
pub(super) struct StreamParts {
    pub(super) stream: u32,
    pub(super) index: usize,
    pub(super) kind: MethodKind,
    pub(super) deadline: Option<Instant>,
    pub(super) state: Arc<StreamState>,
    pub(super) handler: Box<dyn RequestStream>,
    pub(super) ended: bool,
    pub(super) message_bytes_max: usize,
    pub(super) metrics: Arc<GrpcMetrics>,
}

impl StreamCall {
    pub(super) fn new(parts: StreamParts) -> Self {
        Self {
            stream: parts.stream,
            index: parts.index,
            kind: parts.kind,
            deadline: parts.deadline,
            state: parts.state,
            handler: parts.handler,
            decoder: MessageDecoder::new(parts.message_bytes_max),
            held: 0,
            ended: parts.ended,
            messages: 0,
            told_finished: false,
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

    /// Takes data that arrived; `ended`: it was the last.
    pub(super) fn take(&mut self, data: &[u8], ended: bool) {
        self.held += data.len();
        self.ended |= ended;
        if !self.has_its_request() {
            self.decoder.push(data);
        }
    }

    /// Does what can be done now.
    pub(super) fn poll(&mut self, http2: &mut Http2<Call>) -> Progress {
        if self.failure.is_none()
            && let Err(status) = self.read(http2)
        {
            self.fail(status);
        }
        match self.write(http2) {
            None => Progress::Open,
            Some(code) => {
                self.handled = Some(code);
                Progress::Over
            }
        }
    }

    fn read(&mut self, http2: &mut Http2<Call>) -> Result<(), Status> {
        self.hand_over()?;
        // The rest waits until the service has worked off what it has: flow control holds the client back.
        if !self.state.takes_requests() {
            return Ok(());
        }
        if self.held > 0 {
            http2.release(self.stream, std::mem::take(&mut self.held));
        }
        // What follows the one request of a server stream is not read; its end is not waited for either.
        if self.ended || self.has_its_request() {
            return self.tell_finished();
        }
        Ok(())
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
            self.decoder = MessageDecoder::new(0);
        }
        Ok(())
    }

    fn has_its_request(&self) -> bool {
        self.kind == MethodKind::ServerStream && self.messages > 0
    }

    fn tell_finished(&mut self) -> Result<(), Status> {
        if std::mem::replace(&mut self.told_finished, true) {
            return Ok(());
        }
        if self.decoder.is_torn() {
            return Err(Status::new(Code::Internal, "unexpected EOF"));
        }
        if self.kind == MethodKind::ServerStream && self.messages == 0 {
            let text =
                "cardinality violation: received no request message from non-client-streaming RPC";
            return Err(Status::new(Code::Internal, text));
        }
        self.handler.finished();
        Ok(())
    }

    /// Writes what flow control lets out. Returns how the call ended, if it has.
    fn write(&mut self, http2: &mut Http2<Call>) -> Option<Code> {
        if let Some(status) = self.failure.take() {
            return Some(self.end(http2, Err(status)));
        }
        while http2.is_drained(self.stream) {
            match self.state.next() {
                Next::Message(body) => {
                    if let Err(status) = body.check_size() {
                        return Some(self.end(http2, Err(status)));
                    }
                    self.metrics.sent(self.index, body.written_bytes());
                    http2.begin_answer(self.stream);
                    http2.push(self.stream, body);
                }
                Next::Finish(result) => return Some(self.end(http2, result)),
                Next::Nothing => break,
            }
            if self.state.take_room_returned() {
                self.handler.room();
            }
        }
        if self.state.take_room_returned() {
            self.handler.room();
        }
        None
    }

    fn end(&mut self, http2: &mut Http2<Call>, result: Result<(), Status>) -> Code {
        let code = result.as_ref().err().map_or(Code::Ok, Status::code);
        drop(http2.finish(self.stream, result));
        code
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
