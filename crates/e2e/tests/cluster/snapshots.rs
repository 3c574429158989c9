//! Followers that fell so far behind that entries do not help.

use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;

on_each_server!(a_follower_that_fell_behind_gets_the_state);

/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The log in memory holds a few entries only.
const SHORT_LOG: [&str; 2] = ["--snapshot-count=20", "--snapshot-catchup-entries=5"];

/// Writes more than the log in memory holds.
fn fill(cluster: &Cluster, round: usize) {
    for number in 0..60 {
        cluster.put(&format!("r{round}n{number}"), "v");
    }
}

/// Kills a member, lets it fall behind, and brings it back: it gets the state of the leader.
fn fall_behind(cluster: &mut Cluster, place: usize, round: usize) {
    cluster.kill(place);
    fill(cluster, round);
    let leader = cluster.leader();
    cluster.launch(place);
    assert!(cluster.logs(leader, "sent database snapshot", LIMIT));
    cluster.wait_ready(place);
    cluster.same_hash();
    let count = cluster.must_on(
        place,
        &["get", "r", "--prefix", "--count-only", "--write-out=fields"],
    );
    assert!(
        count.contains(&format!("\"Count\" : {}", 60 * (round + 1))),
        "{count}"
    );
}

fn a_follower_that_fell_behind_gets_the_state(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject; 3], &SHORT_LOG) else {
        return;
    };
    let granted = cluster.must(&["lease", "grant", "300"]);
    let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
    cluster.must(&["put", "leased", "v", "--lease", &id]);
    let place = (cluster.leader() + 1) % 3;
    fall_behind(&mut cluster, place, 0);
    let told = cluster.must_on(place, &["lease", "timetolive", &id, "--keys"]);
    assert!(told.contains("attached keys([leased])"), "{told}");
    let page = kvorum_e2e::http::get(cluster.client_port(place), "/metrics").expect("a page");
    let now = kvorum_e2e::http::samples(&page.body);
    let leader = cluster.id(cluster.leader());
    for (name, value) in [
        (
            &*format!("etcd_network_snapshot_receive_success{{From=\"{leader}\"}}"),
            1.0,
        ),
        ("etcd_snap_db_save_total_duration_seconds_count", 1.0),
        ("etcd_server_snapshot_apply_in_progress_total", 0.0),
        ("etcd_cluster_version{cluster_version=\"3.7\"}", 1.0),
    ] {
        assert_eq!(now.get(name), Some(&value), "{name}");
    }
    // What is done from now on is counted at once.
    let puts = |cluster: &Cluster| {
        let page = kvorum_e2e::http::get(cluster.client_port(place), "/metrics").expect("a page");
        kvorum_e2e::http::samples(&page.body)["etcd_mvcc_put_total"]
    };
    let before = puts(&cluster);
    cluster.must_on(place, &["put", "counted", "v"]);
    cluster.wait("counted put", || {
        (puts(&cluster) == before + 1.0).then_some(())
    });
    // What it got is on its disk.
    cluster.restart(place);
    cluster.same_hash();
    fall_behind(&mut cluster, place, 1);
    cluster.restart(place);
    cluster.same_hash();
}

#[test]
fn official_members_and_ours_send_each_other_the_state() {
    use Subject::{Kvorum, Official371};
    let Some(mut cluster) = Cluster::start(&[Official371, Kvorum, Kvorum], &SHORT_LOG) else {
        return;
    };
    // Ours to the official one, then the other way.
    for (round, (leader, follower)) in [(1, 0), (0, 2)].into_iter().enumerate() {
        if cluster.leader() != leader {
            let target = cluster.id(leader);
            cluster.must(&["move-leader", &target]);
        }
        fall_behind(&mut cluster, follower, round);
        cluster.restart(follower);
        cluster.same_hash();
    }
}
