//! Our data directory in the hands of official servers, and theirs in ours.
//!
//! Our log is in etcd's format and tells everything from its first entry. Official 3.7.1 replays it
//! to the same state; older releases do not know the entries of 3.7 and refuse. What they leave
//! behind in `member/snap` is taken over, or set aside when our own state is as new.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kvorum_e2e::folder;
use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::peers::Subject;
use kvorum_e2e::process::Process;
use kvorum_e2e::recorder::{Load, Size, violations};
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use kvorum_proto::mvccpb::KeyValue;

const LIMIT: Duration = Duration::from_secs(120);
/// Long enough for any compaction, expiry and transaction of the load to be in the log.
const WRITES: u64 = 400;
/// Leases up to this lifetime are left out of comparisons.
const ENDS_BY_ITSELF_SECONDS: i64 = 60;
const OFFICIAL: [Subject; 3] = [
    Subject::Official3423,
    Subject::Official351,
    Subject::Official371,
];
/// What official servers do with our log.
#[derive(Clone, Copy)]
enum Verdict {
    /// They come to the same state.
    Replays,
    /// They end, and this stands in the log.
    Refuses(&'static str),
}

#[test]
fn official_3_7_1_replays_our_log_to_the_same_state() {
    check(Subject::Official371, Verdict::Replays);
}

#[test]
fn official_3_5_1_refuses_our_log_as_that_of_a_newer_cluster() {
    let text = "invalid downgrade; server version is lower than determined cluster version";
    check(Subject::Official351, Verdict::Refuses(text));
}

/// It ends at the first entry of a kind that came with 3.5.
#[test]
fn official_3_4_23_refuses_our_log_as_that_of_a_newer_cluster() {
    check(
        Subject::Official3423,
        Verdict::Refuses("panic: not implemented"),
    );
}

/// Kills ours under load and gives the directory it leaves to an official server, and then back.
fn check(subject: Subject, verdict: Verdict) {
    let Some(mut official) = Server::prepare(subject, &[]) else {
        return;
    };
    let mut ours = Server::start(Subject::Kvorum, &[]).expect("ours is always there");
    let load = Load::start(ours.port(), 1, Size::Small);
    while load.acknowledged() < WRITES {
        std::thread::sleep(Duration::from_millis(1));
    }
    ours.kill();
    // What comes behind it in a copy may be ends of leases, which each server finds in an order of its own.
    let last = load.known();
    folder::copy(&ours.data_directory(), &official.data_directory());
    let mut twin = copy_for_ours(&ours);
    // The copies are judged below; the load itself must find everything again, too.
    ours.restart();
    assert_eq!(violations(&load.finish()), Vec::<String>::new());

    official.launch();
    twin.restart();
    match verdict {
        Verdict::Refuses(text) => {
            let (status, _) = official.wait_exit();
            assert!(!status.success(), "it ended as if all were well");
            let log = official.log().join("\n");
            assert!(log.contains(text), "no {text:?} in:\n{log}");
        }
        Verdict::Replays => {
            official.wait_ready();
            assert_same(&twin, &official, last);
            put(&official, "by-official");
            official.terminate();
        }
    }
    let mut back = copy_for_ours(&official);
    let backend = back.data_directory().join("member/snap/db");
    assert!(backend.exists(), "no {}", backend.display());
    back.restart();
    assert!(!backend.exists(), "it was taken over or set aside");
    assert_same(&twin, &back, last);
    if matches!(verdict, Verdict::Replays) {
        assert_eq!(count(&back, "by-official"), 1);
    }
}

/// One of ours on a copy of a directory, not started.
fn copy_for_ours(server: &Server) -> Server {
    let copy = Server::prepare(Subject::Kvorum, &[]).expect("ours is always there");
    folder::copy(&server.data_directory(), &copy.data_directory());
    copy
}

fn put(server: &Server, key: &'static str) {
    let request = PutRequest {
        key: key.into(),
        ..PutRequest::default()
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let answer: Result<PutResponse, _> = connection.call("etcdserverpb.KV/Put", &request).await;
        answer.expect("put");
    });
}

/// The state of a server at a revision. Leases that end by themselves are left out: they end at a
/// time of each server's own.
#[derive(Debug, PartialEq)]
struct State {
    cluster: u64,
    member: u64,
    hash: u32,
    compacted: i64,
    keys: Vec<KeyValue>,
    leases: BTreeMap<i64, (i64, BTreeSet<Bytes>)>,
}

/// Compares two servers at a revision.
fn assert_same(one: &Server, other: &Server, revision: i64) {
    block_on(async {
        let one = Connection::open(one.port()).await.expect("connects");
        let other = Connection::open(other.port()).await.expect("connects");
        assert!(
            // Not every write that is acknowledged changes a key.
            revision > WRITES as i64 / 2,
            "{revision} is not much to compare"
        );
        assert_eq!(state(&one, revision).await, state(&other, revision).await);
    });
}

async fn range(connection: &Connection, key: &'static str) -> RangeResponse {
    let request = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    let answer: Result<RangeResponse, _> = connection.call("etcdserverpb.KV/Range", &request).await;
    answer.expect("range")
}

fn count(server: &Server, key: &'static str) -> i64 {
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        range(&connection, key).await.count
    })
}

async fn state(connection: &Connection, revision: i64) -> State {
    let request = HashKvRequest { revision };
    let hash: Result<HashKvResponse, _> = connection
        .call("etcdserverpb.Maintenance/HashKV", &request)
        .await;
    let hash = hash.expect("hash");
    let zero = Bytes::from_static(b"\0");
    let request = RangeRequest {
        key: zero.clone(),
        range_end: zero,
        revision,
        ..RangeRequest::default()
    };
    let range: Result<RangeResponse, _> = connection.call("etcdserverpb.KV/Range", &request).await;
    let header = hash.header.expect("a header");
    State {
        cluster: header.cluster_id,
        member: header.member_id,
        hash: hash.hash,
        compacted: hash.compact_revision,
        keys: range.expect("range").kvs,
        leases: leases(connection).await,
    }
}

async fn leases(connection: &Connection) -> BTreeMap<i64, (i64, BTreeSet<Bytes>)> {
    let request = LeaseLeasesRequest::default();
    let list: Result<LeaseLeasesResponse, _> = connection
        .call("etcdserverpb.Lease/LeaseLeases", &request)
        .await;
    let mut leases = BTreeMap::new();
    for lease in list.expect("leases").leases {
        let request = LeaseTimeToLiveRequest {
            id: lease.id,
            keys: true,
        };
        let one: Result<LeaseTimeToLiveResponse, _> = connection
            .call("etcdserverpb.Lease/LeaseTimeToLive", &request)
            .await;
        let one = one.expect("time to live");
        if one.granted_ttl > ENDS_BY_ITSELF_SECONDS {
            leases.insert(lease.id, (one.granted_ttl, one.keys.into_iter().collect()));
        }
    }
    leases
}

/// It finds the log locked and ends. The backend file that it makes before is left behind, which
/// ours sets aside at its next start; nothing else is changed, and nothing is lost.
#[test]
fn official_servers_give_way_to_ours_on_the_same_directory() {
    for subject in OFFICIAL {
        let Some(official) = Server::prepare(subject, &[]) else {
            continue;
        };
        let mut ours = Server::start(Subject::Kvorum, &[]).expect("ours is always there");
        put(&ours, "before");
        let mut second = Process::spawn(&mut official.command_on(&ours.data_directory()));
        let (status, _) = second.wait_exit(LIMIT).expect("it does not wait for ever");
        let log = second.lines().join("\n");
        assert!(!status.success(), "{subject:?} ran beside ours:\n{log}");
        assert!(log.contains("file already locked"), "{subject:?}:\n{log}");
        put(&ours, "after");
        let before = revision_of(&ours);
        ours.terminate();
        ours.launch();
        ours.wait_ready();
        assert!(!ours.data_directory().join("member/snap").exists());
        assert_eq!(revision_of(&ours), before, "{subject:?}");
    }
}

fn revision_of(server: &Server) -> i64 {
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let answer = range(&connection, "any").await;
        answer.header.expect("a header").revision
    })
}

#[test]
fn ours_gives_way_to_an_official_server_on_the_same_directory() {
    for subject in OFFICIAL {
        let Some(mut official) = Server::start(subject, &[]) else {
            continue;
        };
        put(&official, "before");
        let ours = Server::prepare(Subject::Kvorum, &[]).expect("ours is always there");
        let mut second = Process::spawn(&mut ours.command_on(&official.data_directory()));
        let waits = second.wait_for("taken by another process", 0, LIMIT);
        assert!(
            waits.is_some(),
            "{subject:?}: {}",
            second.lines().join("\n")
        );
        second.kill();
        assert!(official.data_directory().join("member/snap/db").exists());
        put(&official, "after");
        let before = revision_of(&official);
        official.restart();
        assert_eq!(revision_of(&official), before, "{subject:?}");
    }
}
