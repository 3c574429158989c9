//! Services that etcdctl does not call: locks, elections, health, downgrade; and metrics that move
//! with rarer work.

use bytes::Bytes;
use kvorum_e2e::grpc::{Connection, Failure, Stream, block_on};
use kvorum_e2e::http::{get, samples};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::downgrade_request::DowngradeAction;
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DefragmentRequest, DefragmentResponse, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, LeaseGrantRequest,
    LeaseGrantResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, WatchCreateRequest,
    WatchRequest, WatchResponse,
};
use kvorum_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use kvorum_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use kvorum_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use prost::Message;

on_each_server!(
    a_lock_is_handed_on_when_it_is_given_back,
    an_election_has_one_leader_at_a_time,
    health_is_listed_and_watched,
    a_downgrade_is_checked_switched_on_and_off,
    rarer_work_is_measured,
);

const LEASES: [i64; 2] = [7, 8];

async fn connect(server: &Server) -> Connection {
    let connection = Connection::open(server.port()).await.expect("connects");
    for id in LEASES {
        let grant = LeaseGrantRequest { ttl: 100, id };
        call::<LeaseGrantResponse>(&connection, "etcdserverpb.Lease/LeaseGrant", &grant).await;
    }
    connection
}

async fn call<A: Message + Default>(
    connection: &Connection,
    method: &str,
    request: &impl Message,
) -> A {
    let answer = connection.call(method, request).await;
    answer.unwrap_or_else(|failure| panic!("{method}: {failure:?}"))
}

async fn next<A: Message + Default>(stream: &mut Stream) -> A {
    let message = stream.next().await.expect("the stream goes on");
    message.expect("the stream has not ended")
}

fn key_of(name: &str, lease: i64) -> Bytes {
    format!("{name}/{lease:x}").into()
}

fn a_lock_is_handed_on_when_it_is_given_back(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let [first, second] = LEASES.map(|lease| LockRequest {
            name: "lock".into(),
            lease,
        });
        let held: LockResponse = call(&connection, "v3lockpb.Lock/Lock", &first).await;
        assert_eq!(held.key, key_of("lock", first.lease));
        let mut waiting = connection
            .open_stream("v3lockpb.Lock/Lock", &second)
            .await
            .expect("a call");
        waiting.finish().expect("a whole request");
        let unlock = UnlockRequest { key: held.key };
        call::<UnlockResponse>(&connection, "v3lockpb.Lock/Unlock", &unlock).await;
        let handed_on: LockResponse = next(&mut waiting).await;
        assert_eq!(handed_on.key, key_of("lock", second.lease));
    });
}

fn an_election_has_one_leader_at_a_time(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let ask = LeaderRequest {
            name: "election".into(),
        };
        let nobody = connection
            .call::<LeaderResponse>("v3electionpb.Election/Leader", &ask)
            .await;
        let failure = Failure::Status {
            code: 2,
            message: "election: no leader".to_owned(),
        };
        assert_eq!(nobody, Err(failure));
        let [first, second] = LEASES.map(|lease| CampaignRequest {
            name: "election".into(),
            lease,
            value: format!("value of {lease}").into(),
        });
        let won: CampaignResponse =
            call(&connection, "v3electionpb.Election/Campaign", &first).await;
        let leader = won.leader.expect("the key of the leader");
        assert_eq!(leader.key, key_of("election", first.lease));
        let mut observer = connection
            .open_stream("v3electionpb.Election/Observe", &ask)
            .await
            .expect("a call");
        observer.finish().expect("a whole request");
        let value = |seen: LeaderResponse| seen.kv.expect("a leader").value;
        assert_eq!(value(next(&mut observer).await), "value of 7");
        let mut rival = connection
            .open_stream("v3electionpb.Election/Campaign", &second)
            .await
            .expect("a call");
        rival.finish().expect("a whole request");
        let proclaim = ProclaimRequest {
            leader: Some(leader.clone()),
            value: "news".into(),
        };
        call::<ProclaimResponse>(&connection, "v3electionpb.Election/Proclaim", &proclaim).await;
        assert_eq!(value(next(&mut observer).await), "news");
        let resign = ResignRequest {
            leader: Some(leader),
        };
        call::<ResignResponse>(&connection, "v3electionpb.Election/Resign", &resign).await;
        let won: CampaignResponse = next(&mut rival).await;
        assert_eq!(
            won.leader.expect("the key of the leader").key,
            key_of("election", second.lease)
        );
        assert_eq!(value(next(&mut observer).await), "value of 8");
        let seen: LeaderResponse = call(&connection, "v3electionpb.Election/Leader", &ask).await;
        assert_eq!(value(seen), "value of 8");
    });
}

fn health_is_listed_and_watched(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    // 1 is SERVING, 3 is SERVICE_UNKNOWN.
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let nothing = HealthCheckRequest::default();
        let list: HealthListResponse =
            call(&connection, "grpc.health.v1.Health/List", &nothing).await;
        assert_eq!(list.statuses[""].status, 1);
        for (service, status) in [("", 1), ("nothing", 3)] {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let mut watch = connection
                .open_stream("grpc.health.v1.Health/Watch", &request)
                .await
                .expect("a call");
            watch.finish().expect("a whole request");
            let seen: HealthCheckResponse = next(&mut watch).await;
            assert_eq!(seen.status, status, "{service:?}");
        }
    });
}

fn a_downgrade_is_checked_switched_on_and_off(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    // Official etcd serves a little before it has settled the version of the cluster.
    server.wait("cluster version", || {
        let page = get(server.port(), "/version").expect("a page");
        let is_settled = page.body.contains("\"etcdcluster\":\"3.7.0\"");
        is_settled.then_some(())
    });
    let text = |failure: Failure| match failure {
        Failure::Status { code, message } => format!("{code} {message}"),
        other => panic!("{other:?}"),
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let ask = async |action: DowngradeAction, version: &str| {
            let request = DowngradeRequest {
                action: action as i32,
                version: version.to_owned(),
            };
            let answer = connection
                .call::<DowngradeResponse>("etcdserverpb.Maintenance/Downgrade", &request)
                .await;
            answer.map(|answer| answer.version).map_err(text)
        };
        let cluster = Ok("3.7".to_owned());
        assert_eq!(ask(DowngradeAction::Validate, "3.6").await, cluster);
        let refused = ask(DowngradeAction::Validate, "3.5").await;
        assert_eq!(
            refused,
            Err("3 etcdserver: invalid downgrade target version".to_owned())
        );
        assert_eq!(ask(DowngradeAction::Enable, "3.6").await, cluster);
        assert_eq!(ask(DowngradeAction::Cancel, "").await, cluster);
    });
}

/// What grows by the work below, labels left out.
const GROWS: [&str; 13] = [
    "etcd_debugging_lease_ttl_total_count",
    "etcd_debugging_mvcc_db_compaction_keys_total",
    "etcd_debugging_mvcc_db_compaction_last",
    "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds_count",
    "etcd_debugging_server_watch_send_loop_progress_duration_seconds_count",
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds_count",
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds_count",
    "etcd_disk_backend_defrag_duration_seconds_count",
    "etcd_disk_wal_write_duration_seconds_count",
    "etcd_mvcc_hash_duration_seconds_count",
    "etcd_mvcc_hash_rev_duration_seconds_count",
    "etcd_server_client_requests_total",
    "etcd_server_range_duration_seconds_count",
];

/// What grows only when something goes wrong, and is there all the same.
const THERE: [&str; 7] = [
    "etcd_debugging_mvcc_pending_events_total",
    "etcd_server_health_failures",
    "etcd_server_proposals_failed_total",
    "etcd_server_read_indexes_failed_total",
    "etcd_server_slow_apply_total",
    "etcd_server_slow_read_indexes_total",
    "etcd_debugging_server_lease_expired_total",
];

fn rarer_work_is_measured(subject: Subject) {
    let Some(server) = Server::start(subject, &["--watch-progress-notify-interval=100ms"]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let create = WatchCreateRequest {
            key: "a".into(),
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let mut watch = connection
            .open_stream("etcdserverpb.Watch/Watch", &request)
            .await
            .expect("a call");
        // What is put before it watches is no event.
        let created: WatchResponse = next(&mut watch).await;
        assert!(created.created);
        for _ in 0..2 {
            let put = PutRequest {
                key: "a".into(),
                ..PutRequest::default()
            };
            call::<PutResponse>(&connection, "etcdserverpb.KV/Put", &put).await;
        }
        let range = RangeRequest {
            key: "a".into(),
            ..RangeRequest::default()
        };
        call::<RangeResponse>(&connection, "etcdserverpb.KV/Range", &range).await;
        let compact = CompactionRequest {
            revision: 3,
            physical: true,
        };
        call::<CompactionResponse>(&connection, "etcdserverpb.KV/Compact", &compact).await;
        let maintenance = |method: &str| format!("etcdserverpb.Maintenance/{method}");
        call::<HashResponse>(&connection, &maintenance("Hash"), &HashRequest {}).await;
        let newest = HashKvRequest { revision: 0 };
        call::<HashKvResponse>(&connection, &maintenance("HashKV"), &newest).await;
        let all = DefragmentRequest {};
        call::<DefragmentResponse>(&connection, &maintenance("Defragment"), &all).await;
        // Two events in one message or two, then a bookmark.
        let mut events = 0;
        loop {
            let seen: WatchResponse = next(&mut watch).await;
            events += seen.events.len();
            if events == 2 && seen.events.is_empty() {
                break;
            }
        }
    });
    let sum = |name: &str| -> Option<f64> {
        let now = samples(&get(server.port(), "/metrics").expect("a page").body);
        let of_name = |sample: &&String| sample.split('{').next() == Some(name);
        now.keys()
            .filter(of_name)
            .map(|sample| now[sample])
            .reduce(|a, b| a + b)
    };
    // What is measured is counted behind its answer.
    for name in GROWS {
        server.wait(name, || (sum(name) > Some(0.0)).then_some(()));
    }
    for name in THERE {
        assert!(sum(name).is_some(), "{name} is missing");
    }
}
