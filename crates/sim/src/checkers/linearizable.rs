//! One order explains all answers, and it is the order of real time wherever real time has one.

use kvorum_proto::ids::Moment;

use super::state::State;
use crate::history::{History, Operation, Outcome, Reply, Request};

/// An answer that came before another request was sent is never of a later revision than that request's answer.
///
/// Serializable reads are free to be of an older revision, so they only bound those that come after them.
pub(super) fn respects_real_time(history: &History) -> Result<(), String> {
    let mut returned: Vec<(Moment, i64, &Operation)> = Vec::new();
    for operation in &history.operations {
        if let (Some(at), Outcome::Replied(reply)) = (operation.returned, &operation.outcome)
            && let Some(revision) = reply.revision()
        {
            returned.push((at, revision, operation));
        }
    }
    returned.sort_by_key(|(at, _, _)| *at);
    // For each point in time the greatest revision that was answered before it.
    let mut newest: Vec<(Moment, i64, &Operation)> = Vec::new();
    for (at, revision, operation) in returned {
        if newest
            .last()
            .is_none_or(|(_, greatest, _)| revision > *greatest)
        {
            newest.push((at, revision, operation));
        }
    }
    for operation in &history.operations {
        let Outcome::Replied(reply) = &operation.outcome else {
            continue;
        };
        let Some(revision) = reply.revision() else {
            continue;
        };
        if matches!(
            operation.request,
            Request::Range {
                serializable: true,
                ..
            }
        ) {
            continue;
        }
        let before = newest.partition_point(|(at, _, _)| *at < operation.invoked);
        if let Some((_, seen, earlier)) = before.checked_sub(1).map(|last| &newest[last])
            && *seen > revision
        {
            return Err(format!(
                "answered with revision {revision} after {seen} had been answered\n  first: {earlier:?}\n  then:  {operation:?}"
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
