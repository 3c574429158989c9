//! Puts.
//!
//! Source: etcd v3.7.1 server/etcdserver/txn/put.go.

use kvorum_mvcc::Record;
use kvorum_proto::etcdserverpb::PutRequest;
use kvorum_proto::ids::LeaseId;

use super::response::Put;
use super::writer::Writer;
use super::{RequestError, Response};
use crate::lease::Grants;

/// Checks a put and carries it out.
///
/// # Errors
/// `LeaseNotFound`, or `KeyNotFound` when there is no pair to keep the value or lease of; then
/// nothing is written.
pub(super) fn execute_checked(
    writer: &mut Writer<'_>,
    put: &PutRequest,
) -> Result<Put, RequestError> {
    check_lease(writer.grants(), put)?;
    if keeps_something(put) && writer.view().change(&put.key).is_none() {
        return Err(RequestError::KeyNotFound);
    }
    execute(writer, put)
}

/// Says whether the lease of a put exists.
///
/// # Errors
/// `LeaseNotFound`.
pub(super) fn check_lease(grants: &Grants, put: &PutRequest) -> Result<(), RequestError> {
    let lease = LeaseId(put.lease);
    if lease != LeaseId(0) && grants.lease(lease).is_none() {
        return Err(RequestError::LeaseNotFound);
    }
    Ok(())
}

/// Whether a put needs a pair to take its value or lease from.
pub(super) fn keeps_something(put: &PutRequest) -> bool {
    put.ignore_value || put.ignore_lease
}

/// Carries out a put that was checked.
///
/// # Errors
/// `Damaged` when the pair before cannot be read.
pub(super) fn execute(writer: &mut Writer<'_>, put: &PutRequest) -> Result<Put, RequestError> {
    let previous = if keeps_something(put) || put.prev_kv {
        writer.view().get(&put.key)?
    } else {
        None
    };
    let kept = previous.as_ref();
    let value = match kept {
        Some(kept) if put.ignore_value => kept.value(),
        _ => &put.value,
    };
    let lease = match kept {
        Some(kept) if put.ignore_lease => kept.lease(),
        _ => LeaseId(put.lease),
    };
    writer.put(&put.key, value, lease);
    Ok(Put {
        revision: writer.revision(),
        previous: previous.filter(|_: &Record| put.prev_kv),
    })
}

impl From<Put> for Response {
    fn from(put: Put) -> Self {
        Self::Put(put)
    }
}
