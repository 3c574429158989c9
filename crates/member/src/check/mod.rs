//! What is checked at the edge, before a request is proposed or read.
//!
//! Pure functions on requests. What they refuse never reaches the log; what depends on the state
//! is checked where the entry is applied.
//!
//! Source: etcd v3.7.1 server/etcdserver/api/v3rpc/key.go, server/etcdserver/v3_server.go.

mod duplicate;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kvorum_proto::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};

pub(crate) use duplicate::Intervals;

use crate::apply::RequestError;
use crate::lease::{TTL_SECONDS_MAX, ttl_seconds_min};

/// How many operations a list of a transaction may have when nothing is configured.
pub const TXN_OPS_MAX_DEFAULT: usize = 128;
/// The largest proposal when nothing is configured, in bytes.
pub const REQUEST_BYTES_MAX_DEFAULT: usize = 1_572_864;
/// How deeply transactions may be nested, the outermost counted. Messages are decoded to a depth
/// of 100, of which a level takes two; what is decoded here must decode inside a log entry too.
pub const TXN_DEPTH_MAX: usize = 32;

/// How a request that changes nothing is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// From the published state, which may be behind.
    Local,
    /// From the published state, once it contains a confirmed read index.
    Confirmed,
    /// Through the log.
    Propose,
}

/// # Errors
/// `EmptyKey` or `InvalidSortOption`.
pub fn range(request: &RangeRequest) -> Result<(), RequestError> {
    key(&request.key)?;
    let known = SortOrder::try_from(request.sort_order).is_ok()
        && SortTarget::try_from(request.sort_target).is_ok();
    if known {
        Ok(())
    } else {
        Err(RequestError::InvalidSortOption)
    }
}

/// Where a range is answered from.
pub fn range_route(request: &RangeRequest) -> Route {
    if request.serializable {
        Route::Local
    } else {
        Route::Confirmed
    }
}

/// # Errors
/// `EmptyKey`, `ValueProvided` or `LeaseProvided`.
pub fn put(request: &PutRequest) -> Result<(), RequestError> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

/// # Errors
/// `EmptyKey`.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), RequestError> {
    key(&request.key)
}

/// `ops_max` bounds each list; a nested transaction gets what the longest list of the enclosing
/// one leaves.
///
/// # Errors
/// `TooManyOps`, `KeyNotFound` for an operation without content, `DuplicateKey`, and what the
/// operations are refused with on their own.
pub fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), RequestError> {
    txn_at(request, ops_max, 1)?;
    duplicate::check(request)
}

fn txn_at(request: &TxnRequest, ops_max: usize, depth: usize) -> Result<(), RequestError> {
    let longest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if longest > ops_max || depth > TXN_DEPTH_MAX {
        return Err(RequestError::TooManyOps);
    }
    for compare in &request.compare {
        key(&compare.key)?;
    }
    for RequestOp { request } in request.success.iter().chain(&request.failure) {
        match request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(request)) => txn_at(request, ops_max - longest, depth + 1)?,
            None => return Err(RequestError::KeyNotFound),
        }
    }
    Ok(())
}

/// Where a transaction is answered from: without the log when both branches hold ranges only,
/// and then locally when each of them allows it. One without any operation is such a one.
pub fn txn_route(request: &TxnRequest) -> Route {
    let mut route = Route::Local;
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(range)) if range.serializable => {}
            Some(Request::RequestRange(_)) => route = Route::Confirmed,
            _ => return Route::Propose,
        }
    }
    route
}

/// Raises the lifetime to the minimum, one and a half election timeouts. An id of 0 is replaced
/// by the caller before it proposes.
///
/// # Errors
/// `LeaseTtlTooLarge`.
pub fn lease_grant(
    request: &mut LeaseGrantRequest,
    election_timeout: Duration,
) -> Result<(), RequestError> {
    if request.ttl > TTL_SECONDS_MAX {
        return Err(RequestError::LeaseTtlTooLarge);
    }
    request.ttl = request.ttl.max(ttl_seconds_min(election_timeout));
    Ok(())
}

/// # Errors
/// `UnknownMethod` for an action that is none of the three; official members crash on it.
pub fn alarm(request: &AlarmRequest) -> Result<(), RequestError> {
    AlarmAction::try_from(request.action)
        .map(drop)
        .map_err(|_| RequestError::UnknownMethod)
}

/// Bounds the encoded proposal.
///
/// # Errors
/// `RequestTooLarge`.
pub fn proposal(bytes: usize, bytes_max: usize) -> Result<(), RequestError> {
    if bytes > bytes_max {
        Err(RequestError::RequestTooLarge)
    } else {
        Ok(())
    }
}

fn key(key: &[u8]) -> Result<(), RequestError> {
    if key.is_empty() {
        Err(RequestError::EmptyKey)
    } else {
        Ok(())
    }
}
