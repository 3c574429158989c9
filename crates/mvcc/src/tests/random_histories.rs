//! Random histories, compared with the model: at every revision that can be read, in every view
//! that was ever taken, while runs become segments, segments are copied, and the process dies and
//! begins again with its last checkpoint.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::{RangeRequest, RangeResponse};
use kvorum_proto::ids::LeaseId;
use kvorum_proto::mvccpb::KeyValue;
use proptest::prelude::*;
use prost::Message;

use super::disk::Disk;
use super::model::{Change, Model};
use crate::range::{Page, Pages};
use crate::{
    EventBatch, HistoryBounds, Interval, ReadError, Record, Store, StoredLength, View, WriteTxn,
};

#[derive(Clone, Debug)]
enum Op {
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        interval: Interval,
    },
}

#[derive(Clone, Debug)]
enum Step {
    Txn(Vec<Op>),
    /// Compacts this many revisions below the current one; `Remove` does a step of the removal.
    Compact(i64),
    Remove(usize),
    View,
    Defragment,
    Seal,
    /// Does one of the jobs that wait.
    Work(usize),
    Copy,
    /// Begins a checkpoint, or makes the one begun durable.
    Checkpoint,
    Crash,
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(b'a'..=b'c', 1..=2).prop_map(Bytes::from)
}

fn interval() -> impl Strategy<Value = (Bytes, Bytes)> {
    let end = prop_oneof![
        2 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(b"\0")),
        3 => key(),
    ];
    (key(), end)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (key(), 0..4u8, 0..2i64).prop_map(|(key, value, lease)| {
            let value = Bytes::from(vec![b'v'; value.into()]);
            Op::Put { key, value, lease }
        }),
        2 => interval().prop_map(|(key, end)| Op::Delete { interval: Interval::from_wire(key, end) }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(op(), 0..4).prop_map(Step::Txn),
        2 => (0..12i64).prop_map(Step::Compact),
        3 => (1..9usize).prop_map(Step::Remove),
        2 => Just(Step::View),
        1 => Just(Step::Defragment),
        1 => Just(Step::Seal),
        6 => (0..4usize).prop_map(Step::Work),
        3 => Just(Step::Copy),
        4 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ]
}

fn request() -> impl Strategy<Value = RangeRequest> {
    let filters = prop::collection::vec(prop_oneof![4 => Just(0), 1 => 1..40i64], 4);
    let flags = (any::<bool>(), prop::bool::weighted(0.1));
    (interval(), -1..6i64, 0..3i32, 0..5i32, flags, filters).prop_map(
        |((key, range_end), limit, sort_order, sort_target, (keys_only, count_only), filters)| {
            RangeRequest {
                key,
                range_end,
                limit,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision: filters[0],
                max_mod_revision: filters[1],
                min_create_revision: filters[2],
                max_create_revision: filters[3],
                ..Default::default()
            }
        },
    )
}

fn change(record: &Record) -> Change {
    let revision = record.mod_revision();
    Change {
        main: revision.main,
        sub: revision.sub,
        key: record.key().to_vec(),
        value: (!record.is_tombstone()).then(|| record.value().to_vec()),
        lease: record.lease().0,
        create: record.create_revision(),
        version: record.version(),
        stored: record.stored().to_vec(),
    }
}

/// What a client sees of a pair when it asks for keys only.
fn without_value(pair: &Change, lease: i64) -> Change {
    let message = KeyValue {
        key: pair.key.clone().into(),
        create_revision: pair.create,
        mod_revision: pair.main,
        version: pair.version,
        value: Bytes::new(),
        lease,
    };
    Change {
        value: Some(vec![]),
        lease,
        stored: message.encode_to_vec(),
        ..pair.clone()
    }
}

/// Applies one op to both and compares what it returns.
fn apply(op: &Op, txn: &mut WriteTxn<'_>, model: &mut Model, main: i64, sub: &mut i64) {
    match op {
        Op::Put { key, value, lease } => {
            let record = txn.put(key, value, LeaseId(*lease));
            let before = model.pair(key, main);
            let expected = Change {
                main,
                sub: *sub,
                key: key.to_vec(),
                value: Some(value.to_vec()),
                lease: *lease,
                create: before.map_or(main, |before| before.create),
                version: before.map_or(1, |before| before.version + 1),
                stored: record.stored().to_vec(),
            };
            assert_eq!(change(&record), expected);
            model.push(expected);
            *sub += 1;
        }
        Op::Delete { interval } => {
            let live = txn.view().live(interval);
            let deleted: Vec<Change> = live.map(|pair| change(&pair.expect("undamaged"))).collect();
            assert_eq!(deleted, model.live(interval, main));
            let keys: Vec<_> = deleted.iter().map(|change| change.key.clone()).collect();
            let told = txn.delete_range(interval);
            assert_eq!(
                told.iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>(),
                keys
            );
            for before in deleted {
                let stored = before.stored[..2 + before.key.len()].to_vec();
                let (create, version, lease) = (0, 0, 0);
                let key = before.key;
                let sub_now = *sub;
                model.push(Change {
                    main,
                    sub: sub_now,
                    key,
                    value: None,
                    lease,
                    create,
                    version,
                    stored,
                });
                *sub += 1;
            }
        }
    }
}

fn run_txn(ops: &[Op], store: &mut Store, model: &mut Model) {
    let main = store.current_revision() + 1;
    let written = model.changes.len();
    let mut sub = 0;
    let mut txn = store.begin();
    for op in ops {
        apply(op, &mut txn, model, main, &mut sub);
        assert_eq!(txn.revision(), model.current);
        let all = RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..Default::default()
        };
        let seen = txn.range(&all).expect("the newest revision can be read");
        assert_eq!(
            seen.records.iter().map(change).collect::<Vec<_>>(),
            model.range(&all, main).pairs
        );
    }
    let events: Vec<Change> = txn.finish().map_or(vec![], |batch| {
        assert_eq!(batch.revision, main);
        batch
            .events
            .iter()
            .map(|event| change(&event.record))
            .collect()
    });
    assert_eq!(events, model.changes[written..]);
}

fn check_range(view: &View, model: &Model, request: &RangeRequest, revision: i64) {
    let mut expected = model.range(request, revision);
    // A pair that was read to sort it shows its lease without its value, another one neither.
    if request.keys_only {
        for pair in &mut expected.pairs {
            let lease = if request.sort_target == 4 {
                pair.lease
            } else {
                0
            };
            *pair = without_value(pair, lease);
        }
    }
    let reply = view
        .range(&RangeRequest {
            revision,
            ..request.clone()
        })
        .expect("readable");
    let pairs: Vec<Change> = reply.records.iter().map(change).collect();
    assert_eq!(
        (pairs, reply.more, reply.count),
        (expected.pairs, expected.more, expected.count)
    );
    for header in [None, Some(&b"\x18\x07"[..])] {
        let bytes = reply.encode(header);
        assert_eq!(bytes.len(), reply.encoded_len(header));
        let pieces: Vec<Bytes> = reply.clone().into_pieces(header).collect();
        assert_eq!(pieces.concat(), bytes);
        let message = RangeResponse::decode(bytes).expect("a response decodes");
        assert_eq!(message, reply.to_message(message.header));
        assert_eq!(
            message.header.map(|header| header.revision),
            header.map(|_| 7)
        );
    }
}

/// A stream returns what one range returns, whatever the sizes of its chunks.
fn check_pages(view: &View, request: &RangeRequest, revision: i64) {
    let request = RangeRequest {
        revision,
        ..request.clone()
    };
    for target in [8, 1 << 20] {
        let Ok(pages) = Pages::new(view.clone(), &request, target) else {
            return;
        };
        let pages: Vec<Page> = pages.map(|page| page.expect("undamaged")).collect();
        let (last, front) = pages.split_last().expect("there is a last message");
        assert!(last.last && front.iter().all(|page| !page.last && page.reply.count == 0));
        assert!(pages[0].reply.records.len() <= 10);
        let mut joined = last.reply.clone();
        joined.records = pages
            .iter()
            .flat_map(|page| page.reply.records.to_vec())
            .collect();
        let whole = view.range(&RangeRequest {
            sort_target: 0,
            ..request.clone()
        });
        // An order that asks for values shows leases, and is no order of its own here.
        let by_value = request.keys_only && request.sort_target == 4;
        if by_value {
            continue;
        }
        assert_eq!(Ok(joined), whole);
    }
}

fn check_history(view: &View, model: &Model, from: i64, revisions_max: usize, bytes_max: usize) {
    let bounds = HistoryBounds {
        revisions_max,
        bytes_max,
    };
    let (mut next, mut batches) = (from, Vec::<EventBatch>::new());
    while next <= model.current {
        let history = view.history(next, bounds).expect("not compacted");
        assert!(history.batches.len() <= revisions_max && history.next_revision > next);
        batches.extend(history.batches);
        next = history.next_revision;
    }
    let mut events = Vec::new();
    for batch in &batches {
        for event in &batch.events {
            assert_eq!(event.record.mod_revision().main, batch.revision);
            let seen = change(&event.record);
            assert_eq!(
                view.previous(event)
                    .expect("undamaged")
                    .as_ref()
                    .map(change)
                    .as_ref(),
                model.previous(&seen),
                "{event:?}"
            );
            events.push(seen);
        }
    }
    let rows: Vec<_> = model
        .rows
        .iter()
        .filter(|row| row.main >= from)
        .cloned()
        .collect();
    assert_eq!(events, rows);
}

fn check_view(view: &View, model: &Model, requests: &[RangeRequest]) {
    assert_eq!(view.current_revision(), model.current);
    assert_eq!(view.compact_revision(), model.compacted);
    let records = view
        .records()
        .map(|record| change(&record.expect("undamaged")));
    assert_eq!(records.collect::<Vec<_>>(), model.rows);
    let lengths = view.stored().map(|stored| {
        stored.map(|stored| StoredLength {
            is_tombstone: stored.is_tombstone,
            pair_bytes: stored.pair.len(),
        })
    });
    assert!(
        view.stored_lengths().eq(lengths),
        "lengths are of what is stored"
    );
    for revision in model.compacted.max(1)..=model.current {
        for request in requests {
            check_range(view, model, request, revision);
            check_pages(view, request, revision);
        }
        assert_eq!(view.hash_kv(revision), Ok(model.hash_kv(revision)));
        check_history(view, model, revision, 1 + revision as usize % 3, 40);
    }
    check_history(view, model, model.compacted, 1000, usize::MAX);
    for hash in model.hashes.iter().filter(|hash| hash.revision != 0) {
        assert_eq!(view.hash_kv(hash.revision), Ok(*hash));
    }
    for asked in 1..model.compacted {
        let (compacted, kept) = (model.compacted, |hash: &crate::HashKv| {
            hash.revision == asked
        });
        let refused = ReadError::Compacted { asked, compacted };
        assert_eq!(view.readable(asked), Err(refused));
        if !model.hashes.iter().any(kept) {
            assert_eq!(view.hash_kv(asked), Err(refused));
        }
    }
    let asked = model.current + 1;
    let future = ReadError::Future {
        asked,
        current: model.current,
    };
    assert_eq!(view.hash_kv(asked), Err(future));
}

/// A store with its disk, and the model of what it should be.
struct World {
    store: Store,
    disk: Disk,
    model: Model,
    /// The model at the checkpoint that was begun, and at the last durable one.
    begun: Model,
    durable: Model,
    views: Vec<(View, Model)>,
    segment_bytes: u64,
}

impl World {
    fn new(segment_bytes: u64) -> Self {
        let mut store = Store::new();
        store.set_segment_bytes(segment_bytes);
        World {
            store,
            disk: Disk::default(),
            model: Model::new(),
            begun: Model::new(),
            durable: Model::new(),
            views: Vec::new(),
            segment_bytes,
        }
    }

    fn step(&mut self, step: &Step) {
        let World { store, model, .. } = self;
        match step {
            Step::Txn(ops) => run_txn(ops, store, model),
            Step::Compact(below) => {
                let revision = model.current - below;
                let accepted = store.compact(revision).is_ok();
                assert_eq!(accepted, revision > model.compacted);
                if accepted {
                    model.compact(revision);
                }
            }
            Step::Remove(budget) => {
                let step = store.compact_step(*budget).expect("undamaged");
                if let Some(finished) = step.finished {
                    let kept = model.hashes.iter();
                    let kept = kept.rev().find(|h| h.revision == finished.revision);
                    assert!(kept.is_none_or(|kept| *kept == finished.hash));
                }
            }
            Step::View => self.views.push((store.view(), model.clone())),
            Step::Defragment => {
                store.defragment();
                let sizes = store.view().sizes();
                assert_eq!(sizes.total_bytes, sizes.in_use_bytes);
            }
            Step::Seal => store.seal(),
            Step::Work(place) => self.disk.work(store, *place),
            Step::Copy => {
                store.copy();
            }
            Step::Checkpoint => self.checkpoint(),
            Step::Crash => self.crash(),
        }
        self.store.check_invariants();
    }

    fn checkpoint(&mut self) {
        if self.disk.begun.is_some() {
            if self.disk.checkpoint(&mut self.store) {
                self.durable = self.begun.clone();
            }
            return;
        }
        self.take_image();
    }

    fn take_image(&mut self) {
        let image = self.store.image();
        self.begun = self.model.clone();
        // A hash that is still being made is lost with a crash.
        self.begun.hashes.retain(|hash| image.hashes.contains(hash));
        self.disk.begun = Some(image);
    }

    fn crash(&mut self) {
        self.store = self.disk.crash();
        self.store.set_segment_bytes(self.segment_bytes);
        self.model = self.durable.clone();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_random_history_reads_like_the_model(
        segment_bytes in prop_oneof![Just(u64::MAX), 1..400u64],
        steps in prop::collection::vec(step(), 0..70),
        requests in prop::collection::vec(request(), 4..8),
    ) {
        let mut world = World::new(segment_bytes);
        for step in &steps {
            world.step(step);
        }
        check_view(&world.store.view(), &world.model, &requests);
        while world.store.compact_step(3).expect("undamaged").pending {}
        world.disk.finish(&mut world.store);
        while world.store.copy() {
            world.disk.finish(&mut world.store);
            world.store.check_invariants();
        }
        world.views.push((world.store.view(), world.model.clone()));
        world.take_image();
        world.disk.finish(&mut world.store);
        world.checkpoint();
        world.crash();
        world.store.check_invariants();
        world.views.push((world.store.view(), world.model.clone()));
        for (view, model) in &world.views {
            check_view(view, model, &requests);
        }
    }
}

fn wide_put() -> impl Strategy<Value = Op> {
    (prop::collection::vec(b'a'..=b'h', 2), 0..2i64).prop_map(|(key, lease)| Op::Put {
        key: key.into(),
        value: Bytes::from_static(b"v"),
        lease,
    })
}

/// Many compactions over many keys, so that most segments live through some of them as they are.
fn compacting_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(wide_put(), 1..4).prop_map(Step::Txn),
        1 => op().prop_map(|op| Step::Txn(vec![op])),
        3 => (0..3i64).prop_map(Step::Compact),
        12 => (1..40usize).prop_map(Step::Remove),
        4 => (0..2usize).prop_map(Step::Work),
        2 => Just(Step::Copy),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

    #[test]
    fn kept_hashes_of_segments_give_the_hash_of_the_model(
        segment_bytes in 60..300u64,
        steps in prop::collection::vec(compacting_step(), 150..250),
    ) {
        let mut world = World::new(segment_bytes);
        for step in &steps {
            world.step(step);
        }
        while world.store.is_compacting() {
            world.step(&Step::Remove(10));
        }
    }
}
