//! Start, stop, and what a server finds on its disk.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::process::Process;
use kvorum_e2e::server::{Server, free_port};
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest,
    LeaseGrantResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};

/// How long ours may take to end. Official etcd drains its connections and may take longer.
const STOP_LIMIT: Duration = Duration::from_millis(1500);
const LIMIT: Duration = Duration::from_secs(120);
const SIGTERM: i32 = 15;
/// Size of a disk sector, by which a torn write is known.
const SECTOR: usize = 512;

on_each_server!(
    sigterm_ends_the_process_while_clients_are_connected,
    a_restart_keeps_keys_leases_and_hash,
    a_second_process_waits_for_the_data_directory,
    a_damaged_record_with_valid_ones_behind_it_is_refused,
    a_torn_last_record_is_dropped,
    the_data_directory_is_private_and_its_log_is_named_as_usual,
    every_log_line_is_a_json_object,
);

async fn put(port: u16, key: String, value: Vec<u8>) {
    let connection = Connection::open(port).await.expect("connects");
    let request = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    let answer = connection
        .call::<PutResponse>("etcdserverpb.KV/Put", &request)
        .await;
    answer.expect("put");
}

async fn count(port: u16) -> i64 {
    let connection = Connection::open(port).await.expect("connects");
    let zero = bytes::Bytes::from_static(b"\0");
    let all = RangeRequest {
        key: zero.clone(),
        range_end: zero,
        ..RangeRequest::default()
    };
    let answer = connection
        .call::<RangeResponse>("etcdserverpb.KV/Range", &all)
        .await;
    answer.expect("range").count
}

fn fill(server: &Server, keys: u32) {
    block_on(async {
        for number in 0..keys {
            put(server.port(), format!("key-{number}"), vec![b'v'; 100]).await;
        }
    });
}

fn sigterm_ends_the_process_while_clients_are_connected(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    fill(&server, 10);
    let (status, took) = if subject == Subject::Kvorum {
        block_on(async {
            let connection = Connection::open(server.port()).await.expect("connects");
            let idle = connection.start("etcdserverpb.Watch/Watch", &[]).await;
            // Nobody drives the client while this waits: it is as deaf as a client can be.
            let ended = server.terminate();
            drop(idle);
            ended
        })
    } else {
        // Official etcd would wait for the client to go.
        server.terminate()
    };
    assert_eq!(
        status.signal(),
        Some(SIGTERM),
        "{status}: supervisors tell a stop by it"
    );
    if subject == Subject::Kvorum {
        assert!(took < STOP_LIMIT, "took {took:?}");
    }
    server.launch();
    server.wait_ready();
    assert_eq!(block_on(count(server.port())), 10);
}

fn a_restart_keeps_keys_leases_and_hash(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    fill(&server, 50);
    let before = block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let grant = LeaseGrantRequest { ttl: 1000, id: 7 };
        let granted = connection
            .call("etcdserverpb.Lease/LeaseGrant", &grant)
            .await;
        granted.map(|_: LeaseGrantResponse| ()).expect("grant");
        let compact = CompactionRequest {
            revision: 20,
            physical: true,
        };
        let compacted = connection.call("etcdserverpb.KV/Compact", &compact).await;
        compacted.map(|_: CompactionResponse| ()).expect("compact");
        let leased = PutRequest {
            key: "leased".into(),
            lease: 7,
            ..PutRequest::default()
        };
        let answer = connection.call("etcdserverpb.KV/Put", &leased).await;
        answer.map(|_: PutResponse| ()).expect("put");
        state(&connection).await
    });
    server.restart();
    let after =
        block_on(async { state(&Connection::open(server.port()).await.expect("connects")).await });
    assert_eq!(before, after);
}

/// Hash, compacted revision, current revision, and the keys of the lease.
async fn state(connection: &Connection) -> (u32, i64, i64, Vec<bytes::Bytes>) {
    use kvorum_proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
    let hash: HashKvResponse = connection
        .call("etcdserverpb.Maintenance/HashKV", &HashKvRequest::default())
        .await
        .expect("hash");
    let lease: LeaseTimeToLiveResponse = connection
        .call(
            "etcdserverpb.Lease/LeaseTimeToLive",
            &LeaseTimeToLiveRequest { id: 7, keys: true },
        )
        .await
        .expect("lease");
    let revision = hash.header.expect("header").revision;
    (hash.hash, hash.compact_revision, revision, lease.keys)
}

fn a_second_process_waits_for_the_data_directory(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    fill(&server, 1);
    let port = free_port();
    let mut second = Process::spawn(&mut server.command(port));
    let waits = second.wait_for("locked by another process", 0, LIMIT);
    assert!(
        waits.is_some(),
        "not a word about waiting:\n{}",
        second.lines().join("\n")
    );
    assert!(
        second.is_running(),
        "it gave up:\n{}",
        second.lines().join("\n")
    );
    assert_eq!(block_on(count(server.port())), 1, "the first one goes on");
    server.kill();
    let ready = second.wait_for(subject.ready_line(), 0, LIMIT);
    assert!(
        ready.is_some(),
        "it did not take over:\n{}",
        second.lines().join("\n")
    );
    assert_eq!(block_on(count(port)), 1);
}

fn a_damaged_record_with_valid_ones_behind_it_is_refused(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    fill(&server, 20);
    server.kill();
    let path = server.last_wal();
    let bytes = fs::read(&path).expect("the log can be read");
    let at = find(&bytes, b"key-7").expect("the put is in the log");
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("the log can be written");
    file.write_all_at(b"X", at as u64).expect("one byte");
    server.launch();
    let (status, _) = server.wait_exit();
    assert!(!status.success(), "started on a damaged log");
    if subject == Subject::Kvorum {
        let log = server.log().join("\n");
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        assert!(log.contains(&name), "the file is not named:\n{log}");
        assert!(log.contains("offset"), "the place is not named:\n{log}");
        let now = fs::read(&path).expect("the log can be read");
        assert_eq!(now.len(), bytes.len(), "the damaged file was changed");
        assert_eq!(&now[at..at + 5], b"Xey-7", "the damaged file was changed");
    }
}

/// The machine lost power while the last record was being written: one of its sectors is there,
/// the last one is not.
fn a_torn_last_record_is_dropped(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    fill(&server, 5);
    block_on(put(
        server.port(),
        "torn".to_owned(),
        vec![b'v'; 20 * SECTOR],
    ));
    server.kill();
    let path = server.last_wal();
    let bytes = fs::read(&path).expect("the log can be read");
    let start = find(&bytes, b"torn").expect("the put is in the log");
    // From the middle of the value to the end of everything written.
    let from = (start / SECTOR + 10) * SECTOR;
    let written = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty")
        + 1;
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("the log can be written");
    file.write_all_at(&vec![0; written - from], from as u64)
        .expect("zeros");
    server.launch();
    server.wait_ready();
    assert_eq!(
        block_on(count(server.port())),
        5,
        "everything before it is there"
    );
    fill(&server, 7);
    server.restart();
    assert_eq!(block_on(count(server.port())), 7, "and new writes follow");
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn the_data_directory_is_private_and_its_log_is_named_as_usual(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let mode = |path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(server.data_directory()), 0o700);
    assert_eq!(mode(server.data_directory().join("member")), 0o700);
    let wal = server.last_wal();
    assert_eq!(mode(wal.clone()), 0o600);
    let name = wal
        .file_name()
        .expect("a file")
        .to_string_lossy()
        .into_owned();
    assert_eq!(name, "0000000000000000-0000000000000000.wal");
}

fn every_log_line_is_a_json_object(subject: Subject) {
    let Some(server) = Server::start(subject, &["--log-level", "debug"]) else {
        return;
    };
    fill(&server, 3);
    let log = server.log();
    assert!(log.len() > 3, "a start says more than {log:?}");
    for line in log {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        for field in ["level", "ts", "msg"] {
            assert!(value[field].is_string(), "no {field} in: {line}");
        }
        assert_ne!(
            value["level"], "error",
            "an error in normal operation: {line}"
        );
    }
}
