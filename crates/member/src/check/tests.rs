use std::time::Duration;

use kvorum_proto::etcdserverpb::{
    AlarmRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};

use super::*;

fn put_op(key: &'static str) -> RequestOp {
    let put = PutRequest {
        key: key.into(),
        ..PutRequest::default()
    };
    RequestOp {
        request: Some(Request::RequestPut(put)),
    }
}

fn delete_op(key: &'static str, range_end: &'static str) -> RequestOp {
    let delete = DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    };
    RequestOp {
        request: Some(Request::RequestDeleteRange(delete)),
    }
}

fn range_op(key: &'static str, serializable: bool) -> RequestOp {
    let range = RangeRequest {
        key: key.into(),
        serializable,
        ..RangeRequest::default()
    };
    RequestOp {
        request: Some(Request::RequestRange(range)),
    }
}

fn branches(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success,
        failure,
        ..TxnRequest::default()
    }
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestTxn(branches(success, failure))),
    }
}

#[test]
fn requests_are_refused_with_the_official_errors() {
    let range_of = |key: &'static str, sort_order, sort_target| {
        range(&RangeRequest {
            key: key.into(),
            sort_order,
            sort_target,
            ..Default::default()
        })
    };
    assert_eq!(range_of("k", 2, 4), Ok(()));
    assert_eq!(range_of("", 9, 9), Err(RequestError::EmptyKey));
    assert_eq!(range_of("k", 3, 0), Err(RequestError::InvalidSortOption));
    assert_eq!(range_of("k", 0, -1), Err(RequestError::InvalidSortOption));

    let plain = PutRequest {
        key: "k".into(),
        value: "v".into(),
        lease: 7,
        ..Default::default()
    };
    assert_eq!(put(&plain), Ok(()));
    let bad = PutRequest {
        ignore_value: true,
        ..plain.clone()
    };
    assert_eq!(put(&bad), Err(RequestError::ValueProvided));
    let bad = PutRequest {
        ignore_lease: true,
        ..plain.clone()
    };
    assert_eq!(put(&bad), Err(RequestError::LeaseProvided));
    assert_eq!(put(&PutRequest::default()), Err(RequestError::EmptyKey));
    assert_eq!(
        delete_range(&DeleteRangeRequest::default()),
        Err(RequestError::EmptyKey)
    );

    let alarm_of = |action| {
        alarm(&AlarmRequest {
            action,
            ..AlarmRequest::default()
        })
    };
    assert_eq!(
        (alarm_of(2), alarm_of(3)),
        (Ok(()), Err(RequestError::UnknownMethod))
    );
    assert_eq!(proposal(10, 10), Ok(()));
    assert_eq!(proposal(11, 10), Err(RequestError::RequestTooLarge));
}

#[test]
fn short_leases_are_raised_and_long_ones_refused() {
    let check = |ttl: i64| {
        let mut request = LeaseGrantRequest { ttl, id: 1 };
        lease_grant(&mut request, Duration::from_secs(1)).map(|()| request.ttl)
    };
    assert_eq!((check(-3), check(1), check(3)), (Ok(2), Ok(2), Ok(3)));
    assert_eq!(check(9_000_000_000), Ok(9_000_000_000));
    assert_eq!(check(9_000_000_001), Err(RequestError::LeaseTtlTooLarge));
}

#[test]
fn nested_transactions_get_what_the_enclosing_one_leaves() {
    let puts = |names: &[&'static str]| names.iter().copied().map(put_op).collect::<Vec<_>>();
    let outer = branches(vec![put_op("x"), nested(puts(&["a", "b"]), vec![])], vec![]);
    assert_eq!(txn(&outer, 4), Ok(()));
    assert_eq!(txn(&outer, 3), Err(RequestError::TooManyOps));
    let compares = TxnRequest {
        compare: vec![compare("k"); 3],
        ..TxnRequest::default()
    };
    assert_eq!(txn(&compares, 3), Ok(()));
    assert_eq!(txn(&compares, 2), Err(RequestError::TooManyOps));
}

fn compare(key: &'static str) -> Compare {
    Compare {
        key: key.into(),
        ..Compare::default()
    }
}

#[test]
fn the_parts_of_a_transaction_are_checked() {
    let empty_compare = TxnRequest {
        compare: vec![compare("")],
        ..TxnRequest::default()
    };
    assert_eq!(txn(&empty_compare, 9), Err(RequestError::EmptyKey));
    let no_content = branches(vec![], vec![RequestOp { request: None }]);
    assert_eq!(txn(&no_content, 9), Err(RequestError::KeyNotFound));
    let deep_inside = branches(vec![nested(vec![], vec![range_op("", false)])], vec![]);
    assert_eq!(txn(&deep_inside, 9), Err(RequestError::EmptyKey));
}

/// What is accepted here must also decode once it lies in a log entry.
#[test]
fn the_deepest_accepted_transaction_decodes_in_a_log_entry() {
    use kvorum_proto::etcdserverpb::InternalRaftRequest;
    use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
    use prost::Message as _;

    let mut innermost = branches(vec![put_op("k")], vec![]);
    for _ in 1..TXN_DEPTH_MAX {
        let inner = RequestOp {
            request: Some(Request::RequestTxn(innermost)),
        };
        innermost = branches(vec![inner], vec![]);
    }
    assert_eq!(txn(&innermost, TXN_OPS_MAX_DEFAULT), Ok(()));
    let entry = InternalRaftRequest {
        payload: Some(Payload::Txn(innermost.clone())),
        ..InternalRaftRequest::default()
    };
    assert_eq!(
        InternalRaftRequest::decode(&entry.encode_to_vec()[..]),
        Ok(entry)
    );
    let deeper = RequestOp {
        request: Some(Request::RequestTxn(innermost)),
    };
    let deeper = branches(vec![deeper], vec![]);
    assert_eq!(
        txn(&deeper, TXN_OPS_MAX_DEFAULT),
        Err(RequestError::TooManyOps)
    );
}

#[test]
fn a_branch_writes_a_key_once() {
    let check = |success: Vec<RequestOp>, is_accepted: bool| {
        let expected = if is_accepted {
            Ok(())
        } else {
            Err(RequestError::DuplicateKey)
        };
        let request = branches(vec![], success.clone());
        assert_eq!(txn(&request, 99), expected, "failure branch {success:?}");
        assert_eq!(
            txn(&branches(success.clone(), vec![]), 99),
            expected,
            "{success:?}"
        );
    };
    check(vec![put_op("a"), put_op("b")], true);
    check(vec![put_op("a"), put_op("a")], false);
    check(vec![put_op("a"), delete_op("a", "")], false);
    check(vec![put_op("aa"), delete_op("a", "")], true);
    check(vec![delete_op("a", "c"), put_op("b")], false);
    check(vec![delete_op("a", "c"), put_op("c")], true);
    check(
        vec![
            delete_op("a", "c"),
            delete_op("b", "d"),
            delete_op("x", ""),
            put_op("cc"),
        ],
        false,
    );
    check(vec![delete_op("a", "c"), delete_op("b", "d")], true);
    check(vec![put_op("a"), range_op("a", false)], true);
    // Nested transactions count as part of the list, but not one branch against the other.
    check(vec![put_op("a"), nested(vec![], vec![put_op("a")])], false);
    check(
        vec![delete_op("a", "c"), nested(vec![put_op("b")], vec![])],
        false,
    );
    check(
        vec![nested(vec![delete_op("a", "c")], vec![]), put_op("b")],
        false,
    );
    check(vec![nested(vec![put_op("a")], vec![put_op("a")])], true);
    check(
        vec![nested(vec![put_op("a")], vec![delete_op("a", "")])],
        true,
    );
    check(
        vec![
            nested(vec![put_op("a")], vec![]),
            nested(vec![put_op("a")], vec![]),
        ],
        false,
    );
}

/// Official members accept these; refusing them would break clients that rely on it.
#[test]
fn the_two_gaps_of_the_duplicate_rule_are_kept() {
    let check = |success: Vec<RequestOp>| txn(&branches(success, vec![]), 99);
    assert_eq!(check(vec![delete_op("a", "\0"), put_op("b")]), Ok(()));
    assert_eq!(check(vec![delete_op("c", "a"), put_op("b")]), Ok(()));
    let put_first = vec![
        nested(vec![put_op("b")], vec![]),
        nested(vec![delete_op("a", "c")], vec![]),
    ];
    assert_eq!(check(put_first.clone()), Ok(()));
    let delete_first = put_first.into_iter().rev().collect();
    assert_eq!(check(delete_first), Err(RequestError::DuplicateKey));
}

#[test]
fn only_ranges_are_answered_without_the_log() {
    let check = |success, failure, expected| {
        assert_eq!(txn_route(&branches(success, failure)), expected);
    };
    check(vec![], vec![], Route::Local);
    check(
        vec![range_op("a", true)],
        vec![range_op("b", true)],
        Route::Local,
    );
    check(
        vec![range_op("a", true)],
        vec![range_op("b", false)],
        Route::Confirmed,
    );
    check(vec![range_op("a", true)], vec![put_op("b")], Route::Propose);
    check(
        vec![nested(vec![range_op("a", true)], vec![])],
        vec![],
        Route::Propose,
    );
    let serializable = RangeRequest {
        serializable: true,
        ..RangeRequest::default()
    };
    assert_eq!(range_route(&serializable), Route::Local);
    assert_eq!(range_route(&RangeRequest::default()), Route::Confirmed);
}
