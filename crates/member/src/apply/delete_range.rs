//! Deletes.
//!
//! Source: etcd v3.7.1 server/etcdserver/txn/txn.go (deleteRange).

use kvorum_mvcc::Interval;
use kvorum_proto::etcdserverpb::DeleteRangeRequest;

use super::Response;
use super::response::DeleteRange;
use super::writer::Writer;

/// Carries out a delete; deleting nothing is no change.
pub(super) fn execute(writer: &mut Writer<'_>, delete: &DeleteRangeRequest) -> DeleteRange {
    let interval = Interval::from_wire(delete.key.clone(), delete.range_end.clone());
    let records = writer.delete_range(&interval);
    DeleteRange {
        revision: writer.revision(),
        deleted: records.len() as i64,
        previous: if delete.prev_kv { records } else { Vec::new() },
    }
}

impl From<DeleteRange> for Response {
    fn from(delete: DeleteRange) -> Self {
        Self::DeleteRange(delete)
    }
}
