//! Watchers saw what was published, each change once, in order, and no revision in parts.

use std::collections::BTreeSet;

use super::state::State;
use crate::history::{Change, History, Outcome, Request, WatchMessage, Watched, Without};

/// Ordered, unique, without a gap, atomic.
pub(super) fn complete(history: &History) -> Result<(), String> {
    history
        .watchers
        .iter()
        .try_for_each(|watched| complete_one(history, watched))
}

fn complete_one(history: &History, watched: &Watched) -> Result<(), String> {
    let mut next = watched.start_revision;
    for message in &watched.messages {
        let events = match message {
            WatchMessage::Events(events) => events,
            WatchMessage::Progress(_) | WatchMessage::Before(_) => continue,
            WatchMessage::Compacted(revision) => {
                // What was compacted under a watcher is gone for it; it goes on from there.
                next = next.max(*revision);
                continue;
            }
        };
        let Some((last, _)) = events.last() else {
            return Err(format!("a message without events: {watched:?}"));
        };
        let expected = due(history, watched, next, *last);
        if *events != expected {
            return Err(format!(
                "from {next} to {last} expected {expected:?}, got {events:?} (start {}, {:?})",
                watched.start_revision, watched.keys
            ));
        }
        next = last + 1;
    }
    Ok(())
}

/// A bookmark promises that nothing up to it is still to come.
pub(super) fn bookmarks(history: &History) -> Result<(), String> {
    for watched in &history.watchers {
        let mut next = watched.start_revision;
        for message in &watched.messages {
            match message {
                WatchMessage::Before(_) => {}
                WatchMessage::Events(events) => {
                    next = events.last().map_or(next, |(last, _)| last + 1);
                }
                WatchMessage::Compacted(revision) => next = next.max(*revision),
                WatchMessage::Progress(revision) => {
                    let missing = due(history, watched, next, *revision);
                    if !missing.is_empty() {
                        return Err(format!("bookmark {revision} came before {missing:?}"));
                    }
                    next = next.max(revision + 1);
                }
            }
        }
    }
    Ok(())
}

/// When all has come to rest, every watcher has been shown everything.
pub(super) fn caught_up(history: &History) -> Result<(), String> {
    let Some(newest) = history.rested_at else {
        return Ok(());
    };
    for watched in history
        .watchers
        .iter()
        .filter(|watched| watched.start_revision > 0)
    {
        let mut next = watched.start_revision;
        for message in &watched.messages {
            next = match message {
                WatchMessage::Events(events) => events.last().map_or(next, |(last, _)| last + 1),
                WatchMessage::Compacted(revision) | WatchMessage::Progress(revision) => {
                    next.max(*revision)
                }
                WatchMessage::Before(_) => next,
            };
        }
        let missing = due(history, watched, next, newest);
        if !missing.is_empty() {
            let keys = &watched.keys;
            return Err(format!(
                "a watcher of {keys:?} at {next} never saw {missing:?}"
            ));
        }
    }
    Ok(())
}

/// History ends for a watcher only where somebody compacted.
pub(super) fn ended_by_compactions(history: &History) -> Result<(), String> {
    let compacted: BTreeSet<i64> = history
        .operations
        .iter()
        .filter(|operation| !matches!(operation.outcome, Outcome::Refused(_)))
        .filter_map(|operation| match operation.request {
            Request::Compact { revision } => Some(revision),
            _ => None,
        })
        .collect();
    for message in history
        .watchers
        .iter()
        .flat_map(|watched| &watched.messages)
    {
        if let WatchMessage::Compacted(revision) = message
            && !compacted.contains(revision)
        {
            return Err(format!("nobody compacted at {revision}"));
        }
    }
    Ok(())
}

/// What an event says of the pair before it was so; of compacted revisions it may say nothing.
pub(super) fn before(history: &History) -> Result<(), String> {
    let compacted = history.operations.iter();
    let compacted = compacted.filter_map(|operation| match operation.request {
        Request::Compact { revision } => Some(revision),
        _ => None,
    });
    let compacted = compacted.max().unwrap_or_default();
    for watched in &history.watchers {
        let mut state = State::new(history);
        for message in &watched.messages {
            let WatchMessage::Before(events) = message else {
                continue;
            };
            for (revision, key, told) in events {
                state.go_to(revision - 1);
                let there = state.get(key);
                if told.as_ref() != there && (told.is_some() || *revision > compacted) {
                    return Err(format!(
                        "before {revision} there was {there:?} under {key:?}, told was {told:?}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// What the watcher is owed in an interval of revisions.
fn due(history: &History, watched: &Watched, from: i64, to: i64) -> Vec<(i64, Change)> {
    if from > to {
        return Vec::new();
    }
    let mut events = Vec::new();
    for (revision, (_, changes)) in history.published.range(from..=to) {
        for change in changes {
            let is_kind = match (watched.without, change) {
                (Without::Puts, Change::Put(_)) | (Without::Deletes, Change::Delete(_)) => false,
                (Without::Nothing | Without::Puts | Without::Deletes, _) => true,
            };
            if is_kind
                && watched
                    .keys
                    .as_ref()
                    .is_some_and(|keys| keys.contains(change.key()))
            {
                events.push((*revision, change.clone()));
            }
        }
    }
    events
}
