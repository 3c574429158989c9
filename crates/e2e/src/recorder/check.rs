//! The judge: pure, and so tested with histories that are wrong on purpose.

use std::collections::{BTreeMap, BTreeSet};

use super::lease_check;
use super::{Change, Event, Evidence, Held, Note};

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
    found.extend(not_kept(evidence, &history));
    let unsent = unsent(evidence, &history);
    found.extend(lease_check::violations(evidence, &history, &unsent));
    for (worker, notes) in evidence.workers.iter().enumerate() {
        found.extend(not_forward(notes).map(|text| format!("forward: worker {worker}: {text}")));
    }
    found.extend(not_state(evidence));
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

fn not_kept(evidence: &Evidence, history: &History<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for note in evidence.notes() {
        let Note::Write {
            changes,
            revision: Some(revision),
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
            Note::Read { revision, .. }
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
        if let Note::Read { revision, state } = note {
            reads.entry(*revision).or_default().push(state);
        }
    }
    let mut found = Vec::new();
    let mut state = BTreeMap::new();
    let mut events = evidence.events.iter().peekable();
    for (revision, seen) in reads {
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
