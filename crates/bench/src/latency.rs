//! How long things took, in a fixed amount of memory.
//!
//! Below 128 ns each nanosecond has its bucket; above, each doubling of the time is cut into 128 buckets, so that a
//! percentile is off by less than 1 %. The longest time is kept exactly.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets per doubling, as a power of two.
const BUCKET_BITS: u32 = 7;
const BUCKETS: usize = 1 << BUCKET_BITS;

/// Counts of times.
#[derive(Clone)]
pub(crate) struct Latencies {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

/// What is reported of them, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p99_9: f64,
    pub(crate) max: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        let doublings = (u64::BITS - BUCKET_BITS + 1) as usize;
        Self {
            counts: vec![0; doublings * BUCKETS],
            total: 0,
            max: 0,
        }
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The usual percentiles; zeros if nothing was counted.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let at = |per_mille: u64| microseconds(self.at(per_mille));
        Percentiles {
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
            max: microseconds(self.max),
        }
    }

    /// The time that so many of a thousand did not exceed, in nanoseconds.
    fn at(&self, per_mille: u64) -> u64 {
        let rank = (self.total * per_mille).div_ceil(1000);
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank && *count > 0 {
                return last_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let doubling = (u64::BITS - nanoseconds.leading_zeros()).saturating_sub(BUCKET_BITS + 1);
    doubling as usize * BUCKETS + (nanoseconds >> doubling) as usize
}

/// The longest time that falls into a bucket.
fn last_of(bucket: usize) -> u64 {
    if bucket < 2 * BUCKETS {
        return bucket as u64;
    }
    let doubling = bucket / BUCKETS - 1;
    let place = (bucket - doubling * BUCKETS) as u64;
    ((place + 1) << doubling).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Latencies, bucket, last_of};

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        let below: Vec<u64> = (0..128).collect();
        let above =
            (7..64).flat_map(|exponent| (0..8).map(move |part| (8 + part) << (exponent - 3)));
        for time in below.into_iter().chain(above) {
            let place = bucket(time);
            assert!(place >= last, "{time}");
            last = place;
            let end = last_of(place);
            assert!(
                end >= time && end - time <= time / 100,
                "{time} in bucket to {end}"
            );
        }
        assert!(bucket(u64::MAX) < Latencies::default().counts.len());
    }

    #[test]
    fn percentiles_of_a_thousand_times() {
        let mut latencies = Latencies::default();
        let mut others = Latencies::default();
        for microseconds in 1..=500 {
            latencies.add(Duration::from_micros(microseconds));
            others.add(Duration::from_micros(500 + microseconds));
        }
        latencies.merge(&others);
        let found = latencies.percentiles();
        for (value, expected) in [
            (found.p50, 500.0),
            (found.p90, 900.0),
            (found.p99, 990.0),
            (found.p99_9, 999.0),
        ] {
            assert!(
                (value / expected - 1.0).abs() < 0.01,
                "{value} for {expected}"
            );
        }
        assert_eq!(found.max, 1000.0);
        assert_eq!(latencies.total(), 1000);
    }

    #[test]
    fn nothing_counted_is_zero() {
        assert_eq!(Latencies::default().percentiles().max, 0.0);
        assert_eq!(Latencies::default().percentiles().p50, 0.0);
    }
}
