//! Answers that were seen on official servers or stand in the rules.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::RangeRequest;
use kvorum_proto::ids::LeaseId;

use crate::range::{Pages, StreamError};
use crate::{
    CompactError, Counts, HASHES_KEPT_MAX, HistoryBounds, Interval, ReadError, STORE_BASE_BYTES,
    Store, View,
};

fn put(store: &mut Store, key: &str, value: &str) {
    let mut txn = store.begin();
    txn.put(key.as_bytes(), value.as_bytes(), LeaseId(0));
    assert!(txn.finish().is_some());
}

fn delete(store: &mut Store, key: &str) -> bool {
    let mut txn = store.begin();
    txn.delete_range(&Interval::single(Bytes::copy_from_slice(key.as_bytes())));
    txn.finish().is_some()
}

fn finish_compaction(store: &mut Store) -> u64 {
    let mut removed = 0;
    while store.is_compacting() {
        removed += store.compact_step(2).expect("undamaged").removed;
    }
    store.check_invariants();
    removed
}

fn keys(view: &View, request: &RangeRequest) -> Vec<String> {
    let reply = view.range(request).expect("the revision can be read");
    let key = |record: &crate::Record| String::from_utf8(record.key().to_vec()).expect("text");
    reply.records.iter().map(key).collect()
}

/// The history of the example in the definition of HashKV.
fn example_store() -> Store {
    let mut store = Store::new();
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    put(&mut store, "a", "2");
    assert!(delete(&mut store, "b"));
    put(&mut store, "c", "1");
    store
}

/// Seen on 3.4.23 and 3.5.1: `a@4` survives the compaction in the database but is not hashed.
#[test]
fn hash_leaves_out_what_a_compaction_kept_and_a_put_replaced() {
    let mut store = example_store();
    store.compact(6).expect("6 is reached");
    put(&mut store, "a", "3");
    let hash = store.view().hash_kv(0).expect("the newest revision");
    assert_eq!(
        (hash.hash, hash.revision, hash.compact_revision),
        (643_951_048, 7, 6)
    );
    finish_compaction(&mut store);
    assert_eq!(
        store.view().hash_kv(0),
        Ok(hash),
        "removal does not change a hash"
    );
}

/// Two records of a database of 3.4.23, compacted at its current revision 26.
#[test]
fn hash_of_an_official_database_is_met() {
    let mut store = Store::new();
    while store.current_revision() < 12 {
        put(&mut store, "gone", "");
    }
    put(&mut store, "a", "b");
    for value in ["a", "b", "c", "d", "e"] {
        put(&mut store, "k1", value);
    }
    put(&mut store, "gone", "");
    put(&mut store, "gone", "");
    put(&mut store, "k1", "f");
    assert!(delete(&mut store, "gone"));
    while store.current_revision() < 26 {
        put(&mut store, "x", "");
        assert!(delete(&mut store, "x"));
    }
    store.compact(26).expect("26 is reached");
    let hash = store.view().hash_kv(0).expect("the newest revision");
    assert_eq!((hash.hash, hash.revision), (4_080_491_283, 26));
}

#[test]
fn hash_at_a_compaction_is_the_one_from_before_it() {
    let mut store = example_store();
    let before = store.view().hash_kv(6).expect("6 is the newest");
    store.compact(6).expect("6 is reached");
    assert_eq!(store.view().hash_kv(6), Ok(before));
    finish_compaction(&mut store);
    assert_eq!(store.view().hash_kv(6), Ok(before));
    assert_eq!(before.compact_revision, -1);
    let newest = store.view().hash_kv(0).expect("the newest revision");
    assert_eq!(
        newest.compact_revision, 6,
        "0 is never answered from the kept hashes"
    );
}

#[test]
fn the_last_ten_compactions_keep_their_hashes() {
    let mut store = Store::new();
    for _ in 0..=HASHES_KEPT_MAX {
        put(&mut store, "a", "1");
        let revision = store.current_revision();
        store.compact(revision).expect("reached");
    }
    let compacted = store.compact_revision();
    let first = compacted - HASHES_KEPT_MAX as i64;
    let refused = Err(ReadError::Compacted {
        asked: first,
        compacted,
    });
    assert_eq!(store.view().hash_kv(first), refused);
    assert!(store.view().hash_kv(first + 1).is_ok());
}

#[test]
fn compaction_is_bounded_by_the_last_one_and_the_current_revision() {
    let mut store = example_store();
    assert_eq!(store.compact_revision(), -1);
    assert_eq!(store.compact(0), Ok(()));
    assert_eq!(
        store.compact(0),
        Err(CompactError::Compacted {
            asked: 0,
            compacted: 0
        })
    );
    assert_eq!(
        store.compact(7),
        Err(CompactError::Future {
            asked: 7,
            current: 6
        })
    );
    assert_eq!(store.compact(6), Ok(()));
    assert_eq!(
        store.compact(5),
        Err(CompactError::Compacted {
            asked: 5,
            compacted: 6
        })
    );
    assert!(store.view().readable(6).is_ok());
    assert_eq!(
        store.view().readable(5),
        Err(ReadError::Compacted {
            asked: 5,
            compacted: 6
        })
    );
}

#[test]
fn compaction_removes_what_no_read_can_see() {
    let mut store = example_store();
    store.compact(5).expect("5 is reached");
    // `a@2` and `b@3` go; the tombstone `b@5` lies exactly at the compaction and stays.
    assert_eq!(finish_compaction(&mut store), 2);
    assert_eq!(store.view().keys(), 3);
    store.compact(6).expect("6 is reached");
    assert_eq!(finish_compaction(&mut store), 1);
    assert_eq!(store.view().keys(), 2);
    assert_eq!(store.counts().compacted_records, 3);
}

#[test]
fn a_watch_from_the_compacted_revision_still_sees_its_delete() {
    let mut store = example_store();
    store.compact(5).expect("5 is reached");
    finish_compaction(&mut store);
    let bounds = HistoryBounds {
        revisions_max: 1,
        bytes_max: usize::MAX,
    };
    let history = store.view().history(5, bounds).expect("5 can be read");
    assert_eq!(history.next_revision, 6);
    assert!(history.batches[0].events[0].is_delete());
    assert_eq!(
        store.view().previous(&history.batches[0].events[0]),
        Ok(None),
        "4 is compacted"
    );
    let refused = store.view().history(4, bounds).err();
    assert_eq!(
        refused,
        Some(ReadError::Compacted {
            asked: 4,
            compacted: 5
        })
    );
    let beyond = store.view().history(9, bounds).expect("nothing there yet");
    assert_eq!((beyond.batches.len(), beyond.next_revision), (0, 9));
}

#[test]
fn a_request_that_changes_nothing_keeps_the_revision() {
    let mut store = Store::new();
    assert_eq!(store.current_revision(), 1);
    assert!(!delete(&mut store, "a"));
    assert_eq!(store.current_revision(), 1);
    put(&mut store, "a", "1");
    put(&mut store, "a", "1");
    assert_eq!(store.current_revision(), 3);
    let version = store.view().change(b"a").map(|pair| pair.version());
    assert_eq!(version, Some(2));
}

#[test]
fn a_range_in_a_transaction_may_not_ask_below_the_compacted_revision() {
    let mut store = example_store();
    assert_eq!(store.view().check_txn_revision(-1), Ok(()));
    let below = ReadError::Compacted {
        asked: -2,
        compacted: -1,
    };
    assert_eq!(store.view().check_txn_revision(-2), Err(below));
    store.compact(3).expect("3 is reached");
    let below = ReadError::Compacted {
        asked: -1,
        compacted: 3,
    };
    assert_eq!(store.view().check_txn_revision(-1), Err(below));
    assert_eq!(store.view().check_txn_revision(0), Ok(()));
    let future = ReadError::Future {
        asked: 7,
        current: 6,
    };
    assert_eq!(store.view().check_txn_revision(7), Err(future));
}

/// The example of rule 6: without an order, only limit + 1 pairs in key order are sorted.
#[test]
fn a_sort_target_without_order_sorts_the_first_keys_only() {
    let mut store = Store::new();
    for key in ["s1", "s1", "s1", "s2", "s2", "s3"] {
        put(&mut store, key, "");
    }
    let mut request = RangeRequest {
        key: Bytes::from_static(b"s"),
        range_end: Bytes::from_static(b"t"),
        limit: 1,
        sort_target: 1,
        ..Default::default()
    };
    assert_eq!(keys(&store.view(), &request), ["s2"]);
    request.sort_order = 1;
    assert_eq!(keys(&store.view(), &request), ["s3"]);
    request.sort_order = 2;
    assert_eq!(keys(&store.view(), &request), ["s1"]);
}

#[test]
fn a_stream_refuses_orders_and_filters() {
    let view = example_store().view();
    let request = RangeRequest {
        key: Bytes::from_static(b"a"),
        ..Default::default()
    };
    let error = |request: &RangeRequest| Pages::new(view.clone(), request, 1024).err();
    assert_eq!(error(&request), None);
    let by_value = RangeRequest {
        sort_target: 4,
        ..request.clone()
    };
    assert_eq!(
        error(&by_value),
        None,
        "a target without an order is the natural one"
    );
    let sorted = RangeRequest {
        sort_order: 2,
        min_mod_revision: 1,
        ..request.clone()
    };
    assert_eq!(error(&sorted), Some(StreamError::SortOrder));
    let filtered = RangeRequest {
        min_mod_revision: 1,
        ..request.clone()
    };
    assert_eq!(error(&filtered), Some(StreamError::RevisionFilter));
    let future = RangeRequest {
        revision: 7,
        ..request
    };
    let refused = ReadError::Future {
        asked: 7,
        current: 6,
    };
    assert_eq!(error(&future), Some(StreamError::Read(refused)));
}

#[test]
fn chunks_of_a_stream_grow_while_they_are_small() {
    let mut store = Store::new();
    for key in 0..100 {
        put(&mut store, &format!("k{key:03}"), "");
    }
    let request = RangeRequest {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"l"),
        ..Default::default()
    };
    let sizes = |target| -> Vec<usize> {
        let pages = Pages::new(store.view(), &request, target).expect("can be streamed");
        pages
            .map(|page| page.expect("undamaged").reply.records.len())
            .collect()
    };
    assert_eq!(sizes(1 << 20), [10, 20, 40, 30]);
    assert_eq!(sizes(64)[..4], [10, 5, 5, 5]);
}

#[test]
fn a_chunk_goes_on_with_the_very_next_key() {
    let mut store = Store::new();
    for key in [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "9\0", "9\0\0", "9\x01",
    ] {
        put(&mut store, key, "");
    }
    let request = RangeRequest {
        key: Bytes::from_static(b"0"),
        range_end: Bytes::from_static(b"\0"),
        ..Default::default()
    };
    let pages = Pages::new(store.view(), &request, 1024).expect("can be streamed");
    let sizes: Vec<usize> = pages
        .map(|page| page.expect("undamaged").reply.records.len())
        .collect();
    assert_eq!(sizes, [10, 3]);
}

/// The size test of official suites: a quota of 13 pages takes a small put, then a few of 4 KiB,
/// and compaction with defragmentation brings the room back.
#[test]
fn a_small_quota_is_usable_and_recovers() {
    const QUOTA_BYTES: u64 = 13 * 4096;
    let mut store = Store::new();
    assert_eq!(store.view().sizes().total_bytes, STORE_BASE_BYTES);
    put(&mut store, "1st", &"a".repeat(64));
    let page = "b".repeat(4096);
    let mut puts = 0;
    while store.view().sizes().total_bytes + page.len() as u64 + 256 < QUOTA_BYTES {
        put(&mut store, "2nd", &page);
        puts += 1;
    }
    assert!((3..10).contains(&puts), "{puts} puts");
    let full = store.view().sizes();
    store.compact(store.current_revision()).expect("reached");
    let compacted = store.view().sizes();
    assert_eq!(compacted.total_bytes, full.total_bytes);
    assert!(
        compacted.in_use_bytes < STORE_BASE_BYTES + 2 * 4096,
        "in use falls at once"
    );
    store.defragment();
    assert_eq!(store.view().sizes().total_bytes, compacted.in_use_bytes);
    finish_compaction(&mut store);
    assert_eq!(store.view().sizes().in_use_bytes, compacted.in_use_bytes);
}

#[test]
fn a_key_written_often_is_read_at_each_revision() {
    let mut store = Store::new();
    for value in 0..500 {
        put(&mut store, "hot", &value.to_string());
    }
    for value in 0..500 {
        let pair = store.view().get_at(b"hot", value + 2).expect("readable");
        assert_eq!(pair.expect("written").value(), value.to_string().as_bytes());
    }
    store.compact(400).expect("reached");
    assert_eq!(finish_compaction(&mut store), 398);
    let view = store.view();
    let oldest = view.get_at(b"hot", 400).expect("readable").expect("kept");
    assert_eq!(oldest.value(), b"398");
}

#[test]
fn counts_follow_the_operations() {
    let mut store = Store::new();
    put(&mut store, "a", "123");
    let mut txn = store.begin();
    txn.put(b"b", b"1", LeaseId(7));
    txn.delete_range(&Interval::all());
    let all = RangeRequest {
        key: Bytes::from_static(b"a"),
        ..Default::default()
    };
    assert_eq!(txn.range(&all).expect("newest").count, 0);
    assert_eq!(txn.finish().expect("changed").events.len(), 3);
    let expected = Counts {
        puts: 2,
        put_bytes: 6,
        deletes: 1,
        ranges: 1,
        txns: 1,
        compacted_records: 0,
    };
    assert_eq!(store.counts(), expected);
}
