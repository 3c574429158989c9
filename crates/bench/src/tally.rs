//! What a run counts.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::h2c::CallEnd;
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
    }
}
