//! Where ours is not as official etcd, on purpose or because it is not there yet. `COMPAT.md` has a
//! row for each, with the reason.

use std::fs;
use std::process::Command;
use std::time::Duration;

use kvorum_e2e::grpc::{Connection, Failure, block_on};
use kvorum_e2e::http::{get, samples};
use kvorum_e2e::peers::Subject;
use kvorum_e2e::process::run;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, LeaseGrantRequest, LeaseGrantResponse, PutRequest, PutResponse,
};

/// Methods that are known and not there yet.
const MISSING_METHODS: [&str; 16] = [
    "etcdserverpb.Auth/AuthEnable",
    "etcdserverpb.Auth/AuthDisable",
    "etcdserverpb.Auth/Authenticate",
    "etcdserverpb.Auth/UserAdd",
    "etcdserverpb.Auth/UserGet",
    "etcdserverpb.Auth/UserList",
    "etcdserverpb.Auth/UserDelete",
    "etcdserverpb.Auth/UserChangePassword",
    "etcdserverpb.Auth/UserGrantRole",
    "etcdserverpb.Auth/UserRevokeRole",
    "etcdserverpb.Auth/RoleAdd",
    "etcdserverpb.Auth/RoleGet",
    "etcdserverpb.Auth/RoleList",
    "etcdserverpb.Auth/RoleDelete",
    "etcdserverpb.Auth/RoleGrantPermission",
    "etcdserverpb.Auth/RoleRevokePermission",
];

/// Pages of features that are not there.
const MISSING_PAGES: [&str; 5] = [
    "/v3/kv/range",
    "/v2/keys",
    "/debug/pprof/",
    "/debug/requests",
    "/members",
];

/// Metrics of what this release does not do; they stay at zero whatever happens.
const STILL_METRICS: [&str; 17] = [
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds_count",
    "etcd_debugging_disk_backend_commit_spill_duration_seconds_count",
    "etcd_debugging_disk_backend_commit_write_duration_seconds_count",
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds_count",
    "etcd_debugging_snap_save_marshalling_duration_seconds_count",
    "etcd_debugging_snap_save_total_duration_seconds_count",
    "etcd_snap_fsync_duration_seconds_count",
    "etcd_mvcc_db_open_read_transactions",
    "etcd_debugging_store_expires_total",
    "etcd_debugging_store_watch_requests_total",
    "etcd_debugging_store_watchers",
    "etcd_disk_defrag_inflight",
    "etcd_grpc_proxy_cache_hits_total",
    "etcd_grpc_proxy_cache_keys_total",
    "etcd_grpc_proxy_cache_misses_total",
    "etcd_grpc_proxy_events_coalescing_total",
    "etcd_grpc_proxy_watchers_coalescing_total",
];

fn ours(flags: &[&str]) -> Server {
    Server::start(Subject::Kvorum, flags).expect("ours can always be had")
}

async fn put(connection: &Connection, key: &'static str) {
    let request = PutRequest {
        key: key.into(),
        value: "value".into(),
        ..PutRequest::default()
    };
    let answer = connection.call("etcdserverpb.KV/Put", &request).await;
    answer.map(|_: PutResponse| ()).expect("put");
}

async fn hash_kv(connection: &Connection) -> HashKvResponse {
    connection
        .call(
            "etcdserverpb.Maintenance/HashKV",
            &HashKvRequest { revision: 0 },
        )
        .await
        .expect("a hash")
}

#[test]
fn methods_that_are_missing_say_so_and_the_connection_lives() {
    let server = ours(&[]);
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        for method in MISSING_METHODS {
            let answer = connection.call_bytes(method, &[]).await;
            match answer {
                Err(Failure::Status { code: 12, message }) => {
                    assert!(
                        message.ends_with("supported by this release"),
                        "{method}: {message}"
                    );
                }
                other => panic!("{method}: {other:?}"),
            }
        }
        put(&connection, "a").await;
    });
}

#[test]
fn pages_that_are_missing_are_not_found() {
    let server = ours(&["--log-level=debug", "--enable-pprof"]);
    for path in MISSING_PAGES {
        let page = get(server.port(), path).expect("a page");
        assert_eq!((page.status, page.body.trim()), (404, "404 page not found"));
    }
}

#[test]
fn the_log_leaves_out_what_only_official_etcd_writes() {
    let server = ours(&[]);
    for line in server.log() {
        let value: serde_json::Value = serde_json::from_str(&line).expect("a line is JSON");
        assert!(value["ts"].as_str().is_some_and(|time| time.ends_with('Z')));
        assert!(value.get("stacktrace").is_none(), "{line}");
        assert!(!line.contains("server on single port"), "{line}");
    }
    let binary = Subject::Kvorum.etcd().expect("ours can always be had");
    let mut command = Command::new(binary);
    let refused = run(
        command.arg("--heartbeat-interval=0"),
        "",
        Duration::from_secs(60),
    );
    assert_eq!(refused.code, Some(1));
    let said = refused.stderr.matches("failed to verify flags").count();
    assert_eq!(said, 1, "{}", refused.stderr);
}

#[test]
fn kvorum_names_its_own_version_beside_that_of_etcd() {
    let server = ours(&[]);
    let page = get(server.port(), "/version").expect("a page");
    let version: serde_json::Value = serde_json::from_str(&page.body).expect("JSON");
    let own = version["kvorum"].as_str().expect("our own version");
    let metrics = get(server.port(), "/metrics").expect("a page").body;
    assert!(metrics.contains(&format!("kvorum_build_info{{version=\"{own}\"}} 1\n")));
    let binary = Subject::Kvorum.etcd().expect("ours can always be had");
    let limit = Duration::from_secs(60);
    let printed = run(Command::new(binary).arg("--version"), "", limit);
    assert_eq!(
        printed.stdout.lines().last(),
        Some(format!("Kvorum Version: {own}").as_str())
    );
}

#[test]
fn the_whole_hash_covers_the_keys_alone() {
    let server = ours(&[]);
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        put(&connection, "a").await;
        let grant = LeaseGrantRequest { ttl: 100, id: 7 };
        let granted = connection
            .call("etcdserverpb.Lease/LeaseGrant", &grant)
            .await;
        granted.map(|_: LeaseGrantResponse| ()).expect("grant");
        let whole: HashResponse = connection
            .call("etcdserverpb.Maintenance/Hash", &HashRequest {})
            .await
            .expect("a hash");
        assert_eq!(whole.hash, hash_kv(&connection).await.hash);
    });
}

#[test]
fn metrics_of_what_is_not_done_stay_at_zero() {
    let server = ours(&[]);
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        put(&connection, "a").await;
        put(&connection, "a").await;
        let compact = CompactionRequest {
            revision: 3,
            physical: true,
        };
        let compacted = connection.call("etcdserverpb.KV/Compact", &compact).await;
        compacted.map(|_: CompactionResponse| ()).expect("compact");
    });
    let now = samples(&get(server.port(), "/metrics").expect("a page").body);
    for name in STILL_METRICS {
        assert_eq!(now.get(name), Some(&0.0), "{name}");
    }
}

#[test]
fn official_etcd_takes_our_data_directory_over_and_gives_it_back() {
    let mut ours = ours(&[]);
    let folder = ours.data_directory();
    assert!(folder.join("member/state/format").exists());
    assert!(
        !folder.join("member/snap").exists(),
        "a copy of member/snap/db must fail rather than be empty"
    );
    let before = block_on(async {
        let connection = Connection::open(ours.port()).await.expect("connects");
        put(&connection, "a").await;
        put(&connection, "b").await;
        hash_kv(&connection).await
    });
    ours.terminate();

    let Some(mut official) = Server::prepare(Subject::Official371, &[]) else {
        return;
    };
    fs::rename(&folder, official.data_directory()).expect("a folder can be renamed");
    official.launch();
    official.wait_ready();
    let after = block_on(async {
        let connection = Connection::open(official.port()).await.expect("connects");
        hash_kv(&connection).await
    });
    let shown = |hash: &HashKvResponse| (hash.hash, hash.hash_revision, hash.compact_revision);
    assert_eq!(shown(&before), shown(&after));
    official.terminate();

    fs::rename(official.data_directory(), &folder).expect("a folder can be renamed");
    ours.launch();
    ours.wait_ready();
    let back = block_on(async {
        let connection = Connection::open(ours.port()).await.expect("connects");
        hash_kv(&connection).await
    });
    assert_eq!(shown(&back), shown(&after));
    assert!(!folder.join("member/snap").exists(), "it is kept elsewhere");
}
