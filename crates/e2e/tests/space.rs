//! A small quota: puts until it is used up, and the way back that operators take.

use std::process::Command;
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::grpc::{Connection, Failure, block_on};
use kvorum_e2e::http::{get, samples};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{Subject, skip};
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DefragmentRequest,
    DefragmentResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseGrantResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse,
    alarm_request::AlarmAction,
};

/// 13 pages of 4 KiB: what test suites of etcd use.
const QUOTA: &str = "--quota-backend-bytes=53248";
/// Puts of 4 KiB that go into 13 pages, with all that official test suites allow for.
const PUTS_MAX: u32 = 14;
/// Official etcd counts pages when it commits them, which is ten times a second.
const PUTS_MAX_OFFICIAL: u32 = 10_000;

on_each_server!(a_full_store_refuses_puts_and_comes_back);

async fn put(connection: &Connection, size: usize) -> Result<i64, Failure> {
    connection.put_bytes("k", size).await
}

/// Members that have the NOSPACE alarm.
async fn alarms(connection: &Connection) -> Vec<u64> {
    // 0 is NONE, which asks for all kinds, and member 0 for all members.
    let response = alarm(connection, AlarmAction::Get, 0, 0).await;
    response
        .alarms
        .iter()
        .map(|alarm| alarm.member_id)
        .collect()
}

async fn alarm(
    connection: &Connection,
    action: AlarmAction,
    member_id: u64,
    alarm: i32,
) -> AlarmResponse {
    let request = AlarmRequest {
        action: action as i32,
        member_id,
        alarm,
    };
    let response = connection
        .call("etcdserverpb.Maintenance/Alarm", &request)
        .await;
    response.expect("alarms")
}

/// What an operator does for room: the history before `revision` goes, and its space is given back.
async fn compact_and_defragment(connection: &Connection, revision: i64) {
    let compact = CompactionRequest {
        revision,
        physical: true,
    };
    let _: CompactionResponse = connection
        .call("etcdserverpb.KV/Compact", &compact)
        .await
        .expect("compact");
    let _: DefragmentResponse = connection
        .call(
            "etcdserverpb.Maintenance/Defragment",
            &DefragmentRequest::default(),
        )
        .await
        .expect("defragment");
}

fn a_full_store_refuses_puts_and_comes_back(subject: Subject) {
    let full = Failure::Status {
        code: 8,
        message: "etcdserver: mvcc: database space exceeded".into(),
    };
    let Some(server) = Server::start(subject, &[QUOTA]) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        put(&connection, 100)
            .await
            .expect("a fresh member has room");
        let mut revision = 0;
        let mut refused = None;
        let puts = if subject == Subject::Kvorum {
            PUTS_MAX
        } else {
            PUTS_MAX_OFFICIAL
        };
        for _ in 0..puts {
            match put(&connection, 4096).await {
                Ok(last) => revision = last,
                Err(failure) => {
                    refused = Some(failure);
                    break;
                }
            }
        }
        assert_eq!(refused, Some(full.clone()));
        assert!(revision > 3, "refused after {revision} revisions");
        let raised = alarms(&connection).await;
        assert_eq!(raised.len(), 1);

        // Small puts and leases are refused too; reads and deletes go on.
        assert_eq!(put(&connection, 1).await, Err(full.clone()));
        let grant = LeaseGrantRequest { ttl: 100, id: 0 };
        let granted = connection
            .call("etcdserverpb.Lease/LeaseGrant", &grant)
            .await;
        assert_eq!(granted.map(|_: LeaseGrantResponse| ()), Err(full));
        let range = RangeRequest {
            key: "k".into(),
            ..RangeRequest::default()
        };
        let read: RangeResponse = connection
            .call("etcdserverpb.KV/Range", &range)
            .await
            .expect("range");
        assert_eq!(read.count, 1);
        let status: StatusResponse = connection
            .call("etcdserverpb.Maintenance/Status", &StatusRequest::default())
            .await
            .expect("status");
        assert!(
            status.errors.iter().any(|text| text.contains("NOSPACE")),
            "{:?}",
            status.errors
        );
        let health = get(server.port(), "/health").expect("a page");
        assert_eq!(
            (health.status, health.body.trim()),
            (503, r#"{"health":"false","reason":"ALARM NOSPACE"}"#)
        );
        let delete = DeleteRangeRequest {
            key: "k".into(),
            ..DeleteRangeRequest::default()
        };
        let deleted: DeleteRangeResponse = connection
            .call("etcdserverpb.KV/DeleteRange", &delete)
            .await
            .expect("delete");
        assert_eq!(deleted.deleted, 1);

        // Compact, defragment, disarm.
        let revision = deleted.header.expect("header").revision;
        compact_and_defragment(&connection, revision).await;
        // 1 is NOSPACE.
        alarm(&connection, AlarmAction::Deactivate, raised[0], 1).await;
        assert_eq!(alarms(&connection).await, Vec::<u64>::new());
        put(&connection, 4096).await.expect("there is room again");
        assert_eq!(get(server.port(), "/health").expect("a page").status, 200);
    });
}

/// A disk that holds some files of the log, a reserve, and little else.
const DISK_BYTES: u32 = 640 << 20;

#[test]
fn a_full_disk_refuses_writes_and_comes_back() {
    let allowed = Command::new("unshare").args(["--mount", "true"]).status();
    if !allowed.is_ok_and(|it| it.success()) {
        return skip(
            "a_full_disk_refuses_writes_and_comes_back",
            "needs a mount namespace",
        );
    }
    let flags = [
        "--experimental-kvorum-checkpoint-pause=100ms",
        "--snapshot-count=100",
    ];
    let Some(mut cluster) = Cluster::prepare(&[Subject::Kvorum], &flags) else {
        return;
    };
    let data = cluster.data_directory(0).display().to_string();
    let script = format!(
        "mkdir -p {data} && mount -t tmpfs -o size={DISK_BYTES},mode=700 tmpfs {data} && exec \"$0\" \"$@\""
    );
    cluster.wrap(0, &["unshare", "--mount", "sh", "-c", &script]);
    cluster.launch(0);
    cluster.wait_ready(0);
    let full = Failure::Status {
        code: 8,
        message: "etcdserver: mvcc: database space exceeded".into(),
    };
    block_on(async {
        let connection = Connection::open(cluster.client_port(0))
            .await
            .expect("connects");
        let mut last = 0;
        let refused = loop {
            match put(&connection, 1 << 20).await {
                Ok(revision) => last = revision,
                Err(failure) => break failure,
            }
            assert!(last < 1000, "the disk is never full");
        };
        assert_eq!(refused, full);
        assert!(last > 20, "refused after {last} revisions");
        let metric = |name: &str| {
            let page = get(cluster.client_port(0), "/metrics").expect("a page");
            samples(&page.body)[name]
        };
        assert_eq!(metric("kvorum_disk_reserve_bytes"), 0.0);

        // What frees space goes on: the newest version is kept, all others go, from the files too.
        compact_and_defragment(&connection, last).await;
        // Files are removed beside what clients do, and only the page of metrics tells when the room is there again.
        while metric("kvorum_disk_reserve_bytes") == 0.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let raised = alarms(&connection).await;
        assert_eq!(raised.len(), 1);
        alarm(&connection, AlarmAction::Deactivate, raised[0], 1).await;
        put(&connection, 4096).await.expect("there is room again");
    });
}
