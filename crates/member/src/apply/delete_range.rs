//! Deletes.
//!
//! Source: etcd v3.7.1 server/etcdserver/txn/txn.go (deleteRange).

use kvorum_mvcc::Interval;
use kvorum_proto::etcdserverpb::DeleteRangeRequest;

use super::response::DeleteRange;
use super::writer::Writer;
use super::{RequestError, Response};

/// Carries out a delete; deleting nothing is no change.
///
/// # Errors
/// `Damaged` when a pair that is asked for cannot be read; then nothing is deleted.
pub(super) fn execute(
    writer: &mut Writer<'_>,
    delete: &DeleteRangeRequest,
) -> Result<DeleteRange, RequestError> {
    let interval = Interval::from_wire(delete.key.clone(), delete.range_end.clone());
    let previous = if delete.prev_kv {
        writer.view().live(&interval).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let deleted = writer.delete_range(&interval);
    Ok(DeleteRange {
        revision: writer.revision(),
        deleted: deleted as i64,
        previous,
    })
}

impl From<DeleteRange> for Response {
    fn from(delete: DeleteRange) -> Self {
        Self::DeleteRange(delete)
    }
}
