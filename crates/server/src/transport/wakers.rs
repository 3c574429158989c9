//! Wake-ups of single streams.

use std::sync::Arc;
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
