//! Wrong histories: each breaks one property, and the judge names it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Change, Condition, Ending, Event, Evidence, LATE, Note, Renewal, violations};

const TTL: Duration = Duration::from_secs(10);

/// `-` as value is a delete.
fn change(key: &str, value: &str) -> Change {
    hung(key, value, 0)
}

fn hung(key: &str, value: &str, lease: i64) -> Change {
    Change {
        key: key.to_owned(),
        value: (value != "-").then(|| value.to_owned()),
        lease,
    }
}

fn write(changes: &[Change], revision: i64) -> Note {
    // 0 stands for a write without an answer.
    Note::Write {
        condition: None,
        changes: changes.to_vec(),
        floor: 0,
        revision: (revision > 0).then_some(revision),
    }
}

fn read(revision: i64, state: &[(&str, &str)]) -> Note {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), ((*value).to_owned(), 0));
    Note::Read {
        revision,
        floor: Some(0),
        state: state.iter().map(pair).collect::<BTreeMap<_, _>>(),
    }
}

/// Sent when somebody had been told of that revision.
fn later(mut note: Note, known: i64) -> Note {
    match &mut note {
        Note::Write { floor, .. } | Note::Refused { floor, .. } => *floor = known,
        Note::Read { floor, .. } => *floor = Some(known),
        _ => {}
    }
    note
}

fn serializable(mut note: Note) -> Note {
    if let Note::Read { floor, .. } = &mut note {
        *floor = None;
    }
    note
}

fn condition(key: &str, changed_at: i64) -> Condition {
    Condition {
        key: key.to_owned(),
        changed_at,
    }
}

fn swap(key: &str, changed_at: i64, value: &str, revision: i64) -> Note {
    let mut note = write(&[change(key, value)], revision);
    if let Note::Write {
        condition: asked, ..
    } = &mut note
    {
        *asked = Some(condition(key, changed_at));
    }
    note
}

fn refused(key: &str, changed_at: i64, revision: i64) -> Note {
    Note::Refused {
        condition: condition(key, changed_at),
        floor: 0,
        revision,
    }
}

fn grant(lease: i64, sent: u64) -> Note {
    Note::Grant {
        lease,
        sent: Duration::from_secs(sent),
        ttl: Some(TTL),
    }
}

/// Sent at that second and answered at once.
fn renew(lease: i64, sent: u64, answer: Renewal) -> Note {
    let sent = Duration::from_secs(sent);
    Note::Renew {
        lease,
        sent,
        got: sent,
        answer,
    }
}

fn revoke(lease: i64, revision: i64) -> Note {
    Note::Revoke {
        lease,
        revision: (revision > 0).then_some(revision),
    }
}

/// It arrives at the second that is its revision.
fn event(revision: i64, key: &str, value: &str) -> Event {
    event_of(revision, change(key, value))
}

fn event_of(revision: i64, change: Change) -> Event {
    Event {
        revision,
        at: Duration::from_secs(revision as u64),
        change,
    }
}

/// Two workers, a transaction, a delete, a write that was lost and one that was not.
fn good() -> Evidence {
    Evidence {
        workers: vec![
            vec![
                write(&[change("a", "1")], 2),
                grant(7, 0),
                write(&[change("a", "-"), change("b", "2")], 4),
                read(4, &[("b", "2"), ("c", "3")]),
                write(&[change("lost", "4")], 0),
            ],
            vec![
                write(&[change("c", "3")], 0),
                read(3, &[("a", "1"), ("c", "3")]),
            ],
        ],
        events: vec![
            event(2, "a", "1"),
            event(3, "c", "3"),
            event(4, "a", "-"),
            event(4, "b", "2"),
        ],
        others: Vec::new(),
        ending: ending(5, &[(7, &[])]),
        troubles: Vec::new(),
    }
}

/// Three leases. 20 is kept alive at 4 and ends at 14 or later; 30 is revoked; 40 lives on, and
/// one of its two keys has left it.
fn good_leases() -> Evidence {
    Evidence {
        workers: vec![vec![
            grant(20, 1),
            grant(30, 1),
            grant(40, 1),
            write(&[hung("x", "1", 20), hung("y", "1", 20)], 2),
            write(&[hung("z", "2", 30)], 3),
            renew(20, 4, Renewal::Alive(TTL)),
            write(&[hung("k", "3", 40)], 4),
            write(&[hung("m", "4", 40)], 5),
            write(&[change("m", "5")], 6),
            revoke(30, 7),
            renew(30, 8, Renewal::Gone),
            renew(40, 9, Renewal::Alive(TTL)),
            renew(20, 15, Renewal::Gone),
        ]],
        events: vec![
            event_of(2, hung("x", "1", 20)),
            event_of(2, hung("y", "1", 20)),
            event_of(3, hung("z", "2", 30)),
            event_of(4, hung("k", "3", 40)),
            event_of(5, hung("m", "4", 40)),
            event(6, "m", "5"),
            event(7, "z", "-"),
            late_event(8, 14, "x"),
            late_event(8, 14, "y"),
        ],
        others: Vec::new(),
        ending: ending(16, &[(40, &["k"])]),
        troubles: Vec::new(),
    }
}

/// Two members and two watchers, who are told at different times; swaps; a serializable read of the past.
fn good_cluster() -> Evidence {
    let events = vec![
        event(2, "a", "1"),
        event(3, "c", "3"),
        event(4, "a", "4"),
        event(5, "a", "-"),
        event(6, "a", "6"),
    ];
    let early = |event: &Event| Event {
        at: event.at / 2,
        ..event.clone()
    };
    Evidence {
        workers: vec![
            vec![
                swap("a", 0, "1", 2),
                later(swap("a", 2, "4", 4), 3),
                later(refused("a", 2, 4), 4),
                later(write(&[change("a", "-")], 5), 4),
                later(refused("a", 4, 5), 5),
                later(swap("a", 0, "6", 6), 5),
            ],
            vec![
                write(&[change("c", "3")], 3),
                later(read(4, &[("a", "4"), ("c", "3")]), 3),
                serializable(read(2, &[("a", "1")])),
                later(read(6, &[("a", "6"), ("c", "3")]), 5),
            ],
        ],
        others: vec![events.iter().map(early).collect()],
        events,
        ending: ending(7, &[]),
        troubles: Vec::new(),
    }
}

fn late_event(revision: i64, at: u64, deleted: &str) -> Event {
    Event {
        at: Duration::from_secs(at),
        ..event(revision, deleted, "-")
    }
}

fn ending(at: u64, leases: &[(i64, &[&str])]) -> Ending {
    let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect();
    Ending {
        leases: leases
            .iter()
            .map(|(lease, list)| (*lease, keys(list)))
            .collect(),
        at: Duration::from_secs(at),
        last_start: Duration::ZERO,
    }
}

/// Spoils the good history and expects that exactly this property is among what is found.
fn check(property: &str, spoil: impl FnOnce(&mut Evidence)) {
    check_in(good(), property, spoil);
}

/// The same with the history of leases.
fn check_leases(property: &str, spoil: impl FnOnce(&mut Evidence)) {
    check_in(good_leases(), property, spoil);
}

/// The same with the history of two members.
fn check_cluster(property: &str, spoil: impl FnOnce(&mut Evidence)) {
    check_in(good_cluster(), property, spoil);
}

fn check_in(mut evidence: Evidence, property: &str, spoil: impl FnOnce(&mut Evidence)) {
    spoil(&mut evidence);
    let found = violations(&evidence);
    let named = found
        .iter()
        .any(|line| line.starts_with(&format!("{property}: ")));
    assert!(named, "{property} not among {found:?}");
}

#[test]
fn good_histories_pass() {
    assert_eq!(violations(&good()), Vec::<String>::new());
    assert_eq!(violations(&good_leases()), Vec::<String>::new());
    assert_eq!(violations(&good_cluster()), Vec::<String>::new());
}

#[test]
fn stale_linearizable_read_is_found() {
    // The same read may be serializable.
    check_cluster("fresh", |evidence| {
        evidence.workers[1][1] = later(read(3, &[("a", "1"), ("c", "3")]), 4);
    });
    let mut evidence = good_cluster();
    evidence.workers[1][1] = serializable(read(3, &[("a", "1"), ("c", "3")]));
    assert_eq!(violations(&evidence), Vec::<String>::new());
}

#[test]
fn write_before_what_was_known_is_found() {
    check_cluster("fresh", |evidence| {
        evidence.workers[1][0] = later(write(&[change("c", "3")], 3), 3);
    });
}

#[test]
fn swap_refused_in_the_past_is_found() {
    check_cluster("fresh", |evidence| {
        evidence.workers[0][2] = later(refused("a", 2, 4), 5);
    });
}

#[test]
fn serializable_read_of_a_state_that_never_was_is_found() {
    check_cluster("state", |evidence| {
        evidence.workers[1][2] = serializable(read(2, &[("a", "4")]));
    });
}

#[test]
fn read_of_the_future_is_found() {
    check_cluster("state", |evidence| {
        evidence.workers[1][2] = serializable(read(7, &[("a", "6"), ("c", "3")]));
    });
}

#[test]
fn swap_that_should_have_been_refused_is_found() {
    // Somebody else changed the key meanwhile; and the key is not there.
    check_cluster("condition", |evidence| {
        evidence.workers[0][5] = swap("a", 4, "6", 6);
    });
    check_cluster("condition", |evidence| {
        evidence.workers[0][1] = swap("a", 0, "4", 4);
    });
}

#[test]
fn swap_that_should_have_been_done_is_found() {
    check_cluster("condition", |evidence| {
        evidence.workers[0][2] = refused("a", 4, 4);
    });
    check_cluster("condition", |evidence| {
        evidence.workers[0][4] = refused("a", 0, 5);
    });
}

#[test]
fn watchers_that_see_different_things_are_found() {
    check_cluster("alike", |evidence| {
        evidence.others[0].pop();
    });
    check_cluster("alike", |evidence| {
        evidence.others[0][1] = event(3, "c", "invented");
    });
    check_cluster("alike", |evidence| {
        let again = evidence.others[0][2].clone();
        evidence.others[0].insert(2, again);
    });
}

#[test]
fn early_end_that_another_watcher_saw_in_time_is_found() {
    check_leases("early", |evidence| {
        evidence.others.push(evidence.events.clone());
        for event in &mut evidence.others[0][7..] {
            event.at = Duration::from_secs(13);
        }
    });
}

#[test]
fn acknowledged_write_that_is_gone_is_found() {
    check("kept", |evidence| {
        evidence.workers[1].push(write(&[change("d", "9")], 5));
    });
}

#[test]
fn acknowledged_write_at_another_revision_is_found() {
    check("kept", |evidence| {
        evidence.workers[0][0] = write(&[change("a", "1")], 3);
    });
}

#[test]
fn half_of_a_transaction_is_found() {
    check("kept", |evidence| {
        evidence.events.pop();
    });
}

#[test]
fn half_of_an_unanswered_transaction_is_found() {
    check("sent", |evidence| {
        let both = [change("c", "3"), change("d", "3")];
        evidence.workers[1][0] = write(&both, 0);
    });
}

#[test]
fn value_that_nobody_sent_is_found() {
    check("sent", |evidence| {
        evidence.events.push(event(5, "a", "invented"));
    });
}

#[test]
fn write_that_happened_twice_is_found() {
    check("sent", |evidence| evidence.events.push(event(5, "c", "3")));
}

#[test]
fn revision_that_goes_back_is_found() {
    check("forward", |evidence| {
        evidence.workers[0].push(read(3, &[("a", "1"), ("c", "3")]));
    });
}

#[test]
fn two_writes_of_one_revision_are_found() {
    check("forward", |evidence| {
        evidence.workers[0].insert(1, write(&[change("a", "1")], 2));
    });
}

#[test]
fn gap_in_the_watch_is_found() {
    check("once", |evidence| {
        evidence.events.remove(1);
    });
}

#[test]
fn gap_at_the_beginning_of_the_watch_is_found() {
    check("once", |evidence| {
        evidence.events.remove(0);
    });
}

#[test]
fn event_that_comes_twice_is_found() {
    check("once", |evidence| {
        evidence.events.insert(1, event(2, "a", "1"));
    });
}

#[test]
fn revisions_out_of_order_are_found() {
    check("once", |evidence| evidence.events.swap(0, 1));
}

#[test]
fn read_of_an_old_value_is_found() {
    check("state", |evidence| {
        evidence.workers[1][1] = read(3, &[("a", "1")]);
    });
}

#[test]
fn lost_lease_is_found() {
    check("leases", |evidence| evidence.ending.leases.clear());
}

#[test]
fn broken_watch_is_found() {
    check("trouble", |evidence| {
        evidence.troubles.push("the watch was cancelled".to_owned());
    });
}

#[test]
fn lease_that_nobody_asked_for_is_found() {
    check_leases("leases", |evidence| {
        evidence.ending.leases.insert(99, BTreeSet::new());
    });
}

#[test]
fn write_without_its_lease_is_found() {
    check_leases("kept", |evidence| evidence.events[3].change.lease = 0);
}

#[test]
fn read_of_a_key_without_its_lease_is_found() {
    check_leases("state", |evidence| {
        let state = [("k", "3"), ("m", "5")];
        evidence.workers.push(vec![read(8, &state)]);
    });
}

#[test]
fn lease_that_lost_a_key_is_found() {
    check_leases("attached", |evidence| {
        evidence.ending.leases.insert(40, BTreeSet::new());
    });
}

#[test]
fn lease_that_took_back_a_key_is_found() {
    check_leases("attached", |evidence| {
        evidence.ending = ending(16, &[(40, &["k", "m"])]);
    });
}

#[test]
fn key_that_outlives_its_expired_lease_is_found() {
    check_leases("attached", |evidence| {
        evidence.events.truncate(7);
    });
}

#[test]
fn half_an_end_of_a_lease_is_found() {
    check_leases("sent", |evidence| {
        evidence.events.pop();
    });
}

#[test]
fn end_of_a_lease_with_a_key_that_had_left_it_is_found() {
    check_leases("sent", |evidence| {
        evidence.events.push(late_event(8, 14, "m"));
    });
}

#[test]
fn end_before_the_time_of_the_last_keep_alive_is_found() {
    check_leases("early", |evidence| {
        for event in &mut evidence.events[7..] {
            event.at = Duration::from_secs(13);
        }
    });
}

#[test]
fn keep_alive_after_the_end_is_found() {
    check_leases("early", |evidence| {
        evidence.workers[0].push(renew(20, 15, Renewal::Alive(TTL)));
    });
}

#[test]
fn keep_alive_refused_while_the_lease_should_live_is_found() {
    check_leases("early", |evidence| {
        evidence.workers[0].push(renew(40, 18, Renewal::Gone));
    });
}

#[test]
fn end_after_an_unanswered_keep_alive_is_no_violation() {
    let mut evidence = good_leases();
    evidence.workers[0].insert(6, renew(20, 13, Renewal::Unknown));
    assert_eq!(violations(&evidence), Vec::<String>::new());
}

#[test]
fn unanswered_revoke_may_have_happened() {
    let mut evidence = good_leases();
    evidence.workers[0].push(revoke(40, 0));
    assert_eq!(violations(&evidence), Vec::<String>::new());
    evidence.events.push(event(9, "k", "-"));
    evidence.ending = ending(16, &[]);
    assert_eq!(violations(&evidence), Vec::<String>::new());
}

#[test]
fn key_that_outlives_a_revoke_is_found() {
    check_leases("revoked", |evidence| {
        evidence.events.remove(6);
        // Another change takes the revision, so that nothing else is wrong with the history.
        evidence.events.insert(6, event(7, "c", "6"));
        evidence.workers.push(vec![write(&[change("c", "6")], 7)]);
    });
}

#[test]
fn key_that_hangs_on_a_revoked_lease_is_found() {
    check_leases("revoked", |evidence| {
        evidence.workers[0].push(write(&[hung("z", "9", 30)], 9));
        evidence.events.push(event_of(9, hung("z", "9", 30)));
    });
}

#[test]
fn revoked_lease_that_is_back_is_found() {
    check_leases("revoked", |evidence| {
        evidence.ending.leases.insert(30, BTreeSet::new());
    });
}

#[test]
fn keep_alive_of_a_revoked_lease_is_found() {
    check_leases("revoked", |evidence| {
        evidence.workers[0].push(renew(30, 9, Renewal::Alive(TTL)));
    });
}

#[test]
fn lease_that_never_ends_is_found() {
    check_leases("late", |evidence| {
        evidence.ending.at = Duration::from_secs(9 + 1) + TTL + LATE;
    });
}

#[test]
fn lease_may_begin_again_at_a_start() {
    let mut evidence = good_leases();
    evidence.ending.at = Duration::from_secs(9 + 1) + TTL + LATE;
    evidence.ending.last_start = Duration::from_secs(11);
    assert_eq!(violations(&evidence), Vec::<String>::new());
}
