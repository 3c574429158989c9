//! One cluster of official members and ours.

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::peers::Subject::{Kvorum, Official371};
use kvorum_e2e::recorder::{Load, violations};
use serde_json::Value;

/// Requests answered between two changes of the leader.
const REQUESTS: u64 = 200;

#[test]
fn official_members_and_ours_elect_replicate_and_agree() {
    let Some(mut cluster) = Cluster::start(&[Official371, Kvorum, Kvorum], &[]) else {
        return;
    };
    // Each leads once, and each is written to while each leads.
    for leader in [0, 1, 2, 0] {
        cluster.have_lead(leader);
        for place in 0..3 {
            let key = format!("leader{leader}by{place}");
            for value in ["a", "b"] {
                cluster.must_on(place, &["put", &key, value]);
            }
            let read = cluster.must_on((place + 1) % 3, &["get", &key, "--print-value-only"]);
            assert_eq!(read, "b\n");
        }
        cluster.same_hash();
    }
    // A lease through a member of the other kind than the leader.
    let granted = cluster.must_on(1, &["lease", "grant", "300"]);
    let id = granted.split_whitespace().nth(1).expect("an id").to_owned();
    for place in 0..3 {
        let kept = cluster.must_on(place, &["lease", "keep-alive", "--once", &id]);
        assert!(kept.contains("keepalived with TTL(300)"), "{place}: {kept}");
    }
    // Whoever leads may die.
    for _ in 0..3 {
        let leader = cluster.leader();
        cluster.kill(leader);
        cluster.put("after", "death");
        cluster.restart(leader);
        cluster.same_hash();
    }
    let health = cluster.must(&["endpoint", "health", "--cluster"]);
    assert_eq!(health.matches("is healthy").count(), 3, "{health}");
}

/// Has all members tell their hash of one revision while writes go on, and holds them against each other.
fn agree_in_motion(cluster: &Cluster) {
    cluster.wait("hashes of one revision", || {
        let revision = cluster.standing(0)?.revision.to_string();
        let told = cluster.etcdctl(&["endpoint", "hashkv", "--rev", &revision, "-w", "json"]);
        // Who has not come so far yet refuses, and so does who has compacted it meanwhile.
        let told: Value = serde_json::from_str(&told.stdout).ok()?;
        let told: Vec<&Value> = told.as_array()?.iter().map(|it| &it["HashKV"]).collect();
        let compacted = |it: &Value| it["compact_revision"].as_i64();
        let comparable = told.iter().all(|it| compacted(it) == compacted(told[0]));
        if told.len() < cluster.size() || !comparable {
            return None;
        }
        let hashes: Vec<_> = told.iter().map(|it| it["hash"].as_u64()).collect();
        assert!(hashes[0].is_some(), "{told:?}");
        assert!(
            hashes.iter().all(|it| *it == hashes[0]),
            "{revision}: {told:?}"
        );
        Some(())
    });
}

#[test]
fn official_members_and_ours_agree_under_load() {
    let Some(cluster) = Cluster::start(&[Official371, Kvorum, Kvorum], &[]) else {
        return;
    };
    let addresses: Vec<_> = (0..3).map(|place| cluster.client_address(place)).collect();
    let load = Load::start_on(&addresses, 1);
    for leader in [0, 1, 2, 0] {
        cluster.have_lead(leader);
        let goal = load.answered() + REQUESTS;
        cluster.wait("answers", || (load.answered() >= goal).then_some(()));
        agree_in_motion(&cluster);
    }
    let found = violations(&load.finish());
    assert!(found.is_empty(), "{}", found.join("\n"));
    cluster.same_hash();
}
