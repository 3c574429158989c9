//! Leases, in two halves that never touch each other.
//!
//! [`Grants`] is replicated: which leases exist, for how long they were granted, which keys hang
//! on them. It is changed by log entries alone and is the same on all members.
//!
//! [`Deadlines`] is the leader's: when each lease ends. It hears of grants and revokes as effects
//! of applied entries, counts down, and asks for revokes; those go through the log like everybody
//! else's. A member that does not lead keeps the list and counts nothing.
//!
//! What a client may rely on: a lease lives at least its lifetime after the last acknowledged
//! keep-alive. It may end late (a new leader gives every lease its full time again), never early.

mod deadlines;
mod grants;
mod messages;

pub use deadlines::{
    CHECK_INTERVAL, Counts, Deadlines, PICKED_PER_CHECK_MAX, REVOKE_RETRY, REVOKES_IN_FLIGHT_MAX,
};
pub use grants::{Grant, Grants};
pub use messages::{Input, Output, Restored, Round, Token};

use std::time::Duration;

/// The longest lifetime that can be asked for, in seconds.
pub const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// The shortest lifetime that is granted, in whole seconds: one and a half election timeouts, so
/// that a lease outlives a change of leader.
pub fn ttl_seconds_min(election_timeout: Duration) -> i64 {
    let milliseconds = (election_timeout * 3 / 2).as_millis();
    i64::try_from(milliseconds.div_ceil(1_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
