//! The judge: pure, and so tested with histories that are wrong on purpose.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, Evidence, Note};

/// Revision of the empty store: the first change is the one after.
const FIRST_REVISION: i64 = 1;

/// Everything that the evidence shows to be wrong, one line each, beginning with the property.
pub fn violations(evidence: &Evidence) -> Vec<String> {
    let mut found: Vec<String> = evidence
        .troubles
        .iter()
        .map(|text| format!("trouble: {text}"))
        .collect();
    found.extend(not_once(&evidence.events));
    found.extend(not_kept(evidence));
    found.extend(not_sent(evidence));
    for (worker, notes) in evidence.workers.iter().enumerate() {
        found.extend(not_forward(notes).map(|text| format!("forward: worker {worker}: {text}")));
    }
    found.extend(not_state(evidence));
    found.extend(leases_lost(evidence));
    found
}

fn not_once(events: &[Event]) -> Vec<String> {
    let mut found = Vec::new();
    let mut last = FIRST_REVISION;
    let mut keys = BTreeSet::new();
    for Event {
        revision,
        change: (key, _),
    } in events
    {
        if *revision != last {
            keys.clear();
        }
        if *revision != last && *revision != last + 1 {
            found.push(format!("once: revision {revision} after {last}"));
        } else if !keys.insert(key) {
            found.push(format!("once: {key} twice at revision {revision}"));
        }
        last = *revision;
    }
    found
}

fn by_revision(events: &[Event]) -> BTreeMap<i64, BTreeMap<&String, &Option<String>>> {
    let mut revisions: BTreeMap<i64, BTreeMap<_, _>> = BTreeMap::new();
    for Event {
        revision,
        change: (key, value),
    } in events
    {
        revisions.entry(*revision).or_default().insert(key, value);
    }
    revisions
}

fn not_kept(evidence: &Evidence) -> Vec<String> {
    let history = by_revision(&evidence.events);
    let mut found = Vec::new();
    for note in evidence.workers.iter().flatten() {
        let Note::Write {
            changes,
            revision: Some(revision),
        } = note
        else {
            continue;
        };
        let there = history.get(revision);
        let whole: BTreeMap<_, _> = changes.iter().map(|(key, value)| (key, value)).collect();
        if there != Some(&whole) {
            found.push(format!(
                "kept: {changes:?} at revision {revision}, where {there:?} is"
            ));
        }
    }
    found
}

/// A change that was not acknowledged may have happened: it must be there whole or not at all.
fn not_sent(evidence: &Evidence) -> Vec<String> {
    let mut sent: BTreeMap<BTreeMap<&String, &Option<String>>, u32> = BTreeMap::new();
    for note in evidence.workers.iter().flatten() {
        if let Note::Write { changes, .. } = note {
            let whole = changes.iter().map(|(key, value)| (key, value)).collect();
            *sent.entry(whole).or_default() += 1;
        }
    }
    let mut found = Vec::new();
    for (revision, changes) in by_revision(&evidence.events) {
        match sent.get_mut(&changes) {
            Some(left) if *left > 0 => *left -= 1,
            Some(_) => found.push(format!(
                "sent: {changes:?} once more at revision {revision}"
            )),
            None => found.push(format!(
                "sent: nobody sent {changes:?} at revision {revision}"
            )),
        }
    }
    found
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
            Note::Read { revision, .. } => (*revision, last),
            Note::Write { .. } | Note::Lease(_) => return None,
        };
        let wrong = revision < least;
        let text = format!("revision {revision} after {last}");
        last = revision;
        wrong.then_some(text)
    })
}

fn not_state(evidence: &Evidence) -> Vec<String> {
    let mut reads: BTreeMap<i64, Vec<&BTreeMap<String, String>>> = BTreeMap::new();
    for note in evidence.workers.iter().flatten() {
        if let Note::Read { revision, state } = note {
            reads.entry(*revision).or_default().push(state);
        }
    }
    let mut found = Vec::new();
    let mut state = BTreeMap::new();
    let mut events = evidence.events.iter().peekable();
    for (revision, seen) in reads {
        while let Some(event) = events.next_if(|event| event.revision <= revision) {
            match &event.change {
                (key, Some(value)) => state.insert(key.clone(), value.clone()),
                (key, None) => state.remove(key),
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

fn leases_lost(evidence: &Evidence) -> Vec<String> {
    let there: BTreeSet<i64> = evidence.leases.iter().copied().collect();
    let granted = evidence
        .workers
        .iter()
        .flatten()
        .filter_map(|note| match note {
            Note::Lease(lease) => Some(*lease),
            _ => None,
        });
    let lost = granted.filter(|lease| !there.contains(lease));
    lost.map(|lease| format!("leases: {lease} was granted and is gone"))
        .collect()
}
