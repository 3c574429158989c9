//! Counters of the process in Prometheus' text format.

/// Every metric of the process.
#[derive(Debug, Default)]
pub struct Metrics {}
