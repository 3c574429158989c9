//! What reads cost, counted in entries of the index that they look at.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::RangeRequest;
use kvorum_proto::ids::LeaseId;

use crate::btree::GIVEN_OUT;
use crate::{Store, View};

const KEYS: usize = 20_000;
const PAGE: usize = 500;
/// The first and the last one of a walk, and one that shows whether there are more.
const BESIDE_THE_PAGE: usize = 3;

fn key(number: usize) -> Bytes {
    format!("key/{number:06}").into()
}

fn put(store: &mut Store, number: usize) {
    let mut txn = store.begin();
    txn.put(&key(number), &Bytes::from_static(b"value"), LeaseId(0));
    txn.finish();
}

/// Pairs and count of a range, and how many entries it took.
fn run(view: &View, request: &RangeRequest) -> (usize, i64, usize) {
    GIVEN_OUT.set(0);
    let reply = view.range(request).expect("readable");
    (reply.records.len(), reply.count, GIVEN_OUT.get())
}

#[test]
fn a_page_costs_its_length_and_a_count_nothing_however_much_there_is() {
    let mut store = Store::new();
    (0..KEYS).for_each(|number| put(&mut store, number));
    let old = store.current_revision();
    // A client lists page by page while others write.
    (0..50).for_each(|number| put(&mut store, KEYS + number));
    let from = KEYS / 3;
    let page = RangeRequest {
        key: key(from),
        range_end: Bytes::from_static(b"\0"),
        limit: PAGE as i64,
        ..RangeRequest::default()
    };
    let count_only = RangeRequest {
        count_only: true,
        ..page.clone()
    };
    let keys_only = RangeRequest {
        keys_only: true,
        ..page.clone()
    };
    let last_first = RangeRequest {
        sort_order: 2,
        ..page.clone()
    };
    for (revision, more) in [(0, 50), (old, 0)] {
        let at = |request: &RangeRequest| RangeRequest {
            revision,
            ..request.clone()
        };
        let view = store.view();
        let count = (KEYS - from + more) as i64;
        let (pairs, counted, looked_at) = run(&view, &at(&count_only));
        assert_eq!((pairs, counted), (0, count));
        // An older count is corrected by what was written since.
        let written_since = if revision == 0 { 0 } else { 50 + 1 };
        assert!(
            looked_at <= written_since,
            "{looked_at} entries for a count"
        );
        for request in [&page, &keys_only, &last_first] {
            let (pairs, counted, looked_at) = run(&view, &at(request));
            assert_eq!((pairs, counted), (PAGE, count));
            assert!(
                // From the end, what is newer than the revision has to be passed.
                looked_at <= PAGE + BESIDE_THE_PAGE + 2 * written_since,
                "{looked_at} entries for a page of {PAGE}"
            );
        }
    }
}
