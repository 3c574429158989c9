//! The states of a unary call before its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tokio::sync::Notify;

use super::completion::Completions;
use super::framing::MessageDecoder;
use super::reply::CallState;
use super::wakers::stream_waker;
use super::{Call, Code, ReplySink, Status};
use crate::metrics::Started;

/// A call whose request is not all there.
pub(super) struct Gathering {
    pub(super) call: Call,
    pub(super) started: Started,
    body: RecvStream,
    respond: SendResponse<Bytes>,
    decoder: MessageDecoder,
    waker: Option<Waker>,
}

/// A call that is with the service.
pub(super) struct Answering {
    pub(super) index: usize,
    pub(super) started: Started,
    pub(super) respond: SendResponse<Bytes>,
    state: Arc<CallState>,
}

impl Gathering {
    pub(super) fn new(
        call: Call,
        body: RecvStream,
        respond: SendResponse<Bytes>,
        message_bytes_max: usize,
        started: Started,
    ) -> Self {
        Self {
            call,
            started,
            body,
            respond,
            decoder: MessageDecoder::new(message_bytes_max),
            waker: None,
        }
    }

    /// Reads what is there. Ready with the request, with a refusal, or with `None` if the client is gone.
    pub(super) fn poll(
        &mut self,
        stream: u32,
        completions: &Arc<Completions>,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.decoder.next() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(None) => {}
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            // Mostly the body came with the headers: a waker is made only when it did not.
            let waker = self.waker.as_ref().unwrap_or(Waker::noop());
            match self.body.poll_data(&mut Context::from_waker(waker)) {
                Poll::Ready(Some(Ok(data))) => {
                    // Only fails for more than was received.
                    let _ = self.body.flow_control().release_capacity(data.len());
                    self.decoder.push(data);
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(None),
                Poll::Ready(None) => {
                    // Unknown, since official servers pass the bare error of the reader on here.
                    let text = if self.decoder.is_torn() {
                        "unexpected EOF"
                    } else {
                        "EOF"
                    };
                    return Poll::Ready(Some(Err(Status::new(Code::Unknown, text))));
                }
                Poll::Pending if self.waker.is_none() => {
                    self.waker = Some(stream_waker(stream, completions));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// The call for the service, what stays behind, and the sink that joins them.
    pub(super) fn into_answering(
        self,
        stream: u32,
        completions: &Arc<Completions>,
    ) -> (Call, Answering, ReplySink) {
        let state = Arc::new(CallState {
            stream,
            completions: Arc::clone(completions),
            cancelled: AtomicBool::new(false),
            gone: Notify::new(),
            deadline: self.call.deadline,
        });
        let answering = Answering {
            index: self.call.index,
            started: self.started,
            respond: self.respond,
            state: Arc::clone(&state),
        };
        (self.call, answering, ReplySink::new(state))
    }
}

impl Answering {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.state.deadline
    }

    /// Lets the service see that nobody waits any more.
    pub(super) fn cancel(&self) {
        self.state.cancelled.store(true, Ordering::Release);
        self.state.gone.notify_waiters();
    }
}

/// However the call ends, with an answer or with its connection, nobody waits for one after it.
impl Drop for Answering {
    fn drop(&mut self) {
        self.cancel();
    }
}
