//! What a write costs in allocations once a store has been written to for a while, counted and not timed.
//!
//! This has a program of its own, since whatever else runs in it would be counted too. As in a server a view is
//! published behind each batch of writes, so that the next one finds all nodes shared.

#![allow(clippy::unwrap_used)] // What fails here fails the test.

use std::alloc::System;

use bytes::Bytes;
use kvorum_mvcc::{Interval, Store, View, ViewCell};
use kvorum_proto::ids::LeaseId;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Writes that are counted: as many of each of [`MANY`] keys as the largest piece of changes takes, so that all that a
/// key costs now and then is counted.
const WRITES: usize = 61 * MANY;
const MANY: usize = 1_000;
const VALUE: [u8; 256] = [b'v'; 256];

/// A store with some keys that were written so often.
struct Load {
    store: Store,
    cell: ViewCell,
    keys: Vec<Vec<u8>>,
    /// Where the next key is, in steps that are prime to their number.
    at: usize,
}

impl Load {
    fn new(keys: usize, writes_of_each: usize) -> Self {
        let store = Store::new();
        let mut load = Load {
            cell: ViewCell::new(store.view()),
            store,
            keys: (0..keys)
                .map(|key| format!("key-{key:06}").into())
                .collect(),
            at: 0,
        };
        load.put(keys * writes_of_each, 64);
        load
    }

    fn next_key(&mut self) -> usize {
        const STEP: usize = 7919;
        self.at = (self.at + STEP) % self.keys.len();
        self.at
    }

    fn put(&mut self, writes: usize, batch: usize) {
        for write in 0..writes {
            let key = self.next_key();
            let mut txn = self.store.begin();
            txn.put(&self.keys[key], &VALUE, LeaseId(0));
            txn.finish().unwrap();
            if write % batch == 0 {
                self.cell.publish(self.store.view());
            }
        }
    }

    /// Two keys per transaction, and each put that finds one deletes it.
    fn put_or_delete(&mut self, writes: usize, batch: usize) {
        for write in 0..writes / 2 {
            let pair = [self.next_key(), self.next_key()];
            let mut txn = self.store.begin();
            for key in pair {
                let key = &self.keys[key];
                if txn.view().change(key).is_none() {
                    txn.put(key, &VALUE, LeaseId(0));
                } else {
                    txn.delete_range(&Interval::single(Bytes::copy_from_slice(key)));
                }
            }
            txn.finish().unwrap();
            if write * 2 % batch == 0 {
                self.cell.publish(self.store.view());
            }
        }
    }
}

/// Allocations per write of what `write` does [`WRITES`] times.
fn count(write: impl FnOnce()) -> f64 {
    let region = Region::new(ALLOCATOR);
    write();
    let counted = region.change();
    (counted.allocations + counted.reallocations) as f64 / WRITES as f64
}

#[test]
fn steady_writes_take_few_allocations() {
    let mut report = Vec::new();
    let mut check = |what: &str, allocations: f64, most: f64| {
        report.push(format!(
            "{what}: {allocations:.3} per write, {most} at most"
        ));
        assert!(allocations <= most, "too many: {report:#?}");
    };
    let mut few = Load::new(64, 100);
    check("64 keys", count(|| few.put(WRITES, 64)), 0.3);
    check("one at a time", count(|| few.put(WRITES, 1)), 0.3);
    let mut many = Load::new(MANY, 30);
    check("1,000 keys", count(|| many.put(WRITES, 64)), 0.3);
    check("large batches", count(|| many.put(WRITES, 1_000)), 0.3);
    let mut held: Vec<View> = Vec::new();
    let held_views = count(|| {
        for _ in 0..WRITES / MANY {
            held = vec![many.store.view()];
            many.put(MANY, 64);
        }
    });
    check("a reader that stays", held_views, 0.3);
    // A delete makes lists of what it deletes, and two events take a list too.
    let mut mixed = Load::new(64, 100);
    let puts_and_deletes = count(|| mixed.put_or_delete(WRITES, 64));
    check("puts and deletes", puts_and_deletes, 3.0);
    eprintln!("{report:#?}");
}
