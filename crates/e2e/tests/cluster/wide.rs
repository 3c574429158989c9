//! What counts for the whole cluster, through whichever member it came.

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::http::get;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;

on_each_server!(
    quota_alarms_and_compactions_count_on_every_member,
    the_version_of_the_cluster_is_that_of_all_members
);

fn quota_alarms_and_compactions_count_on_every_member(subject: Subject) {
    let flags = ["--quota-backend-bytes=2097152"];
    let Some(cluster) = Cluster::start(&[subject; 3], &flags) else {
        return;
    };
    let value = "v".repeat(100_000);
    let full = "etcdserver: mvcc: database space exceeded";
    let first = cluster.wait("used up quota", || {
        let outcome = cluster.etcdctl_on(0, &["put", "big", &value]);
        outcome.stderr.contains(full).then_some(outcome)
    });
    assert_ne!(first.code, Some(0));
    for place in 0..3 {
        let told = cluster.must_on(place, &["alarm", "list"]);
        assert!(told.contains("alarm:NOSPACE"), "{place}: {told}");
        let refused = cluster.etcdctl_on(place, &["put", "small", "v"]);
        assert!(refused.stderr.contains(full), "{place}: {refused:?}");
    }
    // Compacted through one, it is so for all.
    let revision = cluster.standing(1).expect("it answers").revision;
    cluster.must_on(1, &["compact", &revision.to_string(), "--physical"]);
    let text = "etcdserver: mvcc: required revision has been compacted";
    for place in 0..3 {
        let old = cluster.etcdctl_on(place, &["get", "big", "--rev=2"]);
        assert!(old.stderr.contains(text), "{place}: {old:?}");
    }
    cluster.must(&["defrag"]);
    cluster.must_on(2, &["alarm", "disarm"]);
    for place in 0..3 {
        let told = cluster.must_on(place, &["alarm", "list"]);
        assert!(!told.contains("NOSPACE"), "{place}: {told}");
        cluster.must_on(place, &["put", "small", "v"]);
    }
    cluster.same_hash();
}

/// The version of the cluster as a member tells it.
fn version(cluster: &Cluster, place: usize) -> Option<String> {
    let page = get(cluster.client_port(place), "/version").ok()?;
    let told: serde_json::Value = serde_json::from_str(&page.body).ok()?;
    Some(told.get("etcdcluster")?.as_str()?.to_owned())
}

fn the_version_of_the_cluster_is_that_of_all_members(subject: Subject) {
    let Some(mut cluster) = Cluster::prepare(&[subject; 3], &[]) else {
        return;
    };
    for place in 0..2 {
        cluster.launch(place);
    }
    for place in 0..2 {
        cluster.wait_ready(place);
    }
    // Nobody knows yet what the third one is.
    for place in 0..2 {
        cluster.wait("least version", || {
            (version(&cluster, place)? == "3.0.0").then_some(())
        });
    }
    cluster.launch(2);
    cluster.wait_ready(2);
    for place in 0..3 {
        cluster.wait("version of all", || {
            (version(&cluster, place)? == "3.7.0").then_some(())
        });
        // What a member has applied shows in its metrics a little later.
        cluster.wait("version of all among the metrics", || {
            let page = get(cluster.client_port(place), "/metrics").ok()?;
            let line = "etcd_cluster_version{cluster_version=\"3.7\"} 1";
            page.body.contains(line).then_some(())
        });
    }
}
