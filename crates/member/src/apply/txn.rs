//! Transactions.
//!
//! Three passes over the request. First all comparisons, those of nested transactions too, are
//! made against the state before the transaction; they say which branches run. Then every
//! operation of those branches is checked. Then they are executed in order, where a later
//! operation sees what an earlier one did. Only the third pass writes, and it cannot fail.
//!
//! ```text
//! if a = 1 then [put b, (if b = 2 then [put c])]      with a = 1, b = 2 before
//! plan:    take then, nested: take then (b is compared as it was before)
//! ```
//!
//! Source: etcd v3.7.1 server/etcdserver/txn/txn.go (compareToPath, checkTxn, executeTxn).

use std::cmp::Ordering;

use kvorum_mvcc::{Change, Few, Interval, Record, View};
use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{Compare, RangeRequest, RequestOp, TxnRequest};

use kvorum_storage::segment::Damage;

use super::earlier::Earlier;
use super::machine::Refused;
use super::response::{Operation, Range, Txn};
use super::writer::Writer;
use super::{RequestError, Response, delete_range, put};
use crate::lease::Grants;

/// A transaction whose comparisons are made.
#[derive(Debug)]
struct Plan<'a> {
    succeeded: bool,
    steps: Few<Step<'a>>,
}

/// An operation of the branch that is taken.
#[derive(Debug)]
enum Step<'a> {
    Plain(&'a Request),
    Nested(Box<Plan<'a>>),
    Empty,
}

impl<'a> Plan<'a> {
    /// Makes all comparisons.
    ///
    /// # Errors
    /// The damage of a value that had to be read.
    fn new(view: &View, txn: &'a TxnRequest) -> Result<Self, Damage> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded = succeeded && holds(view, compare)?;
        }
        let branch = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let step = |operation: &'a RequestOp| {
            Ok(match &operation.request {
                Some(Request::RequestTxn(nested)) => {
                    Step::Nested(Box::new(Self::new(view, nested)?))
                }
                Some(request) => Step::Plain(request),
                None => Step::Empty,
            })
        };
        Ok(Self {
            succeeded,
            steps: branch.iter().map(step).collect::<Result<_, Damage>>()?,
        })
    }

    /// Checks every operation against the state before the transaction.
    ///
    /// # Errors
    /// What the first operation that cannot be carried out is refused with.
    fn check(&self, view: &View, grants: &Grants) -> Result<(), RequestError> {
        let mut earlier = Earlier::default();
        // Nearly every transaction writes once, and nothing comes after it that would have to know.
        if let [Step::Plain(request)] = &*self.steps {
            return check_plain(view, grants, &earlier, request);
        }
        self.check_after(view, grants, &mut earlier)
    }

    /// `earlier` are the operations that come before in the order of execution.
    fn check_after(
        &self,
        view: &View,
        grants: &Grants,
        earlier: &mut Earlier<'a>,
    ) -> Result<(), RequestError> {
        for step in &self.steps {
            match step {
                Step::Plain(request) => {
                    check_plain(view, grants, earlier, request)?;
                    earlier.push(request);
                }
                Step::Nested(plan) => plan.check_after(view, grants, earlier)?,
                Step::Empty => {}
            }
        }
        Ok(())
    }

    /// Carries out a plan that was checked. The answer has the revision of a nested transaction.
    ///
    /// # Errors
    /// What could not be read although it was checked: a broken invariant, or damage.
    fn execute(&self, writer: &mut Writer<'_>, somebody_waits: bool) -> Result<Txn, RequestError> {
        let mut responses = Few::default();
        for step in &self.steps {
            responses.push(match step {
                Step::Plain(Request::RequestRange(_)) if !somebody_waits => Operation::Range(None),
                Step::Plain(Request::RequestRange(range)) => {
                    let reply = writer.txn().range(range)?;
                    Operation::Range(Some(Range {
                        revision: writer.revision(),
                        reply,
                    }))
                }
                Step::Plain(Request::RequestPut(put)) => Operation::Put(put::execute(writer, put)?),
                Step::Plain(Request::RequestDeleteRange(delete)) => {
                    Operation::DeleteRange(delete_range::execute(writer, delete)?)
                }
                Step::Nested(plan) => {
                    Operation::Txn(Box::new(plan.execute(writer, somebody_waits)?))
                }
                Step::Plain(Request::RequestTxn(_)) | Step::Empty => Operation::Empty,
            });
        }
        Ok(Txn {
            revision: 0,
            succeeded: self.succeeded,
            responses,
        })
    }
}

/// Checks a transaction and carries it out. Ranges are executed when somebody waits for the
/// answer.
///
/// # Errors
/// The refusal of the first operation that cannot be carried out; then nothing is written.
pub(super) fn execute(
    writer: &mut Writer<'_>,
    txn: &TxnRequest,
    somebody_waits: bool,
) -> Result<Txn, Refused> {
    let plan = Plan::new(writer.view(), txn).map_err(RequestError::from)?;
    plan.check(writer.view(), writer.grants())?;
    let broken = |error| Refused::broken(&format_args!("an operation that was checked: {error}"));
    let responses = plan.execute(writer, somebody_waits).map_err(broken)?;
    Ok(Txn {
        revision: writer.revision(),
        ..responses
    })
}

/// Answers a transaction that only reads, at a view and without the log. The request went
/// through [`crate::check::txn`] and [`crate::check::txn_route`].
///
/// # Errors
/// As at apply: a range's revision that cannot be read, or damage.
pub fn read(view: &View, txn: &TxnRequest) -> Result<Txn, RequestError> {
    let plan = Plan::new(view, txn)?;
    plan.check(view, &Grants::new())?;
    let revision = view.current_revision();
    let mut responses = Few::default();
    for step in &plan.steps {
        responses.push(match step {
            Step::Plain(Request::RequestRange(range)) => Operation::Range(Some(Range {
                revision,
                reply: view.range(range)?,
            })),
            _ => Operation::Empty,
        });
    }
    Ok(Txn {
        revision,
        succeeded: plan.succeeded,
        responses,
    })
}

/// Checks an operation that comes after some others.
fn check_plain(
    view: &View,
    grants: &Grants,
    earlier: &Earlier<'_>,
    request: &Request,
) -> Result<(), RequestError> {
    match request {
        Request::RequestRange(range) => check_range(view, range),
        Request::RequestPut(put) => {
            put::check_lease(grants, put)?;
            if put::keeps_something(put) && !earlier.has_pair(view, put) {
                return Err(RequestError::KeyNotFound);
            }
            Ok(())
        }
        Request::RequestDeleteRange(_) | Request::RequestTxn(_) => Ok(()),
    }
}

/// Unlike in a range of its own, a negative revision is checked too.
fn check_range(view: &View, range: &RangeRequest) -> Result<(), RequestError> {
    let (asked, current, compacted) = (
        range.revision,
        view.current_revision(),
        view.compact_revision(),
    );
    if asked > current {
        return Err(RequestError::FutureRevision { asked, current });
    }
    if asked != 0 && asked < compacted {
        return Err(RequestError::Compacted { asked, compacted });
    }
    Ok(())
}

/// Whether a comparison holds: for every pair of its interval, or for the zero pair when there
/// is none.
///
/// # Errors
/// The damage of a value that had to be read.
fn holds(view: &View, compare: &Compare) -> Result<bool, Damage> {
    let by_value = compare.target == CompareTarget::Value as i32;
    // Nearly every comparison is of one key, which needs no walk over the index.
    if compare.range_end.is_empty() {
        if !by_value {
            return Ok(relation(compare, view.change(&compare.key).as_ref()));
        }
        let pair = view.get(&compare.key)?;
        return Ok(pair.is_some_and(|pair| value_relation(compare, &pair)));
    }
    let interval = Interval::from_wire(compare.key.clone(), compare.range_end.clone());
    let mut pairs = view.live_changes(&interval).peekable();
    if pairs.peek().is_none() {
        return Ok(!by_value && relation(compare, None));
    }
    if by_value {
        for pair in view.live(&interval) {
            if !value_relation(compare, &pair?) {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    Ok(pairs.all(|(_, pair)| relation(compare, Some(&pair))))
}

/// Compares the value of a pair.
fn value_relation(compare: &Compare, pair: &Record) -> bool {
    let given = match &compare.target_union {
        Some(TargetUnion::Value(given)) => given.as_ref(),
        _ => &[],
    };
    is_as_asked(compare, pair.value().cmp(given))
}

/// Compares all of a pair but its value. A given value of another kind than the target counts as
/// zero, an unknown target as equal.
fn relation(compare: &Compare, pair: Option<&Change>) -> bool {
    let union = compare.target_union.as_ref();
    let number = |stored: Option<i64>, given: Option<i64>| {
        stored.unwrap_or_default().cmp(&given.unwrap_or_default())
    };
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => {
            let given = union.and_then(|given| match given {
                TargetUnion::Version(given) => Some(*given),
                _ => None,
            });
            number(pair.map(Change::version), given)
        }
        Ok(CompareTarget::Create) => {
            let given = union.and_then(|given| match given {
                TargetUnion::CreateRevision(given) => Some(*given),
                _ => None,
            });
            number(pair.map(Change::create_revision), given)
        }
        Ok(CompareTarget::Mod) => {
            let given = union.and_then(|given| match given {
                TargetUnion::ModRevision(given) => Some(*given),
                _ => None,
            });
            number(pair.map(|pair| pair.mod_revision().main), given)
        }
        Ok(CompareTarget::Lease) => {
            let given = union.and_then(|given| match given {
                TargetUnion::Lease(given) => Some(*given),
                _ => None,
            });
            number(pair.map(|pair| pair.lease().0), given)
        }
        Ok(CompareTarget::Value) | Err(_) => Ordering::Equal,
    };
    is_as_asked(compare, order)
}

/// Whether an order is the one asked for; an unknown relation always is.
fn is_as_asked(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}

impl From<Txn> for Response {
    fn from(txn: Txn) -> Self {
        Self::Txn(txn)
    }
}
