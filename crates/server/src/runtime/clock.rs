//! Time for the machines: they are told it and never ask.

use std::time::{Duration, Instant};

use kvorum_proto::ids::Moment;

/// Turns the operating system's monotonic time into [`Moment`]s since the start of the process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.origin.elapsed())
    }

    /// The time from now to a moment; zero when it has passed.
    #[must_use]
    pub fn until(&self, moment: Moment) -> Duration {
        moment.since(self.now())
    }
}
