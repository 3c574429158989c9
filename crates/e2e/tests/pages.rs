//! The pages beside the gRPC API: health, version, and metrics that move.

use std::collections::BTreeMap;
use std::time::Instant;

use kvorum_e2e::grpc::{Connection, Failure, LIMIT, block_on};
use kvorum_e2e::http::{Page, exchange, get, samples};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse,
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use kvorum_proto::health::{HealthCheckRequest, HealthCheckResponse};

on_each_server!(
    pages_answer_as_official_ones,
    version_is_3_7_1,
    grpc_health_says_serving,
    metrics_have_the_official_types,
    metrics_move_as_official_ones,
    broken_streams_of_clients_do_not_count,
    an_alarm_shows_in_the_metrics,
);

/// Path, status, body with its lines sorted: official etcd runs the checks in no fixed order.
const PAGES: [(&str, u16, &str); 14] = [
    ("/health", 200, r#"{"health":"true","reason":""}"#),
    (
        "/health?serializable=true",
        200,
        r#"{"health":"true","reason":""}"#,
    ),
    (
        "/health?exclude=NOSPACE",
        200,
        r#"{"health":"true","reason":""}"#,
    ),
    ("/livez", 200, "ok"),
    ("/readyz", 200, "ok"),
    ("/livez?verbose", 200, "[+]serializable_read ok\nok"),
    ("/livez/serializable_read", 200, "ok"),
    ("/readyz/data_corruption", 200, "ok"),
    ("/readyz?exclude=nothing", 200, "ok"),
    (
        "/readyz?verbose",
        200,
        "[+]data_corruption ok\n[+]linearizable_read ok\n[+]non_learner ok\n[+]serializable_read ok\nok",
    ),
    (
        "/readyz?verbose=true&exclude=data_corruption",
        200,
        "[+]linearizable_read ok\n[+]non_learner ok\n[+]serializable_read ok\nok",
    ),
    ("/readyz/nothing", 404, "404 page not found"),
    ("/nothing", 404, "404 page not found"),
    ("/", 404, "404 page not found"),
];

fn pages_answer_as_official_ones(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    for (path, status, body) in PAGES {
        let page = get(server.port(), path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut lines: Vec<&str> = page.body.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            (page.status, lines.join("\n").as_str()),
            (status, body),
            "{path}"
        );
        assert_eq!(
            header(&page, "content-type"),
            "text/plain; charset=utf-8",
            "{path}"
        );
        assert_eq!(header(&page, "access-control-allow-origin"), "*", "{path}");
    }
    let post = "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = exchange(server.port(), post.as_bytes()).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(answer.starts_with("http/1.1 405"), "{answer}");
    assert!(answer.contains("\r\nallow: get\r\n"), "{answer}");
}

fn header<'a>(page: &'a Page, name: &str) -> &'a str {
    page.headers.get(name).map_or("", String::as_str)
}

fn version_is_3_7_1(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let versions = || {
        let page = get(server.port(), "/version").expect("a page");
        assert_eq!(header(&page, "content-type"), "application/json");
        let versions: serde_json::Value = serde_json::from_str(&page.body).expect("JSON");
        assert_eq!(versions["etcdserver"], "3.7.1");
        versions
    };
    // Official etcd serves before the versions of cluster and storage are decided, and decides within seconds.
    let decided = |versions: &serde_json::Value| {
        versions["etcdcluster"] == "3.7.0" && versions["storage"] == "3.7.0"
    };
    let found = (0..VERSION_LOOKS_MAX).map(|_| versions()).find(decided);
    assert!(found.is_some(), "not decided: {}", versions());
}

/// How often a version that is not decided is looked at again.
const VERSION_LOOKS_MAX: usize = 50_000;

fn grpc_health_says_serving(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let check = async |service: &str| -> Result<HealthCheckResponse, Failure> {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            connection
                .call("grpc.health.v1.Health/Check", &request)
                .await
        };
        // 1 is SERVING.
        assert_eq!(check("").await.expect("an answer").status, 1);
        let unknown = Failure::Status {
            code: 5,
            message: "unknown service".to_owned(),
        };
        assert_eq!(check("nothing").await, Err(unknown));
    });
}

/// Name and type of what dashboards and alerts in wide use read.
const TYPES: [(&str, &str); 30] = [
    ("etcd_cluster_version", "gauge"),
    ("etcd_debugging_lease_granted_total", "counter"),
    ("etcd_debugging_mvcc_compact_revision", "gauge"),
    ("etcd_debugging_mvcc_current_revision", "gauge"),
    ("etcd_debugging_mvcc_keys_total", "gauge"),
    ("etcd_debugging_mvcc_slow_watcher_total", "gauge"),
    ("etcd_debugging_mvcc_watcher_total", "gauge"),
    ("etcd_disk_backend_commit_duration_seconds", "histogram"),
    ("etcd_disk_wal_fsync_duration_seconds", "histogram"),
    ("etcd_disk_wal_write_bytes_total", "gauge"),
    ("etcd_mvcc_db_total_size_in_bytes", "gauge"),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge"),
    ("etcd_mvcc_put_total", "counter"),
    ("etcd_network_client_grpc_received_bytes_total", "counter"),
    ("etcd_network_client_grpc_sent_bytes_total", "counter"),
    ("etcd_server_has_leader", "gauge"),
    ("etcd_server_heartbeat_send_failures_total", "counter"),
    ("etcd_server_id", "gauge"),
    ("etcd_server_is_leader", "gauge"),
    ("etcd_server_leader_changes_seen_total", "counter"),
    ("etcd_server_proposals_applied_total", "gauge"),
    ("etcd_server_proposals_committed_total", "gauge"),
    ("etcd_server_proposals_failed_total", "counter"),
    ("etcd_server_proposals_pending", "gauge"),
    ("etcd_server_quota_backend_bytes", "gauge"),
    ("etcd_server_slow_apply_total", "counter"),
    ("etcd_server_version", "gauge"),
    ("grpc_server_handled_total", "counter"),
    ("grpc_server_started_total", "counter"),
    ("process_resident_memory_bytes", "gauge"),
];

/// The metrics page once the start is over, which ends with the version of the cluster.
fn settled(server: &Server) -> Page {
    server.wait("cluster version among the metrics", || {
        let page = get(server.port(), "/metrics").expect("a page");
        let now = samples(&page.body);
        let version = now.contains_key("etcd_cluster_version{cluster_version=\"3.7\"}");
        let is_settled = version && now.get("etcd_server_proposals_pending") == Some(&0.0);
        is_settled.then_some(page)
    })
}

fn metrics_have_the_official_types(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let page = settled(&server);
    assert!(header(&page, "content-type").starts_with("text/plain; version=0.0.4"));
    let types: BTreeMap<&str, &str> = page
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let wrong: Vec<_> = TYPES
        .iter()
        .filter(|(name, kind)| types.get(name) != Some(kind))
        .collect();
    assert!(wrong.is_empty(), "missing or of another type: {wrong:?}");
    let now = samples(&page.body);
    for (name, value) in [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_server_version{server_version=\"3.7.1\"}", 1.0),
        ("etcd_cluster_version{cluster_version=\"3.7\"}", 1.0),
        ("etcd_server_quota_backend_bytes", 2_147_483_648.0),
        ("etcd_debugging_mvcc_current_revision", 1.0),
    ] {
        assert_eq!(now.get(name), Some(&value), "{name}");
    }
}

/// What the workload below does to each of these, exactly. The compacted revision of a store that
/// was never compacted is -1.
const MOVES: [(&str, f64); 28] = [
    ("etcd_mvcc_put_total", 12.0),
    ("etcd_mvcc_delete_total", 2.0),
    ("etcd_mvcc_txn_total", 1.0),
    ("etcd_debugging_mvcc_current_revision", 13.0),
    ("etcd_debugging_mvcc_compact_revision", 6.0),
    ("etcd_debugging_mvcc_keys_total", 10.0),
    ("etcd_debugging_mvcc_watcher_total", 1.0),
    ("etcd_debugging_mvcc_watch_stream_total", 1.0),
    ("etcd_debugging_mvcc_slow_watcher_total", 0.0),
    ("etcd_debugging_lease_granted_total", 1.0),
    ("etcd_debugging_lease_renewed_total", 1.0),
    ("etcd_debugging_lease_revoked_total", 1.0),
    ("etcd_server_proposals_failed_total", 0.0),
    ("etcd_server_proposals_pending", 0.0),
    ("etcd_server_leader_changes_seen_total", 0.0),
    ("grpc_server_handled_total{Put,OK}", 10.0),
    ("grpc_server_handled_total{Put,NotFound}", 1.0),
    ("grpc_server_handled_total{Range,OK}", 1.0),
    ("grpc_server_handled_total{Range,OutOfRange}", 1.0),
    ("grpc_server_handled_total{Txn,OK}", 1.0),
    ("grpc_server_handled_total{DeleteRange,OK}", 1.0),
    ("grpc_server_handled_total{Compact,OK}", 1.0),
    ("grpc_server_started_total{Watch}", 1.0),
    ("grpc_server_msg_sent_total{LeaseKeepAlive}", 1.0),
    ("grpc_server_msg_received_total{Put}", 11.0),
    // A refusal that stands in the log, or comes from a read, is a request that went well.
    (
        "etcd_server_request_duration_seconds_count{success=\"true\",type=\"Put\"}",
        11.0,
    ),
    (
        "etcd_server_request_duration_seconds_count{success=\"true\",type=\"Range\"}",
        2.0,
    ),
    (
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
        1.0,
    ),
];

/// What grows by an amount that is the server's own affair. Commits of the backend are not among
/// them: ours has no backend that would commit ten times a second.
const GROWS: [&str; 10] = [
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_wal_write_bytes_total",
    "etcd_mvcc_range_total",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_health_success",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_mvcc_events_total",
];

fn metrics_move_as_official_ones(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let before = short(&settled(&server).body);
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        // The watch stays open while the page is read.
        let _watch = workload(&connection).await.expect("the workload runs");
        get(server.port(), "/health").expect("a page");
        // Some is counted behind the answer to what it counts.
        let started = Instant::now();
        loop {
            let after = short(&get(server.port(), "/metrics").expect("a page").body);
            let wrong = wrong_moves(&before, &after);
            if wrong.is_empty() {
                break;
            }
            assert!(started.elapsed() < LIMIT, "{}", wrong.join("\n"));
        }
    });
}

/// What moved otherwise than it should.
fn wrong_moves(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> Vec<String> {
    let moved = |name: &str| {
        let value = |page: &BTreeMap<String, f64>| page.get(name).copied().unwrap_or_default();
        value(after) - value(before)
    };
    let mut wrong: Vec<String> = MOVES
        .iter()
        .filter(|(name, by)| (moved(name) - by).abs() > f64::EPSILON)
        .map(|(name, by)| format!("{name} moved by {} instead of {by}", moved(name)))
        .collect();
    let still = GROWS.iter().filter(|name| moved(name) <= 0.0);
    wrong.extend(still.map(|name| format!("{name} did not grow")));
    wrong
}

/// Official servers have a counter for streams of clients that fail, and hardly ever count: a stream that breaks is one
/// that its client has given up.
fn broken_streams_of_clients_do_not_count(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        for method in [
            "etcdserverpb.Watch/Watch",
            "etcdserverpb.Lease/LeaseKeepAlive",
        ] {
            let mut stream = connection.start(method, &[]).await.expect("a stream");
            let rubbish = kvorum_e2e::grpc::frame(b"\xff\xff");
            stream.send_raw(rubbish, false).expect("it takes bytes");
            let ended = stream.next_bytes().await;
            ended.expect_err("rubbish ends the stream");
            let mut stream = connection.start(method, &[]).await.expect("a stream");
            stream.reset();
        }
    });
    let page = get(server.port(), "/metrics").expect("a page");
    let counted = "etcd_network_server_stream_failures_total{";
    let line = page.body.lines().find(|line| line.starts_with(counted));
    assert_eq!(line, None);
}

fn an_alarm_shows_in_the_metrics(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let switch = async |action: AlarmAction| {
            let request = AlarmRequest {
                action: action as i32,
                member_id: 1,
                alarm: AlarmType::Corrupt as i32,
            };
            let _: AlarmResponse = connection
                .call("etcdserverpb.Maintenance/Alarm", &request)
                .await
                .expect("an answer");
        };
        // It is shown behind the answer.
        let shows = |raised: bool| {
            server.wait("alarm in the metrics", || {
                let page = get(server.port(), "/metrics").expect("a page").body;
                let name = "etcd_debugging_server_alarms{alarm_type=\"CORRUPT\",server_id=\"1\"}";
                (raised == (samples(&page).get(name) == Some(&1.0))).then_some(())
            });
        };
        switch(AlarmAction::Activate).await;
        shows(true);
        switch(AlarmAction::Deactivate).await;
        shows(false);
    });
}

/// Samples with gRPC labels cut down to method and code.
fn short(page: &str) -> BTreeMap<String, f64> {
    let mut shortened = BTreeMap::new();
    for (name, value) in samples(page) {
        let label = |label: &str| {
            let rest = name.split_once(&format!("{label}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let name = match (
            label("grpc_method"),
            label("grpc_code"),
            name.split_once('{'),
        ) {
            (Some(method), Some(code), Some((family, _))) => format!("{family}{{{method},{code}}}"),
            (Some(method), None, Some((family, _))) => format!("{family}{{{method}}}"),
            _ => name,
        };
        *shortened.entry(name).or_default() += value;
    }
    shortened
}

/// 12 puts (2 of them in a transaction), 2 deletes (one by a lease), a read, a compaction, a lease
/// and two mistakes, seen by a watcher.
async fn workload(connection: &Connection) -> Result<kvorum_e2e::grpc::Stream, Failure> {
    let zero = bytes::Bytes::from_static(b"\0");
    let create = WatchCreateRequest {
        key: zero.clone(),
        range_end: zero,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut watch = connection
        .open_stream("etcdserverpb.Watch/Watch", &request)
        .await?;
    watch.next::<WatchResponse>().await?;
    let put = |key: String, lease: i64| PutRequest {
        key: key.into(),
        value: "value".into(),
        lease,
        ..PutRequest::default()
    };
    for number in 0..9 {
        let request = put(format!("key-{number}"), 0);
        connection
            .call::<PutResponse>("etcdserverpb.KV/Put", &request)
            .await?;
    }
    let both = ["txn-1", "txn-2"].map(|key| RequestOp {
        request: Some(Request::RequestPut(put(key.to_owned(), 0))),
    });
    let request = TxnRequest {
        success: both.to_vec(),
        ..TxnRequest::default()
    };
    connection
        .call::<TxnResponse>("etcdserverpb.KV/Txn", &request)
        .await?;
    let grant = LeaseGrantRequest { ttl: 100, id: 7 };
    connection
        .call::<LeaseGrantResponse>("etcdserverpb.Lease/LeaseGrant", &grant)
        .await?;
    let leased = put("leased".to_owned(), 7);
    connection
        .call::<PutResponse>("etcdserverpb.KV/Put", &leased)
        .await?;
    let alive = LeaseKeepAliveRequest { id: 7 };
    let mut keeper = connection
        .open_stream("etcdserverpb.Lease/LeaseKeepAlive", &alive)
        .await?;
    keeper.next::<LeaseKeepAliveResponse>().await?;
    keeper.finish()?;
    let revoke = LeaseRevokeRequest { id: 7 };
    connection
        .call::<LeaseRevokeResponse>("etcdserverpb.Lease/LeaseRevoke", &revoke)
        .await?;
    let delete = DeleteRangeRequest {
        key: "key-8".into(),
        ..DeleteRangeRequest::default()
    };
    connection
        .call::<DeleteRangeResponse>("etcdserverpb.KV/DeleteRange", &delete)
        .await?;
    let range = RangeRequest {
        key: "key-1".into(),
        ..RangeRequest::default()
    };
    connection
        .call::<RangeResponse>("etcdserverpb.KV/Range", &range)
        .await?;
    let compact = CompactionRequest {
        revision: 5,
        physical: true,
    };
    connection
        .call::<CompactionResponse>("etcdserverpb.KV/Compact", &compact)
        .await?;
    let future = RangeRequest {
        key: "key-1".into(),
        revision: 1000,
        ..RangeRequest::default()
    };
    let refused = connection
        .call::<RangeResponse>("etcdserverpb.KV/Range", &future)
        .await;
    assert!(refused.is_err(), "the future was read");
    let orphan = put("orphan".to_owned(), 404);
    let refused = connection
        .call::<PutResponse>("etcdserverpb.KV/Put", &orphan)
        .await;
    assert!(refused.is_err(), "a lease that is none was taken");
    let mut events = 0;
    while events < 14 {
        let response = watch.next::<WatchResponse>().await?;
        events += response.map_or(0, |response| response.events.len());
    }
    Ok(watch)
}
