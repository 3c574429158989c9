//! Which pairs a transaction will have when an operation's turn comes, before anything is written.
//!
//! Official members look only at the state before the transaction, and fall over when a put that
//! keeps a value comes behind a delete that took it; the check for duplicate keys lets such a
//! transaction through when the delete is unbounded.

use std::collections::BTreeSet;

use bytes::Bytes;
use kvorum_mvcc::{End, Interval, View};
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};

use crate::check::Intervals;

/// The writes in front of an operation. A lookup takes logarithmic time, however many they are.
#[derive(Default)]
pub(super) struct Earlier<'a> {
    /// Keys put and not deleted since.
    puts: BTreeSet<&'a Bytes>,
    /// Keys deleted, whether or not put since.
    deletes: Intervals,
    /// From here on every key is deleted, too.
    unbounded: Option<Bytes>,
}

impl<'a> Earlier<'a> {
    /// Adds an operation.
    pub(super) fn push(&mut self, request: &'a Request) {
        match request {
            Request::RequestPut(put) => {
                self.puts.insert(&put.key);
            }
            Request::RequestDeleteRange(delete) => self.push_delete(delete),
            Request::RequestRange(_) | Request::RequestTxn(_) => {}
        }
    }

    /// Whether the key of a put has a pair.
    pub(super) fn has_pair(&self, view: &View, put: &PutRequest) -> bool {
        let is_deleted = self.deletes.contains(&put.key)
            || self
                .unbounded
                .as_ref()
                .is_some_and(|start| put.key >= *start);
        self.puts.contains(&put.key) || (!is_deleted && view.change(&put.key).is_some())
    }

    fn push_delete(&mut self, delete: &DeleteRangeRequest) {
        let interval = Interval::from_wire(delete.key.clone(), delete.range_end.clone());
        let inside = self.puts.range::<Bytes, _>(&interval.start..);
        let inside: Vec<_> = inside
            .copied()
            .take_while(|key| interval.contains(key))
            .collect();
        for key in inside {
            self.puts.remove(key);
        }
        match interval.end {
            End::Single | End::Before(_) => self.deletes.insert_delete(delete),
            End::Unbounded => {
                let start = interval.start;
                let least = self
                    .unbounded
                    .take()
                    .map_or(start.clone(), |old| old.min(start));
                self.unbounded = Some(least);
            }
        }
    }
}
