//! Watchers saw what was published, each change once, in order, and no revision in parts.

use crate::history::{Change, History, WatchMessage, Watched};

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
            WatchMessage::Progress(_) => continue,
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

/// What the watcher is owed in an interval of revisions.
fn due(history: &History, watched: &Watched, from: i64, to: i64) -> Vec<(i64, Change)> {
    if from > to {
        return Vec::new();
    }
    let mut events = Vec::new();
    for (revision, (_, changes)) in history.published.range(from..=to) {
        for change in changes {
            if watched
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
