//! Each checker is shown a history that breaks its rule, and one that does not.

use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::ids::Moment;

use super::check;
use crate::history::{
    Change, History, Keys, Operation, Outcome, Pair, Reply, Request, WatchMessage, Watched,
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
    };
    (request, Reply::Pairs { revision, pairs })
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
    let request = Request::PutIf {
        key: "a".into(),
        mod_revision: 2,
        value: "3".into(),
    };
    let reply = Reply::Conditional {
        revision: 4,
        succeeded: true,
        found: None,
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
