//! `Maintenance.Snapshot`: the official tools save it, check it and restore it, official servers
//! serve what was restored, and clients that read slowly or not at all cost little.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use kvorum_e2e::grpc::{Connection, Failure, Stream, block_on};
use kvorum_e2e::http::{get, samples};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{Subject, peer};
use kvorum_e2e::process::run;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, SnapshotRequest,
    SnapshotResponse, TxnRequest, TxnResponse,
};
use kvorum_proto::mvccpb::KeyValue;
use kvorum_storage::bolt::{Reader, schema};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const LIMIT: Duration = Duration::from_secs(120);
/// Leases and their lifetimes in seconds. 3.5 does not load one with a negative id, the last here.
const LEASES: [(i64, i64); 3] = [(7, 600), (0x1234_5678_9abc, 100_000), (-3, 9_000)];
/// Length of all pieces of a file but the last, in bytes.
const BLOB_BYTES: usize = 32_768;
/// Length of the hash at the end of a saved file, in bytes.
const HASH_BYTES: usize = 32;

on_each_server!(
    a_file_comes_in_blobs_and_then_its_hash,
    a_call_without_a_request_is_refused
);

#[test]
fn tools_and_server_of_3_5_take_it() {
    check_release("etcd-3.5.1", Subject::Official351);
}

#[test]
fn tools_and_server_of_3_7_take_it() {
    check_release("etcd-3.7.1", Subject::Official371);
}

/// Saves while a writer runs, restores, and compares what an official server makes of it with what
/// ours says of that revision.
fn check_release(folder: &str, taker: Subject) {
    let (Some(etcdctl), Some(etcdutl)) = (peer(folder, "etcdctl"), peer(folder, "etcdutl")) else {
        return;
    };
    let Some(ours) = Server::start(Subject::Kvorum, &[]) else {
        return;
    };
    let leases = match taker {
        Subject::Official351 => &LEASES[..2],
        _ => &LEASES,
    };
    block_on(fill(ours.port(), leases)).expect("the server takes the content");
    let saved = ours.data_directory().with_file_name("saved");
    let (before, after) = while_writing(ours.port(), || {
        let mut save = Command::new(&etcdctl);
        save.args(["--endpoints", &ours.endpoint(), "snapshot", "save"]);
        output(save.arg(&saved));
    });

    let status = status_of(&etcdutl, &saved);
    let revision = status["revision"].as_i64().expect("a revision");
    assert!(
        before <= revision && revision < after,
        "saved {revision} while writing {before} to {after}"
    );
    let bytes = fs::read(&saved).expect("saved");
    let (image, trailer) = bytes.split_at(bytes.len() - HASH_BYTES);
    assert_eq!(Sha256::digest(image).as_slice(), trailer);
    assert_eq!(status["totalSize"], image.len());
    assert_eq!(status["hash"], content_hash(image));

    let expected = block_on(state_at(ours.port(), revision)).expect("our state");
    // 3.5 counts the pairs of all buckets, 3.7 the keys that are there.
    let total_key = match taker {
        Subject::Official351 => content(image).iter().map(|(_, pairs)| pairs.len()).sum(),
        _ => expected.pairs.len(),
    };
    assert_eq!(status["totalKey"], total_key);

    let mut restored = Server::prepare(taker, &[]).expect("its tools are there");
    let mut restore = Command::new(&etcdutl);
    restore.args(["snapshot", "restore", "--data-dir"]);
    output(restore.arg(restored.data_directory()).arg(&saved));
    restored.launch();
    restored.wait_ready();
    let found = block_on(state_at(restored.port(), revision)).expect("its state");
    assert_eq!(found, expected);
    let next = block_on(async {
        let connection = Connection::open(restored.port()).await?;
        put(&connection, "next", 1).await
    });
    assert_eq!(next, Ok(revision + 1));
}

/// What a server says of its state at a revision.
#[derive(Debug, PartialEq)]
struct State {
    hash: u32,
    compacted: i64,
    pairs: Vec<KeyValue>,
    /// Id, granted lifetime and keys.
    leases: Vec<(i64, i64, Vec<Bytes>)>,
    alarms: usize,
}

async fn state_at(port: u16, revision: i64) -> Result<State, Failure> {
    let server = Connection::open(port).await?;
    let request = HashKvRequest { revision };
    let hash: HashKvResponse = server
        .call("etcdserverpb.Maintenance/HashKV", &request)
        .await?;
    let all = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..RangeRequest::default()
    };
    let range: RangeResponse = server.call("etcdserverpb.KV/Range", &all).await?;
    let list = LeaseLeasesRequest::default();
    let list: LeaseLeasesResponse = server.call("etcdserverpb.Lease/LeaseLeases", &list).await?;
    let mut leases = Vec::new();
    for lease in list.leases {
        let request = LeaseTimeToLiveRequest {
            id: lease.id,
            keys: true,
        };
        let mut lease: LeaseTimeToLiveResponse = server
            .call("etcdserverpb.Lease/LeaseTimeToLive", &request)
            .await?;
        assert!(lease.ttl <= lease.granted_ttl && lease.ttl > lease.granted_ttl / 2);
        lease.keys.sort();
        leases.push((lease.id, lease.granted_ttl, lease.keys));
    }
    leases.sort();
    let alarms: AlarmResponse = server
        .call("etcdserverpb.Maintenance/Alarm", &AlarmRequest::default())
        .await?;
    Ok(State {
        hash: hash.hash,
        compacted: hash.compact_revision,
        pairs: range.kvs,
        leases,
        alarms: alarms.alarms.len(),
    })
}

/// Changes of all kinds, values of many pages, leases with keys, a compaction in between.
async fn fill(port: u16, leases: &[(i64, i64)]) -> Result<(), Failure> {
    let server = Connection::open(port).await?;
    for &(id, ttl) in leases {
        let grant = LeaseGrantRequest { ttl, id };
        let _: LeaseGrantResponse = server.call("etcdserverpb.Lease/LeaseGrant", &grant).await?;
    }
    for round in 0..20_usize {
        let put_of = |number: usize| {
            let lease = leases.get(number % 7).map_or(0, |(id, _)| *id);
            Request::RequestPut(PutRequest {
                key: format!("key/{:05}", round * 61 + number).into(),
                value: vec![b'v'; number * 50].into(),
                lease,
                ..PutRequest::default()
            })
        };
        let operation = |number| RequestOp {
            request: Some(put_of(number)),
        };
        let txn = TxnRequest {
            success: (0..100).map(operation).collect(),
            ..TxnRequest::default()
        };
        let _: TxnResponse = server.call("etcdserverpb.KV/Txn", &txn).await?;
        let delete = DeleteRangeRequest {
            key: format!("key/{:05}", round * 61 + 20).into(),
            range_end: format!("key/{:05}", round * 61 + 25).into(),
            ..DeleteRangeRequest::default()
        };
        let _: DeleteRangeResponse = server.call("etcdserverpb.KV/DeleteRange", &delete).await?;
        let revision = put(&server, "long", 100_000).await?;
        if round == 10 {
            // At a put: tombstones exactly at a compaction are hashed differently by releases.
            let compact = CompactionRequest {
                revision,
                physical: false,
            };
            let _: CompactionResponse = server.call("etcdserverpb.KV/Compact", &compact).await?;
        }
    }
    Ok(())
}

/// Writes a value of some length; returns the revision.
async fn put(connection: &Connection, key: &str, length: usize) -> Result<i64, Failure> {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: vec![b'x'; length].into(),
        ..PutRequest::default()
    };
    let response: PutResponse = connection.call("etcdserverpb.KV/Put", &request).await?;
    Ok(response.header.unwrap_or_default().revision)
}

/// Does something while another thread writes; returns a revision written before and the last one.
fn while_writing(port: u16, action: impl FnOnce()) -> (i64, i64) {
    let stop = AtomicBool::new(false);
    let (started, first) = mpsc::channel();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            block_on(async {
                let connection = Connection::open(port).await?;
                started
                    .send(put(&connection, "written", 100).await?)
                    .expect("somebody waits for it");
                loop {
                    // One more after the end, so that the last is behind what was saved.
                    let last = stop.load(Ordering::Acquire);
                    let revision = put(&connection, "written", 100).await?;
                    if last {
                        return Ok::<_, Failure>(revision);
                    }
                }
            })
        });
        let before = first.recv().expect("the writer writes");
        action();
        stop.store(true, Ordering::Release);
        let after = writer.join().expect("the writer does not panic");
        (before, after.expect("all is written"))
    })
}

fn output(command: &mut Command) -> String {
    let outcome = run(command, "", LIMIT);
    assert_eq!(outcome.code, Some(0), "{command:?}: {outcome:?}");
    outcome.stdout
}

fn status_of(etcdutl: &Path, file: &Path) -> Value {
    let mut command = Command::new(etcdutl);
    let text = output(command.args(["-w", "json", "snapshot", "status"]).arg(file));
    serde_json::from_str(&text).expect("etcdutl writes JSON")
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn content(image: &[u8]) -> Vec<(Vec<u8>, Pairs)> {
    let reader = Reader::open(image).expect("a database");
    let mut content = Vec::new();
    let mut buckets = reader.buckets().expect("readable");
    while let Some(bucket) = buckets.next().expect("readable") {
        let mut found = Pairs::new();
        let mut pairs = reader.pairs(&bucket).expect("readable");
        while let Some((key, value)) = pairs.next().expect("readable") {
            found.push((key.to_vec(), value.to_vec()));
        }
        content.push((bucket.name().to_vec(), found));
    }
    content
}

/// The hash that `snapshot status` shows: all buckets, with their names.
fn content_hash(image: &[u8]) -> u32 {
    let append = |hash, bytes: &Vec<u8>| crc32c::crc32c_append(hash, bytes);
    content(image).iter().fold(0, |hash, (name, pairs)| {
        let pairs = pairs.iter().flat_map(|(key, value)| [key, value]);
        pairs.fold(append(hash, name), append)
    })
}

async fn start_snapshot(connection: &Connection) -> Result<Stream, Failure> {
    let method = "etcdserverpb.Maintenance/Snapshot";
    let mut stream = connection.start(method, &[]).await?;
    stream.send(&SnapshotRequest::default())?;
    stream.finish()?;
    Ok(stream)
}

/// The messages of a whole snapshot.
async fn snapshot(connection: &Connection) -> Result<Vec<SnapshotResponse>, Failure> {
    let mut stream = start_snapshot(connection).await?;
    let mut messages = Vec::new();
    while let Some(message) = stream.next().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// The file in the messages, checked by its hash.
fn image(messages: &[SnapshotResponse]) -> Vec<u8> {
    let (last, blobs) = messages.split_last().expect("messages");
    let image: Vec<u8> = blobs
        .iter()
        .flat_map(|message| message.blob.clone())
        .collect();
    assert_eq!(Sha256::digest(&image).as_slice(), last.blob);
    image
}

fn a_file_comes_in_blobs_and_then_its_hash(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    server.wait_storage_version();
    block_on(fill(server.port(), &LEASES)).expect("the server takes the content");
    let messages = block_on(async {
        let connection = Connection::open(server.port()).await?;
        snapshot(&connection).await
    });
    let messages = messages.expect("a snapshot");
    let mut remaining = image(&messages).len() as u64;
    let (hash, blobs) = messages.split_last().expect("messages");
    for message in blobs {
        assert_eq!(message.header, None);
        assert_eq!(message.version, "3.7.0");
        let length = message.blob.len() as u64;
        assert_eq!(length, remaining.min(BLOB_BYTES as u64));
        remaining -= length;
        assert_eq!(message.remaining_bytes, remaining);
    }
    assert_eq!((hash.header, hash.remaining_bytes), (None, 0));
    if subject == Subject::Kvorum {
        // Official etcd counts some time after the answer.
        let page = get(server.port(), "/metrics").expect("a page");
        let sent = "etcd_disk_backend_snapshot_duration_seconds_count";
        assert_eq!(samples(&page.body).get(sent), Some(&1.0));
    }
    assert_eq!(
        (hash.version.as_str(), hash.blob.len()),
        ("3.7.0", HASH_BYTES)
    );
}

fn a_call_without_a_request_is_refused(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let refused = block_on(async {
        let connection = Connection::open(server.port()).await?;
        let method = "etcdserverpb.Maintenance/Snapshot";
        let mut stream = connection.start(method, &[]).await?;
        stream.finish()?;
        stream.next::<SnapshotResponse>().await
    });
    assert!(
        matches!(refused, Err(Failure::Status { code: 13, .. })),
        "{refused:?}"
    );
}

/// The same requests, and then the same file: bucket by bucket, but for what a start decides.
#[test]
fn the_file_has_what_an_official_one_has() {
    let Some(official) = Server::start(Subject::Official371, &[]) else {
        return;
    };
    official.wait_storage_version();
    let ours = Server::start(Subject::Kvorum, &[]).expect("ours is always there");
    let [expected, found] = [&official, &ours].map(|server| {
        let messages = block_on(async {
            fill(server.port(), &LEASES).await?;
            let connection = Connection::open(server.port()).await?;
            // Official members remove what is compacted in the background; a second compaction
            // returns when the removal is done.
            let compact = CompactionRequest {
                revision: 35,
                physical: true,
            };
            let _: CompactionResponse =
                connection.call("etcdserverpb.KV/Compact", &compact).await?;
            snapshot(&connection).await
        });
        let image = image(&messages.expect("a snapshot"));
        comparable(content(&image), server.port())
    });
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(found.0, expected.0);
        assert!(found.1 == expected.1, "{found:?}\n{expected:?}");
    }
    assert_eq!(found.len(), expected.len());
}

/// Without the position in the log, which holds what a start proposed, and without the port.
fn comparable(mut content: Vec<(Vec<u8>, Pairs)>, port: u16) -> Vec<(Vec<u8>, Pairs)> {
    for (bucket, pairs) in &mut content {
        if bucket == schema::META {
            let positions = [schema::meta::CONSISTENT_INDEX, schema::meta::TERM];
            pairs.retain(|(key, _)| !positions.contains(&key.as_slice()));
        }
        if bucket == schema::MEMBERS {
            for (_, member) in pairs {
                let text = String::from_utf8_lossy(member);
                *member = text.replace(&port.to_string(), "PORT").into_bytes();
            }
        }
    }
    content
}

#[test]
fn callers_that_go_away_leave_nothing_behind() {
    // More than may be sent at the same time.
    const CALLS: usize = 40;
    let Some(server) = Server::start(Subject::Kvorum, &[]) else {
        return;
    };
    let messages = block_on(async {
        fill(server.port(), &LEASES).await?;
        let connection = Connection::open(server.port()).await?;
        for call in 0..CALLS {
            let mut stream = start_snapshot(&connection).await?;
            for _ in 0..call % 3 {
                let message: Option<SnapshotResponse> = stream.next().await?;
                assert!(message.is_some(), "the file is longer");
            }
            if call % 2 == 0 {
                stream.reset();
            }
            drop(stream);
            put(&connection, "k", 10).await?;
        }
        // The whole connection goes away.
        let other = Connection::open(server.port()).await?;
        let _: Option<SnapshotResponse> = start_snapshot(&other).await?.next().await?;
        drop(other);
        snapshot(&connection).await
    });
    image(&messages.expect("a snapshot after all that"));
}

#[test]
fn clients_that_do_not_read_cost_little_memory() {
    const VALUES: usize = 64;
    const VALUE_BYTES: usize = 1_000_000;
    const DEAF: usize = 15;
    /// A third of a file for each. The values, mapped once for all, are 64 MB of it, and each stream has a few values of
    /// a megabyte on its way.
    const GROWTH_BYTES_MAX: u64 = 320_000_000;
    let Some(server) = Server::start(Subject::Kvorum, &[]) else {
        return;
    };
    let messages = block_on(async {
        let connection = Connection::open(server.port()).await?;
        for number in 0..VALUES {
            put(&connection, &format!("large/{number}"), VALUE_BYTES).await?;
        }
        let before = peak_bytes(server.pid());
        let deaf = Connection::open(server.port()).await?;
        let mut streams = Vec::new();
        for _ in 0..DEAF {
            streams.push(start_snapshot(&deaf).await?);
        }
        // One who reads gets all of it beside them, while a writer goes on.
        let messages = snapshot(&connection).await?;
        put(&connection, "small", 1).await?;
        let growth = peak_bytes(server.pid()) - before;
        assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
        let refused = Failure::Status {
            code: 2,
            message: "etcdserver: too many requests".to_owned(),
        };
        streams.push(start_snapshot(&connection).await?);
        let one_too_many = snapshot(&connection).await;
        assert_eq!(one_too_many.err(), Some(refused));
        Ok::<_, Failure>(messages)
    });
    let image = image(&messages.expect("a snapshot"));
    assert!(image.len() > VALUES * VALUE_BYTES);
}

/// The most memory that a process ever had, in bytes.
fn peak_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes
        .and_then(|number| number.trim().parse().ok())
        .expect("the kernel tells it");
    kilobytes * 1024
}
