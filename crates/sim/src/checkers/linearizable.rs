//! One order explains all answers, and it is the order of real time wherever real time has one.

use kvorum_proto::ids::Moment;

use super::state::State;
use crate::history::{History, Holds, Operation, Outcome, Pair, Reply, Request, Txn};

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
        let (
            Request::Range { keys, limit, .. },
            Outcome::Replied(Reply::Pairs { pairs, count, .. }),
        ) = (&operation.request, &operation.outcome)
        else {
            return Err(format!("a read was not answered with pairs: {operation:?}"));
        };
        let mut expected = state.select(keys);
        let there = expected.len();
        if *limit > 0 {
            expected.truncate(*limit as usize);
        }
        if *count != there as i64 || *pairs != expected {
            return Err(format!(
                "at revision {revision} expected {expected:?} of {there}: {operation:?}"
            ));
        }
    }
    Ok(())
}

/// A condition held or failed as the state just before says.
pub(super) fn conditions_match(history: &History) -> Result<(), String> {
    let mut transactions: Vec<(i64, &Txn, &Operation)> = Vec::new();
    for operation in &history.operations {
        if let (
            Request::Txn(txn),
            Outcome::Replied(Reply::Txn {
                revision,
                succeeded,
                ..
            }),
        ) = (&operation.request, &operation.outcome)
        {
            // What was made is judged on the revision before its own.
            transactions.push((revision - i64::from(*succeeded), txn, operation));
        }
    }
    transactions.sort_by_key(|(revision, ..)| *revision);
    let mut state = State::new(history);
    for (revision, txn, operation) in transactions {
        state.go_to(revision);
        let Outcome::Replied(Reply::Txn {
            succeeded, found, ..
        }) = &operation.outcome
        else {
            continue;
        };
        let there: Vec<Option<Pair>> = txn
            .conditions
            .iter()
            .map(|condition| state.get(&condition.key).cloned())
            .collect();
        let held = txn.conditions.iter().zip(&there).all(|(condition, pair)| {
            let pair = pair.as_ref();
            match condition.holds {
                Holds::Modified(asked) => pair.map_or(0, |pair| pair.mod_revision) == asked,
                Holds::Created(asked) => pair.map_or(0, |pair| pair.create_revision) == asked,
            }
        });
        if held != *succeeded || (!held && *found != there) {
            return Err(format!(
                "at revision {revision} there was {there:?}: {operation:?}"
            ));
        }
    }
    Ok(())
}
