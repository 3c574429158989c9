//! What is published stays, comes from somebody, and holds all that was acknowledged.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::history::{Change, History, Operation, Outcome, Reply, Request, Write};

/// Revisions are published one after another, starting at 2.
pub(super) fn no_gap(history: &History) -> Result<(), String> {
    for (expected, found) in (2..).zip(history.published.keys()) {
        if *found != expected {
            return Err(format!(
                "revision {found} was published where {expected} was due"
            ));
        }
    }
    Ok(())
}

/// Every published change was asked for by some request that may have happened, and by one only; a request makes one
/// revision at most. Deletions without a request are those of leases.
pub(super) fn nothing_invented(history: &History) -> Result<(), String> {
    let mut writers: BTreeMap<&Bytes, &Operation> = BTreeMap::new();
    for operation in &history.operations {
        for (_, value) in written(&operation.request) {
            if !matches!(operation.outcome, Outcome::Refused(_)) {
                writers.insert(value, operation);
            }
        }
    }
    let mut used: BTreeMap<&Bytes, i64> = BTreeMap::new();
    for (revision, (_, changes)) in &history.published {
        for change in changes {
            let Change::Put(pair) = change else { continue };
            let Some(operation) = writers.get(&pair.value) else {
                return Err(format!(
                    "revision {revision}: nobody wrote {:?}",
                    pair.value
                ));
            };
            let asked = written(&operation.request)
                .iter()
                .any(|(key, value)| *key == &pair.key && *value == &pair.value);
            if !asked {
                return Err(format!(
                    "revision {revision}: {:?} under the wrong key",
                    pair.value
                ));
            }
            if let Some(first) = used.insert(&pair.value, *revision) {
                return Err(format!(
                    "{:?} was written at {first} and at {revision}",
                    pair.value
                ));
            }
        }
    }
    Ok(())
}

/// Every acknowledged write is published at the revision it was acknowledged with, whole.
pub(super) fn nothing_lost(history: &History) -> Result<(), String> {
    for operation in &history.operations {
        let Outcome::Replied(reply) = &operation.outcome else {
            continue;
        };
        if !changed_something(&operation.request, reply) {
            continue;
        }
        let revision = reply.revision().unwrap_or_default();
        let Some((_, changes)) = history.published.get(&revision) else {
            return Err(format!(
                "acknowledged at {revision} and gone: {operation:?}"
            ));
        };
        for (key, value) in written(&operation.request) {
            let there = changes.iter().any(|change| match change {
                Change::Put(pair) => pair.key == *key && pair.value == *value,
                Change::Delete(_) => false,
            });
            if !there {
                return Err(format!(
                    "acknowledged at {revision} and not there: {operation:?}"
                ));
            }
        }
        if let Request::Txn(txn) = &operation.request
            && txn.writes.len() != changes.len()
        {
            return Err(format!(
                "acknowledged at {revision}, where {changes:?} are: {operation:?}"
            ));
        }
        if let (Request::Delete(keys), Reply::Done { deleted, .. }) = (&operation.request, reply) {
            let found = changes
                .iter()
                .filter(|change| matches!(change, Change::Delete(key) if keys.contains(key)))
                .count();
            if found as i64 != *deleted || found != changes.len() {
                return Err(format!(
                    "{deleted} deletions acknowledged, {found} published: {operation:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Keys and values that a request writes.
fn written(request: &Request) -> Vec<(&Bytes, &Bytes)> {
    match request {
        Request::Put { key, value, .. } => vec![(key, value)],
        Request::Txn(txn) => {
            let writes = txn.writes.iter();
            let put = writes.filter_map(|write| match write {
                Write::Put { key, value, .. } => Some((key, value)),
                Write::Delete(_) => None,
            });
            put.collect()
        }
        _ => Vec::new(),
    }
}

/// Whether an acknowledged request made a revision.
fn changed_something(request: &Request, reply: &Reply) -> bool {
    match (request, reply) {
        (Request::Put { .. }, _) => true,
        (Request::Txn(_), Reply::Txn { succeeded, .. }) => *succeeded,
        (Request::Delete(_), Reply::Done { deleted, .. }) => *deleted > 0,
        _ => false,
    }
}
