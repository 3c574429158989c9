//! The queue through which other threads speak to a connection.
//!
//! Every connection has one. Whoever has an answer pushes it from its own thread; the connection's task takes all
//! that is there in one turn. The task is woken once per batch: the first push after the task went to sleep takes
//! the waker, later ones find none and only add to the queue. Who has many answers at once gives them
//! [`together`]: then the wake-ups come behind the answers, and a connection does not wake, find one and sleep again
//! before the next.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::oneshot;

use super::{Body, Status};

/// Connections that wait to be woken at most, while answers are given together: so many have enough to do.
const ASLEEP_MAX: usize = 64;

/// Tasks to be woken behind the answers that a thread is giving.
#[derive(Default)]
struct Asleep {
    /// Whether the thread gives answers together.
    together: bool,
    wakers: Vec<Waker>,
}

thread_local! {
    static ASLEEP: RefCell<Asleep> = RefCell::default();
}

/// Runs `answers`, which gives answers to any connections, and wakes these behind it.
pub(crate) fn together(answers: impl FnOnce()) {
    ASLEEP.with_borrow_mut(|asleep| asleep.together = true);
    answers();
    ASLEEP.with_borrow_mut(|asleep| asleep.together = false);
    wake_asleep();
}

/// Wakes those who wait for it now: what comes next takes longer than an answer.
pub(crate) fn wake_asleep() {
    // Outside of the borrow: waking may run anything.
    let mut wakers = ASLEEP.with_borrow_mut(|asleep| std::mem::take(&mut asleep.wakers));
    wakers.drain(..).for_each(Waker::wake);
    ASLEEP.with_borrow_mut(|asleep| {
        // With its room for the next; waking may have begun another list.
        if asleep.wakers.capacity() == 0 {
            asleep.wakers = wakers;
        }
    });
}

/// Wakes a task, now or behind the answers that this thread is giving.
fn wake(waker: Waker) {
    let kept = ASLEEP.with_borrow_mut(|asleep| {
        if !asleep.together {
            return Err(waker);
        }
        asleep.wakers.push(waker);
        Ok(asleep.wakers.len())
    });
    match kept {
        Err(waker) => waker.wake(),
        Ok(count) if count >= ASLEEP_MAX => wake_asleep(),
        Ok(_) => {}
    }
}

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
    /// Keep this as long as the unary call is with the service: somebody wants to know when it is over.
    Closed {
        stream: u32,
        kept: oneshot::Sender<Infallible>,
    },
    /// Something about this stream may go on: replies wait, data arrived, the window opened.
    Poll { stream: u32 },
}

/// The queue and the sleeping task, if it sleeps.
#[derive(Default)]
pub(super) struct Completions {
    state: Mutex<State>,
    /// Bytes of answers that the connection's own turn has made and not taken yet.
    made_bytes: AtomicUsize,
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
            wake(waker);
        }
    }

    /// The connection's own turn has made an answer of so many bytes.
    pub(super) fn made(&self, bytes: usize) {
        self.made_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of answers that the connection's own turn has made and not taken yet.
    pub(super) fn made_bytes(&self) -> usize {
        self.made_bytes.load(Ordering::Relaxed)
    }

    /// Says that the task is awake, and moves everything queued behind what is in `batch`. Whoever adds something from
    /// now on has nobody to wake, until [`take`](Self::take) finds nothing: a task that is given an answer by its own turn
    /// would wake itself otherwise, and be polled for nothing.
    pub(super) fn awake(&self, batch: &mut VecDeque<Completion>) {
        let mut state = self.lock();
        // Dropped outside the lock.
        let _waker = state.waker.take();
        if batch.is_empty() {
            std::mem::swap(&mut state.queue, batch);
        } else {
            batch.append(&mut state.queue);
        }
        self.made_bytes.store(0, Ordering::Relaxed);
        drop(state);
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
            self.made_bytes.store(0, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::{Completion, Completions};

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sleeping_task_is_woken_once_and_one_that_is_awake_never() {
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let completions = Completions::default();
        let mut batch = VecDeque::new();
        let push = |times| {
            (0..times).for_each(|stream| completions.push(Completion::Poll { stream }));
            task.0.swap(0, Ordering::Relaxed)
        };
        assert!(!completions.take(&mut batch, &waker));
        assert_eq!(push(3), 1, "it slept");
        completions.awake(&mut batch);
        assert_eq!(std::mem::take(&mut batch).len(), 3);
        assert_eq!(push(2), 0);
        assert!(completions.take(&mut batch, &waker));
        assert_eq!(std::mem::take(&mut batch).len(), 2);
        assert!(!completions.take(&mut batch, &waker));
        completions.awake(&mut batch);
        assert_eq!(push(2), 0, "it woke for something else");
        assert!(completions.take(&mut batch, &waker));
    }
}
