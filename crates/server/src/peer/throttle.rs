//! How fast a state is sent.
//!
//! At most [`BYTES_PER_SECOND_MAX`], and slower as long as the writes of the log, which clients wait for, take clearly
//! longer than they do alone ([`Pace`]).

use std::time::{Duration, Instant};

use crate::runtime::{Disturbance, Latency, Pace};

/// Most bytes of a state that are sent in a second.
const BYTES_PER_SECOND_MAX: u64 = 1 << 30;

/// Bytes of a state that are sent in a second while clients notice: it would never arrive otherwise where they always
/// seem to.
const BYTES_PER_SECOND_MIN: u64 = 16 << 20;

/// Bytes between two looks at the log, a few milliseconds of the highest speed: where clients write now and then, groups
/// that tell something come that often, and a speed that recovers between two of them was never lowered.
const LOOK_BYTES: u64 = 4 << 20;

/// A sender that was held up by its peer makes up for so much of the time, and not for more.
const CATCHING_UP: Duration = Duration::from_millis(20);

/// A shorter pause is put off: a thread that sleeps wakes up no sooner.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Says how long to wait before the next bytes. As long as it exists, background work is on its way.
pub(super) struct Throttle {
    started: Instant,
    schedule: Schedule,
    _work: Disturbance,
}

impl Throttle {
    /// Beside a log with this latency.
    pub(super) fn new(latency: Latency) -> Self {
        Self {
            started: Instant::now(),
            _work: latency.disturb(),
            schedule: Schedule::new(latency),
        }
    }

    /// So many bytes are about to be sent: how long to wait before that.
    pub(super) fn pause(&mut self, bytes: u64) -> Duration {
        self.schedule.pause(bytes, self.started.elapsed())
    }
}

/// The same with the time as an input.
struct Schedule {
    pace: Pace,
    /// Bytes since the last look.
    sent: u64,
    /// When the next bytes may leave.
    due: Duration,
}

impl Schedule {
    fn new(latency: Latency) -> Self {
        Self {
            pace: Pace::between(latency, BYTES_PER_SECOND_MIN, BYTES_PER_SECOND_MAX),
            sent: 0,
            due: Duration::ZERO,
        }
    }

    fn pause(&mut self, bytes: u64, now: Duration) -> Duration {
        self.sent += bytes;
        if self.sent >= LOOK_BYTES {
            self.sent = 0;
            self.pace.look();
        }
        let due = self.due.max(now.saturating_sub(CATCHING_UP));
        self.due = due + self.pace.time_for(bytes);
        let ahead = due.saturating_sub(now);
        if ahead < PAUSE_MIN {
            Duration::ZERO
        } else {
            ahead
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u64 = 256 << 10;

    /// How long so many bytes take when each piece needs `work` and each group of the log `group`.
    fn takes(bytes: u64, work: Duration, group: Duration) -> Duration {
        let latency = Latency::default();
        (0..100).for_each(|_| latency.observe(Duration::from_micros(300)));
        let _work = latency.disturb();
        let mut schedule = Schedule::new(latency.clone());
        let mut now = Duration::ZERO;
        for _ in 0..bytes / PIECE {
            latency.observe(group);
            now += schedule.pause(PIECE, now);
            now += work;
        }
        now
    }

    #[test]
    fn a_state_is_sent_no_faster_than_the_limit_and_no_slower_when_clients_do_not_notice() {
        let quick = Duration::from_micros(300);
        for work in [0, 50, 200] {
            let took = takes(1 << 30, Duration::from_micros(work), quick);
            assert!(took >= Duration::from_millis(970), "{took:?} for 1 GiB");
            assert!(took <= Duration::from_millis(1_100), "{took:?} for 1 GiB");
        }
    }

    #[test]
    fn a_state_is_sent_slower_while_clients_notice() {
        let took = takes(1 << 30, Duration::ZERO, Duration::from_millis(5));
        assert!(took > Duration::from_secs(40), "{took:?} for 1 GiB");
    }

    #[test]
    fn a_few_clients_are_noticed_as_well_as_many() {
        let latency = Latency::default();
        (0..100).for_each(|_| latency.observe(Duration::from_micros(300)));
        let _work = latency.disturb();
        let mut schedule = Schedule::new(latency.clone());
        let (mut now, mut group) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..(256 << 20) / PIECE {
            // Two hundred groups in a second.
            while group <= now {
                latency.observe(Duration::from_millis(5));
                group += Duration::from_millis(5);
            }
            now += schedule.pause(PIECE, now);
        }
        assert!(now > Duration::from_secs(2), "{now:?} for 256 MiB");
    }

    #[test]
    fn time_that_a_slow_peer_took_is_not_made_up_for_at_once() {
        let mut schedule = Schedule::new(Latency::default());
        let minute = Duration::from_secs(60);
        schedule.pause(PIECE, Duration::ZERO);
        let paused: Duration = (0..256)
            .map(|_| schedule.pause(PIECE, minute))
            .max()
            .unwrap_or_default();
        assert!(paused > Duration::from_millis(30), "{paused:?} for 64 MiB");
    }
}
