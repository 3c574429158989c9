//! Wake-ups of a connection and of single streams.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use super::completion::{Completion, Completions};

/// Wakes the connection and names the stream that may go on, so that a turn looks only at streams with news.
struct StreamWaker {
    stream: u32,
    completions: Arc<Completions>,
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.completions.push(Completion::Poll {
            stream: self.stream,
        });
    }
}

/// A waker for one stream of a connection.
pub(super) fn stream_waker(stream: u32, completions: &Arc<Completions>) -> Waker {
    Waker::from(Arc::new(StreamWaker {
        stream,
        completions: Arc::clone(completions),
    }))
}

/// The connection's task sleeps: a wake-up goes to it.
const ASLEEP: u8 = 0;
/// A turn runs: a wake-up is noted.
const AWAKE: u8 = 1;
/// A turn runs and a wake-up came.
const AWAKE_AGAIN: u8 = 2;

/// The waker given to the HTTP/2 library.
///
/// The library wakes the connection for every frame queued, also when the connection itself queues it during its
/// turn. Handed to the runtime, each turn would be followed by an idle one. Here such wake-ups only set a mark, which
/// [`TurnWaker::begin_poll`] clears before the library is polled anyway; what comes later makes the turn go round.
pub(super) struct TurnWaker {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl TurnWaker {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(ASLEEP),
            task: Mutex::default(),
        })
    }

    /// A turn of this task begins.
    pub(super) fn begin_turn(&self, task: &Waker) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
    }

    /// The library is polled next, which settles all wake-ups so far.
    pub(super) fn begin_poll(&self) {
        self.state.store(AWAKE, Ordering::SeqCst);
    }

    /// The turn would end. Returns whether it may: no wake-up came since the last poll.
    pub(super) fn end_turn(&self) -> bool {
        let state = &self.state;
        let ended = state.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst);
        ended.is_ok()
    }
}

impl Wake for TurnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let note = |state| (state != ASLEEP).then_some(AWAKE_AGAIN);
        let noted = self
            .state
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, note);
        if noted.is_err() {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(task) = &*task {
                task.wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::TurnWaker;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wake_up_during_a_turn_makes_it_go_round_and_a_later_one_wakes_the_task() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let turns = TurnWaker::new();
        let library = Waker::from(Arc::clone(&turns));
        turns.begin_turn(&task);
        library.wake_by_ref();
        turns.begin_poll();
        assert!(turns.end_turn(), "the poll settles what came before it");
        let woken = count.0.load(Ordering::SeqCst);
        turns.begin_turn(&task);
        turns.begin_poll();
        library.wake_by_ref();
        assert!(!turns.end_turn(), "what came after it does not get lost");
        turns.begin_poll();
        assert!(turns.end_turn());
        assert_eq!(count.0.load(Ordering::SeqCst), woken);
        library.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), woken + 1);
    }
}
