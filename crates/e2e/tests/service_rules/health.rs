//! The health service of gRPC, and what a call says beside its message.

use std::collections::BTreeMap;
use std::time::Instant;

use kvorum_e2e::grpc::{Connection, Failure, LIMIT, block_on, frame};
use kvorum_e2e::http::{get, samples};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{RangeRequest, RangeResponse};
use kvorum_proto::health::health_check_response::ServingStatus;
use kvorum_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListResponse};
use prost::Message as _;

use crate::{answer, begin, connect, is_silent, refused};

on_each_server!(
    one_service_is_healthy_and_others_are_unknown,
    calls_say_who_asks_and_what_they_require,
);

fn asked(service: &str) -> HealthCheckRequest {
    let service = service.to_owned();
    HealthCheckRequest { service }
}

fn answered(status: ServingStatus) -> HealthCheckResponse {
    let status = status as i32;
    HealthCheckResponse { status }
}

fn one_service_is_healthy_and_others_are_unknown(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let serving = answered(ServingStatus::Serving);
        for (service, expected) in [
            ("", Ok(serving)),
            ("etcd", refused(5, "unknown service")),
            ("etcdserverpb.KV", refused(5, "unknown service")),
        ] {
            let request = asked(service);
            let told = connection.call("grpc.health.v1.Health/Check", &request);
            assert_eq!(told.await, expected, "{service:?}");
        }

        let list = connection.call("grpc.health.v1.Health/List", &());
        let list: HealthListResponse = list.await.expect("list");
        let statuses: Vec<_> = list.statuses.into_iter().collect();
        assert_eq!(statuses, [(String::new(), serving)]);

        let unknown = answered(ServingStatus::ServiceUnknown);
        for (service, expected) in [("", serving), ("etcd", unknown)] {
            let method = "grpc.health.v1.Health/Watch";
            let mut watch = begin(&connection, method, &asked(service)).await;
            let told: Result<HealthCheckResponse, Failure> = answer(&mut watch).await;
            assert_eq!(told, Ok(expected), "{service:?}");
            assert!(is_silent(&connection, &mut watch).await, "{service:?}");
        }
    });
}

async fn range_with(connection: &Connection, headers: &[(&str, &[u8])]) -> Result<(), Failure> {
    let request = RangeRequest {
        key: "k".into(),
        ..RangeRequest::default()
    };
    let method = "etcdserverpb.KV/Range";
    let mut call = connection.start_with(method, headers).await?;
    call.send_raw(frame(&request.encode_to_vec()), true)?;
    answer::<RangeResponse>(&mut call).await.map(drop)
}

/// How many calls were counted, by version of the client and kind.
fn counted(server: &Server) -> BTreeMap<String, f64> {
    let page = get(server.port(), "/metrics").expect("a page");
    let samples = samples(&page.body).into_iter();
    samples
        .filter_map(|(name, value)| {
            let labels = name.strip_prefix("etcd_server_client_requests_total{")?;
            Some((labels.trim_end_matches('}').to_owned(), value))
        })
        .collect()
}

fn calls_say_who_asks_and_what_they_require(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let version = "client-api-version";
        for headers in [
            &[("hasleader", &b"true"[..])][..],
            &[("hasleader", b"false")],
            &[("hasleader", b"true"), (version, b"3.5")],
            &[(version, b"3.5")],
            &[(version, "drei f\u{fc}nf".as_bytes())],
        ] {
            assert_eq!(
                range_with(&connection, headers).await,
                Ok(()),
                "{headers:?}"
            );
        }
        let invalid = refused(3, "etcdserver: invalid client api version");
        let told = range_with(&connection, &[(version, b"3.\xff")]).await;
        assert_eq!(told, invalid);

        let request = kvorum_proto::etcdserverpb::WatchRequest::default();
        let headers = [(version, &b"3.5"[..]), ("hasleader", b"true")];
        let watch = connection.start_with("etcdserverpb.Watch/Watch", &headers);
        let mut watch = watch.await.expect("a stream");
        watch.send(&request).expect("sent");
        assert!(is_silent(&connection, &mut watch).await);

        let expected = [
            (r#"client_api_version="3.5",type="stream""#, 1.0),
            (r#"client_api_version="3.5",type="unary""#, 2.0),
            ("client_api_version=\"drei f\u{fc}nf\",type=\"unary\"", 1.0),
            // The check of silence asks too.
            (r#"client_api_version="unknown",type="unary""#, 3.0),
        ];
        let expected = expected.map(|(labels, count)| (labels.to_owned(), count));
        let expected = BTreeMap::from(expected);
        // Official members count a stream when its turn comes, which may be later than that of another call.
        let started = Instant::now();
        while counted(&server) != expected {
            assert!(started.elapsed() < LIMIT, "{:?}", counted(&server));
        }
    });
}
