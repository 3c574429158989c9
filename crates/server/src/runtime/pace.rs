//! How fast background work may use the disk: as fast as clients do not notice.
//!
//! What clients wait for is the write of a group to the log. [`Latency`] knows how long that takes when the disk is
//! left alone, and how long it takes now. [`Pace`] lets work go faster, step by step, until groups take clearly
//! longer than alone; then it halves its speed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A group is slowed down when it takes longer than alone by this part, in percent, and by [`NOTICED`].
const SLOWED_PERCENT: u32 = 50;
/// A delay below this is none.
const NOTICED: Duration = Duration::from_micros(200);
/// How much a new measurement counts in the present latency: one part in so many.
const PRESENT: u32 = 8;
/// How much it counts in the latency of a disk that is left alone.
const ALONE: u32 = 64;

/// What a group write takes. Clones tell of the same log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency(Arc<Mutex<Measured>>);

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    alone: Duration,
    present: Duration,
    groups: u64,
    /// Background work is on its way.
    disturbers: u32,
}

impl Measured {
    fn observe(&mut self, took: Duration) {
        self.groups += 1;
        self.present = mean(self.present, took, PRESENT);
        if self.disturbers == 0 {
            self.alone = mean(self.alone, took, ALONE);
        }
    }

    fn is_slowed(&self) -> bool {
        let bound = self.alone * (100 + SLOWED_PERCENT) / 100 + NOTICED;
        self.alone > Duration::ZERO && self.present > bound
    }
}

fn mean(before: Duration, new: Duration, parts: u32) -> Duration {
    if before == Duration::ZERO {
        return new;
    }
    before * (parts - 1) / parts + new / parts
}

impl Latency {
    fn with<T>(&self, look: impl FnOnce(&mut Measured) -> T) -> T {
        // Each change is one assignment after the other; a panic in between leaves numbers, if odd ones.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A group took so long.
    pub(crate) fn observe(&self, took: Duration) {
        self.with(|measured| measured.observe(took));
    }

    /// What a group takes now; zero before the first.
    pub(super) fn present(&self) -> Duration {
        self.with(|measured| measured.present)
    }

    /// Until it is dropped, background work is on its way.
    pub(crate) fn disturb(&self) -> Disturbance {
        self.with(|measured| measured.disturbers += 1);
        Disturbance(self.clone())
    }
}

/// Background work on its way.
pub(crate) struct Disturbance(Latency);

impl Drop for Disturbance {
    fn drop(&mut self) {
        self.0
            .with(|measured| measured.disturbers = measured.disturbers.saturating_sub(1));
    }
}

/// The speed of one kind of background work.
#[derive(Debug)]
pub(crate) struct Pace {
    latency: Latency,
    bytes_per_second: u64,
    bytes_per_second_min: u64,
    bytes_per_second_max: u64,
    /// Groups that were measured at the last look.
    groups: u64,
}

/// From nothing to the fastest speed there are so many steps.
const STEPS: u64 = 16;

impl Pace {
    /// Down to a sixteenth of the highest speed. Begins at half of it.
    pub(super) fn new(latency: Latency, bytes_per_second_max: u64) -> Self {
        Self::between(latency, bytes_per_second_max / STEPS, bytes_per_second_max)
    }

    /// Between these speeds, of which the first is not 0. Begins at half of the highest one.
    pub(crate) fn between(
        latency: Latency,
        bytes_per_second_min: u64,
        bytes_per_second_max: u64,
    ) -> Self {
        Self {
            latency,
            bytes_per_second: bytes_per_second_max / 2,
            bytes_per_second_min,
            bytes_per_second_max,
            groups: 0,
        }
    }

    /// So many bytes were read or written: how long to wait before the next ones.
    pub(super) fn pause(&mut self, bytes: u64) -> Duration {
        self.look();
        self.time_for(bytes)
    }

    /// Goes faster by a step, or half as fast when groups measured since the last look took too long.
    pub(crate) fn look(&mut self) {
        let measured = self.latency.with(|measured| *measured);
        let is_noticed = measured.groups != self.groups && measured.is_slowed();
        self.groups = measured.groups;
        let step = self.bytes_per_second_max / STEPS;
        self.bytes_per_second = if is_noticed {
            (self.bytes_per_second / 2).max(self.bytes_per_second_min)
        } else {
            (self.bytes_per_second + step).min(self.bytes_per_second_max)
        };
    }

    /// How long so many bytes take at the present speed.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        time_for(bytes, self.bytes_per_second)
    }

    /// The present speed.
    pub(super) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }
}

/// How long so many bytes take at a speed, which is not 0.
pub(super) fn time_for(bytes: u64, per_second: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 64 << 20;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// The speed after so many steps, with a group that takes so long before each.
    fn speed(pace: &mut Pace, steps: usize, group: Option<Duration>) -> u64 {
        for _ in 0..steps {
            group
                .into_iter()
                .for_each(|took| pace.latency.observe(took));
            pace.pause(1 << 20);
        }
        pace.bytes_per_second()
    }

    #[test]
    fn work_slows_down_when_groups_take_longer_than_alone_and_recovers() {
        let latency = Latency::default();
        (0..100).for_each(|_| latency.observe(micros(300)));
        let mut pace = Pace::new(latency.clone(), MAX);
        let work = latency.disturb();
        assert_eq!(speed(&mut pace, 50, Some(micros(400))), MAX, "not noticed");
        assert_eq!(speed(&mut pace, 50, Some(micros(1500))), MAX / 16);
        assert_eq!(speed(&mut pace, 200, Some(micros(300))), MAX);
        drop(work);
    }

    #[test]
    fn nobody_is_disturbed_where_nobody_writes() {
        let latency = Latency::default();
        let mut pace = Pace::new(latency.clone(), MAX);
        assert_eq!(speed(&mut pace, 50, None), MAX, "nothing was ever written");
        (0..100).for_each(|_| latency.observe(micros(300)));
        let _work = latency.disturb();
        assert_eq!(speed(&mut pace, 50, Some(micros(9000))), MAX / 16);
        assert_eq!(
            speed(&mut pace, 50, None),
            MAX,
            "the last group is long ago"
        );
    }

    #[test]
    fn a_disk_that_is_slow_by_itself_is_not_taken_for_disturbed() {
        let latency = Latency::default();
        (0..1000).for_each(|_| latency.observe(micros(20_000)));
        let mut pace = Pace::new(latency.clone(), MAX);
        let _work = latency.disturb();
        assert_eq!(speed(&mut pace, 50, Some(micros(24_000))), MAX);
    }

    #[test]
    fn pauses_follow_from_the_speed() {
        assert_eq!(time_for(1 << 20, 1 << 20), Duration::from_secs(1));
        assert_eq!(time_for(0, 1), Duration::ZERO);
        let mut pace = Pace::new(Latency::default(), MAX);
        speed(&mut pace, 50, None);
        assert_eq!(pace.pause(MAX), Duration::from_secs(1));
    }
}
