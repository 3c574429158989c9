//! A lock has one holder, and its creation revision is a fence.

use std::collections::BTreeMap;

use kvorum_proto::ids::Moment;

use super::lease::Known;
use super::state::State;
use crate::history::{Change, History, Holds, Outcome, Reply, Request, Write};
use crate::workload::locks::{FENCED, LOCK};
use crate::workload::said;

/// What is written under the lock carries the creation revision of the lock that is there, so fences never fall.
pub(super) fn fence(history: &History) -> Result<(), String> {
    let mut state = State::new(history);
    let mut highest = 0;
    for (revision, (_, changes)) in &history.published {
        for change in changes {
            let Change::Put(pair) = change else { continue };
            if pair.key != FENCED {
                continue;
            }
            state.go_to(revision - 1);
            let fence: i64 = said(&pair.value).parse().unwrap_or_default();
            let held = state.get(LOCK.as_bytes()).map(|lock| lock.create_revision);
            if held != Some(fence) || fence < highest {
                return Err(format!(
                    "revision {revision} was written under fence {fence}, the lock had {held:?}, the highest was {highest}"
                ));
            }
            highest = fence;
        }
    }
    Ok(())
}

/// Nobody gets the lock while its holder has a promise that his lease lives, and has not let go.
pub(super) fn one_holder(history: &History) -> Result<(), String> {
    let leases = Known::new(history);
    // When somebody may first have let go of the lock that was created at a revision.
    let mut let_go: BTreeMap<i64, Moment> = BTreeMap::new();
    let mut taken: Vec<(i64, i64)> = Vec::new();
    for operation in &history.operations {
        let Request::Txn(txn) = &operation.request else {
            continue;
        };
        match (&txn.writes[..], &txn.conditions[..], &operation.outcome) {
            ([Write::Delete(key)], [condition], outcome) if key == LOCK => {
                if let (Holds::Created(fence), false) =
                    (condition.holds, matches!(outcome, Outcome::Refused(_)))
                {
                    let first = let_go.entry(fence).or_insert(operation.invoked);
                    *first = operation.invoked.min(*first);
                }
            }
            (
                [Write::Put { key, lease, .. }],
                _,
                Outcome::Replied(Reply::Txn {
                    revision,
                    succeeded: true,
                    ..
                }),
            ) if key == LOCK => taken.push((*revision, *lease)),
            _ => {}
        }
    }
    taken.sort_unstable();
    for pair in taken.windows(2) {
        let ((fence, lease), (next, _)) = (pair[0], pair[1]);
        let Some((at, _)) = history.published.get(&next) else {
            continue;
        };
        let is_let_go = let_go.get(&fence).is_some_and(|first| first <= at);
        let deleted = history.operations.iter().any(|operation| {
            matches!(&operation.request, Request::Delete(keys) if keys.contains(LOCK.as_bytes()))
        });
        if is_let_go || deleted || leases.somebody_revoked(lease, *at) {
            continue;
        }
        let promise = leases.promised(lease, *at);
        let until = promise.map_or(Moment::default(), |promise| promise.holds_until(history));
        if *at < until {
            return Err(format!(
                "the lock of fence {fence} was promised until {until:?} and given to {next} at {at:?}"
            ));
        }
    }
    Ok(())
}
