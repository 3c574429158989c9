//! Numbers for requests that no other request of the cluster has.
//!
//! The upper two bytes come from the member, the next five from the time of the start in milliseconds, and the rest
//! counts up. So neither another member nor an earlier run of this one gives the same number.
//! Source: etcd v3.7.1 `pkg/idutil/id.go`, `Generator`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use kvorum_proto::ids::{LeaseId, MemberId, RequestId};

/// Hands out request ids, from any thread.
#[derive(Debug)]
pub(super) struct RequestIds {
    member_part: u64,
    count: AtomicU64,
}

const MEMBER_SHIFT: u32 = 48;
const TIME_SHIFT: u32 = 8;

impl RequestIds {
    pub(super) fn new(member: MemberId) -> Self {
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let milliseconds = started.as_millis() as u64;
        Self {
            member_part: member.0 << MEMBER_SHIFT,
            count: AtomicU64::new(milliseconds << TIME_SHIFT),
        }
    }

    /// The id that comes next; all later ones are greater.
    pub(super) fn first(&self) -> RequestId {
        let count = self.count.load(Ordering::Relaxed) + 1;
        RequestId(self.member_part | (count & ((1 << MEMBER_SHIFT) - 1)))
    }

    /// The next id; never 0.
    pub(super) fn next(&self) -> RequestId {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        RequestId(self.member_part | (count & ((1 << MEMBER_SHIFT) - 1)))
    }

    /// An id for a lease whose client left the choice to the server: positive and never 0.
    pub(super) fn next_lease(&self) -> LeaseId {
        LeaseId((self.next().0 & (u64::MAX >> 1)) as i64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kvorum_proto::ids::MemberId;

    use super::RequestIds;

    #[test]
    fn ids_are_unique_and_carry_the_member() {
        let ids = RequestIds::new(MemberId(0x8e9e_05c5_2164_694d));
        let drawn: BTreeSet<u64> = (0..1000).map(|_| ids.next().0).collect();
        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|id| id >> 48 == 0x694d));
        assert!((0..1000).all(|_| ids.next_lease().0 > 0));
    }
}
