//! What a run counts.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::http2::CallEnd;
use crate::latency::Latencies;

/// The part of a run that counts: what comes before is warm-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

impl Window {
    pub(crate) fn holds(&self, moment: Instant) -> bool {
        self.from <= moment && moment < self.until
    }
}

/// What one thread counted, or all together.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    /// Of every operation that succeeded.
    pub(crate) latencies: Latencies,
    /// How many calls failed, by gRPC code.
    pub(crate) refused: BTreeMap<u32, u64>,
    /// What the server said to one of them.
    pub(crate) refusal: Option<String>,
    /// Requests that were due and got no answer in time.
    pub(crate) unanswered: u64,
    /// Operations that began again because something else was faster.
    pub(crate) conflicts: u64,
    /// Events that watchers got beside the operations.
    pub(crate) events: u64,
    /// The latencies again by slices of the window, if that is asked for.
    pub(crate) slices: Vec<Latencies>,
}

impl Tally {
    pub(crate) fn refuse(&mut self, end: CallEnd) {
        *self.refused.entry(end.code).or_default() += 1;
        self.refusal.get_or_insert(end.text);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.latencies.merge(&other.latencies);
        for (code, count) in other.refused {
            *self.refused.entry(code).or_default() += count;
        }
        self.refusal = self.refusal.take().or(other.refusal);
        self.unanswered += other.unanswered;
        self.conflicts += other.conflicts;
        self.events += other.events;
        let slices = self.slices.len().max(other.slices.len());
        self.slices.resize_with(slices, Latencies::default);
        for (slice, more) in self.slices.iter_mut().zip(&other.slices) {
            slice.merge(more);
        }
    }
}
