//! Each checker is shown a history that breaks its rule, and one that does not.

use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::ids::Moment;

use super::check;
use crate::history::{
    Change, Condition, History, Holds, Kept, Keys, Operation, Outcome, Pair, Reply, Request, Txn,
    WatchMessage, Watched, Without, Write,
};

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn pair(key: &'static str, value: &'static str, create: i64, revision: i64, version: i64) -> Pair {
    Pair {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
        create_revision: create,
        mod_revision: revision,
        version,
        lease: 0,
    }
}

fn operation(from: u64, to: u64, request: Request, reply: Reply) -> Operation {
    Operation {
        client: 0,
        invoked: at(from),
        returned: Some(at(to)),
        request,
        outcome: Outcome::Replied(reply),
    }
}

fn put(key: &'static str, value: &'static str) -> Request {
    Request::Put {
        key: Bytes::from_static(key.as_bytes()),
        value: value.into(),
        lease: 0,
    }
}

fn done(revision: i64) -> Reply {
    Reply::Done {
        revision,
        deleted: 0,
        ttl_seconds: 0,
    }
}

fn read(revision: i64, pairs: Vec<Pair>) -> (Request, Reply) {
    let request = Request::Range {
        keys: Keys::all(),
        revision: 0,
        serializable: false,
        limit: 0,
    };
    let count = pairs.len() as i64;
    (
        request,
        Reply::Pairs {
            revision,
            pairs,
            count,
        },
    )
}

/// A put under a condition, of one key each.
fn txn(condition: &'static str, holds: Holds, key: &'static str, value: &'static str) -> Request {
    Request::Txn(Txn {
        conditions: vec![Condition {
            key: condition.into(),
            holds,
        }],
        writes: vec![Write::Put {
            key: key.into(),
            value: value.into(),
            lease: 0,
        }],
    })
}

/// Two puts, a read after each, a watcher of all: nothing is wrong with it.
fn sound() -> History {
    let first = pair("a", "1", 2, 2, 1);
    let second = pair("a", "2", 2, 3, 2);
    let mut history = History::default();
    history
        .published
        .insert(2, (at(1), vec![Change::Put(first.clone())]));
    history
        .published
        .insert(3, (at(5), vec![Change::Put(second.clone())]));
    history
        .operations
        .push(operation(0, 2, put("a", "1"), done(2)));
    let (request, reply) = read(2, vec![first.clone()]);
    history.operations.push(operation(3, 4, request, reply));
    history
        .operations
        .push(operation(4, 6, put("a", "2"), done(3)));
    let (request, reply) = read(3, vec![second.clone()]);
    history.operations.push(operation(7, 8, request, reply));
    history.watchers.push(Watched {
        keys: Some(Keys::all()),
        start_revision: 2,
        without: Without::Nothing,
        messages: vec![
            WatchMessage::Events(vec![(2, Change::Put(first))]),
            WatchMessage::Progress(2),
            WatchMessage::Events(vec![(3, Change::Put(second))]),
        ],
    });
    history
}

/// Breaks the sound history and names the properties that must be found broken.
fn broken(break_it: impl FnOnce(&mut History), properties: &[&str]) {
    let mut history = sound();
    break_it(&mut history);
    let found: Vec<_> = check(&history)
        .into_iter()
        .map(|violation| violation.property)
        .collect();
    for property in properties {
        assert!(
            found.contains(property),
            "{property} was not found, but {found:?}"
        );
    }
}

#[test]
fn a_sound_history_passes() {
    assert_eq!(check(&sound()), []);
}

#[test]
fn a_lost_write_is_found() {
    broken(
        |h| drop(h.published.remove(&3)),
        &["nothing acknowledged lost"],
    );
}

#[test]
fn an_invented_write_is_found() {
    let change = Change::Put(pair("b", "nobody", 4, 4, 1));
    broken(
        |h| drop(h.published.insert(4, (at(9), vec![change]))),
        &["nothing invented"],
    );
}

#[test]
fn a_write_that_happened_twice_is_found() {
    let change = Change::Put(pair("a", "1", 2, 4, 3));
    broken(
        |h| drop(h.published.insert(4, (at(9), vec![change]))),
        &["nothing invented"],
    );
}

#[test]
fn a_gap_in_revisions_is_found() {
    broken(|h| drop(h.published.remove(&2)), &["revisions have no gap"]);
}

#[test]
fn a_stale_read_is_found() {
    let (request, reply) = read(2, vec![pair("a", "1", 2, 2, 1)]);
    broken(
        |h| h.operations.push(operation(9, 10, request, reply)),
        &["linearizable"],
    );
}

#[test]
fn an_answer_from_the_future_is_found() {
    let (request, reply) = read(3, vec![pair("a", "2", 2, 3, 2)]);
    broken(
        |h| h.operations.push(operation(3, 4, request, reply)),
        &["linearizable"],
    );
}

#[test]
fn a_deletion_that_nobody_asked_for_is_found() {
    let change = Change::Delete("a".into());
    broken(
        |h| drop(h.published.insert(4, (at(9), vec![change]))),
        &["lease never early"],
    );
}

#[test]
fn a_watcher_left_behind_is_found() {
    let rested = |newest: i64| {
        let mut history = sound();
        history.rested_at = Some(3);
        history.watchers[0].messages.truncate(newest as usize);
        check(&history)
    };
    assert_eq!(rested(3), []);
    assert_eq!(rested(2)[0].property, "watchers catch up");
}

#[test]
fn an_end_without_a_compaction_is_found() {
    broken(
        |h| h.watchers[0].messages.push(WatchMessage::Compacted(3)),
        &["watches end by compactions only"],
    );
}

#[test]
fn a_lease_that_is_denied_while_it_lives_is_found() {
    let grant = Request::Grant {
        lease: 7,
        ttl_seconds: 10,
    };
    let granted = Reply::Done {
        revision: 3,
        deleted: 0,
        ttl_seconds: 10,
    };
    for (asked, gone) in [(18, true), (20, false)] {
        let mut history = sound();
        history
            .operations
            .push(operation(9, 10, grant.clone(), granted.clone()));
        let denied = Reply::KeptAlive { ttl_seconds: 0 };
        history.operations.push(operation(
            asked,
            asked,
            Request::KeepAlive { lease: 7 },
            denied,
        ));
        let found = check(&history)
            .iter()
            .any(|found| found.property == "lease never denied");
        assert_eq!(found, gone);
    }
}

#[test]
fn a_read_of_something_else_is_found() {
    let (request, reply) = read(3, vec![pair("a", "1", 2, 2, 1)]);
    broken(
        |h| h.operations.push(operation(9, 10, request, reply)),
        &["reads are of their revision"],
    );
}

#[test]
fn a_condition_judged_wrongly_is_found() {
    let request = txn("a", Holds::Modified(2), "a", "3");
    let reply = Reply::Txn {
        revision: 4,
        succeeded: true,
        found: Vec::new(),
    };
    broken(
        |h| {
            let change = Change::Put(pair("a", "3", 2, 4, 3));
            h.published.insert(4, (at(9), vec![change]));
            h.operations.push(operation(9, 10, request, reply));
        },
        &["conditions were judged rightly"],
    );
}

#[test]
fn a_watcher_that_misses_repeats_or_swaps_is_found() {
    let property = ["watch ordered, unique, without gap, atomic"];
    broken(|h| drop(h.watchers[0].messages.remove(0)), &property);
    broken(
        |h| {
            let again = h.watchers[0].messages[2].clone();
            h.watchers[0].messages.push(again);
        },
        &property,
    );
    broken(|h| h.watchers[0].messages.swap(0, 2), &property);
}

#[test]
fn a_revision_in_parts_is_found() {
    broken(
        |h| {
            let other = Change::Put(pair("b", "x", 3, 3, 1));
            h.published.get_mut(&3).unwrap().1.push(other.clone());
            h.watchers[0]
                .messages
                .push(WatchMessage::Events(vec![(3, other)]));
        },
        &["watch ordered, unique, without gap, atomic"],
    );
}

#[test]
fn a_bookmark_that_promises_too_much_is_found() {
    broken(
        |h| h.watchers[0].messages.insert(1, WatchMessage::Progress(3)),
        &["watch bookmarks are true"],
    );
}

#[test]
fn a_lease_that_ends_early_is_found() {
    let lease = |from, to| {
        let reply = Reply::Done {
            revision: 3,
            deleted: 0,
            ttl_seconds: 10,
        };
        operation(
            from,
            to,
            Request::Grant {
                lease: 7,
                ttl_seconds: 10,
            },
            reply,
        )
    };
    let run = |deleted_at| {
        let mut history = sound();
        let mut attached = pair("l", "leased", 4, 4, 1);
        attached.lease = 7;
        let request = Request::Put {
            key: "l".into(),
            value: "leased".into(),
            lease: 7,
        };
        history.operations.push(lease(9, 10));
        history.operations.push(operation(10, 11, request, done(4)));
        history
            .published
            .insert(4, (at(11), vec![Change::Put(attached)]));
        history
            .published
            .insert(5, (at(deleted_at), vec![Change::Delete("l".into())]));
        check(&history)
    };
    assert_eq!(run(19), []);
    assert_eq!(run(18)[0].property, "lease never early");
}

#[test]
fn what_a_lease_leaves_behind_is_found() {
    let run = |changes: [Vec<Change>; 2]| {
        let mut history = sound();
        let leased = |key| {
            let mut pair = pair(key, "leased", 4, 4, 1);
            pair.lease = 7;
            Change::Put(pair)
        };
        history
            .published
            .insert(4, (at(11), vec![leased("k"), leased("l")]));
        for (revision, changes) in (5..).zip(changes) {
            if !changes.is_empty() {
                history.published.insert(revision, (at(30), changes));
            }
        }
        let lease = 7;
        let revoke = operation(30, 31, Request::Revoke { lease }, done(5));
        history.operations.push(revoke);
        let found = check(&history);
        let property = |it: &super::Violation| it.property == "lease takes what hangs on it";
        found.iter().any(property)
    };
    let gone = |key: &'static str| Change::Delete(key.into());
    let mut again = pair("l", "leased", 6, 6, 1);
    again.lease = 7;
    assert!(!run([vec![gone("k"), gone("l")], vec![]]));
    assert!(run([vec![gone("k")], vec![]]), "one stays");
    assert!(run([vec![gone("k")], vec![gone("l")]]), "one goes later");
    assert!(run([vec![], vec![]]), "both stay");
    let comes_back = [vec![gone("k"), gone("l")], vec![Change::Put(again)]];
    assert!(run(comes_back), "one is attached after the end");
}

/// Two writes of one key by transactions; the property by which the second is found wrong, if it is.
fn after(
    first: (&'static str, &'static str),
    second: (&'static str, &'static str),
) -> Vec<&'static str> {
    let mut history = sound();
    for (revision, (key, value)) in (4..).zip([first, second]) {
        let request = txn("nothing", Holds::Created(0), key, value);
        let reply = Reply::Txn {
            revision,
            succeeded: true,
            found: Vec::new(),
        };
        let time = 10 * revision as u64;
        let change = Change::Put(pair(key, value, 4, revision, revision - 3));
        history.published.insert(revision, (at(time), vec![change]));
        history
            .operations
            .push(operation(time - 1, time + 1, request, reply));
    }
    check(&history).iter().map(|it| it.property).collect()
}

#[test]
fn what_a_kind_of_use_never_does_is_found() {
    let wrong = |property| vec![property];
    assert_eq!(after(("c0", "1.1|1"), ("c0", "1.2|2")), Vec::<&str>::new());
    assert_eq!(
        after(("c0", "1.1|1"), ("c0", "1.2|1")),
        wrong("counters go up by one")
    );
    assert_eq!(
        after(("a00", "1.1|x"), ("a00", "1.2|x,y")),
        Vec::<&str>::new()
    );
    assert_eq!(
        after(("a00", "1.1|x"), ("a00", "1.2|x,y,z")),
        wrong("lists grow at their end")
    );
    assert_eq!(
        after(("m/lock", "1.1|held"), ("m/fenced", "1.2|4")),
        Vec::<&str>::new()
    );
    assert_eq!(
        after(("m/lock", "1.1|held"), ("m/fenced", "1.2|3")),
        wrong("lock has its revision as a fence")
    );
    assert_eq!(
        after(("e/1.1", "1.2|"), ("speech", "1.3|e/1.1")),
        Vec::<&str>::new()
    );
    assert_eq!(
        after(("e/1.1", "1.2|"), ("speech", "1.3|e/1.9")),
        wrong("election: the first speaks")
    );
}

#[test]
fn an_element_that_a_read_misses_is_found() {
    let mut history = sound();
    let reply = Reply::Txn {
        revision: 4,
        succeeded: true,
        found: Vec::new(),
    };
    let change = Change::Put(pair("s/1", "1.1", 4, 4, 1));
    history.published.insert(4, (at(10), vec![change]));
    let request = txn("s/1", Holds::Created(0), "s/1", "1.1");
    history.operations.push(operation(9, 11, request, reply));
    let (request, reply) = read(3, vec![pair("a", "2", 2, 3, 2)]);
    history.operations.push(operation(12, 13, request, reply));
    let found: Vec<_> = check(&history).iter().map(|it| it.property).collect();
    assert!(found.contains(&"sets lose nothing"), "{found:?}");
}

#[test]
fn a_lock_that_two_hold_is_found() {
    let run = |second_at| {
        let mut history = sound();
        let granted = Reply::Done {
            revision: 3,
            deleted: 0,
            ttl_seconds: 10,
        };
        let grant = Request::Grant {
            lease: 7,
            ttl_seconds: 10,
        };
        history.operations.push(operation(9, 10, grant, granted));
        for (revision, time, value) in [(4, 11, "1.1|held"), (5, second_at, "1.2|held")] {
            let mut request = Txn::default();
            request.writes.push(Write::Put {
                key: "m/lock".into(),
                value: value.into(),
                lease: 7,
            });
            let reply = Reply::Txn {
                revision,
                succeeded: true,
                found: Vec::new(),
            };
            let change = Change::Put(pair("m/lock", value, revision, revision, 1));
            history.published.insert(revision, (at(time), vec![change]));
            history
                .operations
                .push(operation(time, time, Request::Txn(request), reply));
        }
        check(&history)
            .iter()
            .map(|it| it.property)
            .collect::<Vec<_>>()
    };
    assert_eq!(run(19), Vec::<&str>::new());
    assert_eq!(run(18), ["lock has one holder"]);
}

#[test]
fn what_a_compaction_should_have_kept_is_found() {
    let kept = |pairs, compacted| Kept {
        member: 1,
        compacted,
        revision: 2,
        pairs,
    };
    let property = ["compaction keeps what it must"];
    broken(|h| h.kept.push(kept(Vec::new(), 0)), &property);
    broken(
        |h| h.kept.push(kept(vec![pair("a", "1", 2, 2, 1)], 2)),
        &property,
    );
}

#[test]
fn an_event_that_tells_a_wrong_past_is_found() {
    let before = |there| WatchMessage::Before(vec![(3, "a".into(), there)]);
    let mut history = sound();
    history.watchers[0]
        .messages
        .push(before(Some(pair("a", "1", 2, 2, 1))));
    assert_eq!(check(&history), []);
    broken(
        |h| h.watchers[0].messages.push(before(None)),
        &["watch tells what was before"],
    );
}

#[test]
fn a_filter_that_lets_something_through_is_found() {
    broken(
        |h| h.watchers[0].without = Without::Puts,
        &["watch ordered, unique, without gap, atomic"],
    );
}

#[test]
fn a_clock_that_was_put_ahead_takes_from_a_promise() {
    let mut history = sound();
    let granted = Reply::Done {
        revision: 3,
        deleted: 0,
        ttl_seconds: 10,
    };
    let grant = Request::Grant {
        lease: 7,
        ttl_seconds: 10,
    };
    history.operations.push(operation(9, 10, grant, granted));
    let denied = operation(
        11,
        12,
        Request::KeepAlive { lease: 7 },
        Reply::KeptAlive { ttl_seconds: 0 },
    );
    history.operations.push(denied);
    assert_eq!(check(&history)[0].property, "lease never denied");
    history.clock_jumps.push((at(10), Duration::from_secs(8)));
    assert_eq!(check(&history), []);
}
