//! The HTTP/1 side of a client port: health, version, metrics.

mod checks;
mod facts;
mod handler;
mod health;
mod query;
pub(crate) mod reply;
#[cfg(test)]
mod tests;

pub use facts::{ActiveAlarm, HealthFacts, ProbeRead, ProbeSink};
pub use handler::{HttpOptions, HttpPort, Paths};
