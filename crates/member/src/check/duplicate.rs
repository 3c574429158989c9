//! The rule that a branch of a transaction writes a key once.
//!
//! Within one list two puts may not have the same key, and no put may lie in the interval of a
//! delete, wherever in the list it stands. Nested transactions count as part of the list; only
//! their two branches do not count against each other, since one of them runs.
//!
//! Two gaps are official behaviour and kept: a delete whose end is not after its start, which an
//! end of one zero byte (no bound) is too, never meets a put; and of two nested transactions side
//! by side only a delete in the first meets a put in the second, not the other way round.
//!
//! Source: etcd v3.7.1 server/etcdserver/api/v3rpc/key.go (checkIntervals).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{DeleteRangeRequest, RequestOp, TxnRequest};

use crate::apply::RequestError;

/// Checks both branches of a transaction.
pub(super) fn check(txn: &TxnRequest) -> Result<(), RequestError> {
    for branch in [&txn.success, &txn.failure] {
        if may_repeat(branch) {
            writes(branch)?;
        }
    }
    Ok(())
}

/// Whether a list has more than one operation; nearly none has.
fn may_repeat(operations: &[RequestOp]) -> bool {
    match operations {
        [] => false,
        [operation] => matches!(operation.request, Some(Request::RequestTxn(_))),
        _ => true,
    }
}

/// What a list may write.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a Bytes>,
    deletes: Intervals,
}

impl<'a> Writes<'a> {
    fn put(&mut self, key: &'a Bytes) -> Result<(), RequestError> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }
}

fn writes(operations: &[RequestOp]) -> Result<Writes<'_>, RequestError> {
    let mut all = Writes::default();
    let requests = || {
        operations
            .iter()
            .filter_map(|operation| operation.request.as_ref())
    };
    for request in requests() {
        if let Request::RequestDeleteRange(delete) = request {
            all.deletes.insert_delete(delete);
        }
    }
    for request in requests() {
        if let Request::RequestTxn(nested) = request {
            let success = writes(&nested.success)?;
            let failure = writes(&nested.failure)?;
            for key in success.puts.union(&failure.puts) {
                all.put(key)?;
            }
            all.deletes.extend(success.deletes);
            all.deletes.extend(failure.deletes);
        }
    }
    for request in requests() {
        if let Request::RequestPut(put) = request {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

/// A set of keys as disjoint half-open intervals, start to end.
#[derive(Default)]
pub(crate) struct Intervals(BTreeMap<Bytes, Bytes>);

impl Intervals {
    /// Adds the keys of a delete that has an end. An end at or before the start adds none.
    pub(crate) fn insert_delete(&mut self, delete: &DeleteRangeRequest) {
        let end = if delete.range_end.is_empty() {
            // The smallest key after a single one.
            [&delete.key[..], &[0]].concat().into()
        } else {
            delete.range_end.clone()
        };
        self.insert(delete.key.clone(), end);
    }

    fn insert(&mut self, mut start: Bytes, mut end: Bytes) {
        if end <= start {
            return;
        }
        // From the right, every interval that touches the new one melts into it.
        while let Some((before, before_end)) = self.0.range(..=end.clone()).next_back() {
            if *before_end < start {
                break;
            }
            let before = before.clone();
            end = end.max(before_end.clone());
            self.0.remove(&before);
            start = start.min(before);
        }
        self.0.insert(start, end);
    }

    fn extend(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.insert(start, end);
        }
    }

    /// Whether a key is in the set.
    pub(crate) fn contains(&self, key: &Bytes) -> bool {
        let before = self
            .0
            .range::<Bytes, _>((Bound::Unbounded, Bound::Included(key)));
        before
            .into_iter()
            .next_back()
            .is_some_and(|(_, end)| key < end)
    }
}
