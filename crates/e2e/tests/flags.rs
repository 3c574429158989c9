//! Flags whose work only a running server shows.

use std::time::{Duration, Instant};

use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::http::{Page, exchange, get};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::process::Process;
use kvorum_e2e::server::{Server, free_port};
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};

on_each_server!(
    origins_and_hosts_are_checked_against_their_lists,
    http_and_metrics_get_ports_of_their_own,
    extensive_metrics_measure_each_method,
    slow_calls_and_applies_are_logged,
    the_log_lies_where_it_is_told_to,
    two_processes_share_a_port_when_both_are_told_to,
    a_physical_compaction_is_waited_for_longer_than_other_requests,
);

async fn range(port: u16) -> bool {
    let connection = Connection::open(port).await.expect("connects");
    let request = RangeRequest {
        key: "a".into(),
        ..RangeRequest::default()
    };
    let answer = connection.call("etcdserverpb.KV/Range", &request).await;
    answer.map(|_: RangeResponse| ()).is_ok()
}

fn origins_and_hosts_are_checked_against_their_lists(subject: Subject) {
    let flags = ["--cors=http://here:80", "--host-whitelist=127.0.0.1"];
    let Some(server) = Server::start(subject, &flags) else {
        return;
    };
    let ask = |host: &str, origin: &str| {
        let request = format!(
            "GET /health HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(server.port(), request.as_bytes()).expect("an answer");
        String::from_utf8_lossy(&answer).to_lowercase()
    };
    let answer = ask("127.0.0.1:1", "http://here:80");
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(
        answer.contains("access-control-allow-origin: http://here:80"),
        "{answer}"
    );
    let answer = ask("127.0.0.1", "http://elsewhere:80");
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    let answer = ask("elsewhere", "http://here:80");
    assert!(answer.starts_with("http/1.1 421"), "{answer}");
    assert!(answer.contains("cve-2018-5702"), "{answer}");
}

fn http_and_metrics_get_ports_of_their_own(subject: Subject) {
    let (http, metrics) = (free_port(), free_port());
    let Some(server) = Server::start(
        subject,
        &[
            &format!("--listen-client-http-urls=http://127.0.0.1:{http}"),
            &format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
        ],
    ) else {
        return;
    };
    let status = |port, path| get(port, path).map(|page: Page| page.status).ok();
    assert!(block_on(range(server.port())));
    assert_eq!(status(server.port(), "/version"), None, "gRPC alone");
    assert_eq!(status(http, "/version"), Some(200));
    assert_eq!(status(metrics, "/metrics"), Some(200));
    assert_eq!(status(metrics, "/health"), Some(200));
    assert_eq!(status(metrics, "/version"), Some(404));
}

fn extensive_metrics_measure_each_method(subject: Subject) {
    let Some(server) = Server::start(subject, &["--metrics=extensive"]) else {
        return;
    };
    assert!(block_on(range(server.port())));
    // It is counted behind the answer.
    server.wait("duration of a range", || {
        let page = get(server.port(), "/metrics").expect("a page");
        let measured = page.body.lines().any(|line| {
            line.starts_with("grpc_server_handling_seconds_count")
                && line.contains("grpc_method=\"Range\"")
                && !line.ends_with(" 0")
        });
        measured.then_some(())
    });
}

fn slow_calls_and_applies_are_logged(subject: Subject) {
    let flags = [
        "--warning-apply-duration=1ns",
        "--warning-unary-request-duration=1ns",
    ];
    let Some(server) = Server::start(subject, &flags) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let request = PutRequest {
            key: "a".into(),
            ..PutRequest::default()
        };
        let answer = connection.call("etcdserverpb.KV/Put", &request).await;
        answer.map(|_: PutResponse| ()).expect("put");
    });
    for text in ["apply request took too long", "request stats"] {
        assert!(server.logs(text, Duration::from_secs(60)), "no {text}");
    }
}

fn the_log_lies_where_it_is_told_to(subject: Subject) {
    let Some(server) = Server::start(subject, &["--wal-dir=elsewhere"]) else {
        return;
    };
    let data = server.data_directory();
    let elsewhere = data.parent().expect("a folder").join("elsewhere");
    let first = "0000000000000000-0000000000000000.wal";
    assert!(elsewhere.join(first).exists());
    assert!(!data.join("member/wal").exists());
}

fn two_processes_share_a_port_when_both_are_told_to(subject: Subject) {
    let flags = ["--socket-reuse-port", "--socket-reuse-address"];
    let (Some(server), Some(second)) = (
        Server::start(subject, &flags),
        Server::prepare(subject, &flags),
    ) else {
        return;
    };
    let mut beside = Process::spawn(&mut second.command(server.port()));
    let ready = beside.wait_for(subject.ready_line(), 0, Duration::from_secs(60));
    assert!(ready.is_some(), "{}", beside.lines().join("\n"));
    beside.kill();
}

fn a_physical_compaction_is_waited_for_longer_than_other_requests(subject: Subject) {
    let flags = [
        "--heartbeat-interval=10",
        "--election-timeout=50",
        "--compaction-batch-limit=1",
        "--compaction-sleep-interval=700ms",
    ];
    // 5 s and two election timeouts.
    let request_timeout = Duration::from_millis(5100);
    let Some(server) = Server::start(subject, &flags) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let put = PutRequest {
            key: "k".into(),
            ..PutRequest::default()
        };
        for _ in 0..10 {
            let answer = connection.call("etcdserverpb.KV/Put", &put).await;
            let _: PutResponse = answer.expect("put");
        }
        let compact = CompactionRequest {
            revision: 11,
            physical: true,
        };
        let started = Instant::now();
        let answer = connection.call("etcdserverpb.KV/Compact", &compact).await;
        let _: CompactionResponse = answer.expect("compact");
        assert!(
            started.elapsed() > request_timeout,
            "{:?}",
            started.elapsed()
        );
    });
}
