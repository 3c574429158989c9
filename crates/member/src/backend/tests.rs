//! What of the state stands where, and that a file is made from one state.

mod import;

use std::fmt::Write as _;

use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseCheckpoint,
    LeaseCheckpointRequest, LeaseGrantRequest, PutRequest, RequestOp, TxnRequest,
    alarm_request::AlarmAction,
};
use kvorum_proto::ids::{MemberId, RequestId};
use kvorum_proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use kvorum_proto::raftpb::{self, EntryType};
use kvorum_storage::bolt;

use super::*;
use crate::apply::{Input, Local};
use crate::cluster::{Change, Roster};

const TERM: u64 = 5;

struct World(Apply);

impl World {
    fn new() -> Self {
        Self(Apply::new(Local {
            member: MemberId(1),
            first_request: RequestId(1 << 48),
        }))
    }

    fn entry(&mut self, kind: EntryType, data: Vec<u8>) {
        let entry = raftpb::Entry {
            r#type: Some(kind as i32),
            term: Some(TERM),
            index: Some(self.0.applied().0 + 1),
            data: Some(data.into()),
        };
        self.0.input(Input::Committed(vec![entry]));
        while self.0.take_effect().is_some() {}
    }

    fn apply(&mut self, payload: Payload) {
        let request = InternalRaftRequest {
            header: None,
            id: 7,
            payload: Some(payload),
        };
        self.entry(EntryType::EntryNormal, request.encode_to_vec());
    }

    fn change(&mut self, change: &Change) {
        let change = change.to_wire(0, &Roster::new());
        self.entry(EntryType::EntryConfChange, change.encode_to_vec());
    }

    fn put(&mut self, key: &'static str, value: &[u8]) {
        self.apply(Payload::Put(put(key, value)));
    }

    fn compact(&mut self, revision: i64) {
        let physical = false;
        self.apply(Payload::Compaction(CompactionRequest {
            revision,
            physical,
        }));
    }

    fn grant(&mut self, id: i64, ttl: i64) {
        self.apply(Payload::LeaseGrant(LeaseGrantRequest { ttl, id }));
    }
}

fn put(key: &'static str, value: &[u8]) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.to_vec().into(),
        ..PutRequest::default()
    }
}

fn file(backend: &Backend, blob_bytes: usize) -> Vec<Vec<u8>> {
    let mut sizing = Sizing::new(backend);
    while sizing.step(1).unwrap() {}
    let layout = sizing.finish().unwrap();
    let mut encoding = Encoding::new(backend, layout).unwrap();
    let mut blobs = Vec::new();
    while let Some(blob) = encoding.blob(blob_bytes).unwrap() {
        blobs.push(blob.to_vec());
    }
    assert_eq!(encoding.blob(blob_bytes).unwrap(), None, "the end stays");
    let length: usize = blobs.iter().map(Vec::len).sum();
    assert_eq!(length as u64, layout.file_bytes(), "the length foretold");
    blobs
}

/// The content of the file, a line per bucket and per pair, what is no text in hexadecimal digits.
fn show(backend: &Backend) -> String {
    let file = file(backend, usize::MAX).concat();
    let reader = bolt::Reader::open(file.as_slice()).unwrap();
    let mut shown = String::new();
    let mut buckets = reader.buckets().unwrap();
    while let Some(bucket) = buckets.next().unwrap() {
        writeln!(shown, "{}", text(bucket.name())).unwrap();
        let mut pairs = reader.pairs(&bucket).unwrap();
        while let Some((key, value)) = pairs.next().unwrap() {
            let pair = format!("  {} = {}", text(key), text(value));
            writeln!(shown, "{}", pair.trim_end()).unwrap();
        }
    }
    shown
}

fn text(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn check(world: &World, expected: &str) {
    let shown = show(&Backend::new(&world.0));
    let expected: Vec<_> = expected
        .lines()
        .map(|line| line.strip_prefix("        ").unwrap_or(line))
        .collect();
    assert_eq!(
        shown.trim_end().lines().collect::<Vec<_>>(),
        expected[1..expected.len() - 1],
        "{shown}"
    );
}

#[test]
fn an_empty_member_has_every_bucket() {
    check(
        &World::new(),
        r#"
        alarm
        auth
          authRevision = 0000000000000001
        authRoles
        authUsers
        cluster
        key
        lease
        members
        members_removed
        meta
          confState = {"auto_leave":false}
          consistent_index = 0000000000000000
          storageVersion = 3.7.0
          term = 0000000000000000
        "#,
    );
}

#[test]
fn state_beside_keys_stands_in_its_bucket_in_order_of_bytes() {
    let mut world = World::new();
    let member = |id, learner| Member::new(MemberId(id), vec![format!("http://m:{id}")], learner);
    for (id, learner) in [
        (0xa, false),
        (0x10, false),
        (0xb, true),
        (0xc, false),
        (0x11, false),
    ] {
        world.change(&Change::Add(member(id, learner)));
    }
    for id in [0xc, 0x11] {
        world.change(&Change::Remove(MemberId(id)));
    }
    world.apply(Payload::ClusterMemberAttrSet(ClusterMemberAttrSetRequest {
        member_id: 0xa,
        member_attributes: Some(Attributes {
            name: "ten".to_owned(),
            client_urls: vec!["http://c".to_owned()],
        }),
    }));
    let ver = "3.7.0".to_owned();
    world.apply(Payload::ClusterVersionSet(ClusterVersionSetRequest { ver }));
    let (enabled, ver) = (true, "3.6.0".to_owned());
    world.apply(Payload::DowngradeInfoSet(DowngradeInfoSetRequest {
        enabled,
        ver,
    }));
    for id in [-2, 9, 1 << 40] {
        world.grant(id, 1000);
    }
    world.apply(Payload::LeaseCheckpoint(LeaseCheckpointRequest {
        checkpoints: vec![LeaseCheckpoint {
            id: 9,
            remaining_ttl: 77,
        }],
    }));
    // Last: a corrupt cluster takes no leases.
    for alarm in [2, 1] {
        world.apply(Payload::Alarm(AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: 0xa,
            alarm,
        }));
    }
    check(
        &world,
        r#"
        alarm
          080a1001 =
          080a1002 =
        auth
          authRevision = 0000000000000001
        authRoles
        authUsers
        cluster
          clusterVersion = 3.7.0
          downgrade = {"target-version":"3.6.0","enabled":true}
        key
        lease
          0000000000000009 = 080910e807184d
          0000010000000000 = 0880808080802010e807
          fffffffffffffffe = 08feffffffffffffffff0110e807
        members
          10 = {"id":16,"peerURLs":["http://m:16"]}
          a = {"id":10,"peerURLs":["http://m:10"],"name":"ten","clientURLs":["http://c"]}
          b = {"id":11,"peerURLs":["http://m:11"],"isLearner":true}
        members_removed
          11 = removed
          c = removed
        meta
          confState = {"voters":[10,16],"learners":[11],"auto_leave":false}
          consistent_index = 0000000000000010
          storageVersion = 3.7.0
          term = 0000000000000005
        "#,
    );
}

#[test]
fn keys_stand_under_their_revisions_and_compacted_ones_are_not_there() {
    let mut world = World::new();
    world.put("a", b"1");
    world.put("b", b"1");
    let puts = [("a", b"2"), ("c", b"2")].map(|(key, value)| RequestOp {
        request: Some(Request::RequestPut(put(key, value))),
    });
    world.apply(Payload::Txn(TxnRequest {
        success: puts.to_vec(),
        ..TxnRequest::default()
    }));
    world.compact(4);
    world.apply(Payload::DeleteRange(DeleteRangeRequest {
        key: "b".into(),
        ..DeleteRangeRequest::default()
    }));
    assert!(world.0.compaction_pending(), "nothing was removed yet");
    check(
        &world,
        r#"
        alarm
        auth
          authRevision = 0000000000000001
        authRoles
        authUsers
        cluster
        key
          00000000000000035f0000000000000000 = 0a01621003180320012a0131
          00000000000000045f0000000000000000 = 0a01611002180420022a0132
          00000000000000045f0000000000000001 = 0a01631004180420012a0132
          00000000000000055f000000000000000074 = 0a0162
        lease
        members
        members_removed
        meta
          confState = {"auto_leave":false}
          consistent_index = 0000000000000005
          finishedCompactRev = 00000000000000045f0000000000000000
          scheduledCompactRev = 00000000000000045f0000000000000000
          storageVersion = 3.7.0
          term = 0000000000000005
        "#,
    );
}

#[test]
fn blobs_are_one_file_however_it_is_cut() {
    let mut world = World::new();
    for length in [3, 70_000, 0, 5_000] {
        world.put("k", &vec![length as u8; length]);
    }
    let backend = Backend::new(&world.0);
    let whole = file(&backend, usize::MAX).concat();
    for blob_bytes in [1, 4_095, 4_096, 32_768, whole.len()] {
        let blobs = file(&backend, blob_bytes);
        let (last, others) = blobs.split_last().unwrap();
        assert!(others.iter().all(|blob| blob.len() == blob_bytes));
        assert!((1..=blob_bytes).contains(&last.len()));
        assert!(blobs.concat() == whole, "cut into {blob_bytes}");
    }
}

#[test]
fn what_is_applied_later_is_not_in_the_file() {
    let mut world = World::new();
    world.grant(1, 10);
    for number in 0..200_u8 {
        world.put("k", &[number; 100]);
    }
    world.compact(50);
    let backend = Backend::new(&world.0);
    let before = file(&backend, usize::MAX);
    world.grant(2, 10);
    world.put("other", b"1");
    world.compact(150);
    while world.0.compaction_pending() {
        world.0.input(Input::CompactStep { records_max: 7 });
    }
    assert!(
        file(&backend, usize::MAX) == before,
        "the state was taken before"
    );
    assert!(file(&Backend::new(&world.0), usize::MAX) != before);
}
