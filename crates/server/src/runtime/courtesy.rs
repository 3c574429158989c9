//! How much of a processor long work takes while clients write: a part of it, so that a put finds one that is free.
//!
//! A lower priority is not enough: a thread of low priority that has begun a slice of some milliseconds is often let
//! finish it, and what it makes is sent by others, of usual priority. So the work is done in small pieces, with a rest
//! behind each as long as something was applied a moment ago, and without one when nobody writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;

/// Rest behind a piece of work, as a multiple of the time that the piece took.
const REST: u32 = 4;
/// Somebody writes when something was applied within this time.
const WRITING: Duration = Duration::from_millis(20);

/// What long work asks between its pieces.
pub(crate) struct Courtesy {
    metrics: Arc<Metrics>,
    /// The last entry applied, as the metrics tell it, and since when.
    applied: f64,
    since: Option<Instant>,
    /// When the present piece began.
    began: Instant,
}

impl Courtesy {
    /// At the beginning of the work.
    pub(crate) fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            applied: metrics.proposals_applied.value(),
            since: None,
            began: Instant::now(),
        }
    }

    /// A piece of work is done: rests if somebody writes, and tells whether.
    pub(crate) fn rest(&mut self) -> bool {
        let now = Instant::now();
        let rest = self.rest_after(self.metrics.proposals_applied.value(), now);
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
        self.began = Instant::now();
        !rest.is_zero()
    }

    fn rest_after(&mut self, applied: f64, now: Instant) -> Duration {
        if applied != self.applied {
            self.applied = applied;
            self.since = Some(now);
        }
        let is_writing = self.since.is_some_and(|since| now - since <= WRITING);
        if is_writing {
            (now - self.began) * REST
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_only_while_somebody_writes() {
        let mut courtesy = Courtesy::new(&Arc::new(Metrics::new(false)));
        let (began, piece) = (courtesy.began, Duration::from_micros(100));
        assert_eq!(courtesy.rest_after(0.0, began + piece), Duration::ZERO);
        assert_eq!(courtesy.rest_after(1.0, began + piece), piece * REST);
        assert_eq!(
            courtesy.rest_after(1.0, began + piece * 2),
            piece * 2 * REST
        );
        let later = began + piece * 2 + WRITING;
        assert_eq!(courtesy.rest_after(1.0, later), Duration::ZERO);
    }
}
