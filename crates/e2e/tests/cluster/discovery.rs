//! Members of a new cluster that find each other.

use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{Subject, skip};
use kvorum_e2e::server::Server;

on_each_server!(members_find_each_other_through_a_service);

/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(30);

fn members_find_each_other_through_a_service(subject: Subject) {
    let Some(service) = Server::start(subject, &[]) else {
        return;
    };
    let registry = Cluster::prepare(&[subject], &[]).expect("the tools are there");
    let size = "/_etcd/registry/token/_config/size";
    let told = |key: &str, value: &str| {
        let endpoint = service.endpoint();
        let outcome = registry.etcdctl_at(&endpoint, &["put", key, value]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    };
    let endpoint = service.endpoint();
    let flags = [
        "--discovery-token",
        "token",
        "--discovery-endpoints",
        &endpoint,
    ];
    let mut cluster = Cluster::prepare(&[subject; 3], &[]).expect("the binary is there");
    for place in 0..3 {
        cluster.replace_flags(place, &flags);
    }
    // Nobody has said how many there will be.
    cluster.launch(2);
    assert!(cluster.logs(2, "discovery: size key not found", LIMIT));
    cluster.kill(2);
    told(size, "two");
    cluster.launch(2);
    assert!(cluster.logs(2, "discovery: size key is bad", LIMIT));
    cluster.kill(2);
    told(size, "2");
    for place in 0..2 {
        cluster.launch(place);
    }
    for place in 0..2 {
        cluster.wait_ready(place);
    }
    // One too many.
    cluster.launch(2);
    assert!(cluster.logs(2, "discovery: cluster is full", LIMIT));
    cluster.kill(2);
    cluster.must(&["put", "k", "v"]);
    let list = cluster.must(&["member", "list"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    // Started again they know each other.
    drop(service);
    cluster.restart(0);
    cluster.must(&["put", "k", "w"]);
}

/// Answers questions for SRV records: `http` ones with these ports of this machine, others with none.
fn name_server(socket: &UdpSocket, ports: &[u16]) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question) {
        let question = &question[..length];
        // What follows the question (an extension of the client) is left out.
        let end = 12
            + question[12..]
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(0)
            + 5;
        let name: String = question[12..end]
            .iter()
            .map(|byte| char::from(*byte))
            .collect();
        let kind = question.get(end - 3).copied().unwrap_or(0);
        let found = kind == 33 && name.contains("_etcd-server") && !name.contains("ssl");
        let mut answer = question[..end].to_vec();
        answer[2] = 0x81;
        answer[3] = if found { 0x80 } else { 0x83 };
        answer[6..12].copy_from_slice(&[0, if found { ports.len() as u8 } else { 0 }, 0, 0, 0, 0]);
        for port in ports.iter().filter(|_| found) {
            answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 17, 0, 0, 0, 0]);
            answer.extend(port.to_be_bytes());
            answer.extend(b"\x09localhost\0");
        }
        let _ = socket.send_to(&answer, from);
    }
}

#[test]
fn members_find_each_other_by_srv_records() {
    // A name server has one port everywhere, and the file that names it is the machine's: each member gets its own.
    let address = "127.0.53.7";
    let allowed = Command::new("unshare").args(["--mount", "true"]).status();
    let socket = UdpSocket::bind((address, 53));
    let (Ok(socket), true) = (socket, allowed.is_ok_and(|it| it.success())) else {
        return skip(
            "members_find_each_other_by_srv_records",
            "needs a mount namespace and port 53",
        );
    };
    let Some(mut cluster) = Cluster::prepare(&[Subject::Kvorum; 3], &[]) else {
        return;
    };
    let ports: Vec<u16> = (0..3).map(|place| cluster.peer_port(place)).collect();
    thread::spawn(move || name_server(&socket, &ports));
    let file = cluster.folder().join("resolv.conf");
    let file = file.to_str().expect("a path of text").to_owned();
    std::fs::write(&file, format!("nameserver {address}\n")).expect("a file");
    let script = format!("mount --bind {file} /etc/resolv.conf && exec \"$0\" \"$@\"");
    for place in 0..3 {
        let url = format!("http://localhost:{}", cluster.peer_port(place));
        let flags = [
            "--discovery-srv",
            "example.com",
            "--initial-advertise-peer-urls",
            &url,
        ];
        cluster.replace_flags(place, &flags);
        cluster.wrap(place, &["unshare", "--mount", "sh", "-c", &script]);
    }
    for place in 0..3 {
        cluster.launch(place);
    }
    for place in 0..3 {
        cluster.wait_ready(place);
    }
    cluster.must(&["put", "k", "v"]);
    let list = cluster.must(&["member", "list"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    cluster.same_hash();
}
