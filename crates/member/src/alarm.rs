//! Alarms: facts about members that switch requests off until an operator clears them.
//!
//! An alarm is raised and cleared through the log, so all members refuse the same requests from
//! the same entry on. `NOSPACE` of any member refuses what adds data; `CORRUPT` of any member
//! refuses everything that reads or writes keys in the log, and leases.
//!
//! Source: etcd v3.7.1 server/etcdserver/api/v3alarm/alarms.go, apply/apply.go (Alarm).

use std::collections::BTreeSet;

use kvorum_proto::etcdserverpb::{AlarmMember, AlarmType};
use kvorum_proto::ids::MemberId;

/// The alarms that are on, ordered by kind and member.
///
/// A kind this release does not know is kept and listed; it switches nothing off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    raised: BTreeSet<(i32, MemberId)>,
}

impl Alarms {
    /// No alarm.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises an alarm; false when it was on, or when `kind` is `NONE` (0).
    pub fn activate(&mut self, member: MemberId, kind: i32) -> bool {
        kind != AlarmType::None as i32 && self.raised.insert((kind, member))
    }

    /// Clears an alarm; false when it was not on.
    pub fn deactivate(&mut self, member: MemberId, kind: i32) -> bool {
        self.raised.remove(&(kind, member))
    }

    /// The alarms of one kind, or all of them for `NONE` (0).
    pub fn list(&self, kind: i32) -> Vec<AlarmMember> {
        let wanted = |found: i32| kind == AlarmType::None as i32 || found == kind;
        self.raised
            .iter()
            .filter(|(found, _)| wanted(*found))
            .map(|&(alarm, member)| AlarmMember {
                member_id: member.0,
                alarm,
            })
            .collect()
    }

    /// Whether any member has this alarm.
    pub fn is_raised(&self, kind: AlarmType) -> bool {
        let kind = kind as i32;
        self.raised
            .range((kind, MemberId(0))..=(kind, MemberId(u64::MAX)))
            .next()
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOSPACE: i32 = AlarmType::Nospace as i32;
    const CORRUPT: i32 = AlarmType::Corrupt as i32;

    #[test]
    fn none_is_never_raised_and_lists_every_kind() {
        let mut alarms = Alarms::new();
        assert!(!alarms.activate(MemberId(1), 0));
        assert!(alarms.activate(MemberId(2), CORRUPT));
        assert!(alarms.activate(MemberId(9), NOSPACE));
        assert!(!alarms.activate(MemberId(9), NOSPACE), "raised twice");
        let all: Vec<_> = alarms
            .list(0)
            .iter()
            .map(|a| (a.alarm, a.member_id))
            .collect();
        assert_eq!(all, [(NOSPACE, 9), (CORRUPT, 2)]);
        assert_eq!(alarms.list(CORRUPT).len(), 1);
    }

    #[test]
    fn a_kind_is_raised_until_its_last_member_is_cleared() {
        let mut alarms = Alarms::new();
        alarms.activate(MemberId(1), NOSPACE);
        alarms.activate(MemberId(u64::MAX), NOSPACE);
        assert!(alarms.deactivate(MemberId(1), NOSPACE));
        assert!(!alarms.deactivate(MemberId(1), NOSPACE));
        assert!(alarms.is_raised(AlarmType::Nospace));
        assert!(!alarms.is_raised(AlarmType::Corrupt));
        assert!(alarms.deactivate(MemberId(u64::MAX), NOSPACE));
        assert!(!alarms.is_raised(AlarmType::Nospace));
    }
}
