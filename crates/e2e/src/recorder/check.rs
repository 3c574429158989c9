//! The judge: pure, and so tested with histories that are wrong on purpose.

use std::collections::{BTreeMap, BTreeSet};

use super::lease_check;
use super::{Change, Condition, Event, Evidence, Held, Note};

/// Revision of the empty store: the first change is the one after.
const FIRST_REVISION: i64 = 1;

/// Everything that the evidence shows to be wrong, one line each, beginning with the property.
pub fn violations(evidence: &Evidence) -> Vec<String> {
    let mut found: Vec<String> = evidence
        .troubles
        .iter()
        .map(|text| format!("trouble: {text}"))
        .collect();
    let history = by_revision(&evidence.events);
    found.extend(not_once(&evidence.events));
    found.extend(not_alike(evidence));
    found.extend(not_kept(evidence, &history));
    let unsent = unsent(evidence, &history);
    found.extend(lease_check::violations(evidence, &history, &unsent));
    for (worker, notes) in evidence.workers.iter().enumerate() {
        found.extend(not_forward(notes).map(|text| format!("forward: worker {worker}: {text}")));
    }
    found.extend(evidence.notes().filter_map(not_fresh));
    found.extend(not_state(evidence));
    found.extend(wrong_conditions(evidence));
    found
}

/// The changes of each revision.
pub(super) type History<'a> = BTreeMap<i64, BTreeSet<&'a Change>>;

fn by_revision(events: &[Event]) -> History<'_> {
    let mut revisions = History::new();
    for event in events {
        let changes = revisions.entry(event.revision).or_default();
        changes.insert(&event.change);
    }
    revisions
}

fn not_once(events: &[Event]) -> Vec<String> {
    let mut found = Vec::new();
    let mut last = FIRST_REVISION;
    let mut keys = BTreeSet::new();
    for Event {
        revision, change, ..
    } in events
    {
        if *revision != last {
            keys.clear();
        }
        if *revision != last && *revision != last + 1 {
            found.push(format!("once: revision {revision} after {last}"));
        } else if !keys.insert(&change.key) {
            found.push(format!("once: {} twice at revision {revision}", change.key));
        }
        last = *revision;
    }
    found
}

fn not_alike(evidence: &Evidence) -> Vec<String> {
    let bare = |event: &Event| (event.revision, event.change.clone());
    let mut found = Vec::new();
    for (number, other) in evidence.others.iter().enumerate() {
        let pairs = evidence.events.iter().zip(other);
        let differ = |(one, two): &(&Event, &Event)| bare(one) != bare(two);
        if let Some((one, two)) = pairs.clone().find(differ) {
            found.push(format!(
                "alike: another watcher ({number}) saw {two:?}, the first {one:?}"
            ));
        } else if other.len() != evidence.events.len() {
            let (seen, all) = (other.len(), evidence.events.len());
            found.push(format!(
                "alike: another watcher ({number}) saw {seen} events, the first {all}"
            ));
        }
    }
    found
}

/// An answer that is older than what was known before it was asked for.
fn not_fresh(note: &Note) -> Option<String> {
    let (what, revision, least) = match note {
        // A write makes a revision of its own.
        Note::Write {
            revision: Some(revision),
            floor,
            ..
        } => ("write", *revision, *floor + 1),
        Note::Refused {
            revision, floor, ..
        } => ("refused swap", *revision, *floor),
        Note::Read {
            revision,
            floor: Some(floor),
            ..
        } => ("read", *revision, *floor),
        _ => return None,
    };
    (revision < least)
        .then(|| format!("fresh: a {what} of revision {revision}, not {least} or later"))
}

/// Swaps that should have been refused, or done.
fn wrong_conditions(evidence: &Evidence) -> Vec<String> {
    let mut changed: BTreeMap<&str, BTreeMap<i64, bool>> = BTreeMap::new();
    for Event {
        revision, change, ..
    } in &evidence.events
    {
        let times = changed.entry(&change.key).or_default();
        times.insert(*revision, change.value.is_some());
    }
    let holds = |condition: &Condition, up_to: i64| {
        let times = changed.get(condition.key.as_str());
        let last = times.and_then(|times| times.range(..=up_to).next_back());
        let found = last.map_or(0, |(revision, is_there)| revision * i64::from(*is_there));
        found == condition.changed_at
    };
    let wrong = |note: &Note| match note {
        Note::Write {
            condition: Some(condition),
            revision: Some(revision),
            ..
        } if !holds(condition, revision - 1) => Some(format!(
            "condition: done at revision {revision}: {condition:?}"
        )),
        Note::Refused {
            condition,
            revision,
            ..
        } if holds(condition, *revision) => Some(format!(
            "condition: refused at revision {revision}: {condition:?}"
        )),
        _ => None,
    };
    evidence.notes().filter_map(wrong).collect()
}

fn not_kept(evidence: &Evidence, history: &History<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for note in evidence.notes() {
        let Note::Write {
            changes,
            revision: Some(revision),
            ..
        } = note
        else {
            continue;
        };
        let there = history.get(revision);
        if there != Some(&changes.iter().collect()) {
            found.push(format!(
                "kept: {changes:?} at revision {revision}, where {there:?} is"
            ));
        }
    }
    found
}

/// The revisions that no worker's write explains. A change that was not acknowledged may have
/// happened: it must be there whole or not at all.
fn unsent(evidence: &Evidence, history: &History<'_>) -> BTreeSet<i64> {
    let mut sent: BTreeMap<BTreeSet<&Change>, u32> = BTreeMap::new();
    for note in evidence.notes() {
        if let Note::Write { changes, .. } = note {
            *sent.entry(changes.iter().collect()).or_default() += 1;
        }
    }
    let mut unsent = BTreeSet::new();
    for (revision, changes) in history {
        match sent.get_mut(changes) {
            Some(left) if *left > 0 => *left -= 1,
            _ => {
                unsent.insert(*revision);
            }
        }
    }
    unsent
}

fn not_forward(notes: &[Note]) -> impl Iterator<Item = String> {
    let mut last = FIRST_REVISION;
    notes.iter().filter_map(move |note| {
        let (revision, least) = match note {
            // A write makes a revision of its own.
            Note::Write {
                revision: Some(revision),
                ..
            } => (*revision, last + 1),
            // A lease without keys ends without a revision.
            Note::Read {
                revision,
                floor: Some(_),
                ..
            }
            | Note::Refused { revision, .. }
            | Note::Revoke {
                revision: Some(revision),
                ..
            } => (*revision, last),
            _ => return None,
        };
        let wrong = revision < least;
        let text = format!("revision {revision} after {last}");
        last = revision;
        wrong.then_some(text)
    })
}

fn not_state(evidence: &Evidence) -> Vec<String> {
    let mut reads: BTreeMap<i64, Vec<&BTreeMap<String, Held>>> = BTreeMap::new();
    for note in evidence.notes() {
        if let Note::Read {
            revision, state, ..
        } = note
        {
            reads.entry(*revision).or_default().push(state);
        }
    }
    let mut found = Vec::new();
    let mut state = BTreeMap::new();
    let mut events = evidence.events.iter().peekable();
    let last = evidence.events.last();
    let last = last.map_or(FIRST_REVISION, |event| event.revision);
    for (revision, seen) in reads {
        if revision > last {
            found.push(format!(
                "state: a read of revision {revision}, and the last is {last}"
            ));
        }
        while let Some(event) = events.next_if(|event| event.revision <= revision) {
            let Change { key, value, lease } = event.change.clone();
            match value {
                Some(value) => state.insert(key, (value, lease)),
                None => state.remove(&key),
            };
        }
        for wrong in seen.into_iter().filter(|seen| **seen != state) {
            found.push(format!(
                "state: at revision {revision} {wrong:?} instead of {state:?}"
            ));
        }
    }
    found
}
