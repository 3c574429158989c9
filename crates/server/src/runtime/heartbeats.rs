//! Heartbeats that a leader sends late: its disk or its machine is too slow for its heartbeat interval.
//!
//! Source: etcd v3.7.1 `server/etcdserver/raft.go` (`processMessages`), `pkg/contention/contention.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use kvorum_proto::ids::{MemberId, Moment};

/// A heartbeat may come so many intervals after the one before.
const INTERVALS_MAX: u32 = 2;

/// When each peer got its last heartbeat.
#[derive(Debug, Default)]
pub(super) struct Heartbeats(BTreeMap<MemberId, Moment>);

impl Heartbeats {
    /// The lead has changed: what was before does not count.
    pub(super) fn reset(&mut self) {
        self.0.clear();
    }

    /// A heartbeat leaves for a peer now: by how much it is late, if it is.
    pub(super) fn sent(
        &mut self,
        to: MemberId,
        now: Moment,
        interval: Duration,
    ) -> Option<Duration> {
        let before = self.0.insert(to, now)?;
        let late = now
            .0
            .saturating_sub(before.0)
            .saturating_sub(INTERVALS_MAX * interval);
        (!late.is_zero()).then_some(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_late_after_two_intervals() {
        let mut heartbeats = Heartbeats::default();
        let mut check = |to, at, late: Option<u64>| {
            let (to, now) = (MemberId(to), Moment(Duration::from_millis(at)));
            let found = heartbeats.sent(to, now, Duration::from_millis(100));
            assert_eq!(found, late.map(Duration::from_millis), "{to} {at}");
        };
        check(1, 1000, None);
        check(1, 1200, None);
        check(2, 1401, None);
        check(1, 1401, Some(1));
        check(1, 1500, None);
        heartbeats.reset();
        let now = Moment(Duration::from_secs(60));
        assert_eq!(heartbeats.sent(MemberId(1), now, Duration::ZERO), None);
    }
}
