//! The history in files: what stays, what goes, what is read and what is refused.

use bytes::{Bytes, BytesMut};
use kvorum_proto::etcdserverpb::{RangeRequest, WatchCreateRequest};
use kvorum_proto::ids::LeaseId;
use kvorum_storage::segment::{Segment, SegmentId};

use super::disk::Disk;
use crate::range::RangeError;
use crate::watch::{Config, Input, Output, Room, StreamId, WatchHub};
use crate::{
    CompactError, HistoryBounds, ImportError, Interval, ReadError, RestoreError, Revision, Scrub,
    Store, StoreJob, UNWRITTEN_RUNS_MAX, View,
};

const KEYS: usize = 20;

fn put(store: &mut Store, key: usize, value: usize) {
    let (key, value) = (format!("key-{key:02}"), format!("value {value:04}"));
    let mut txn = store.begin();
    txn.put(key.as_bytes(), value.as_bytes(), LeaseId(0));
    assert!(txn.finish().is_some());
}

fn delete(store: &mut Store, key: usize) {
    let key = Bytes::from(format!("key-{key:02}"));
    let mut txn = store.begin();
    assert_eq!(txn.delete_range(&Interval::single(key)).len(), 1);
    assert!(txn.finish().is_some());
}

/// Some rounds of puts of every key in a few segments, all written.
fn written_store(disk: &mut Disk) -> Store {
    let mut store = Store::new();
    store.set_segment_bytes(600);
    for round in 0..6 {
        (0..KEYS).for_each(|key| put(&mut store, key, round));
    }
    delete(&mut store, 3);
    store.seal();
    disk.finish(&mut store);
    store.check_invariants();
    store
}

fn compact(store: &mut Store, revision: i64) {
    store.compact(revision).expect("reached");
    while store.compact_step(100).expect("undamaged").pending {}
}

fn checkpoint(disk: &mut Disk, store: &mut Store) {
    disk.begun = Some(store.image());
    disk.finish(store);
    assert!(disk.checkpoint(store));
}

fn everything() -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Default::default()
    }
}

#[test]
fn replaced_files_stay_until_a_checkpoint_does_not_list_them() {
    let mut disk = Disk::default();
    let mut store = written_store(&mut disk);
    checkpoint(&mut disk, &mut store);
    let before: Vec<_> = disk.files.keys().copied().collect();
    compact(&mut store, 100);
    // A checkpoint that begins before the copy lists what the copy replaces.
    disk.begun = Some(store.image());
    assert!(store.copy());
    disk.finish(&mut store);
    let retired = store.segment_counts().retired;
    assert!(retired > 0);
    assert!(disk.checkpoint(&mut store));
    disk.finish(&mut store);
    assert!(before.iter().all(|id| disk.files.contains_key(id)));
    disk.crash().check_invariants();

    checkpoint(&mut disk, &mut store);
    disk.finish(&mut store);
    let left = before.iter().filter(|id| disk.files.contains_key(id));
    assert_eq!(left.count(), before.len() - retired);
    assert_eq!(store.segment_counts().retired, 0);
    disk.crash().check_invariants();
}

#[test]
fn the_copier_leaves_little_that_is_dead_and_few_small_files() {
    let mut disk = Disk::default();
    let mut store = written_store(&mut disk);
    let view = store.view();
    let all = view.range(&everything()).expect("readable");
    let old = view.range(&RangeRequest {
        revision: 50,
        ..everything()
    });
    let newest = store.current_revision();
    compact(&mut store, newest);
    let counts = store.segment_counts();
    assert!(
        counts.segments > 5 && counts.live_bytes * 3 < counts.stored_bytes,
        "{counts:?}"
    );
    while store.copy() {
        disk.finish(&mut store);
        store.check_invariants();
    }
    let counts = store.segment_counts();
    assert!(
        counts.segments <= 3 && counts.live_bytes * 10 > counts.stored_bytes * 7,
        "{counts:?}"
    );
    assert_eq!(store.view().range(&everything()).as_ref(), Ok(&all));
    assert_eq!(
        view.range(&RangeRequest {
            revision: 50,
            ..everything()
        }),
        old,
        "views stay"
    );
}

#[test]
fn a_segment_of_which_nothing_is_left_has_no_successor() {
    let mut disk = Disk::default();
    let mut store = Store::new();
    put(&mut store, 1, 1);
    delete(&mut store, 1);
    store.seal();
    put(&mut store, 2, 1);
    store.seal();
    disk.finish(&mut store);
    let newest = store.current_revision();
    compact(&mut store, newest);
    assert!(store.copy());
    disk.finish(&mut store);
    store.check_invariants();
    assert_eq!(store.segment_counts().segments, 1);
    assert_eq!(store.view().count(&Interval::all(), 0), Ok(1));
}

#[test]
fn a_store_with_many_unwritten_runs_says_so() {
    let mut disk = Disk::default();
    let mut store = Store::new();
    for run in 0..=UNWRITTEN_RUNS_MAX {
        assert!(!store.is_backlogged());
        put(&mut store, run, 1);
        store.seal();
    }
    assert!(store.is_backlogged());
    disk.work(&mut store, 2);
    assert!(!store.is_backlogged());
}

/// A view over the segments of a store, each of them with some bytes changed.
fn damaged(disk: &Disk, store: &mut Store, mut change: impl FnMut(&mut BytesMut)) -> Option<View> {
    let image = store.image();
    let segments = image.segments.iter().map(|id| {
        let mut file = BytesMut::from(disk.files[id].clone());
        change(&mut file);
        Segment::open(*id, file.freeze()).ok()
    });
    let segments = segments.collect::<Option<Vec<_>>>()?;
    Some(Store::restore(&image, segments).ok()?.view())
}

/// Every bit that is not found when the file is opened is found when it is read.
#[test]
fn a_flipped_bit_is_refused_and_never_served() {
    let mut disk = Disk::default();
    let mut store = Store::new();
    for round in 0..2 {
        (0..3).for_each(|key| put(&mut store, key, round));
    }
    delete(&mut store, 2);
    store.seal();
    disk.finish(&mut store);
    let (length, whole) = (disk.files[&SegmentId(1)].len(), store.view());
    let bounds = HistoryBounds {
        revisions_max: 100,
        bytes_max: usize::MAX,
    };
    let history = |view: &View| view.history(2, bounds).map(|history| history.batches);
    let (mut at_open, mut at_read) = (0, 0);
    for bit in 0..length * 8 {
        let flip = |file: &mut BytesMut| file[bit / 8] ^= 1 << (bit % 8);
        let Some(view) = damaged(&disk, &mut store, flip) else {
            at_open += 1;
            continue;
        };
        at_read += 1;
        let refused = matches!(history(&view), Err(ReadError::Damaged(_)));
        assert!(refused, "bit {bit}");
        assert!(view.hash_kv(0).is_err() && view.records().any(|record| record.is_err()));
        for revision in 1..=whole.current_revision() {
            let request = RangeRequest {
                revision,
                ..everything()
            };
            match view.range(&request) {
                Err(ReadError::Damaged(damage)) => assert_eq!(damage.segment, SegmentId(1)),
                answer => assert_eq!(answer, whole.range(&request), "bit {bit}"),
            }
        }
    }
    assert!(at_open > 100 && at_read > 100, "{at_open} {at_read}");
}

/// Damages every frame: what answers then has read none.
fn without_values(disk: &Disk, store: &mut Store) -> Store {
    without_values_in(disk, store, |_| true)
}

/// The same in some segments alone.
fn without_values_in(
    disk: &Disk,
    store: &mut Store,
    is_spoiled: impl Fn(SegmentId) -> bool,
) -> Store {
    let image = store.image();
    let segments = image.segments.iter().map(|id| {
        let file = &disk.files[id];
        if !is_spoiled(*id) {
            return Segment::open(*id, file.clone()).expect("it is whole");
        }
        let text: &[u8] = b"value ";
        let mut spoiled = BytesMut::from(file.clone());
        for at in 0..file.len() - text.len() {
            if &file[at..at + text.len()] == text {
                spoiled[at] = b'V';
            }
        }
        Segment::open(*id, spoiled.freeze()).expect("frames are checked when they are read")
    });
    Store::restore(&image, segments.collect()).expect("frames are not read")
}

#[test]
fn what_frees_nothing_is_measured_without_a_look_at_it() {
    let mut disk = Disk::default();
    let mut store = Store::new();
    (0..200).for_each(|key| put(&mut store, key, 0));
    // In the last stretch of the file, of which the lengths have to be read.
    put(&mut store, 0, 1);
    delete(&mut store, 1);
    store.seal();
    disk.finish(&mut store);
    let image = store.image();
    let file = &disk.files[&image.segments[0]];
    let stored = |view: &View| -> Vec<usize> {
        let lengths = view.stored_lengths();
        let lengths = lengths.map(|length| length.expect("undamaged").pair_bytes);
        lengths.collect()
    };
    let expected: Vec<usize> = store
        .view()
        .stored()
        .map(|stored| stored.expect("undamaged").pair.len())
        .collect();
    assert_eq!(stored(&store.view()), expected);
    // Without the bytes of the first stretches nothing could be told from them.
    let (first, unread) = (file.len() / 100, file.len() / 4);
    let mut spoiled = BytesMut::from(file.clone());
    spoiled[first..unread].fill(0xff);
    let segment = Segment::open(image.segments[0], spoiled.freeze());
    let segment = segment.expect("frames are checked when they are read");
    let store = Store::restore(&image, vec![segment]).expect("frames are not read");
    assert_eq!(stored(&store.view()), expected);
    assert!(store.view().stored().any(|stored| stored.is_err()));
}

#[test]
fn keys_counts_and_writes_come_from_the_index_alone() {
    let mut disk = Disk::default();
    let mut store = written_store(&mut disk);
    let keys_only = RangeRequest {
        keys_only: true,
        sort_order: 2,
        sort_target: 3,
        ..everything()
    };
    let keys = store.view().range(&keys_only);
    let whole = store.view().range(&everything()).expect("undamaged");
    let count_bytes = 2;
    let all = whole.encoded_len(None) - count_bytes;
    let within = |most| store.view().range_within(&everything(), most);
    assert_eq!(within(all), Ok(whole.clone()));
    assert_eq!(within(all - 1), Err(RangeError::TooLarge { bytes: all }));
    let mut store = without_values(&disk, &mut store);
    let view = store.view();
    assert_eq!(view.range(&keys_only), keys);
    let count_only = RangeRequest {
        count_only: true,
        ..everything()
    };
    assert_eq!(
        view.range(&count_only).map(|reply| reply.count),
        Ok(KEYS as i64 - 1)
    );
    // So is the length of what is too long.
    assert_eq!(
        view.range_within(&everything(), 0),
        Err(RangeError::TooLarge { bytes: all })
    );
    assert_eq!(view.live_changes(&Interval::all()).count(), KEYS - 1);
    assert!(view.get(b"key-00").is_err() && view.range(&everything()).is_err());
    put(&mut store, 0, 7);
    delete(&mut store, 1);
    assert_eq!(
        store
            .view()
            .change(b"key-00")
            .map(|change| change.version()),
        Some(7)
    );
    assert!(
        store.view().get(b"key-00").is_ok(),
        "the new pair lies in memory"
    );
}

#[test]
fn damage_stops_compactions_copies_and_the_hub() {
    let mut disk = Disk::default();
    let mut whole = written_store(&mut disk);
    let mut store = without_values(&disk, &mut whole);
    let config = Config {
        cluster: kvorum_proto::ids::ClusterId(1),
        member: kvorum_proto::ids::MemberId(2),
        message_bytes_max: 1024,
        progress_interval: std::time::Duration::ZERO,
        leaderless_max: std::time::Duration::ZERO,
        seed: 0,
    };
    let mut hub = WatchHub::new(config, View::default());
    let window = Room {
        messages: 10,
        bytes: 1000,
    };
    let (stream, requires_leader) = (StreamId(1), false);
    let opened = Input::StreamOpened {
        stream,
        window,
        requires_leader,
    };
    let now = kvorum_proto::ids::Moment::default();
    hub.step(now, opened);
    let request = WatchCreateRequest {
        key: Bytes::from_static(b"key-00"),
        start_revision: 1,
        ..Default::default()
    };
    let (view, denied) = (View::default(), None);
    let create = Input::Create {
        stream,
        request,
        view,
        denied,
    };
    hub.step(now, create);
    while hub.take_output().is_some() {}
    let view = store.view();
    hub.step(now, Input::Compacted { view });
    assert!(!hub.poll(usize::MAX));
    let outputs: Vec<_> = std::iter::from_fn(|| hub.take_output()).collect();
    assert!(matches!(outputs[..], [Output::Damaged(_)]), "{outputs:?}");

    let refused = store.compact(100);
    assert!(matches!(refused, Err(CompactError::Damaged(_))));

    compact(&mut whole, 92);
    let mut store = without_values(&disk, &mut whole);
    assert!(store.copy());
    let Some(StoreJob::Write(mut image)) = store.take_job() else {
        panic!("a copy is a file to write");
    };
    let mut steps = (0..100).map(|_| image.step(1000));
    assert!(steps.any(|step| step.is_err()));
}

/// Damage that nobody reads is not met: that is how it shows that a file is not read.
#[test]
fn a_compaction_reads_no_old_segment_in_which_nothing_dies() {
    let mut disk = Disk::default();
    let mut store = Store::new();
    (0..KEYS).for_each(|key| put(&mut store, key, 0));
    store.seal();
    (0..KEYS).for_each(|key| put(&mut store, KEYS + key, 1));
    disk.finish(&mut store);
    // The first compaction after a segment was written has to read it.
    for _ in 0..2 {
        let newest = store.current_revision();
        compact(&mut store, newest);
        put(&mut store, KEYS, 2);
    }
    let [id] = store.image().segments[..1] else {
        panic!("there is a segment");
    };
    let mut spoiled = BytesMut::from(disk.files[&id].clone());
    spoiled[100] ^= 1;
    let spoiled = super::disk::open(id, spoiled.freeze());
    store.view.log.replace(&[id], Some(spoiled));
    let newest = store.current_revision();
    compact(&mut store, newest);

    put(&mut store, 0, 3);
    let newest = store.current_revision();
    store.compact(newest).expect("reached");
    assert!(
        store.compact_step(1000).is_err(),
        "something in the segment dies"
    );
}

#[test]
fn other_segments_than_the_listed_are_refused() {
    let mut disk = Disk::default();
    let mut store = written_store(&mut disk);
    let image = store.image();
    let open = |id: &SegmentId| super::disk::open(*id, disk.files[id].clone());
    let all: Vec<Segment> = image.segments.iter().map(open).collect();
    let refused = |segments: &[usize]| {
        let segments = segments.iter().map(|number| all[*number].clone());
        Store::restore(&image, segments.collect()).err()
    };
    let every: Vec<usize> = (0..all.len()).collect();
    assert_eq!(refused(&every), None);
    let missing = RestoreError::OtherSegments {
        found: SegmentId(0),
        listed: image.segments[all.len() - 1],
    };
    assert_eq!(refused(&every[..all.len() - 1]), Some(missing));
    assert!(matches!(
        refused(&[1, 0]),
        Some(RestoreError::OtherSegments { .. })
    ));
    let mut older = image.clone();
    older.current_revision = 20;
    let later = Store::restore(&older, all.clone()).err();
    assert!(
        matches!(later, Some(RestoreError::OutOfOrder { .. })),
        "{later:?}"
    );
    let mut smaller = image.clone();
    smaller.sizes.in_use_bytes -= 1;
    let other = Store::restore(&smaller, all.clone()).err();
    assert!(
        matches!(other, Some(RestoreError::OtherSize { .. })),
        "{other:?}"
    );
}

#[test]
fn a_database_file_is_imported_with_its_hash() {
    let mut disk = Disk::default();
    let mut store = written_store(&mut disk);
    for compacted in [-1, 90, store.current_revision()] {
        if compacted > 0 {
            compact(&mut store, compacted);
        }
        let mut imported = Store::new();
        imported.set_segment_bytes(500);
        for record in store.view().records() {
            let record = record.expect("undamaged");
            let (at, is_tombstone) = (record.mod_revision(), record.is_tombstone());
            let taken = imported.import(at, is_tombstone, record.stored());
            taken.expect("ours can be read back");
        }
        imported
            .finish_import(store.current_revision(), compacted)
            .expect("undamaged");
        imported.check_invariants();
        assert!(
            matches!(imported.take_job(), Some(StoreJob::Write(_))),
            "sealed on the way"
        );
        let (view, before) = (imported.view(), store.view());
        assert_eq!(view.hash_kv(-1), before.hash_kv(-1));
        assert_eq!(view.range(&everything()), before.range(&everything()));
        assert_eq!(view.sizes().in_use_bytes, before.sizes().in_use_bytes);
        assert_eq!(view.current_revision(), before.current_revision());
    }
}

#[test]
fn what_no_store_writes_is_not_imported() {
    let check = |at: (i64, i64), is_tombstone, stored: &[u8]| {
        let mut store = Store::new();
        put(&mut store, 1, 1);
        let (main, sub) = at;
        store.import(Revision { main, sub }, is_tombstone, stored)
    };
    // key a, create 3, mod 3, version 1
    let pair = b"\x0a\x01a\x10\x03\x18\x03\x20\x01";
    assert_eq!(check((3, 0), false, pair), Ok(()));
    assert_eq!(check((3, 0), true, b"\x0a\x01a"), Ok(()));
    assert!(matches!(
        check((2, 0), false, pair),
        Err(ImportError::OutOfOrder { .. })
    ));
    for (at, is_tombstone, stored) in [
        ((4, 0), false, &pair[..]),
        ((3, -1), false, pair),
        ((3, 0), false, b"\x0a\x01a\x10\x03\x18\x03"),
        ((3, 0), true, b"\x10\x03"),
        ((3, 0), false, b"\x0a\x09a"),
    ] {
        let refused = check(at, is_tombstone, stored);
        assert!(
            matches!(refused, Err(ImportError::Malformed { .. })),
            "{at:?} {stored:?}"
        );
    }
}

#[test]
fn the_scrub_reads_all_files_round_after_round_while_they_change() {
    let mut disk = Disk::default();
    let mut store = written_store(&mut disk);
    let mut scrub = Scrub::default();
    let mut round = |store: &Store| {
        let (mut bytes, mut steps) = (0, 0);
        loop {
            let step = scrub.step(&store.view(), 50).expect("nothing is damaged");
            if step.is_round {
                return (bytes, steps);
            }
            bytes += step.bytes;
            steps += 1;
        }
    };
    let first = round(&store);
    assert!(first.0 as u64 > store.segment_counts().stored_bytes);
    assert!(first.1 > 4, "a step is bounded: {first:?}");
    assert_eq!(round(&store), first, "it begins again");
    put(&mut store, 0, 9);
    store.seal();
    disk.finish(&mut store);
    assert!(round(&store).0 > first.0, "new files are read, too");
    let damaged = without_values(&disk, &mut store);
    let mut scrub = Scrub::default();
    let found = std::iter::repeat_with(|| scrub.step(&damaged.view(), 50)).take(1000);
    assert!(
        found.into_iter().any(|step| step.is_err()),
        "damage is found unasked"
    );
}

#[test]
fn the_first_compaction_after_a_restart_reads_only_files_in_which_something_dies() {
    let mut disk = Disk::default();
    let mut store = written_store(&mut disk);
    // The second of two compactions keeps what it hashes below the first.
    for key in [KEYS, KEYS + 1] {
        let newest = store.current_revision();
        compact(&mut store, newest);
        put(&mut store, key, 1);
    }
    store.seal();
    disk.finish(&mut store);
    let image = store.image();
    assert!(image.sections.len() > 5, "{:?}", image.sections);
    let kept: Vec<SegmentId> = image.sections.iter().map(|kept| kept.segment).collect();
    let restored = without_values_in(&disk, &mut store, |id| kept.contains(&id));
    let finished = [restored, store].map(|mut store| {
        put(&mut store, KEYS + 2, 1);
        let newest = store.current_revision();
        store.compact(newest).expect("reached");
        loop {
            let step = store.compact_step(7).expect("no damaged file is read");
            if let Some(finished) = step.finished {
                return finished;
            }
        }
    });
    assert_eq!(finished[0], finished[1]);
}
