//! One member in the world: its identity, its disk, its clock and, while it runs, its process.

use std::time::Duration;

use kvorum_proto::ids::{MemberId, Moment};

use super::process::Process;
use crate::disk::{Disk, FaultCounts};
use crate::random::Random;

/// The place of a member in the world; never given to another.
pub(super) type Place = usize;

/// How far the rate of a member's clock may be off, in millionths.
pub const DRIFT_MAX_PPM: u64 = 1_000;
const MILLION: u128 = 1_000_000;

/// One member.
pub(super) struct Node {
    pub(super) id: MemberId,
    pub(super) disk: Disk,
    pub(super) process: Option<Process>,
    pub(super) clock: Clock,
    /// Whether it joins a cluster that exists, instead of founding one.
    pub(super) joins: bool,
    /// Whether its first start is behind it or planned.
    pub(super) is_called: bool,
    /// Removed or wiped: it never starts again.
    pub(super) is_gone: bool,
    /// Until then the process stands still.
    pub(super) paused_until: Moment,
    /// Until then its disk and its network are slow.
    pub(super) slow_until: Moment,
    /// Until then it applies nothing.
    pub(super) stalled_until: Moment,
    /// The next disk job hangs for this long.
    pub(super) hang: Option<Duration>,
    /// What its disk had counted when it was last looked at.
    pub(super) noted: FaultCounts,
}

impl Node {
    /// `luck` decides what a power loss leaves on the disk, `random` everything else.
    pub(super) fn new(id: MemberId, random: &Random, luck: &Random, joins: bool) -> Self {
        let mut random = random.split(&format!("member {}", id.0));
        Self {
            id,
            disk: Disk::new(luck.split(&format!("disk of member {}", id.0))),
            process: None,
            clock: Clock::draw(&mut random),
            joins,
            is_called: false,
            is_gone: false,
            paused_until: Moment::default(),
            slow_until: Moment::default(),
            stalled_until: Moment::default(),
            hang: None,
            noted: FaultCounts::default(),
        }
    }

    /// Whether something keeps it from doing its part at this moment.
    pub(super) fn is_impaired(&self, now: Moment) -> bool {
        self.process.is_none() || self.paused_until > now || self.slow_until > now
    }
}

/// A clock that begins anywhere and runs a little too fast or too slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    ahead: Duration,
    parts: u64,
}

impl Clock {
    fn draw(random: &mut Random) -> Self {
        Self {
            ahead: Duration::from_millis(random.below(1_000_000)),
            parts: MILLION as u64 - DRIFT_MAX_PPM + random.below(2 * DRIFT_MAX_PPM + 1),
        }
    }

    /// Whether it runs too fast or too slow.
    pub(super) fn drifts(&self) -> bool {
        self.parts != MILLION as u64
    }

    /// Somebody puts it ahead.
    pub(super) fn put_ahead(&mut self, by: Duration) {
        self.ahead += by;
    }

    /// It stands still for so long, from now on; whoever reads it must not look before that. Says whether it does:
    /// a clock that has hardly begun goes on.
    pub(super) fn stand_still(&mut self, length: Duration) -> bool {
        let shown =
            Duration::from_nanos((length.as_nanos() * u128::from(self.parts) / MILLION) as u64);
        let left = self.ahead.checked_sub(shown);
        self.ahead = left.unwrap_or(self.ahead);
        left.is_some()
    }

    /// What it shows at a moment of the world.
    pub(super) fn shows(&self, now: Moment) -> Moment {
        let nanos = now.0.as_nanos() * u128::from(self.parts) / MILLION;
        Moment(self.ahead + Duration::from_nanos(nanos as u64))
    }

    /// The moment of the world from which on it shows this.
    pub(super) fn when(&self, shown: Moment) -> Moment {
        let nanos = shown.0.saturating_sub(self.ahead).as_nanos() * MILLION;
        let nanos = nanos.div_ceil(u128::from(self.parts)) + 1;
        Moment(Duration::from_nanos(
            u64::try_from(nanos).unwrap_or(u64::MAX),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_at_that_time_what_was_waited_for() {
        for seed in 0..200 {
            let clock = Clock::draw(&mut Random::new(seed));
            let shown = clock.shows(Moment(Duration::from_nanos(seed * 7_919_333)));
            let when = clock.when(shown);
            assert!(clock.shows(when) >= shown, "{clock:?}");
            assert!(clock.when(Moment(Duration::MAX)) > when);
        }
    }
}
