//! Values that change on the hot path: relaxed atomics, no lock, no allocation after the first use.
//!
//! Every request counts in a dozen places. If all threads wrote the same words, each count would wait for the others'
//! cores, the more of them the longer. So counters and histograms are kept in [`SHARDS`] parts of which a thread writes
//! one, and whoever asks adds them up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Parts of a value; more threads than these share.
const SHARDS: usize = 16;

/// The part that this thread writes.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    OWN.with(|own| *own)
}

/// A count alone on its cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell(AtomicU64);

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(OnceLock<Box<[Cell; SHARDS]>>);

impl Counter {
    fn cells(&self) -> &[Cell; SHARDS] {
        self.0.get_or_init(Box::default)
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.cells()[shard()].0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes over a count that is kept elsewhere and only grows. Nobody else adds to this counter.
    pub fn raise_to(&self, count: u64) {
        self.cells()[0].0.fetch_max(count, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        let cells = self.0.get().map(|cells| cells.iter()).into_iter().flatten();
        cells.map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds `delta`, which may be negative.
    pub fn add(&self, delta: f64) {
        add_float(&self.0, delta);
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Upper bounds of a histogram: `first`, then each `factor` times the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buckets {
    /// The lowest bound.
    pub first: f64,
    /// What each bound is multiplied by.
    pub factor: f64,
    /// Number of bounds, without the one at infinity.
    pub count: usize,
}

impl Buckets {
    fn bounds(self) -> Vec<f64> {
        let bounds = std::iter::successors(Some(self.first), |bound| Some(bound * self.factor));
        bounds.take(self.count).collect()
    }
}

/// How often values fell between fixed bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: Vec<f64>,
    parts: [OnceLock<Box<Part>>; SHARDS],
}

/// What some threads have counted.
#[derive(Debug)]
#[repr(align(64))]
struct Part {
    /// One count per bound, and one for what lies above all.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty histogram with exponential bounds.
    #[must_use]
    pub fn new(buckets: Buckets) -> Self {
        Self::with_bounds(buckets.bounds())
    }

    /// An empty histogram with these bounds, which ascend.
    #[must_use]
    pub fn with_bounds(bounds: Vec<f64>) -> Self {
        Self {
            bounds,
            parts: Default::default(),
        }
    }

    /// The part of this thread.
    fn part(&self) -> &Part {
        self.parts[shard()].get_or_init(|| {
            let counts = std::iter::repeat_with(AtomicU64::default);
            Box::new(Part {
                counts: counts.take(self.bounds.len() + 1).collect(),
                sum: AtomicU64::default(),
            })
        })
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts
            .iter()
            .filter_map(|part| part.get().map(Box::as_ref))
    }

    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        let part = self.part();
        part.counts[place].fetch_add(1, Ordering::Relaxed);
        add_float(&part.sum, value);
    }

    /// Counts one duration, in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// The bounds with the number of values up to each; the last bound is infinity.
    #[must_use]
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut total = 0;
        let counts = (0..=self.bounds.len()).map(|place| {
            let counts = self.parts().map(|part| &part.counts[place]);
            total += counts
                .map(|count| count.load(Ordering::Relaxed))
                .sum::<u64>();
            total
        });
        bounds.zip(counts).collect()
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        let sums = self.parts().map(|part| part.sum.load(Ordering::Relaxed));
        sums.map(f64::from_bits).sum()
    }
}

fn add_float(cell: &AtomicU64, delta: f64) {
    let add = |bits| Some((f64::from_bits(bits) + delta).to_bits());
    // The closure always has a value, so this cannot fail.
    let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
}

#[cfg(test)]
mod tests {
    use super::{Buckets, Counter, Histogram};

    #[test]
    fn what_many_threads_count_adds_up() {
        let counter = Counter::default();
        let histogram = Histogram::new(Buckets {
            first: 1.0,
            factor: 2.0,
            count: 2,
        });
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    counter.add(3);
                    histogram.observe(0.5);
                    histogram.observe(8.0);
                });
            }
        });
        assert_eq!(counter.value(), 120);
        assert_eq!(histogram.sum(), 340.0);
        assert_eq!(
            histogram.cumulative(),
            [(1.0, 40), (2.0, 40), (f64::INFINITY, 80)]
        );
    }
}
