//! The connections to all endpoints, and which of them serves the next call.
//!
//! Calls go round the endpoints in turn. One that could not be reached rests for a while that
//! doubles with each failure; when all rest, the call waits for the first of them. Waiting has no
//! end of its own: the caller's time-out is the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, Limits};
use crate::endpoint::Endpoint;

/// Rest of an endpoint after its first failure.
const REST_MIN: Duration = Duration::from_millis(50);
/// Longest rest of an endpoint.
const REST_MAX: Duration = Duration::from_secs(2);

/// All endpoints. There is at least one.
pub(crate) struct Pool {
    slots: Vec<Slot>,
    limits: Arc<Limits>,
    /// Number of the slot that the next call tries first, modulo the number of slots.
    turn: AtomicUsize,
}

struct Slot {
    endpoint: Arc<Endpoint>,
    /// Held while connecting, so that calls that come meanwhile wait for the one connection.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Since the last success.
    failures: u32,
    rests_until: Option<Instant>,
    /// Why the last attempt failed.
    reason: String,
}

/// A connection, and where it came from, to give it back when it proves dead.
pub(crate) struct Lent {
    pub(crate) connection: Connection,
    slot: usize,
}

/// No endpoint can be reached now.
struct Resting {
    until: Instant,
    reason: String,
}

impl Pool {
    pub(crate) fn new(endpoints: Vec<Endpoint>, limits: Limits) -> Self {
        let slot = |endpoint| Slot {
            endpoint: Arc::new(endpoint),
            state: Mutex::default(),
        };
        Self {
            slots: endpoints.into_iter().map(slot).collect(),
            limits: Arc::new(limits),
            turn: AtomicUsize::new(0),
        }
    }

    /// The endpoints as they were given, separated by commas.
    pub(crate) fn names(&self) -> String {
        let names: Vec<String> = self
            .slots
            .iter()
            .map(|slot| slot.endpoint.to_string())
            .collect();
        names.join(",")
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A live connection, waiting for one as long as it takes. `reason` always says why there was
    /// none so far, also when this future is dropped.
    pub(crate) async fn lend(&self, reason: &mut Option<String>) -> Lent {
        loop {
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            let mut wake = None;
            for step in 0..self.slots.len() {
                let slot = first.wrapping_add(step) % self.slots.len();
                match self.connect(slot).await {
                    Ok(connection) => {
                        *reason = None;
                        return Lent { connection, slot };
                    }
                    Err(resting) => {
                        let earliest = wake.unwrap_or(resting.until);
                        wake = Some(resting.until.min(earliest));
                        *reason = Some(resting.reason);
                    }
                }
            }
            sleep_until(wake.unwrap_or_else(Instant::now)).await;
        }
    }

    async fn connect(&self, number: usize) -> Result<Connection, Resting> {
        let slot = &self.slots[number];
        let mut state = slot.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok(connection.clone());
        }
        if let Some(until) = state.rests_until.filter(|&until| until > Instant::now()) {
            let reason = state.reason.clone();
            return Err(Resting { until, reason });
        }
        match Connection::open(&slot.endpoint, &self.limits).await {
            Ok(connection) => {
                *state = State {
                    connection: Some(connection.clone()),
                    ..State::default()
                };
                Ok(connection)
            }
            Err(reason) => {
                let rest = REST_MIN
                    .saturating_mul(1 << state.failures.min(16))
                    .min(REST_MAX);
                let until = Instant::now() + rest;
                state.failures = state.failures.saturating_add(1);
                state.rests_until = Some(until);
                state.reason = format!("connection error: {}: {reason}", slot.endpoint);
                let reason = state.reason.clone();
                Err(Resting { until, reason })
            }
        }
    }

    /// Forgets a connection on which something broke; the next call opens a new one. Open calls on
    /// it go on if they can.
    pub(crate) async fn discard(&self, lent: &Lent) {
        let mut state = self.slots[lent.slot].state.lock().await;
        if state
            .connection
            .as_ref()
            .is_some_and(|held| held.is_same(&lent.connection))
        {
            state.connection = None;
        }
    }
}
