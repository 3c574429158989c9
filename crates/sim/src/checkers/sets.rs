//! A read of a set holds each element that was there all the while. It is judged by what clients were told, not by what
//! members published.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvorum_proto::ids::Moment;

use crate::history::{History, Keys, Operation, Outcome, Reply, Request, Write};
use crate::workload::sets::ELEMENTS;

/// When an element was there for sure, and until when.
#[derive(Debug)]
struct Element {
    asked: Moment,
    added: Moment,
    /// When somebody may first have taken it out.
    until: Option<Moment>,
}

/// No read that began when an element had been added misses it, unless somebody was about to take it out.
pub(super) fn lose_nothing(history: &History) -> Result<(), String> {
    let mut elements: BTreeMap<&Bytes, Element> = BTreeMap::new();
    for operation in &history.operations {
        note_added(operation, &mut elements);
    }
    for operation in &history.operations {
        note_taken(operation, &mut elements);
    }
    for operation in &history.operations {
        let (
            Request::Range {
                keys,
                revision: 0,
                serializable: false,
                limit: 0,
            },
            Outcome::Replied(Reply::Pairs { pairs, .. }),
            Some(returned),
        ) = (&operation.request, &operation.outcome, operation.returned)
        else {
            continue;
        };
        if !keys.contains(ELEMENTS.as_bytes()) {
            continue;
        }
        for (key, element) in &elements {
            let was_there = element.added < operation.invoked
                && element.until.is_none_or(|until| until > returned)
                && keys.contains(key);
            if was_there && pairs.binary_search_by(|pair| pair.key.cmp(key)).is_err() {
                return Err(format!("{key:?} ({element:?}) is missing: {operation:?}"));
            }
        }
    }
    Ok(())
}

fn note_added<'a>(operation: &'a Operation, elements: &mut BTreeMap<&'a Bytes, Element>) {
    let (
        Request::Txn(txn),
        Outcome::Replied(Reply::Txn {
            succeeded: true, ..
        }),
        Some(added),
    ) = (&operation.request, &operation.outcome, operation.returned)
    else {
        return;
    };
    for write in &txn.writes {
        if let Write::Put { key, .. } = write
            && key.starts_with(ELEMENTS.as_bytes())
        {
            let asked = operation.invoked;
            let until = None;
            elements.insert(
                key,
                Element {
                    asked,
                    added,
                    until,
                },
            );
        }
    }
}

/// An element may be gone from when somebody asked for that, unless he was done before it was added.
fn note_taken(operation: &Operation, elements: &mut BTreeMap<&Bytes, Element>) {
    let taken: Vec<Keys> = match &operation.request {
        Request::Delete(keys) => vec![keys.clone()],
        Request::Txn(txn) => {
            let deleted = |write: &Write| match write {
                Write::Delete(key) => Some(Keys::one(key.clone())),
                Write::Put { .. } => None,
            };
            txn.writes.iter().filter_map(deleted).collect()
        }
        _ => return,
    };
    let at = operation.invoked;
    for keys in taken {
        for (key, element) in &mut *elements {
            let was_before = operation
                .returned
                .is_some_and(|returned| returned < element.asked);
            if keys.contains(key) && !was_before && element.until.is_none_or(|until| until > at) {
                element.until = Some(at);
            }
        }
    }
}
