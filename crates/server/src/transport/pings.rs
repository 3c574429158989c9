//! How often a client may ping.

use std::time::{Duration, Instant};

/// Least time between pings of a client without open calls. Source: grpc-go `internal/transport/http2_server.go`,
/// `defaultPingTimeout`.
const IDLE_PING_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);

/// Pings that may come too early before the connection is closed. Source: as above, `maxPingStrikes`.
const PING_STRIKES_MAX: u32 = 2;

/// Counts the pings of one client that come too early. Anything the server writes forgives them, since clients
/// measure bandwidth with a ping after data.
pub(super) struct PingGuard {
    /// Zero: pings are not policed.
    min_time: Duration,
    last: Option<Instant>,
    strikes: u32,
    forgiven: bool,
}

impl PingGuard {
    pub(super) fn new(min_time: Duration) -> Self {
        Self {
            min_time,
            last: None,
            strikes: 0,
            forgiven: false,
        }
    }

    /// The server wrote headers or data.
    pub(super) fn forgive(&mut self) {
        self.forgiven = true;
    }

    /// A ping arrived. Returns whether the client is to be sent away.
    pub(super) fn ping(&mut self, now: Instant, calls_open: bool) -> bool {
        if self.min_time.is_zero() {
            return false;
        }
        let last = self.last.replace(now);
        if std::mem::take(&mut self.forgiven) {
            self.strikes = 0;
            return false;
        }
        let interval = if calls_open {
            self.min_time
        } else {
            IDLE_PING_INTERVAL
        };
        let early = last.is_some_and(|last| now.saturating_duration_since(last) < interval);
        self.strikes += u32::from(early);
        self.strikes > PING_STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::PingGuard;

    /// Pings at `seconds`; returns the place of the one that closes the connection.
    fn check(
        min_seconds: u64,
        calls_open: bool,
        forgive_before: &[usize],
        seconds: &[u64],
    ) -> Option<usize> {
        let mut guard = PingGuard::new(Duration::from_secs(min_seconds));
        let start = Instant::now();
        seconds.iter().enumerate().position(|(place, second)| {
            if forgive_before.contains(&place) {
                guard.forgive();
            }
            guard.ping(start + Duration::from_secs(*second), calls_open)
        })
    }

    #[test]
    fn third_early_ping_closes_the_connection() {
        assert_eq!(check(5, true, &[], &[0, 1, 2, 3, 4]), Some(3));
        assert_eq!(check(5, true, &[], &[0, 5, 10, 15, 20, 25]), None);
        assert_eq!(check(5, true, &[], &[0, 1, 10, 11, 20, 21]), Some(5));
    }

    #[test]
    fn idle_connection_may_hardly_ping() {
        assert_eq!(check(5, false, &[], &[0, 10, 20, 30, 40]), Some(3));
        assert_eq!(check(5, false, &[], &[0, 7200, 14400, 21600]), None);
    }

    #[test]
    fn written_data_forgives_early_pings() {
        assert_eq!(check(5, true, &[2, 4, 6], &[0, 1, 2, 3, 4, 5, 6, 7]), None);
    }

    #[test]
    fn zero_interval_switches_the_guard_off() {
        assert_eq!(check(0, true, &[], &[0, 0, 0, 0, 0, 0]), None);
    }
}
