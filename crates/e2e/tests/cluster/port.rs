//! The peer port: what it answers, what it refuses, and what nobody may bring it down with.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_proto::raftpb;
use prost::Message as _;

on_each_server!(
    what_is_not_for_this_member_is_refused_with_the_words_of_etcd,
    rubbish_brings_no_member_down,
    peers_show_in_the_metrics
);

/// Sends a request and returns status and body. The connection ends with the answer.
pub(crate) fn ask(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the peer port is open");
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).expect("a limit");
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).expect("it reads");
    // A refusal may come before the whole body is read.
    let _ = stream.write_all(body);
    answered(&mut stream)
}

/// Status and body of what comes until the connection ends.
pub(crate) fn answered(stream: &mut TcpStream) -> (u16, String) {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    // Official members send some answers in one chunk.
    let body = match body.split_once("\r\n") {
        Some((_, rest)) if head.contains("chunked") => rest.trim_end_matches("0\r\n\r\n"),
        _ => body,
    };
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    (status.unwrap_or(0), body.trim().to_owned())
}

/// The ids of the cluster and of a member, as its peers name them.
pub(crate) fn ids(cluster: &Cluster, place: usize) -> (String, String) {
    let told = cluster.must_on(place, &["endpoint", "status", "-w", "json"]);
    let parsed: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let header = &parsed[0]["Status"]["header"];
    let hex = |name: &str| format!("{:x}", header[name].as_u64().expect("an id"));
    (hex("cluster_id"), hex("member_id"))
}

fn what_is_not_for_this_member_is_refused_with_the_words_of_etcd(subject: Subject) {
    let Some(cluster) = Cluster::start(&[subject; 2], &[]) else {
        return;
    };
    let (cluster_id, own) = ids(&cluster, 0);
    let (_, other) = ids(&cluster, 1);
    let port = cluster.peer_port(0);
    let version = ("X-Server-Version", "3.7.1");
    let least = ("X-Min-Cluster-Version", "3.0.0");
    let of_cluster = ("X-Etcd-Cluster-ID", cluster_id.as_str());
    let good = [version, least, of_cluster, ("X-Raft-To", own.as_str())];
    let streams = "/raft/stream/message";
    let check = |method: &str,
                 path: &str,
                 headers: &[(&str, &str)],
                 body: &[u8],
                 status: u16,
                 text: &str| {
        let told = ask(port, method, path, headers, body);
        assert_eq!(
            told,
            (status, text.to_owned()),
            "{method} {path} {headers:?}"
        );
    };
    let from_other = format!("{streams}/{other}");
    check("POST", &from_other, &good, b"", 405, "Method Not Allowed");
    check(
        "GET",
        &from_other,
        &[of_cluster],
        b"",
        412,
        "incompatible version",
    );
    check(
        "GET",
        &from_other,
        &[version, ("X-Min-Cluster-Version", "9.0.0"), of_cluster],
        b"",
        412,
        "incompatible version",
    );
    check(
        "GET",
        &from_other,
        &[("X-Server-Version", "2.3.0"), least, of_cluster],
        b"",
        412,
        "incompatible version",
    );
    check(
        "GET",
        &from_other,
        &[version, least, ("X-Etcd-Cluster-ID", "1")],
        b"",
        412,
        "cluster ID mismatch",
    );
    check(
        "GET",
        "/raft/stream/nothing/1",
        &good,
        b"",
        404,
        "invalid path",
    );
    check(
        "GET",
        &format!("{streams}/xyz"),
        &good,
        b"",
        404,
        "invalid from",
    );
    check(
        "GET",
        &format!("{streams}/1"),
        &good,
        b"",
        404,
        "error sender not found",
    );
    check(
        "GET",
        &from_other,
        &[version, least, of_cluster, ("X-Raft-To", "1")],
        b"",
        412,
        "to field mismatch",
    );

    check("GET", "/raft", &good, b"", 405, "Method Not Allowed");
    check(
        "POST",
        "/raft",
        &[version, least, ("X-Etcd-Cluster-ID", "1")],
        b"",
        412,
        "cluster ID mismatch",
    );
    check(
        "POST",
        "/raft",
        &good,
        b"\xff\xff",
        400,
        "error unmarshalling raft message",
    );
    // A message to member 1.
    let stray = [0x08, 0x08, 0x10, 0x01, 0x18, 0x02];
    check(
        "POST",
        "/raft",
        &good,
        &stray,
        500,
        "error processing raft message",
    );

    check(
        "POST",
        "/members/promote/x",
        &[],
        b"",
        404,
        "member x not found in cluster",
    );
    check(
        "POST",
        "/leases",
        &[],
        b"\xff",
        400,
        "error unmarshalling request",
    );
    check("GET", "/leases", &[], b"", 405, "Method Not Allowed");
    check("GET", "/health", &[], b"", 404, "404 page not found");
    check("GET", "/downgrade/enabled", &[], b"", 200, "false");
    let (status, members) = ask(port, "GET", "/members", &[], b"");
    let parsed: serde_json::Value = serde_json::from_str(&members).expect("JSON");
    assert_eq!((status, parsed.as_array().map(Vec::len)), (200, Some(2)));
    let (status, probed) = ask(port, "GET", "/raft/probing", &[], b"");
    assert!(
        status == 200 && probed.starts_with("{\"OK\":true,\"Now\":"),
        "{probed}"
    );
    cluster.must(&["put", "k", "v"]);
}

fn rubbish_brings_no_member_down(subject: Subject) {
    let Some(cluster) = Cluster::start(&[subject; 3], &[]) else {
        return;
    };
    let (cluster_id, own) = ids(&cluster, 0);
    let own = u64::from_str_radix(&own, 16).expect("an id");
    let (_, other) = ids(&cluster, 1);
    let other = u64::from_str_radix(&other, 16).expect("an id");
    let port = cluster.peer_port(0);
    let headers = [
        ("X-Server-Version", "3.7.1"),
        ("X-Min-Cluster-Version", "3.0.0"),
        ("X-Etcd-Cluster-ID", cluster_id.as_str()),
    ];
    // A message of each type there is and of some that there are not, from a member and from nobody, at terms and
    // indexes far away. Terms stay low: a high one is a vote of no confidence that official members believe.
    for kind in (0..30).filter(|kind| subject == Subject::Kvorum || *kind < 3) {
        for from in [other, 0, 77] {
            for index in [0, u64::MAX >> 1] {
                let mut body = Vec::new();
                for (field, value) in [
                    (1, kind),
                    (2, own),
                    (3, from),
                    (4, 1),
                    (5, 1),
                    (6, index),
                    (8, index),
                ] {
                    body.push(field << 3);
                    varint(value, &mut body);
                }
                ask(port, "POST", "/raft", &headers, &body);
            }
        }
    }
    for raw in [
        &b"\0\0\0\0"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04",
        b"GET",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the peer port is open");
        let _ = stream.write_all(raw);
    }
    cluster.put("k", "v");
    cluster.same_hash();
    assert_eq!(cluster.endpoints().len(), 3);
    let health = cluster.must(&["endpoint", "health"]);
    assert!(!health.contains("unhealthy"), "{health}");
}

/// The beginning of a state of the cluster, from another member for this one.
fn beginning_of_a_state(from: u64, to: u64, cluster: &str, term: u64) -> Vec<u8> {
    let message = raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgSnap as i32),
        from: Some(from),
        to: Some(to),
        term: Some(term),
        snapshot: Some(raftpb::Snapshot {
            metadata: Some(raftpb::SnapshotMetadata {
                index: Some(1_000),
                term: Some(term),
                ..raftpb::SnapshotMetadata::default()
            }),
            ..raftpb::Snapshot::default()
        }),
        ..raftpb::Message::default()
    };
    let message = message.encode_to_vec();
    let mut bytes = format!(
        "POST /raft/snapshot HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Server-Version: 3.7.1\r\n\
         X-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: {cluster}\r\nX-Server-From: {from:x}\r\n\
         Content-Length: 1000000\r\n\r\n"
    )
    .into_bytes();
    bytes.extend((message.len() as u64).to_be_bytes());
    bytes.extend(message);
    bytes
}

/// A state may be large: one of an earlier term is not even written beside the first.
#[test]
fn one_state_is_received_at_a_time() {
    let Some(cluster) = Cluster::start(&[Subject::Kvorum; 2], &[]) else {
        return;
    };
    let (cluster_id, own) = ids(&cluster, 0);
    let (_, other) = ids(&cluster, 1);
    let id = |hex: &str| u64::from_str_radix(hex, 16).expect("an id");
    let begin = |term| {
        let bytes = beginning_of_a_state(id(&other), id(&own), &cluster_id, term);
        let stream = TcpStream::connect(("127.0.0.1", cluster.peer_port(0)));
        let mut stream = stream.expect("the peer port is open");
        stream.write_all(&bytes).expect("it reads");
        stream
    };
    let wait_for = |what: &str, count: u32| {
        let line = format!("etcd_network_snapshot_receive_{what}{{From=\"{other}\"}} {count}");
        cluster.wait(&line, || {
            let page = kvorum_e2e::http::get(cluster.client_port(0), "/metrics");
            let body = page.expect("a page").body;
            body.lines().any(|it| it == line).then_some(())
        });
    };
    let first = begin(2);
    wait_for("inflights_total", 1);
    let mut refusal = [0; 4096];
    let mut second = begin(1);
    let limit = Some(Duration::from_secs(60));
    second.set_read_timeout(limit).expect("a limit");
    let length = second.read(&mut refusal).expect("an answer");
    let refusal = String::from_utf8_lossy(&refusal[..length]);
    assert!(refusal.starts_with("HTTP/1.1 500 "), "{refusal}");
    wait_for("inflights_total", 1);
    // Who gives up makes room for the next.
    drop((first, second));
    wait_for("failures", 1);
    wait_for("inflights_total", 0);
    let _third = begin(2);
    wait_for("inflights_total", 1);
    cluster.put("k", "v");
    cluster.same_hash();
}

/// Files of a state that are none, are cut short or are not those of the entry that was announced.
#[test]
fn what_is_no_state_is_refused_on_the_peer_port() {
    let Some(cluster) = Cluster::start(&[Subject::Kvorum; 2], &[]) else {
        return;
    };
    let (cluster_id, own) = ids(&cluster, 0);
    let (_, other) = ids(&cluster, 1);
    let id = |hex: &str| u64::from_str_radix(hex, 16).expect("an id");
    let head = beginning_of_a_state(id(&other), id(&own), &cluster_id, 2);
    let head = String::from_utf8_lossy(&head).into_owned();
    let headers_end = head.find("\r\n\r\n").expect("headers") + 4;
    let message =
        beginning_of_a_state(id(&other), id(&own), &cluster_id, 2)[headers_end..].to_vec();
    for (state, told) in [
        (
            &b"what is this?"[..],
            "failed to save KV snapshot (not a state)",
        ),
        (
            b"KVORUMst\xff\0\0\0",
            "(form 255 is newer than 1, the newest known)",
        ),
        (b"KVORUMst\x01\0\0\0", "(the state is cut short)"),
        (
            b"KVORUMst\x01\0\0\0\x01\xff\xff\xff\xff\0\0\0\0",
            "(a part has 4294967295 bytes, more than 262144)",
        ),
        (
            b"KVORUMst\x01\0\0\0\x01\x01\0\0\0\0\0\0\0x",
            "(checksum is ",
        ),
    ] {
        let body = [&message[..], state].concat();
        let headers = head[..headers_end]
            .replace("/raft/snapshot", "/kvorum/snapshot")
            .replace("1000000", &body.len().to_string());
        let stream = TcpStream::connect(("127.0.0.1", cluster.peer_port(0)));
        let mut stream = stream.expect("the peer port is open");
        stream.write_all(headers.as_bytes()).expect("it reads");
        stream.write_all(&body).expect("it reads");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains(told), "{told}: {answer}");
    }
    cluster.put("k", "v");
    cluster.same_hash();
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn peers_show_in_the_metrics(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject; 3], &[]) else {
        return;
    };
    cluster.must(&["put", "k", "v"]);
    // Two followers have nothing to say to each other.
    let leader = cluster.leader();
    let place = (leader + 1) % 3;
    let (_, own) = ids(&cluster, place);
    let (_, other) = ids(&cluster, leader);
    let page = |cluster: &Cluster| {
        let page = kvorum_e2e::http::get(cluster.client_port(place), "/metrics");
        page.expect("a page").body
    };
    let wait_for = |cluster: &Cluster, line: &str| {
        cluster.wait(line, || {
            page(cluster)
                .lines()
                .any(|it| it.starts_with(line))
                .then_some(())
        });
    };
    let pair = format!("{{Local=\"{own}\",Remote=\"{other}\"}}");
    wait_for(&cluster, &format!("etcd_network_active_peers{pair} 1"));
    wait_for(&cluster, &format!("etcd_network_known_peers{pair} 1"));
    wait_for(
        &cluster,
        &format!("etcd_network_peer_sent_bytes_total{{To=\"{other}\"}}"),
    );
    wait_for(
        &cluster,
        &format!("etcd_network_peer_received_bytes_total{{From=\"{other}\"}}"),
    );
    wait_for(
        &cluster,
        &format!("etcd_network_peer_round_trip_time_seconds_count{{To=\"{other}\"}}"),
    );
    wait_for(&cluster, "etcd_server_is_learner 0");
    wait_for(&cluster, "etcd_server_learner_promote_successes 0");
    cluster.kill(leader);
    wait_for(&cluster, &format!("etcd_network_active_peers{pair} 0"));
    wait_for(
        &cluster,
        &format!("etcd_network_disconnected_peers_total{pair}"),
    );
}
