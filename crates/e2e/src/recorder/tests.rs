//! Wrong histories: each breaks one property, and the judge names it.

use std::collections::BTreeMap;

use super::{Change, Event, Evidence, Note, violations};

fn change(key: &str, value: &str) -> Change {
    (key.to_owned(), (value != "-").then(|| value.to_owned()))
}

fn write(changes: &[Change], revision: i64) -> Note {
    // 0 stands for a write without an answer.
    Note::Write {
        changes: changes.to_vec(),
        revision: (revision > 0).then_some(revision),
    }
}

fn read(revision: i64, state: &[(&str, &str)]) -> Note {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Note::Read {
        revision,
        state: state.iter().map(pair).collect::<BTreeMap<_, _>>(),
    }
}

fn event(revision: i64, key: &str, value: &str) -> Event {
    Event {
        revision,
        change: change(key, value),
    }
}

/// Two workers, a transaction, a delete, a write that was lost and one that was not.
fn good() -> Evidence {
    Evidence {
        workers: vec![
            vec![
                write(&[change("a", "1")], 2),
                Note::Lease(7),
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
        leases: vec![7],
        troubles: Vec::new(),
    }
}

/// Spoils the good history and expects that exactly this property is among what is found.
fn check(property: &str, spoil: impl FnOnce(&mut Evidence)) {
    let mut evidence = good();
    spoil(&mut evidence);
    let found = violations(&evidence);
    let named = found
        .iter()
        .any(|line| line.starts_with(&format!("{property}: ")));
    assert!(named, "{property} not among {found:?}");
}

#[test]
fn good_history_passes() {
    assert_eq!(violations(&good()), Vec::<String>::new());
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
    check("leases", |evidence| evidence.leases.clear());
}

#[test]
fn broken_watch_is_found() {
    check("trouble", |evidence| {
        evidence.troubles.push("the watch was cancelled".to_owned());
    });
}
