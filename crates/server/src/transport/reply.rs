//! The answer to a unary call, given from any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use super::completion::{Completion, Completions};
use super::{Body, Code, Status};

/// What the connection and the sink of one call share.
pub(super) struct CallState {
    pub(super) stream: u32,
    pub(super) completions: Arc<Completions>,
    pub(super) cancelled: AtomicBool,
    /// Woken when `cancelled` turns true.
    pub(super) gone: Notify,
    pub(super) deadline: Option<Instant>,
}

enum Target {
    Connection(Arc<CallState>),
    Callback(Box<dyn FnOnce(Result<Body, Status>) + Send>),
    Answered,
}

/// Takes the one answer to a unary call. A sink that is dropped unanswered answers Internal.
///
/// Answering costs a push into the connection's queue and at most one wake-up per batch of answers; it never blocks
/// and never runs code of the transport.
pub struct ReplySink {
    target: Target,
}

impl ReplySink {
    pub(super) fn new(state: Arc<CallState>) -> Self {
        Self {
            target: Target::Connection(state),
        }
    }

    /// A sink that hands the answer to `answer`, for calls that start inside the server and for tests.
    #[must_use]
    pub fn from_callback(answer: impl FnOnce(Result<Body, Status>) + Send + 'static) -> Self {
        Self {
            target: Target::Callback(Box::new(answer)),
        }
    }

    /// Answers the call.
    pub fn send(mut self, result: Result<Body, Status>) {
        self.answer(result);
    }

    /// Answers the call with what `work` returns. `work` runs in the task of the connection, not here: this is how
    /// a read leaves the core thread once its read index is confirmed. It is skipped when the caller is gone.
    pub fn run(mut self, work: impl FnOnce() -> Result<Body, Status> + Send + 'static) {
        match std::mem::replace(&mut self.target, Target::Answered) {
            Target::Connection(state) => state.completions.push(Completion::Run {
                stream: state.stream,
                work: Box::new(work),
            }),
            Target::Callback(answer) => answer(work()),
            Target::Answered => {}
        }
    }

    /// Whether nobody waits for the answer any more: the caller cancelled, the deadline was answered, or the
    /// connection is gone. May turn true late; never turns false again.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.target {
            Target::Connection(state) => {
                state.cancelled.load(Ordering::Acquire) || state.completions.is_closed()
            }
            Target::Callback(_) => false,
            Target::Answered => true,
        }
    }

    /// Ends when [`ReplySink::is_closed`] turns true: for work that waits and is not wanted any more.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let state = match &self.target {
            Target::Connection(state) => Some(Arc::clone(state)),
            Target::Callback(_) | Target::Answered => None,
        };
        async move {
            let Some(state) = state else {
                return std::future::pending().await;
            };
            let gone = state.gone.notified();
            if !state.cancelled.load(Ordering::Acquire) {
                gone.await;
            }
        }
    }

    /// When the caller gives up. `None`: never. The transport itself answers DeadlineExceeded then.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.target {
            Target::Connection(state) => state.deadline,
            Target::Callback(_) | Target::Answered => None,
        }
    }

    fn answer(&mut self, result: Result<Body, Status>) {
        match std::mem::replace(&mut self.target, Target::Answered) {
            Target::Connection(state) => state.completions.push(Completion::Reply {
                stream: state.stream,
                result,
            }),
            Target::Callback(answer) => answer(result),
            Target::Answered => {}
        }
    }
}

impl Drop for ReplySink {
    fn drop(&mut self) {
        self.answer(Err(Status::new(
            Code::Internal,
            "the server dropped the call without an answer",
        )));
    }
}

impl std::fmt::Debug for ReplySink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ReplySink").finish_non_exhaustive()
    }
}
