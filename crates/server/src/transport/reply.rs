//! The answer to a unary call, given from any thread.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::completion::{Completion, Completions};
use super::{Body, Code, Status};

/// Where the answer to a call goes. The sink owns this alone: a call has no memory that it shares with its connection.
struct Caller {
    stream: u32,
    completions: Arc<Completions>,
    deadline: Option<Instant>,
    /// As of the moment when the call was given to the service, in the task of its connection.
    has_room: bool,
}

enum Target {
    Connection(Caller),
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
    /// `has_room`: answers that were given before do not fill what may wait for the client.
    pub(super) fn new(
        stream: u32,
        completions: Arc<Completions>,
        deadline: Option<Instant>,
        has_room: bool,
    ) -> Self {
        let target = Target::Connection(Caller {
            stream,
            completions,
            deadline,
            has_room,
        });
        Self { target }
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
            Target::Connection(caller) => caller.completions.push(Completion::Run {
                stream: caller.stream,
                work: Box::new(work),
            }),
            Target::Callback(answer) => answer(work()),
            Target::Answered => {}
        }
    }

    /// Answers the call with what `work` returns. For calls of [`Service::unary`](super::Service::unary) itself, and
    /// for short work: it runs at once, in the task of the connection, unless the client has not taken what waits for
    /// it; then it waits as in [`ReplySink::run`].
    pub fn run_here(mut self, work: impl FnOnce() -> Result<Body, Status> + Send + 'static) {
        match &self.target {
            Target::Connection(caller) if !caller.has_room => self.run(work),
            Target::Connection(caller) => {
                let result = work();
                let made = result.as_ref().map_or(0, Body::written_bytes);
                caller.completions.made(made);
                self.answer(result);
            }
            Target::Callback(_) | Target::Answered => self.answer(work()),
        }
    }

    /// Ends when nobody waits for the answer any more: the caller cancelled, the deadline was answered, or the
    /// connection is gone. For work that waits and is not wanted then; asking costs a message to the connection.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let gone = match &self.target {
            Target::Connection(caller) => {
                let (kept, gone) = oneshot::channel();
                // Dropped where the call is not known any more, or the connection is gone.
                caller.completions.push(Completion::Closed {
                    stream: caller.stream,
                    kept,
                });
                Some(gone)
            }
            Target::Callback(_) | Target::Answered => None,
        };
        async move {
            match gone {
                // Nothing is ever sent.
                Some(gone) => drop(gone.await),
                None => std::future::pending().await,
            }
        }
    }

    /// When the caller gives up. `None`: never. The transport itself answers DeadlineExceeded then.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.target {
            Target::Connection(caller) => caller.deadline,
            Target::Callback(_) | Target::Answered => None,
        }
    }

    fn answer(&mut self, result: Result<Body, Status>) {
        match std::mem::replace(&mut self.target, Target::Answered) {
            Target::Connection(caller) => caller.completions.push(Completion::Reply {
                stream: caller.stream,
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
