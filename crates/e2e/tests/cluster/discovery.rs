//! Members of a new cluster that find each other.

use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_e2e::{name_server, on_each_server};

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

#[test]
fn members_find_each_other_by_srv_records() {
    let Some(mut cluster) = Cluster::prepare(&[Subject::Kvorum; 3], &[]) else {
        return;
    };
    let ports: Vec<u16> = (0..3).map(|place| cluster.peer_port(place)).collect();
    let records = vec![("_etcd-server._tcp.example.com".to_owned(), ports)];
    let test = "members_find_each_other_by_srv_records";
    let Some(wrapper) = name_server::start(test, "127.0.53.7", cluster.folder(), records) else {
        return;
    };
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    for place in 0..3 {
        let url = format!("http://localhost:{}", cluster.peer_port(place));
        let flags = [
            "--discovery-srv",
            "example.com",
            "--initial-advertise-peer-urls",
            &url,
        ];
        cluster.replace_flags(place, &flags);
        cluster.wrap(place, &wrapper);
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
