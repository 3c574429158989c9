//! Members of a new cluster that find each other.

use std::time::Duration;

use kvorum_e2e::certificates::Authority;
use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_e2e::{name_server, on_each_server};

on_each_server!(
    members_find_each_other_through_a_service,
    members_with_tls_find_each_other_by_srv_records,
    the_domain_is_the_name_where_the_system_says_whom_to_trust,
    a_member_whose_own_name_alone_resolves_keeps_trying,
    a_founder_is_found_by_its_tls_name
);

/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(120);

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

/// As in a StatefulSet with a headless service: the name of a member resolves when its process runs, and the others
/// come later.
fn a_member_whose_own_name_alone_resolves_keeps_trying(subject: Subject) {
    let Some(mut cluster) = Cluster::prepare(&[subject; 3], &[]) else {
        return;
    };
    // This name server knows nobody: all names come from the file of hosts, of which each member has its own.
    let test = "a_member_whose_own_name_alone_resolves_keeps_trying";
    let address = match subject {
        Subject::Kvorum => "127.0.53.21",
        _ => "127.0.53.22",
    };
    let folder = cluster.folder().to_owned();
    let Some(resolver) = name_server::start(test, address, &folder, Vec::new()) else {
        return;
    };
    let urls: Vec<String> = (0..3)
        .map(|place| format!("http://member{place}.test:{}", cluster.peer_port(place)))
        .collect();
    let list = urls.iter().enumerate();
    let list = list.map(|(place, url)| format!("n{place}={url}"));
    let list = list.collect::<Vec<_>>().join(",");
    let hosts = |place: usize| folder.join(format!("hosts{place}"));
    for (place, url) in urls.iter().enumerate() {
        let own = format!("127.0.0.1 localhost member{place}.test\n");
        std::fs::write(hosts(place), own).expect("a file");
        let flags = [
            "--initial-cluster",
            &list,
            "--initial-advertise-peer-urls",
            url,
        ];
        cluster.replace_flags(place, &flags);
        let file = hosts(place);
        let file = file.display();
        let script = format!("mount --bind {file} /etc/hosts && exec \"$0\" \"$@\"");
        let mut words = vec!["unshare", "--mount", "sh", "-c", &script];
        words.extend(resolver.iter().map(String::as_str));
        cluster.wrap(place, &words);
        cluster.launch(place);
    }
    for place in 0..3 {
        assert!(cluster.logs(place, "started remote peer", LIMIT), "{place}");
    }
    for place in 0..3 {
        let all = "127.0.0.1 localhost member0.test member1.test member2.test\n";
        std::fs::write(hosts(place), all).expect("a file");
    }
    for place in 0..3 {
        cluster.wait_ready(place);
    }
    cluster.must(&["put", "k", "v"]);
    cluster.same_hash();
}

#[test]
fn srv_records_with_tls_names_are_for_members_with_tls() {
    let Some(mut cluster) = Cluster::prepare(&[Subject::Kvorum], &[]) else {
        return;
    };
    let port = cluster.peer_port(0);
    let test = "srv_records_with_tls_names_are_for_members_with_tls";
    let name = "_etcd-server-ssl-blue._tcp.example.com".to_owned();
    let records = vec![(name, vec![port])];
    let Some(wrapper) = name_server::start(test, "127.0.53.8", cluster.folder(), records) else {
        return;
    };
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let url = format!("http://localhost:{port}");
    let flags = [
        "--discovery-srv=example.com",
        "--discovery-srv-name=blue",
        "--initial-advertise-peer-urls",
        &url,
    ];
    cluster.replace_flags(0, &flags);
    cluster.wrap(0, &wrapper);
    cluster.launch(0);
    let text = format!(
        "bootstrap at https://localhost:{port} from DNS for etcd-server-ssl-blue has scheme mismatch with expected peer {url}"
    );
    assert!(cluster.logs(0, &text, LIMIT));
    let (status, _) = cluster.wait_exit(0);
    assert_eq!(status.code(), Some(1));
}

/// Records with TLS names make https URLs. A founder of its own cluster needs nobody to speak TLS with.
fn a_founder_is_found_by_its_tls_name(subject: Subject) {
    let Some(mut cluster) = Cluster::prepare(&[subject], &[]) else {
        return;
    };
    let port = cluster.peer_port(0);
    let test = "a_founder_is_found_by_its_tls_name";
    let address = match subject {
        Subject::Kvorum => "127.0.53.23",
        _ => "127.0.53.24",
    };
    let records = vec![("_etcd-server-ssl._tcp.example.com".to_owned(), vec![port])];
    let Some(wrapper) = name_server::start(test, address, cluster.folder(), records) else {
        return;
    };
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let url = format!("https://localhost:{port}");
    let flags = [
        "--discovery-srv=example.com",
        "--initial-advertise-peer-urls",
        &url,
    ];
    cluster.replace_flags(0, &flags);
    cluster.wrap(0, &wrapper);
    cluster.launch_all();
    cluster.must(&["put", "k", "v"]);
    let list = cluster.must(&["member", "list"]);
    assert!(list.contains(&format!(", {url}, ")), "{list}");
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

/// The members of a domain, each with a certificate for `host`; they trust its
/// authority by a flag, or as the system does.
fn find_by_tls_names(subject: Subject, test: &str, address: &str, host: &str, by_system: bool) {
    let Some(mut cluster) = Cluster::prepare(&[subject; 3], &[]) else {
        return;
    };
    cluster.secure_peers();
    let ports: Vec<u16> = (0..3).map(|place| cluster.peer_port(place)).collect();
    let records = vec![("_etcd-server-ssl._tcp.example.com".to_owned(), ports)];
    let folder = cluster.folder().to_owned();
    let Some(resolver) = name_server::start(test, address, &folder, records) else {
        return;
    };
    let authority = Authority::new(&folder, "ca");
    authority.issue("member", "member", &[host]);
    let path = |name: &str| {
        let path = folder.join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let (cert, key, ca) = (path("member.pem"), path("member.key"), path("ca.pem"));
    let trusted_by_system = format!("SSL_CERT_FILE={ca}");
    for place in 0..3 {
        let url = format!("https://localhost:{}", cluster.peer_port(place));
        let flags = [
            "--discovery-srv=example.com",
            "--initial-advertise-peer-urls",
            &url,
            "--peer-cert-file",
            &cert,
            "--peer-key-file",
            &key,
        ];
        cluster.replace_flags(place, &flags);
        let mut wrapper: Vec<&str> = resolver.iter().map(String::as_str).collect();
        if by_system {
            wrapper.extend(["env", &trusted_by_system]);
        } else {
            cluster.add_flags(place, &["--peer-trusted-ca-file", &ca]);
        }
        cluster.wrap(place, &wrapper);
    }
    cluster.launch_all();
    cluster.must(&["put", "k", "v"]);
    let list = cluster.must(&["member", "list"]);
    assert_eq!(list.matches(", https://localhost:").count(), 3, "{list}");
    cluster.same_hash();
    if !by_system {
        // Started again they know each other.
        cluster.restart(1);
        cluster.must_on(1, &["put", "k", "w"]);
        cluster.same_hash();
    }
}

/// Records with TLS names make https URLs, whose hosts are those in the certificates.
fn members_with_tls_find_each_other_by_srv_records(subject: Subject) {
    let test = "members_with_tls_find_each_other_by_srv_records";
    let address = match subject {
        Subject::Kvorum => "127.0.53.25",
        _ => "127.0.53.26",
    };
    find_by_tls_names(subject, test, address, "localhost", false);
}

/// Where the authorities are the system's, who would sign anybody's certificate, the domain itself has to be in it.
fn the_domain_is_the_name_where_the_system_says_whom_to_trust(subject: Subject) {
    let test = "the_domain_is_the_name_where_the_system_says_whom_to_trust";
    let address = match subject {
        Subject::Kvorum => "127.0.53.27",
        _ => "127.0.53.28",
    };
    find_by_tls_names(subject, test, address, "example.com", true);
}
