//! Puts, deletes, transactions, compactions.

use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::{CompactionRequest, Compare};

use super::*;
use crate::apply::Operation;

#[track_caller]
fn put_reply(response: Response) -> (i64, Option<Vec<u8>>) {
    let Response::Put(put) = response else {
        panic!("{response:?}")
    };
    (put.revision, put.previous.map(|pair| pair.value().to_vec()))
}

#[track_caller]
fn txn_reply(response: Response) -> crate::apply::Txn {
    let Response::Txn(txn) = response else {
        panic!("{response:?}")
    };
    txn
}

#[test]
fn a_put_returns_the_pair_before_only_when_asked() {
    let mut world = World::new();
    let asking = |value| {
        Payload::Put(PutRequest {
            prev_kv: true,
            ..put("a", value)
        })
    };
    assert_eq!(put_reply(world.done(asking("1"))), (2, None));
    assert_eq!(put_reply(world.done(asking("2"))), (3, Some(b"1".to_vec())));
    assert_eq!(
        put_reply(world.done(Payload::Put(put("a", "3")))),
        (4, None)
    );
}

#[test]
fn a_put_keeps_value_or_lease_of_the_pair() {
    let mut world = World::new();
    world.grant(7);
    let keep_value = PutRequest {
        ignore_value: true,
        ..put_with("a", 7)
    };
    let keep_value = PutRequest {
        value: Bytes::new(),
        ..keep_value
    };
    let keep_lease = PutRequest {
        ignore_lease: true,
        ..put("a", "2")
    };
    for missing in [&keep_value, &keep_lease] {
        assert_eq!(
            world.refused(Payload::Put(missing.clone())),
            RequestError::KeyNotFound
        );
    }
    world.done(Payload::Put(put("a", "1")));
    world.done(Payload::Put(keep_value));
    assert_eq!(world.value("a"), Some(b"1".to_vec()));
    assert_eq!(
        world
            .apply
            .grants()
            .lease(kvorum_proto::ids::LeaseId(7))
            .unwrap()
            .keys()
            .count(),
        1
    );
    world.done(Payload::Put(keep_lease));
    assert_eq!(world.value("a"), Some(b"2".to_vec()));
    assert_eq!(
        world
            .apply
            .grants()
            .lease(kvorum_proto::ids::LeaseId(7))
            .unwrap()
            .keys()
            .count(),
        1
    );
    world.done(Payload::Put(put("a", "3")));
    assert_eq!(
        world
            .apply
            .grants()
            .lease(kvorum_proto::ids::LeaseId(7))
            .unwrap()
            .keys()
            .count(),
        0
    );
}

#[test]
fn a_put_with_an_unknown_lease_writes_nothing() {
    let mut world = World::new();
    assert_eq!(
        world.refused(Payload::Put(put_with("a", 9))),
        RequestError::LeaseNotFound
    );
    let txn = then(vec![
        Request::RequestPut(put("b", "1")),
        Request::RequestPut(put_with("a", 9)),
    ]);
    assert_eq!(
        world.refused(Payload::Txn(txn)),
        RequestError::LeaseNotFound
    );
    assert_eq!(world.value("b"), None);
}

#[test]
fn deleting_nothing_is_no_change() {
    let mut world = World::new();
    world.done(Payload::Put(put("a", "1")));
    let reply = |response| {
        let Response::DeleteRange(delete) = response else {
            panic!("{response:?}")
        };
        (delete.revision, delete.deleted, delete.previous.len())
    };
    assert_eq!(
        reply(world.done(Payload::DeleteRange(delete("x", "z")))),
        (2, 0, 0)
    );
    let asking = DeleteRangeRequest {
        prev_kv: true,
        ..delete("a", "\0")
    };
    assert_eq!(reply(world.done(Payload::DeleteRange(asking))), (3, 1, 1));
}

/// Compares `k` (value "b", created at 2, modified at 3, version 2, lease 7) and a missing key.
#[test]
fn comparisons_hold_as_on_official_members() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let mut world = World::new();
    world.grant(7);
    world.done(Payload::Put(put_with("k", 7)));
    world.done(Payload::Put(PutRequest {
        value: bytes("b"),
        ..put_with("k", 7)
    }));
    let mut check = |key: &str, end: &str, target: i32, result: i32, given, expected: bool| {
        let compare = Compare {
            key: bytes(key),
            range_end: bytes(end),
            target,
            result,
            target_union: given,
        };
        let txn = TxnRequest {
            compare: vec![compare],
            ..TxnRequest::default()
        };
        let succeeded = txn_reply(world.done(Payload::Txn(txn.clone()))).succeeded;
        assert_eq!(succeeded, expected, "{txn:?}");
    };
    type Union = fn(i64) -> TargetUnion;
    let numbers: [(CompareTarget, Union, i64); 4] = [
        (Version, TargetUnion::Version, 2),
        (Create, TargetUnion::CreateRevision, 2),
        (Mod, TargetUnion::ModRevision, 3),
        (Lease, TargetUnion::Lease, 7),
    ];
    for (target, union, stored) in numbers {
        let results = [(Equal, 0), (Greater, -1), (Less, 1), (NotEqual, 1)];
        for (result, off) in results {
            check(
                "k",
                "",
                target as i32,
                result as i32,
                Some(union(stored + off)),
                true,
            );
            let wrong = if result == Equal { 1 } else { 0 };
            check(
                "k",
                "",
                target as i32,
                result as i32,
                Some(union(stored + wrong)),
                false,
            );
        }
        // A missing key is zero, and so is a given value of another kind.
        check("x", "", target as i32, Equal as i32, Some(union(0)), true);
        check("x", "", target as i32, Equal as i32, None, true);
        check(
            "k",
            "",
            target as i32,
            Greater as i32,
            Some(TargetUnion::Value(bytes("9"))),
            true,
        );
    }
    let value = |text| Some(TargetUnion::Value(bytes(text)));
    check("k", "", Value as i32, Equal as i32, value("b"), true);
    check("k", "", Value as i32, Greater as i32, value("azz"), true);
    check("k", "", Value as i32, Less as i32, value("c"), true);
    check("k", "", Value as i32, NotEqual as i32, value("b"), false);
    // The value of a missing key compares with nothing.
    check("x", "", Value as i32, NotEqual as i32, value("b"), false);
    check("x", "z", Value as i32, NotEqual as i32, value("b"), false);
    // Unknown numbers: a relation holds, a target is equal.
    check("k", "", Value as i32, 9, value("x"), true);
    check("k", "", 9, Equal as i32, value("x"), true);
    check("k", "", 9, NotEqual as i32, value("x"), false);
    // An interval holds when every pair does, an empty one compares the zero pair.
    check(
        "a",
        "\0",
        Version as i32,
        Greater as i32,
        Some(TargetUnion::Version(1)),
        true,
    );
    check(
        "l",
        "\0",
        Version as i32,
        Equal as i32,
        Some(TargetUnion::Version(0)),
        true,
    );
}

fn version_is(key: &str, version: i64) -> Compare {
    Compare {
        key: bytes(key),
        target_union: Some(TargetUnion::Version(version)),
        ..Compare::default()
    }
}

#[test]
fn an_interval_holds_only_when_every_pair_does() {
    let mut world = World::new();
    for key in ["a", "b", "b"] {
        world.done(Payload::Put(put(key, "1")));
    }
    let compare = Compare {
        range_end: bytes("z"),
        ..version_is("a", 1)
    };
    let txn = TxnRequest {
        compare: vec![compare],
        ..TxnRequest::default()
    };
    assert!(!txn_reply(world.done(Payload::Txn(txn))).succeeded);
}

#[test]
fn a_transaction_writes_one_revision_and_reads_its_own_writes() {
    let mut world = World::new();
    world.done(Payload::Put(put("old", "1")));
    let txn = then(vec![
        Request::RequestRange(range("a", 0)),
        Request::RequestPut(put("a", "1")),
        Request::RequestRange(range("a", 0)),
        Request::RequestRange(range("a", 2)),
        Request::RequestDeleteRange(delete("old", "")),
        Request::RequestPut(put("b", "1")),
    ]);
    let reply = txn_reply(world.done(Payload::Txn(txn)));
    let seen: Vec<_> = reply
        .responses
        .iter()
        .map(|response| match response {
            Operation::Range(Some(range)) => (range.revision, range.reply.count),
            Operation::Put(put) => (put.revision, -1),
            Operation::DeleteRange(delete) => (delete.revision, delete.deleted),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seen, [(2, 0), (3, -1), (3, 1), (3, 0), (3, 1), (3, -1)]);
    assert_eq!((reply.revision, world.revision()), (3, 3));
    let batches: Vec<_> = world
        .news()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Events(batch) => Some((batch.revision, batch.events.len())),
            _ => None,
        })
        .collect();
    assert_eq!(batches, [(2, 1), (3, 3)]);
}

#[test]
fn nested_comparisons_see_the_state_before_the_transaction() {
    let mut world = World::new();
    let nested = TxnRequest {
        compare: vec![version_is("a", 0)],
        success: vec![op(Request::RequestPut(put("b", "as before")))],
        failure: vec![op(Request::RequestPut(put("b", "too late")))],
    };
    let after = TxnRequest {
        compare: vec![version_is("a", 1)],
        success: vec![op(Request::RequestPut(put("c", "too late")))],
        failure: vec![op(Request::RequestPut(put("c", "as before")))],
    };
    let txn = then(vec![
        Request::RequestPut(put("a", "1")),
        Request::RequestTxn(nested),
        Request::RequestTxn(after),
    ]);
    let reply = txn_reply(world.done(Payload::Txn(txn)));
    assert_eq!(world.value("b"), Some(b"as before".to_vec()));
    assert_eq!(world.value("c"), Some(b"as before".to_vec()));
    let Operation::Txn(nested) = &reply.responses[1] else {
        panic!("{reply:?}")
    };
    assert_eq!(
        (nested.revision, nested.succeeded, nested.responses.len()),
        (0, true, 1)
    );
}

#[test]
fn a_transaction_has_nothing_of_the_one_before() {
    let mut world = World::new();
    let first = TxnRequest {
        compare: vec![version_is("a", 7)],
        success: vec![op(Request::RequestPut(put("a", "1")))],
        failure: vec![op(Request::RequestPut(put("b", "1")))],
    };
    assert!(!txn_reply(world.done(Payload::Txn(first))).succeeded);
    let second = then(vec![Request::RequestPut(put("c", "1"))]);
    let reply = txn_reply(world.done(Payload::Txn(second)));
    assert_eq!((reply.succeeded, reply.responses.len()), (true, 1));
    let third = txn_reply(world.done(Payload::Txn(TxnRequest::default())));
    assert_eq!((third.succeeded, third.responses.len()), (true, 0));
    let found = ["a", "b", "c"].map(|key| world.value(key).is_some());
    assert_eq!((found, world.revision()), ([false, true, true], 3));
}

#[test]
fn a_transaction_that_changes_nothing_keeps_the_revision() {
    let mut world = World::new();
    world.done(Payload::Put(put("a", "1")));
    let txn = then(vec![Request::RequestDeleteRange(delete("x", ""))]);
    assert_eq!(txn_reply(world.done(Payload::Txn(txn))).revision, 2);
    assert_eq!(world.revision(), 2);
}

#[test]
fn a_bad_read_fails_the_whole_transaction() {
    let mut world = World::new();
    for _ in 0..4 {
        world.done(Payload::Put(put("a", "1")));
    }
    let check = |world: &mut World, revision, expected: Option<RequestError>| {
        let txn = then(vec![
            Request::RequestPut(put("b", "1")),
            Request::RequestTxn(then(vec![Request::RequestRange(range("a", revision))])),
        ]);
        match expected {
            Some(error) => assert_eq!(world.refused(Payload::Txn(txn)), error),
            None => drop(world.done(Payload::Txn(txn))),
        }
    };
    let future = RequestError::FutureRevision {
        asked: 6,
        current: 5,
    };
    check(&mut world, 6, Some(future));
    check(&mut world, 5, None);
    let compacted = |asked, compacted| Some(RequestError::Compacted { asked, compacted });
    check(&mut world, -1, None);
    check(&mut world, -2, compacted(-2, -1));
    world.done(Payload::Compaction(CompactionRequest {
        revision: 4,
        physical: false,
    }));
    check(&mut world, 3, compacted(3, 4));
    check(&mut world, -1, compacted(-1, 4));
    check(&mut world, 4, None);
    check(&mut world, 0, None);
}

/// An unbounded delete slips through the rule against duplicate keys. Official members crash when
/// a put behind it wants to keep the value that is gone.
#[test]
fn a_put_cannot_keep_what_its_transaction_deleted() {
    let mut world = World::new();
    world.done(Payload::Put(put("b", "1")));
    let keep = PutRequest {
        ignore_value: true,
        ..put("b", "")
    };
    let delete = Request::RequestDeleteRange(delete("a", "\0"));
    let after = then(vec![delete.clone(), Request::RequestPut(keep.clone())]);
    assert_eq!(
        world.refused(Payload::Txn(after)),
        RequestError::KeyNotFound
    );
    assert_eq!(world.value("b"), Some(b"1".to_vec()));
    let nested = then(vec![
        Request::RequestTxn(then(vec![delete.clone()])),
        Request::RequestPut(keep.clone()),
    ]);
    assert_eq!(
        world.refused(Payload::Txn(nested)),
        RequestError::KeyNotFound
    );
    let again = then(vec![
        delete,
        Request::RequestPut(put("b", "2")),
        Request::RequestPut(keep),
    ]);
    world.done(Payload::Txn(again));
    assert_eq!(world.value("b"), Some(b"2".to_vec()));
    // Only keys at or after the start of the delete are gone, and a bounded delete counts too.
    world.done(Payload::Put(put("0", "1")));
    let keep = |key| {
        Request::RequestPut(PutRequest {
            ignore_value: true,
            ..put(key, "")
        })
    };
    let beside = Request::RequestDeleteRange(super::delete("a", "\0"));
    world.done(Payload::Txn(then(vec![beside, keep("0")])));
    let bounded = || Request::RequestDeleteRange(super::delete("0", "1"));
    let gone = then(vec![
        Request::RequestPut(put("0", "2")),
        bounded(),
        keep("0"),
    ]);
    assert_eq!(world.refused(Payload::Txn(gone)), RequestError::KeyNotFound);
}

#[test]
fn ranges_of_a_transaction_run_only_for_who_waits() {
    let mut world = World::new();
    let txn = then(vec![
        Request::RequestPut(put("a", "1")),
        Request::RequestRange(range("a", 0)),
    ]);
    let elsewhere = RequestId(FIRST.0 - 1);
    let data = request(elsewhere, Payload::Txn(txn));
    assert_eq!(world.entry(EntryType::EntryNormal, data), None);
    assert_eq!((world.revision(), world.apply.counts().ranges), (2, 0));
}

#[test]
fn compactions_are_refused_outside_the_history() {
    let mut world = World::new();
    let compact = |revision| {
        Payload::Compaction(CompactionRequest {
            revision,
            physical: false,
        })
    };
    world.done(compact(0));
    world.done(Payload::Put(put("a", "1")));
    let future = RequestError::FutureRevision {
        asked: 3,
        current: 2,
    };
    assert_eq!(world.refused(compact(3)), future);
    assert_eq!(world.done(compact(2)), Response::Compaction { revision: 2 });
    let compacted = RequestError::Compacted {
        asked: 2,
        compacted: 2,
    };
    assert_eq!(world.refused(compact(2)), compacted);
}

#[test]
fn a_physical_compaction_is_answered_after_the_removal() {
    let mut world = World::new();
    for _ in 0..5 {
        world.done(Payload::Put(put("a", "1")));
    }
    let physical = CompactionRequest {
        revision: 4,
        physical: true,
    };
    assert_eq!(world.request(Payload::Compaction(physical)), None);
    let accepted = |effect: &Effect| matches!(effect, Effect::Accepted { .. });
    assert!(
        world.news().iter().any(accepted),
        "its caller is told to wait"
    );
    let mut steps = 0;
    let reply = loop {
        assert!(world.apply.compaction_pending());
        steps += 1;
        if let Some(reply) = world.input(Input::CompactStep { records_max: 1 }) {
            break reply;
        }
    };
    assert_eq!(reply, Ok(Response::Compaction { revision: 6 }));
    assert!(steps > 2 && !world.apply.compaction_pending());
    let news = world.news();
    assert!(matches!(
        news[news.len() - 1],
        Effect::CompactionFinished {
            revision: 4,
            records: 2,
            ..
        }
    ));
}

#[test]
fn a_snapshot_answers_who_waits_for_a_removal() {
    let mut world = World::new();
    for _ in 0..5 {
        world.done(Payload::Put(put("a", "1")));
    }
    let physical = CompactionRequest {
        revision: 4,
        physical: true,
    };
    assert_eq!(world.request(Payload::Compaction(physical)), None);
    let mut ahead = World::new();
    for _ in 0..9 {
        ahead.done(Payload::Put(put("a", "1")));
    }
    let reply = world.input(Input::Install(Box::new(ahead.apply)));
    assert_eq!(reply, Some(Ok(Response::Compaction { revision: 6 })));
    assert!(!world.apply.compaction_pending());
}
