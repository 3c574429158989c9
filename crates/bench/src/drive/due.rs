//! When requests of an open loop are due.

use std::time::{Duration, Instant};

use super::Pace;

/// The times at which requests of an open loop are due.
pub(super) struct Due {
    interval: Option<Duration>,
    next: Instant,
    lane: usize,
}

impl Due {
    /// The first is due at `start`.
    pub(super) fn from(pace: Pace, start: Instant) -> Self {
        Self {
            interval: match pace {
                Pace::Closed => None,
                Pace::Open(interval) => Some(interval),
            },
            next: start,
            lane: 0,
        }
    }

    /// The time until the next is due.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        match self.interval {
            Some(_) => self.next.saturating_duration_since(now),
            None => Duration::MAX,
        }
    }

    /// The moment of the next one that is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        let due = self.next;
        (due <= now).then(|| {
            self.next += interval;
            due
        })
    }

    /// The connections take turns.
    pub(super) fn place(&mut self, lanes: usize) -> usize {
        self.lane = (self.lane + 1) % lanes;
        self.lane
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::Pace;
    use super::Due;

    #[test]
    fn open_loop_keeps_its_times_however_late_it_is_asked() {
        let start = Instant::now();
        let mut due = Due::from(Pace::Open(Duration::from_millis(10)), start);
        let late = start + Duration::from_millis(25);
        let times: Vec<_> = std::iter::from_fn(|| due.next(late))
            .map(|time| time - start)
            .collect();
        assert_eq!(times, [0, 10, 20].map(Duration::from_millis));
        assert_eq!(due.wait(late), Duration::from_millis(5));
    }
}
