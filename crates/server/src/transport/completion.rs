//! The queue through which other threads speak to a connection.
//!
//! Every connection has one. Whoever has an answer pushes it from its own thread; the connection's task takes all
//! that is there in one turn. The task is woken once per batch: the first push after the task went to sleep takes
//! the waker, later ones find none and only add to the queue.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::{Body, Status};

/// A read that the connection's task executes itself.
pub(super) type Work = Box<dyn FnOnce() -> Result<Body, Status> + Send>;

/// What a connection is told. `stream` is the HTTP/2 stream id, never used twice on a connection.
pub(super) enum Completion {
    /// The answer to a unary call.
    Reply {
        stream: u32,
        result: Result<Body, Status>,
    },
    /// Work whose result is the answer to a unary call.
    Run { stream: u32, work: Work },
    /// Something about this stream may go on: replies wait, data arrived, the window opened.
    Poll { stream: u32 },
}

/// The queue and the sleeping task, if it sleeps.
#[derive(Default)]
pub(super) struct Completions {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Completion>,
    waker: Option<Waker>,
    closed: bool,
}

impl Completions {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one completion; dropped if the connection is gone.
    pub(super) fn push(&self, completion: Completion) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.queue.push_back(completion);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves everything queued into `batch`, which must be empty. With nothing queued, `waker` is kept for the
    /// next push and `false` is returned.
    pub(super) fn take(&self, batch: &mut VecDeque<Completion>, waker: &Waker) -> bool {
        debug_assert!(
            batch.is_empty(),
            "a batch is worked off before the next is taken"
        );
        let mut state = self.lock();
        if !state.queue.is_empty() {
            std::mem::swap(&mut state.queue, batch);
            return true;
        }
        match &state.waker {
            Some(known) if known.will_wake(waker) => {}
            _ => state.waker = Some(waker.clone()),
        }
        false
    }

    /// Refuses all later pushes: the connection is gone.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        // Dropped outside the lock: work may own sinks, and a sink's drop pushes.
        drop(queue);
    }

    /// Whether the connection is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}
