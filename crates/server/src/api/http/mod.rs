//! The HTTP/1 side of a client port: health, version, metrics.

mod facts;

pub use facts::{ActiveAlarm, HealthFacts, ProbeRead, ProbeSink};
