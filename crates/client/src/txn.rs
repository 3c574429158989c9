//! Transactions: conditions, and what to do when all of them hold or one does not.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// Builds a [`TxnRequest`].
///
/// ```
/// use kvorum_client::{CompareResult, Txn, compare_create_revision};
/// use kvorum_proto::etcdserverpb::PutRequest;
///
/// // Write `a` if it does not exist.
/// let put = PutRequest { key: "a".into(), value: "1".into(), ..PutRequest::default() };
/// let absent = compare_create_revision("a", CompareResult::Equal, 0);
/// let txn = Txn::new().when(absent).and_then(put).build();
/// assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (1, 1, 0));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Txn {
    request: TxnRequest,
}

impl Txn {
    /// A transaction without conditions, which always succeeds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, condition: Compare) -> Self {
        self.request.compare.push(condition);
        self
    }

    /// Adds a step for the case that all conditions hold.
    #[must_use]
    pub fn and_then(mut self, operation: impl Into<Operation>) -> Self {
        self.request.success.push(operation.into().0);
        self
    }

    /// Adds a step for the case that a condition does not hold.
    #[must_use]
    pub fn or_else(mut self, operation: impl Into<Operation>) -> Self {
        self.request.failure.push(operation.into().0);
        self
    }

    /// The finished request.
    pub fn build(self) -> TxnRequest {
        self.request
    }
}

/// One step of a transaction: a range, put, delete or nested transaction.
#[derive(Clone, Debug)]
pub struct Operation(RequestOp);

macro_rules! operation {
    ($message:ty, $variant:ident) => {
        impl From<$message> for Operation {
            fn from(request: $message) -> Self {
                Operation(RequestOp {
                    request: Some(Request::$variant(request)),
                })
            }
        }
    };
}

operation!(RangeRequest, RequestRange);
operation!(PutRequest, RequestPut);
operation!(DeleteRangeRequest, RequestDeleteRange);
operation!(TxnRequest, RequestTxn);

fn compare(
    key: Bytes,
    result: CompareResult,
    target: CompareTarget,
    union: TargetUnion,
) -> Compare {
    Compare {
        result: result.into(),
        target: target.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}

/// Compares the version of `key`: how often it was written since it exists, 0 if it does not.
pub fn compare_version(key: impl Into<Bytes>, result: CompareResult, version: i64) -> Compare {
    compare(
        key.into(),
        result,
        CompareTarget::Version,
        TargetUnion::Version(version),
    )
}

/// Compares the revision that created `key`, 0 if it does not exist.
pub fn compare_create_revision(
    key: impl Into<Bytes>,
    result: CompareResult,
    revision: i64,
) -> Compare {
    let union = TargetUnion::CreateRevision(revision);
    compare(key.into(), result, CompareTarget::Create, union)
}

/// Compares the revision that wrote `key` last, 0 if it does not exist.
pub fn compare_mod_revision(
    key: impl Into<Bytes>,
    result: CompareResult,
    revision: i64,
) -> Compare {
    let union = TargetUnion::ModRevision(revision);
    compare(key.into(), result, CompareTarget::Mod, union)
}

/// Compares the value of `key`. It never holds for a key that does not exist.
pub fn compare_value(
    key: impl Into<Bytes>,
    result: CompareResult,
    value: impl Into<Bytes>,
) -> Compare {
    compare(
        key.into(),
        result,
        CompareTarget::Value,
        TargetUnion::Value(value.into()),
    )
}

/// Compares the lease of `key`, 0 if there is none.
pub fn compare_lease(key: impl Into<Bytes>, result: CompareResult, lease: i64) -> Compare {
    compare(
        key.into(),
        result,
        CompareTarget::Lease,
        TargetUnion::Lease(lease),
    )
}
