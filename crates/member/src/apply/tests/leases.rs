//! Leases and alarms.

use kvorum_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, CompactionRequest, LeaseCheckpoint, LeaseCheckpointRequest,
    LeaseRevokeRequest,
};
use kvorum_proto::ids::LeaseId;

use super::*;
use crate::lease;

fn grant(id: i64, ttl: i64) -> Payload {
    Payload::LeaseGrant(LeaseGrantRequest { ttl, id })
}

fn revoke(id: i64) -> Payload {
    Payload::LeaseRevoke(LeaseRevokeRequest { id })
}

#[test]
fn grants_are_refused_with_the_official_errors() {
    let mut world = World::new();
    let response = Response::LeaseGrant {
        revision: 1,
        id: LeaseId(-7),
        ttl_seconds: 60,
    };
    assert_eq!(world.done(grant(-7, 60)), response);
    assert_eq!(world.refused(grant(-7, 60)), RequestError::LeaseExist);
    assert_eq!(world.refused(grant(0, 60)), RequestError::LeaseNotFound);
    assert_eq!(
        world.refused(grant(8, 9_000_000_001)),
        RequestError::LeaseTtlTooLarge
    );
    world.done(grant(9, 9_000_000_000));
    assert_eq!(world.refused(revoke(8)), RequestError::LeaseNotFound);
}

#[test]
fn a_revoke_deletes_the_keys_in_order_in_one_revision() {
    let mut world = World::new();
    world.grant(7);
    world.grant(8);
    for (key, lease) in [("c", 7), ("a", 7), ("b", 7), ("b", 8), ("d", 7)] {
        world.done(Payload::Put(put_with(key, lease)));
    }
    world.done(Payload::DeleteRange(delete("d", "")));
    world.news();
    assert_eq!(world.done(revoke(7)), Response::LeaseRevoke { revision: 8 });
    let news = world.news();
    let [
        Effect::Events(batch),
        Effect::Lease(lease::Input::Revoked(LeaseId(7))),
    ] = &news[..]
    else {
        panic!("{news:?}")
    };
    let keys: Vec<_> = batch
        .events
        .iter()
        .map(|event| event.record.key())
        .collect();
    assert_eq!((batch.revision, keys), (8, vec![&b"a"[..], b"c"]));
    assert!(world.value("b").is_some());
}

#[test]
fn revoking_a_lease_without_keys_takes_no_revision() {
    let mut world = World::new();
    world.grant(7);
    assert_eq!(world.done(revoke(7)), Response::LeaseRevoke { revision: 1 });
}

#[test]
fn checkpoints_are_written_up_to_the_first_missing_lease() {
    let mut world = World::new();
    world.grant(1);
    world.grant(3);
    let checkpoints = [1, 2, 3]
        .map(|id| LeaseCheckpoint {
            id,
            remaining_ttl: 5,
        })
        .to_vec();
    let request = Payload::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints });
    assert_eq!(world.refused(request), RequestError::LeaseNotFound);
    let rest = |id| {
        world
            .apply
            .grants()
            .lease(LeaseId(id))
            .unwrap()
            .remaining_seconds
    };
    assert_eq!((rest(1), rest(3)), (5, 0));
}

fn alarm(action: i32, member_id: u64, alarm: i32) -> Payload {
    Payload::Alarm(AlarmRequest {
        action,
        member_id,
        alarm,
    })
}

#[test]
fn alarms_are_raised_listed_and_cleared() {
    const GET: i32 = 0;
    const ACTIVATE: i32 = 1;
    const DEACTIVATE: i32 = 2;
    let mut world = World::new();
    let mut check = |action, member, kind, expected: &[(u64, i32)], changes: bool| {
        let response = world.done(alarm(action, member, kind));
        let Response::Alarm {
            alarms,
            revision: 1,
        } = response
        else {
            panic!("{response:?}")
        };
        let found: Vec<_> = alarms
            .iter()
            .map(|a: &AlarmMember| (a.member_id, a.alarm))
            .collect();
        assert_eq!(found, expected);
        let changed = world
            .news()
            .iter()
            .any(|e| matches!(e, Effect::AlarmsChanged));
        assert_eq!(changed, changes);
    };
    check(GET, 0, 0, &[], false);
    check(ACTIVATE, 5, 0, &[], false);
    check(ACTIVATE, 5, 1, &[(5, 1)], true);
    check(ACTIVATE, 5, 1, &[(5, 1)], false);
    check(ACTIVATE, 4, 2, &[(4, 2)], true);
    check(GET, 9, 0, &[(5, 1), (4, 2)], false);
    check(GET, 9, 2, &[(4, 2)], false);
    check(DEACTIVATE, 4, 1, &[], false);
    check(DEACTIVATE, 5, 1, &[(5, 1)], true);
    check(7, 4, 2, &[], false);
}

#[test]
fn alarms_refuse_requests_until_they_are_cleared() {
    let txn = |request| Payload::Txn(then(vec![request]));
    let costly = || {
        vec![
            Payload::Put(put("a", "1")),
            txn(Request::RequestPut(put("a", "1"))),
            grant(9, 60),
        ]
    };
    let free = || {
        vec![
            txn(Request::RequestRange(range("a", 0))),
            Payload::Range(range("a", 0)),
            Payload::DeleteRange(delete("a", "")),
            revoke(7),
            Payload::Compaction(CompactionRequest {
                revision: 0,
                physical: false,
            }),
        ]
    };
    let mut world = World::new();
    world.grant(7);
    world.done(alarm(1, 99, 1));
    for request in costly() {
        assert_eq!(world.refused(request), RequestError::NoSpace);
    }
    world.done(alarm(1, 99, 2));
    for request in costly().into_iter().chain(free()) {
        assert_eq!(world.refused(request), RequestError::Corrupt);
    }
    world.done(alarm(2, 99, 2));
    for request in free() {
        world.done(request);
    }
    assert_eq!(
        world.refused(Payload::Put(put("a", "1"))),
        RequestError::NoSpace
    );
    world.done(alarm(2, 99, 1));
    for request in costly() {
        world.done(request);
    }
}
