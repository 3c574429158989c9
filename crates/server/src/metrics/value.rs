//! Values that change on the hot path: relaxed atomics, no lock, no allocation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes over a count that is kept elsewhere and only grows.
    pub fn raise_to(&self, count: u64) {
        self.0.fetch_max(count, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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
        let counts = std::iter::repeat_with(AtomicU64::default);
        Self {
            counts: counts.take(bounds.len() + 1).collect(),
            bounds,
            sum: AtomicU64::default(),
        }
    }

    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        add_float(&self.sum, value);
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
        let counts = self.counts.iter().map(|count| {
            total += count.load(Ordering::Relaxed);
            total
        });
        bounds.zip(counts).collect()
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

fn add_float(cell: &AtomicU64, delta: f64) {
    let add = |bits| Some((f64::from_bits(bits) + delta).to_bits());
    // The closure always has a value, so this cannot fail.
    let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
}
