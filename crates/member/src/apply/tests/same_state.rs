//! The same log gives the same state, whatever differs between the members that apply it.

use kvorum_mvcc::{SegmentImage, StoreJob};
use kvorum_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest,
};
use kvorum_proto::membershippb::ClusterVersionSetRequest;
use kvorum_storage::checkpoint::{Listed, Manifest};
use kvorum_storage::segment::{MergeStep, Segment};
use proptest::prelude::*;

use super::*;
use crate::checkpoint::state_of;
use crate::cluster::{Change, Member, Roster};

fn key() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "b", "c", "d", "e"]).prop_map(str::to_owned)
}

fn put_any() -> impl Strategy<Value = PutRequest> {
    (key(), 0..4_i64, any::<[bool; 3]>()).prop_map(|(key, lease, flags)| PutRequest {
        prev_kv: flags[0],
        ignore_value: flags[1] && flags[2],
        ignore_lease: flags[1] && !flags[2],
        ..put_with(&key, lease)
    })
}

fn operation() -> impl Strategy<Value = Request> {
    prop_oneof![
        put_any().prop_map(Request::RequestPut),
        (key(), key()).prop_map(|(a, b)| Request::RequestDeleteRange(delete(&a, &b))),
        (key(), 0..9_i64).prop_map(|(key, at)| Request::RequestRange(range(&key, at))),
    ]
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let plain = proptest::collection::vec(operation(), 0..4).prop_map(then);
    plain.prop_recursive(2, 8, 2, |nested| {
        let operations = proptest::collection::vec(operation(), 0..3);
        (operations, nested).prop_map(|(mut operations, nested)| {
            operations.push(Request::RequestTxn(nested));
            then(operations)
        })
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        6 => put_any().prop_map(Payload::Put),
        2 => (key(), key()).prop_map(|(a, b)| Payload::DeleteRange(delete(&a, &b))),
        4 => txn().prop_map(Payload::Txn),
        2 => (0..12_i64, any::<bool>()).prop_map(|(revision, physical)| {
            Payload::Compaction(CompactionRequest { revision, physical })
        }),
        3 => (0..4_i64, 1..9_i64)
            .prop_map(|(id, ttl)| Payload::LeaseGrant(LeaseGrantRequest { ttl, id })),
        2 => (1..4_i64).prop_map(|id| Payload::LeaseRevoke(LeaseRevokeRequest { id })),
        1 => (1..4_i64, 0..4_i64).prop_map(|(id, remaining_ttl)| {
            let checkpoints = vec![LeaseCheckpoint { id, remaining_ttl }];
            Payload::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
        }),
        1 => (0..3_i32, 0..3_i32).prop_map(|(action, alarm)| {
            Payload::Alarm(AlarmRequest { action, member_id: 7, alarm })
        }),
        1 => Just(Payload::ClusterVersionSet(ClusterVersionSetRequest { ver: "3.7.0".to_owned() })),
    ]
}

/// An entry without its index: kind and data.
fn log_entry() -> impl Strategy<Value = (EntryType, Vec<u8>)> {
    let id = prop_oneof![Just(FIRST.0), Just(FIRST.0 - 1), Just(OTHER.0)];
    let normal = (id, payload())
        .prop_map(|(id, payload)| (EntryType::EntryNormal, request(RequestId(id), payload)));
    let change = (1..4_u64, 0..3).prop_map(|(id, kind)| {
        let member = Member::new(MemberId(id), vec![format!("http://{id}")], kind == 1);
        let change = if kind == 2 {
            Change::Remove(member.id())
        } else {
            Change::Add(member)
        };
        let wire = change.to_wire(FIRST.0, &Roster::new());
        (EntryType::EntryConfChange, wire.encode_to_vec())
    });
    prop_oneof![12 => normal, 1 => change, 1 => Just((EntryType::EntryNormal, Vec::new()))]
}

const OTHER: RequestId = RequestId(0x1111 << 48 | 7);

/// Applies a log in batches of the given lengths, with steps of removal in between.
fn run(log: &[raftpb::Entry], local: Local, batches: &[usize], records_max: usize) -> Apply {
    let mut apply = Apply::new(local);
    let mut rest = log;
    for length in batches.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (batch, later) = rest.split_at((*length).min(rest.len()));
        rest = later;
        apply.input(Input::Committed(batch.to_vec()));
        if records_max > 0 {
            apply.input(Input::CompactStep { records_max });
        }
        while let Some(effect) = apply.take_effect() {
            assert!(!matches!(effect, Effect::Stop(_)), "{effect:?}");
        }
    }
    apply
}

proptest! {
    #[test]
    fn the_same_log_gives_the_same_state(
        entries in proptest::collection::vec(log_entry(), 1..60),
        batches in proptest::collection::vec(1..6_usize, 1..6),
        records_max in 1..9_usize,
    ) {
        let log: Vec<_> = (1..).zip(entries)
            .map(|(index, (kind, data))| entry(index, kind, data))
            .collect();
        let here = run(&log, local(), &[1], 0);
        here.check_invariants();
        let there = Local { member: MemberId(1), first_request: OTHER };
        let elsewhere = run(&log, there, &batches, records_max);
        elsewhere.check_invariants();
        prop_assert_eq!(here.digest(), elsewhere.digest());
    }
}

/// Makes the bytes of a segment and opens them; none when nothing is in it.
fn make(mut image: SegmentImage) -> Option<Segment> {
    let mut file = Vec::new();
    loop {
        match image.step(64).unwrap() {
            MergeStep::Chunk(bytes) => file.extend_from_slice(&bytes),
            MergeStep::Last(bytes) => {
                file.extend_from_slice(&bytes);
                return Some(Segment::open(image.id(), file.into()).unwrap());
            }
            MergeStep::Empty => return None,
        }
    }
}

/// Writes what the store wants to have written. Files stay as long as the test.
fn write(apply: &mut Apply, files: &mut Vec<Segment>) {
    while let Some(job) = apply.store_mut().take_job() {
        if let StoreJob::Write(image) = job {
            let id = image.id();
            let segment = make(image);
            files.extend(segment.clone());
            apply.store_written(id, segment);
        }
    }
}

/// The state as it comes back from the bytes of a checkpoint.
fn through_files(apply: &mut Apply, files: &mut Vec<Segment>) -> Apply {
    let sealed = apply.seal();
    write(apply, files);
    let file = |id| files.iter().find(|file| file.id() == id).unwrap().clone();
    let segments: Vec<Segment> = sealed.segments.iter().map(|id| file(*id)).collect();
    let manifest = Manifest {
        index: sealed.index,
        term: sealed.term,
        next_segment: sealed.next_segment,
        segments: segments.iter().map(Listed::of).collect(),
        body: sealed.body,
    };
    let manifest = Manifest::decode(&manifest.encode().into()).unwrap();
    state_of(&manifest, segments, apply.local()).unwrap()
}

fn assert_same(one: &Apply, other: &Apply) {
    assert_eq!(one.digest(), other.digest());
    assert_eq!(one.applied(), other.applied());
    assert_eq!(one.cluster(), other.cluster());
    assert_eq!(one.grants(), other.grants());
    assert_eq!(one.sizes(), other.sizes());
    assert_eq!(one.conf_state(), other.conf_state());
    let (one, other) = (one.read_view(), other.read_view());
    assert_eq!(one.term, other.term);
    for revision in -1..=one.keys.current_revision() {
        let hashes = (one.keys.hash_kv(revision), other.keys.hash_kv(revision));
        assert_eq!(hashes.0, hashes.1, "hash at {revision}");
    }
}

proptest! {
    #[test]
    fn a_state_from_files_is_the_same_and_goes_on_the_same(
        entries in proptest::collection::vec(log_entry(), 1..80),
        cut in any::<prop::sample::Index>(),
        seal_bytes in prop_oneof![Just(1_u64), 1..400_u64],
        records_max in 1..9_usize,
    ) {
        let log: Vec<_> = (1..).zip(entries)
            .map(|(index, (kind, data))| entry(index, kind, data))
            .collect();
        let (front, back) = log.split_at(1 + cut.index(log.len()));
        let mut files = Vec::new();
        let mut here = Apply::new(local());
        here.store_mut().set_segment_bytes(seal_bytes);
        for entry in front {
            here.input(Input::Committed(vec![entry.clone()]));
            here.input(Input::CompactStep { records_max });
            here.store_mut().copy();
            write(&mut here, &mut files);
        }
        while here.compaction_pending() {
            here.input(Input::CompactStep { records_max });
        }
        here.check_invariants();
        let mut there = through_files(&mut here, &mut files);
        there.check_invariants();
        assert_same(&here, &there);
        for entry in back {
            for apply in [&mut here, &mut there] {
                apply.input(Input::Committed(vec![entry.clone()]));
                apply.input(Input::CompactStep { records_max });
                apply.store_mut().copy();
                write(apply, &mut files);
            }
        }
        for apply in [&mut here, &mut there] {
            while apply.compaction_pending() {
                apply.input(Input::CompactStep { records_max });
            }
            apply.check_invariants();
        }
        assert_same(&here, &there);
    }
}

/// Worlds of the same length that differ in one thing each.
#[test]
fn the_digest_tells_states_apart() {
    let lease = |id, ttl| Payload::LeaseGrant(LeaseGrantRequest { ttl, id });
    let checkpoint = |remaining_ttl| {
        let checkpoints = vec![LeaseCheckpoint {
            id: 1,
            remaining_ttl,
        }];
        Payload::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })
    };
    let alarm = |alarm| {
        Payload::Alarm(AlarmRequest {
            action: 1,
            member_id: 1,
            alarm,
        })
    };
    let version = |ver: &str| {
        Payload::ClusterVersionSet(ClusterVersionSetRequest {
            ver: ver.to_owned(),
        })
    };
    let compaction = |revision| {
        Payload::Compaction(CompactionRequest {
            revision,
            physical: false,
        })
    };
    let lasts = [
        Payload::Range(range("a", 0)),
        Payload::Put(put("a", "1")),
        Payload::Put(put_with("a", 1)),
        lease(2, 5),
        lease(2, 6),
        checkpoint(1),
        checkpoint(2),
        alarm(1),
        alarm(2),
        version("3.6.0"),
        version("3.7.0"),
        compaction(0),
        compaction(1),
    ];
    let mut seen = std::collections::BTreeMap::new();
    for last in lasts {
        let mut world = World::new();
        world.grant(1);
        world.done(last.clone());
        let same = seen.insert(world.apply.digest().to_string(), last.clone());
        assert_eq!(same, None, "{last:?}");
    }
}
