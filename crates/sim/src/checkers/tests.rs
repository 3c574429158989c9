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

fn succeeded(revision: i64) -> Reply {
    Reply::Txn {
        revision,
        succeeded: true,
        found: Vec::new(),
    }
}

/// Lease 7 is granted for ten seconds; the answer comes at second 10.
fn granted() -> Operation {
    let (lease, ttl_seconds) = (7, 10);
    let reply = Reply::Done {
        revision: 3,
        deleted: 0,
        ttl_seconds,
    };
    operation(9, 10, Request::Grant { lease, ttl_seconds }, reply)
}

/// Somebody who keeps lease 7 alive is told that it is not there.
fn denied(from: u64, to: u64) -> Operation {
    let reply = Reply::KeptAlive { ttl_seconds: 0 };
    operation(from, to, Request::KeepAlive { lease: 7 }, reply)
}

/// A pair that hangs on lease 7.
fn leased(key: &'static str, revision: i64) -> Pair {
    Pair {
        lease: 7,
        ..pair(key, "leased", revision, revision, 1)
    }
}

/// A read of everything that is there.
fn read(from: u64, to: u64, revision: i64, pairs: Vec<Pair>) -> Operation {
    let request = Request::Range {
        keys: Keys::all(),
        revision: 0,
        serializable: false,
        limit: 0,
    };
    let reply = Reply::Pairs {
        revision,
        count: pairs.len() as i64,
        pairs,
    };
    operation(from, to, request, reply)
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
    publish(&mut history, 2, 1, vec![Change::Put(first.clone())]);
    publish(&mut history, 3, 5, vec![Change::Put(second.clone())]);
    history.operations = vec![
        operation(0, 2, put("a", "1"), done(2)),
        read(3, 4, 2, vec![first.clone()]),
        operation(4, 6, put("a", "2"), done(3)),
        read(7, 8, 3, vec![second.clone()]),
    ];
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

fn publish(history: &mut History, revision: i64, seconds: u64, changes: Vec<Change>) {
    history.published.insert(revision, (at(seconds), changes));
}

/// The properties that are found broken.
fn found(history: &History) -> Vec<&'static str> {
    check(history).iter().map(|it| it.property).collect()
}

/// Breaks the sound history, and expects that this property is found broken.
fn broken(break_it: impl FnOnce(&mut History), property: &str) {
    let mut history = sound();
    break_it(&mut history);
    let found = found(&history);
    assert!(
        found.contains(&property),
        "{property} was not found, but {found:?}"
    );
}

/// Nobody asked for this change.
fn invented(change: Change, property: &str) {
    broken(|h| publish(h, 4, 9, vec![change]), property);
}

#[test]
fn a_sound_history_passes() {
    assert_eq!(check(&sound()), []);
}

#[test]
fn a_lost_write_is_found() {
    broken(
        |h| drop(h.published.remove(&3)),
        "nothing acknowledged lost",
    );
}

#[test]
fn an_invented_write_is_found() {
    let change = Change::Put(pair("b", "nobody", 4, 4, 1));
    invented(change, "nothing invented");
}

#[test]
fn a_write_that_happened_twice_is_found() {
    let change = Change::Put(pair("a", "1", 2, 4, 3));
    invented(change, "nothing invented");
}

#[test]
fn a_deletion_that_nobody_asked_for_is_found() {
    invented(Change::Delete("a".into()), "lease never early");
}

#[test]
fn a_gap_in_revisions_is_found() {
    broken(|h| drop(h.published.remove(&2)), "revisions have no gap");
}

#[test]
fn a_read_of_something_else_is_found() {
    let (older, newer) = (pair("a", "1", 2, 2, 1), pair("a", "2", 2, 3, 2));
    let wrong = |read: Operation, property| broken(|h| h.operations.push(read), property);
    // Of the past, of the future, of no time.
    wrong(read(9, 10, 2, vec![older.clone()]), "linearizable");
    wrong(read(3, 4, 3, vec![newer]), "linearizable");
    wrong(read(9, 10, 3, vec![older]), "reads are of their revision");
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
        "watches end by compactions only",
    );
}

#[test]
fn a_lease_that_is_denied_while_it_lives_is_found() {
    let denied_at = |asked| {
        let mut history = sound();
        history.operations.extend([granted(), denied(asked, asked)]);
        found(&history)
    };
    assert_eq!(denied_at(18), ["lease never denied"]);
    assert_eq!(denied_at(20), Vec::<&str>::new());
}

#[test]
fn a_condition_judged_wrongly_is_found() {
    let request = txn("a", Holds::Modified(2), "a", "3");
    broken(
        |h| {
            publish(h, 4, 9, vec![Change::Put(pair("a", "3", 2, 4, 3))]);
            h.operations.push(operation(9, 10, request, succeeded(4)));
        },
        "conditions were judged rightly",
    );
}

#[test]
fn a_watcher_that_misses_repeats_or_swaps_is_found() {
    let property = "watch ordered, unique, without gap, atomic";
    broken(|h| drop(h.watchers[0].messages.remove(0)), property);
    broken(
        |h| {
            let again = h.watchers[0].messages[2].clone();
            h.watchers[0].messages.push(again);
        },
        property,
    );
    broken(|h| h.watchers[0].messages.swap(0, 2), property);
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
        "watch ordered, unique, without gap, atomic",
    );
}

#[test]
fn a_bookmark_that_promises_too_much_is_found() {
    broken(
        |h| h.watchers[0].messages.insert(1, WatchMessage::Progress(3)),
        "watch bookmarks are true",
    );
}

#[test]
fn a_lease_that_ends_early_is_found() {
    let deleted_at = |seconds| {
        let mut history = sound();
        let request = Request::Put {
            key: "l".into(),
            value: "leased".into(),
            lease: 7,
        };
        let attached = operation(10, 11, request, done(4));
        history.operations.extend([granted(), attached]);
        publish(&mut history, 4, 11, vec![Change::Put(leased("l", 4))]);
        publish(&mut history, 5, seconds, vec![Change::Delete("l".into())]);
        found(&history)
    };
    assert_eq!(deleted_at(19), Vec::<&str>::new());
    assert_eq!(deleted_at(18)[0], "lease never early");
}

#[test]
fn what_a_lease_leaves_behind_is_found() {
    let run = |changes: [Vec<Change>; 2]| {
        let mut history = sound();
        let attached = ["k", "l"].map(|key| Change::Put(leased(key, 4)));
        publish(&mut history, 4, 11, attached.to_vec());
        for (revision, changes) in (5..).zip(changes) {
            if !changes.is_empty() {
                publish(&mut history, revision, 30, changes);
            }
        }
        let revoke = operation(30, 31, Request::Revoke { lease: 7 }, done(5));
        history.operations.push(revoke);
        found(&history).contains(&"lease takes what hangs on it")
    };
    let gone = |key: &'static str| Change::Delete(key.into());
    assert!(!run([vec![gone("k"), gone("l")], vec![]]));
    assert!(run([vec![gone("k")], vec![]]), "one stays");
    assert!(run([vec![gone("k")], vec![gone("l")]]), "one goes later");
    assert!(run([vec![], vec![]]), "both stay");
    let comes_back = [
        vec![gone("k"), gone("l")],
        vec![Change::Put(leased("l", 6))],
    ];
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
        let time = 10 * revision as u64;
        let change = Change::Put(pair(key, value, 4, revision, revision - 3));
        publish(&mut history, revision, time, vec![change]);
        let write = operation(time - 1, time + 1, request, succeeded(revision));
        history.operations.push(write);
    }
    found(&history)
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
    let request = txn("s/1", Holds::Created(0), "s/1", "1.1");
    let added = operation(9, 11, request, succeeded(4));
    let missed = read(12, 13, 3, vec![pair("a", "2", 2, 3, 2)]);
    broken(
        |h| {
            publish(h, 4, 10, vec![Change::Put(pair("s/1", "1.1", 4, 4, 1))]);
            h.operations.extend([added, missed]);
        },
        "sets lose nothing",
    );
}

#[test]
fn a_lock_that_two_hold_is_found() {
    let taken_again_at = |second_at| {
        let mut history = sound();
        history.operations.push(granted());
        for (revision, time, value) in [(4, 11, "1.1|held"), (5, second_at, "1.2|held")] {
            let mut request = Txn::default();
            request.writes.push(Write::Put {
                key: "m/lock".into(),
                value: value.into(),
                lease: 7,
            });
            let change = Change::Put(pair("m/lock", value, revision, revision, 1));
            publish(&mut history, revision, time, vec![change]);
            let write = operation(time, time, Request::Txn(request), succeeded(revision));
            history.operations.push(write);
        }
        found(&history)
    };
    assert_eq!(taken_again_at(19), Vec::<&str>::new());
    assert_eq!(taken_again_at(18), ["lock has one holder"]);
}

#[test]
fn what_a_compaction_should_have_kept_is_found() {
    let kept = |pairs, compacted| Kept {
        member: 1,
        compacted,
        revision: 2,
        pairs,
    };
    let property = "compaction keeps what it must";
    broken(|h| h.kept.push(kept(Vec::new(), 0)), property);
    broken(
        |h| h.kept.push(kept(vec![pair("a", "1", 2, 2, 1)], 2)),
        property,
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
        "watch tells what was before",
    );
}

#[test]
fn a_filter_that_lets_something_through_is_found() {
    broken(
        |h| h.watchers[0].without = Without::Puts,
        "watch ordered, unique, without gap, atomic",
    );
}

#[test]
fn a_clock_that_was_put_ahead_takes_from_a_promise() {
    let mut history = sound();
    history.operations.extend([granted(), denied(11, 12)]);
    assert_eq!(found(&history), ["lease never denied"]);
    history.clock_jumps.push((at(10), Duration::from_secs(8)));
    assert_eq!(found(&history), Vec::<&str>::new());
}
