//! One write transaction over keys and the leases they hang on.

use bytes::Bytes;
use kvorum_mvcc::{EventBatch, Interval, View, WriteTxn};
use kvorum_proto::ids::LeaseId;

use crate::lease::Grants;

/// Changes keys, and their attachments with them.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    txn: WriteTxn<'a>,
    grants: &'a mut Grants,
}

impl<'a> Writer<'a> {
    pub(super) fn new(txn: WriteTxn<'a>, grants: &'a mut Grants) -> Self {
        Self { txn, grants }
    }

    /// The state with the changes made so far.
    pub(super) fn view(&self) -> &View {
        self.txn.view()
    }

    /// The leases with the changes made so far.
    pub(super) fn grants(&self) -> &Grants {
        self.grants
    }

    /// The transaction, to read at its state.
    pub(super) fn txn(&mut self) -> &mut WriteTxn<'a> {
        &mut self.txn
    }

    /// The store revision with the changes made so far.
    pub(super) fn revision(&self) -> i64 {
        self.txn.revision()
    }

    /// Writes a pair that hangs on a lease (0: on none).
    pub(super) fn put(&mut self, key: &Bytes, value: &[u8], lease: LeaseId) {
        self.txn.put(key, value, lease);
        self.grants.attach(key, lease);
    }

    /// Deletes pairs; returns how many.
    pub(super) fn delete_range(&mut self, interval: &Interval) -> usize {
        let deleted = self.txn.delete_range(interval);
        for (key, change) in &deleted {
            if change.lease() != LeaseId(0) {
                self.grants.detach(key);
            }
        }
        deleted.len()
    }

    /// Ends the transaction.
    pub(super) fn finish(self) -> Option<EventBatch> {
        self.txn.finish()
    }
}
