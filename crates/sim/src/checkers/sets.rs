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
    added: Moment,
    /// When somebody may first have taken it out.
    until: Option<Moment>,
}

/// No read that began when an element had been added misses it, unless somebody was about to take it out.
pub(super) fn lose_nothing(history: &History) -> Result<(), String> {
    let mut elements: BTreeMap<&Bytes, Element> = BTreeMap::new();
    for operation in &history.operations {
        note(operation, &mut elements);
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

fn note<'a>(operation: &'a Operation, elements: &mut BTreeMap<&'a Bytes, Element>) {
    if let Request::Delete(keys) = &operation.request {
        return end(elements, keys, operation.invoked);
    }
    let Request::Txn(txn) = &operation.request else {
        return;
    };
    for write in &txn.writes {
        match (write, &operation.outcome, operation.returned) {
            (
                Write::Put { key, .. },
                Outcome::Replied(Reply::Txn {
                    succeeded: true, ..
                }),
                Some(added),
            ) if key.starts_with(ELEMENTS.as_bytes()) => {
                elements.insert(key, Element { added, until: None });
            }
            (Write::Delete(key), ..) => {
                end(elements, &Keys::one(key.clone()), operation.invoked);
            }
            _ => {}
        }
    }
}

fn end(elements: &mut BTreeMap<&Bytes, Element>, keys: &Keys, at: Moment) {
    for (key, element) in elements {
        if keys.contains(key) && element.until.is_none_or(|until| until > at) {
            element.until = Some(at);
        }
    }
}
