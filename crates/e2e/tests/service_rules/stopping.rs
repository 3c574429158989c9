//! The end of a process that clients wait for.

use std::time::Duration;

use kvorum_e2e::grpc::{Failure, Stream, block_on};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use kvorum_proto::health::HealthCheckRequest;
use kvorum_proto::mvccpb::event::EventType;
use kvorum_proto::v3electionpb::{CampaignRequest, CampaignResponse, LeaderRequest};
use kvorum_proto::v3lockpb::{LockRequest, LockResponse};

use crate::{answer, begin, connect, grant, until};

on_each_server!(clients_that_wait_hold_up_no_end);

/// How long ours may take to end. Official etcd drains its connections and may take longer.
const STOP_LIMIT: Duration = Duration::from_millis(1500);

/// What the server says last on a stream.
async fn end(stream: &mut Stream) -> Result<(), Failure> {
    while stream.next_bytes().await?.is_some() {}
    Ok(())
}

fn clients_that_wait_hold_up_no_end(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        for lease in [1, 2] {
            grant(&connection, lease).await;
        }
        let lock = |lease| LockRequest {
            name: "job".into(),
            lease,
        };
        let held = connection.call("v3lockpb.Lock/Lock", &lock(1)).await;
        let _: LockResponse = held.expect("lock");
        let candidate = |lease| CampaignRequest {
            name: "post".into(),
            lease,
            value: "me".into(),
        };
        let method = "v3electionpb.Election/Campaign";
        let won = connection.call(method, &candidate(1)).await;
        let _: CampaignResponse = won.expect("campaign");

        // All that waits, each on a stream of its own.
        let mut waiting = Vec::new();
        let stream = begin(&connection, "v3lockpb.Lock/Lock", &lock(2)).await;
        until(&connection, EventType::Put, "job/2").await;
        waiting.push(("lock", stream));
        let stream = begin(&connection, method, &candidate(2)).await;
        until(&connection, EventType::Put, "post/2").await;
        waiting.push(("campaign", stream));
        let name = "post".into();
        let method = "v3electionpb.Election/Observe";
        let mut stream = begin(&connection, method, &LeaderRequest { name }).await;
        stream.next_bytes().await.expect("the leader");
        waiting.push(("observe", stream));
        let request = HealthCheckRequest::default();
        let mut stream = begin(&connection, "grpc.health.v1.Health/Watch", &request).await;
        stream.next_bytes().await.expect("the status");
        waiting.push(("health", stream));
        for _ in 0..100 {
            let create = WatchCreateRequest {
                key: "k".into(),
                ..WatchCreateRequest::default()
            };
            let request = WatchRequest {
                request_union: Some(RequestUnion::CreateRequest(create)),
            };
            let stream = connection.open_stream("etcdserverpb.Watch/Watch", &request);
            let mut stream = stream.await.expect("a stream");
            let _: WatchResponse = answer(&mut stream).await.expect("created");
            waiting.push(("watch", stream));
            let request = LeaseKeepAliveRequest { id: 1 };
            let stream = connection.open_stream("etcdserverpb.Lease/LeaseKeepAlive", &request);
            let mut stream = stream.await.expect("a stream");
            let _: LeaseKeepAliveResponse = answer(&mut stream).await.expect("kept alive");
            waiting.push(("keep alive", stream));
        }

        let ending = tokio::task::spawn_blocking(move || (server.terminate(), server));
        for (what, stream) in &mut waiting {
            let told = end(stream).await;
            if subject == Subject::Kvorum {
                assert_stopped(what, &told);
            } else {
                assert_ne!(told, Ok(()), "{what}");
            }
        }
        let ((_, took), server) = ending.await.expect("the server ends");
        if subject == Subject::Kvorum {
            assert!(took < STOP_LIMIT, "took {took:?}");
            let errors = server.log();
            let errors = errors.iter().filter(|line| line.contains("\"error\""));
            assert_eq!(errors.count(), 0, "a stop is no error");
        }
    });
}

/// Either the server had the time to say why, or the connection is closed.
fn assert_stopped(what: &str, told: &Result<(), Failure>) {
    match told {
        Err(Failure::Status { code: 14, message }) => {
            assert_eq!(message, "etcdserver: server stopped", "{what}");
        }
        Err(Failure::Transport(text)) => assert_ne!(text, "no answer in time", "{what}"),
        other => panic!("{what}: {other:?}"),
    }
}
