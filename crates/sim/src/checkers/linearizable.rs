//! One order explains all answers, and it is the order of real time wherever real time has one.

use kvorum_proto::ids::Moment;

use super::state::State;
use crate::history::{History, Operation, Outcome, Reply, Request};

/// No answer is of an earlier revision than what was published when the request was sent, and none of a later one than
/// what was published when the answer came.
///
/// Publication is when a change can first be seen, so this is stronger than to compare answers with one another.
/// Serializable reads are free to be of an older revision.
pub(super) fn respects_real_time(history: &History) -> Result<(), String> {
    let published: Vec<(Moment, i64)> = history
        .published
        .iter()
        .map(|(revision, (at, _))| (*at, *revision))
        .collect();
    let newest_at = |limit: Moment, inclusive: bool| {
        let known = published.partition_point(|(at, _)| *at < limit || (inclusive && *at == limit));
        known.checked_sub(1).map_or(1, |last| published[last].1)
    };
    for operation in &history.operations {
        let Outcome::Replied(reply) = &operation.outcome else {
            continue;
        };
        let (Some(revision), Some(returned)) = (reply.revision(), operation.returned) else {
            continue;
        };
        let before = newest_at(operation.invoked, false);
        let is_free = matches!(
            operation.request,
            Request::Range {
                serializable: true,
                ..
            }
        );
        if revision < before && !is_free {
            return Err(format!(
                "answered with revision {revision} although {before} had been published: {operation:?}"
            ));
        }
        let after = newest_at(returned, true);
        if revision > after {
            return Err(format!(
                "answered with revision {revision} when {after} was the newest: {operation:?}"
            ));
        }
    }
    Ok(())
}

/// A read holds exactly the pairs of its revision.
pub(super) fn reads_match(history: &History) -> Result<(), String> {
    let mut reads: Vec<(i64, &Operation)> = Vec::new();
    for operation in &history.operations {
        if let (
            Request::Range {
                revision: asked, ..
            },
            Outcome::Replied(reply),
        ) = (&operation.request, &operation.outcome)
        {
            let answered = reply.revision().unwrap_or_default();
            reads.push((if *asked > 0 { *asked } else { answered }, operation));
        }
    }
    reads.sort_by_key(|(revision, _)| *revision);
    let mut state = State::new(history);
    for (revision, operation) in reads {
        state.go_to(revision);
        let (Request::Range { keys, .. }, Outcome::Replied(Reply::Pairs { pairs, .. })) =
            (&operation.request, &operation.outcome)
        else {
            return Err(format!("a read was not answered with pairs: {operation:?}"));
        };
        let expected = state.select(keys);
        if *pairs != expected {
            return Err(format!(
                "at revision {revision} expected {expected:?}: {operation:?}"
            ));
        }
    }
    Ok(())
}

/// A condition held or failed as the state just before says.
pub(super) fn conditions_match(history: &History) -> Result<(), String> {
    let mut conditional: Vec<(i64, &Operation)> = Vec::new();
    for operation in &history.operations {
        if let Outcome::Replied(Reply::Conditional {
            revision,
            succeeded,
            ..
        }) = &operation.outcome
        {
            // A put that was made is judged on the revision before its own.
            conditional.push((revision - i64::from(*succeeded), operation));
        }
    }
    conditional.sort_by_key(|(revision, _)| *revision);
    let mut state = State::new(history);
    for (revision, operation) in conditional {
        state.go_to(revision);
        let (
            Request::PutIf {
                key, mod_revision, ..
            },
            Outcome::Replied(Reply::Conditional {
                succeeded, found, ..
            }),
        ) = (&operation.request, &operation.outcome)
        else {
            continue;
        };
        let there = state.get(key);
        let held = there.map_or(0, |pair| pair.mod_revision) == *mod_revision;
        if held != *succeeded || (!held && found.as_ref() != there) {
            return Err(format!(
                "at revision {revision} there was {there:?}: {operation:?}"
            ));
        }
    }
    Ok(())
}
