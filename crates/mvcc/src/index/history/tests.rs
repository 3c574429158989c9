use proptest::prelude::*;

use super::*;

/// What is done to a history.
#[derive(Clone, Debug)]
enum Step {
    /// A change so many revisions later; of numbers that fit the short form or not.
    Push {
        later: i64,
        fits: bool,
    },
    /// The pair is written again so many revisions later.
    Again {
        later: i64,
        stored_bytes: u32,
    },
    Delete {
        later: i64,
    },
    /// A put of a later sub revision, which begins an incarnation behind a delete and goes on otherwise.
    Put {
        sub: i64,
        lease: i64,
    },
    /// Forgets what is before the change of this number, and it too if asked.
    Forget {
        number: usize,
        itself: bool,
    },
    Snapshot,
    /// Goes on from an earlier snapshot.
    Return {
        number: prop::sample::Index,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (1..4i64, prop::bool::weighted(0.8)).prop_map(|(later, fits)| Step::Push { later, fits }),
        12 => (prop_oneof![9 => 1..4i64, 1 => Just(1 << 32)], prop_oneof![9 => 1..9u32, 1 => 65_534..65_537u32])
            .prop_map(|(later, stored_bytes)| Step::Again { later, stored_bytes }),
        4 => (1..4i64).prop_map(|later| Step::Delete { later }),
        6 => (1..4i64, prop_oneof![9 => Just(0), 1 => Just(7i64)]).prop_map(|(sub, lease)| Step::Put { sub, lease }),
        1 => (0..60usize, any::<bool>()).prop_map(|(number, itself)| Step::Forget { number, itself }),
        2 => Just(Step::Snapshot),
        1 => any::<prop::sample::Index>().prop_map(|number| Step::Return { number }),
    ];
    let again = Just(Step::Again {
        later: 1,
        stored_bytes: 5,
    });
    let hot = prop::collection::vec(again, 0..150);
    let mixed = || prop::collection::vec(step.clone(), 1..100);
    (mixed(), hot, mixed()).prop_map(|(mut steps, hot, last)| {
        steps.extend(hot);
        steps.extend(last);
        steps
    })
}

fn change(main: i64, fits: bool) -> Change {
    let version = if fits { 1 } else { i64::from(u32::MAX) + 1 };
    Change::new(Revision::start_of(main), 2, version, LeaseId(main % 3), 7)
}

fn check(history: &History, model: &[Change]) {
    history.check();
    assert_eq!(history.changes(), model);
    assert_eq!(Some(&history.newest()), model.last());
    let around = |change: &Change| {
        (-1..2)
            .map(|by| change.mod_revision().main + by)
            .collect::<Vec<_>>()
    };
    for main in model.iter().flat_map(around) {
        let at = Revision::start_of(main);
        let expected = model
            .iter()
            .rev()
            .find(|change| change.mod_revision() <= at);
        assert_eq!(history.floor(at).as_ref(), expected);
        let is_held = expected.is_some_and(|change| change.mod_revision() == at);
        assert_eq!(history.contains(at), is_held);
    }
}

proptest! {
    #[test]
    fn agrees_with_a_plain_list_and_leaves_snapshots_alone(steps in steps()) {
        let first = change(2, true);
        let (mut history, mut model) = (History::new(first), vec![first]);
        let mut snapshots: Vec<(History, Vec<Change>)> = Vec::new();
        for step in steps {
            match step {
                Step::Push { later, fits } => {
                    let pushed = change(history.newest().mod_revision().main + later, fits);
                    history.push(pushed);
                    model.push(pushed);
                }
                Step::Again { later, stored_bytes } => {
                    let newest = history.newest();
                    let at = Revision::start_of(newest.mod_revision().main + later);
                    let (create, version) = (newest.create_revision(), newest.version() + 1);
                    let again = Change::new(at, create, version, newest.lease(), stored_bytes);
                    history.push(again);
                    model.push(again);
                }
                Step::Delete { later } => {
                    let at = Revision::start_of(history.newest().mod_revision().main + later);
                    let delete = Change::new(at, 0, 0, LeaseId(0), 3);
                    history.push(delete);
                    model.push(delete);
                }
                Step::Put { sub, lease } => {
                    let newest = history.newest();
                    let at = Revision {
                        sub,
                        main: newest.mod_revision().main + i64::from(newest.mod_revision().sub >= sub),
                    };
                    let (create, version) = match newest.is_tombstone() {
                        true => (at.main, 1),
                        false => (newest.create_revision(), newest.version() + 1),
                    };
                    let put = Change::new(at, create, version, LeaseId(lease), 9);
                    history.push(put);
                    model.push(put);
                }
                Step::Return { number } => {
                    if !snapshots.is_empty() {
                        (history, model) = number.get(&snapshots).clone();
                    }
                }
                Step::Forget { number, itself } => {
                    let Some(at) = model.get(number).map(Change::mod_revision) else {
                        continue;
                    };
                    let dead = (number + usize::from(itself)).min(model.len());
                    let mut forgotten = Vec::new();
                    let before = history.clone();
                    let left = history.forget(at, itself, |change| forgotten.push(*change));
                    prop_assert_eq!(&forgotten, &model[..dead]);
                    prop_assert_eq!(left, dead < model.len());
                    if !left {
                        history = before;
                        continue;
                    }
                    model.drain(..dead);
                }
                Step::Snapshot => snapshots.push((history.clone(), model.clone())),
            }
        }
        snapshots.push((history, model));
        for (history, model) in &snapshots {
            check(history, model);
        }
    }
}

#[test]
fn every_number_comes_back() {
    let far = i64::from(u32::MAX) + 3;
    let at = |main, sub| Revision { main, sub };
    let wide = i64::from(u16::MAX) + 1;
    for (at, create, version, lease, stored) in [
        (at(2, 0), 2, 1, 0, 1),
        (at(9, 3), 7, 2, -5, u32::MAX),
        (
            at(i64::MAX, wide - 1),
            i64::MAX,
            i64::from(u32::MAX),
            i64::MIN,
            0,
        ),
        (at(9, wide), 2, 1, 0, 1),
        (at(far + 2, 0), 2, 1, 0, 1),
        (at(9, 0), 2, far, 0, 1),
        (at(9, 0), 12, 1, 0, 1),
        (at(9, 0), 0, 1, 0, 0),
        (at(9, 0), 0, 0, 0, 1),
        (at(far, 0), 0, 0, 0, 1),
        (at(far, 0), 5, 0, 0, 1),
    ] {
        let change = Change::new(at, create, version, LeaseId(lease), stored);
        check_one(change);
    }
}

fn check_one(change: Change) {
    let history = History::new(change);
    history.check();
    assert_eq!(history.newest(), change);
    assert_eq!(history.ends_with_tombstone(), change.is_tombstone());
    assert_eq!(history.changes(), [change]);
}
