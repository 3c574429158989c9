//! One cluster of official members and ours.

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::peers::Subject::{Kvorum, Official371};

#[test]
fn official_members_and_ours_elect_replicate_and_agree() {
    let Some(mut cluster) = Cluster::start(&[Official371, Kvorum, Kvorum], &[]) else {
        return;
    };
    // Each leads once, and each is written to while each leads.
    for leader in [0, 1, 2, 0] {
        if cluster.leader() != leader {
            let target = cluster.id(leader);
            cluster.must(&["move-leader", &target]);
            assert_eq!(cluster.leader(), leader);
        }
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
