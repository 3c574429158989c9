//! How much a member may store, and what a request adds.
//!
//! The quota is decided where a request is proposed: the proposer compares its own logical size
//! and the cost of the request with its quota, refuses, and proposes a `NOSPACE` alarm for
//! itself. From that entry on every member refuses costly requests, whatever its own size: what
//! is applied never depends on a member's size or configuration.
//!
//! Source: etcd v3.7.1 server/storage/quota.go.

use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, AlarmType, PutRequest, RequestOp, TxnRequest, alarm_request,
};
use kvorum_proto::ids::MemberId;

use crate::apply::RequestError;

/// The quota when none is configured, in bytes.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;
/// The largest quota that is suggested, in bytes; above it a start warns.
pub const QUOTA_BYTES_SUGGESTED_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// What a put is reckoned to cost beside key and value, in bytes.
pub const PUT_OVERHEAD_BYTES: u64 = 256;
/// What a lease is reckoned to cost, in bytes.
pub const LEASE_GRANT_BYTES: u64 = 64;

/// A bound on the logical bytes a member stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Nothing is refused.
    Unlimited,
    /// Requests that cost something are refused at this many bytes.
    Bytes(u64),
}

impl Quota {
    /// From the flag's number: 0 means the default, a negative number no bound.
    pub fn from_flag(bytes: i64) -> Self {
        match u64::try_from(bytes) {
            Ok(0) => Self::Bytes(QUOTA_BYTES_DEFAULT),
            Ok(bytes) => Self::Bytes(bytes),
            Err(_) => Self::Unlimited,
        }
    }

    /// The number that the status call shows; -1 when nothing is bounded.
    pub fn shown(self) -> i64 {
        match self {
            Self::Unlimited => -1,
            Self::Bytes(bytes) => i64::try_from(bytes).unwrap_or(i64::MAX),
        }
    }
}

/// Decides at the proposer whether a request of this cost fits beside `stored_bytes`, the total
/// logical size of the store. A request that costs nothing always fits.
///
/// # Errors
/// `NoSpace`; the caller then proposes [`alarm`].
pub fn check(stored_bytes: u64, quota: Quota, cost_bytes: u64) -> Result<(), RequestError> {
    match quota {
        Quota::Bytes(quota)
            if cost_bytes > 0 && stored_bytes.saturating_add(cost_bytes) >= quota =>
        {
            Err(RequestError::NoSpace)
        }
        _ => Ok(()),
    }
}

/// The alarm that a member whose quota is used up raises for itself.
pub fn alarm(member: MemberId) -> AlarmRequest {
    AlarmRequest {
        action: alarm_request::AlarmAction::Activate as i32,
        member_id: member.0,
        alarm: AlarmType::Nospace as i32,
    }
}

/// The cost of a request in bytes; 0 for one that may always pass.
pub fn cost(request: &Payload) -> u64 {
    match request {
        Payload::Put(put) => put_cost(put),
        Payload::Txn(txn) => txn_cost(txn),
        Payload::LeaseGrant(_) => LEASE_GRANT_BYTES,
        _ => 0,
    }
}

/// The cost of a put in bytes.
pub fn put_cost(put: &PutRequest) -> u64 {
    PUT_OVERHEAD_BYTES + put.key.len() as u64 + put.value.len() as u64
}

/// The cost of a transaction in bytes: its dearer branch, nested transactions included.
pub fn txn_cost(txn: &TxnRequest) -> u64 {
    fn branch(ops: &[RequestOp]) -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Request::RequestPut(put)) => put_cost(put),
                Some(Request::RequestTxn(txn)) => txn_cost(txn),
                _ => 0,
            })
            .sum()
    }
    branch(&txn.success).max(branch(&txn.failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: usize, value: usize) -> PutRequest {
        PutRequest {
            key: vec![b'k'; key].into(),
            value: vec![b'v'; value].into(),
            ..PutRequest::default()
        }
    }

    fn op(request: Request) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    #[test]
    fn a_transaction_costs_its_dearer_branch_with_nested_ones() {
        let nested = TxnRequest {
            success: vec![op(Request::RequestPut(put(1, 0)))],
            failure: vec![op(Request::RequestPut(put(1, 10)))],
            ..TxnRequest::default()
        };
        assert_eq!(txn_cost(&nested), 267);
        let outer = TxnRequest {
            success: vec![
                op(Request::RequestTxn(nested)),
                op(Request::RequestPut(put(2, 1))),
            ],
            failure: vec![op(Request::RequestPut(put(1, 1)))],
            ..TxnRequest::default()
        };
        assert_eq!(txn_cost(&outer), 267 + 259);
        assert_eq!(txn_cost(&TxnRequest::default()), 0);
    }

    #[test]
    fn only_requests_with_a_cost_are_refused() {
        let check = |stored, quota, cost| check(stored, quota, cost).is_ok();
        assert!(check(100, Quota::Bytes(400), 299));
        assert!(
            !check(100, Quota::Bytes(400), 300),
            "the quota itself is not reached"
        );
        assert!(check(1_000, Quota::Bytes(400), 0));
        assert!(check(u64::MAX, Quota::Unlimited, 300));
        assert!(!check(u64::MAX, Quota::Bytes(400), 300));
    }

    #[test]
    fn the_flag_reads_zero_as_default_and_negative_as_none() {
        assert_eq!(Quota::from_flag(0), Quota::Bytes(QUOTA_BYTES_DEFAULT));
        assert_eq!(Quota::from_flag(-1), Quota::Unlimited);
        assert_eq!(Quota::from_flag(53_248), Quota::Bytes(53_248));
    }
}
