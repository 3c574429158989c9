//! Two of three members are lost for good, and the third goes on alone (`--force-new-cluster`).

use std::fs;
use std::path::Path;
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;

on_each_server!(a_survivor_goes_on_with_its_data_and_grows_again);

/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Has a member start alone on its data.
fn force(cluster: &mut Cluster, place: usize) {
    cluster.replace_flags(place, &["--force-new-cluster"]);
    cluster.launch(place);
}

/// What nobody has written down as committed yet is dropped: with one more entry at the survivor those before it are.
fn put_last(cluster: &Cluster) {
    cluster.must(&["put", "last", "v"]);
    cluster.wait("last put at the survivor", || {
        let get = ["get", "last", "--consistency=s", "--print-value-only"];
        (cluster.must_on(0, &get) == "v\n").then_some(())
    });
}

/// The hash of the store as of a revision.
fn hash_at(cluster: &Cluster, revision: i64) -> u64 {
    let revision = revision.to_string();
    let told = cluster.must(&["endpoint", "hashkv", "--rev", &revision, "-w", "json"]);
    let parsed: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    parsed[0]["HashKV"]["hash"].as_u64().expect("a hash")
}

fn members(cluster: &Cluster) -> usize {
    cluster.must(&["member", "list"]).lines().count()
}

/// Adds a member to those in `list`, and waits until it serves.
fn grow(cluster: &mut Cluster, subject: Subject, list: &[usize]) -> usize {
    let place = cluster.add(subject, false).expect("the binary is there");
    let named = list.iter().chain([&place]);
    let named = named.map(|&place| format!("n{place}={}", cluster.peer_url(place)));
    let named = named.collect::<Vec<_>>().join(",");
    let existing = [
        "--initial-cluster",
        &named,
        "--initial-cluster-state=existing",
    ];
    cluster.replace_flags(place, &existing);
    cluster.launch(place);
    cluster.wait_ready(place);
    place
}

fn a_survivor_goes_on_with_its_data_and_grows_again(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject; 3], &[]) else {
        return;
    };
    let granted = cluster.must(&["lease", "grant", "300"]);
    let lease = granted.split_whitespace().nth(1).expect("an id").to_owned();
    cluster.must(&["put", "leased", "v", "--lease", &lease]);
    for number in 0..20 {
        cluster.must_on(number % 3, &["put", &format!("k{number}"), "v"]);
    }
    let (hash, revision) = cluster.same_hash();
    put_last(&cluster);
    let id = cluster.id(0);
    for place in 0..3 {
        cluster.kill(place);
    }
    cluster.wipe(2);

    force(&mut cluster, 0);
    cluster.wait_ready(0);
    assert!(cluster.logs(0, "forcing restart member", LIMIT));
    assert_eq!((members(&cluster), cluster.id(0)), (1, id));
    assert_eq!(hash_at(&cluster, revision), hash);
    let told = cluster.must(&["lease", "timetolive", &lease, "--keys"]);
    assert!(told.contains("attached keys([leased])"), "{told}");
    cluster.must(&["put", "alone", "v"]);

    // It stays alone without the flag.
    cluster.replace_flags(0, &[]);
    cluster.restart(0);
    assert_eq!(members(&cluster), 1);
    cluster.must(&["put", "alone", "again"]);

    // One of the two is found after all: it is told that it does not belong here any more.
    cluster.launch(1);
    let removed = "the member has been permanently removed from the cluster";
    assert!(cluster.logs(1, removed, LIMIT));
    cluster.wait_exit(1);

    let first = grow(&mut cluster, subject, &[0]);
    let second = grow(&mut cluster, subject, &[0, first]);
    assert_eq!(members(&cluster), 3);
    cluster.same_hash();
    cluster.kill(0);
    cluster.put("without", "the survivor");
    let read = cluster.must_on(second, &["get", "alone", "--print-value-only"]);
    assert_eq!(read, "again\n");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a file to copy");
        }
    }
}

#[test]
fn a_rescue_that_is_killed_is_not_begun_or_is_done() {
    let Some(mut cluster) = Cluster::start(&[Subject::Kvorum; 3], &[]) else {
        return;
    };
    for number in 0..20 {
        cluster.must(&["put", &format!("k{number}"), "v"]);
    }
    cluster.same_hash();
    put_last(&cluster);
    for place in 0..3 {
        cluster.kill(place);
    }
    let kept = cluster.folder().join("kept");
    copy(&cluster.data_directory(0), &kept);
    // Each start ends at one of these lines of its log.
    for line in [
        "starting an etcd server",
        "forcing restart member",
        "raft leadership changed",
        "published local member to cluster through raft",
    ] {
        fs::remove_dir_all(cluster.data_directory(0)).expect("data to remove");
        copy(&kept, &cluster.data_directory(0));
        force(&mut cluster, 0);
        assert!(cluster.logs(0, line, LIMIT), "{line}");
        cluster.kill(0);
        // Once more, as the operator's script would.
        cluster.launch(0);
        cluster.wait_ready(0);
        assert_eq!(members(&cluster), 1, "{line}");
        let count = cluster.must(&["get", "k", "--prefix", "--keys-only"]);
        assert_eq!(count.split_whitespace().count(), 20, "{line}");
        cluster.must(&["put", "alone", line]);
        // The flag left standing loses nothing.
        cluster.kill(0);
        cluster.launch(0);
        cluster.wait_ready(0);
        let read = cluster.must(&["get", "alone", "--print-value-only"]);
        assert_eq!(read.trim_end(), line);
        cluster.kill(0);
    }
}
