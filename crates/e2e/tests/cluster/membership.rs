//! Members that come and go.

use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;

on_each_server!(
    members_are_added_updated_and_removed,
    learners_learn_and_are_promoted,
    a_wiped_member_is_refused_under_its_old_id
);

/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(30);

fn members_are_added_updated_and_removed(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject], &[]) else {
        return;
    };
    cluster.must(&["put", "k", "v"]);
    for _ in 0..2 {
        let place = cluster.add(subject, false).expect("the binary is there");
        cluster.launch(place);
        cluster.wait_ready(place);
        let read = cluster.must_on(place, &["get", "k", "--print-value-only"]);
        assert_eq!(read, "v\n");
        cluster.wait("five quiet seconds", || {
            let url = "http://127.0.0.1:1";
            let probe = ["member", "add", "probe", "--peer-urls", url, "--learner"];
            let outcome = cluster.etcdctl(&probe);
            let id = outcome.stdout.split_whitespace().nth(1)?.to_owned();
            cluster.must(&["member", "remove", &id]);
            Some(())
        });
    }
    let leader = cluster.leader();
    let check = |arguments: &[&str], text: &str| {
        let refused = cluster.etcdctl(arguments);
        assert!(refused.stderr.contains(text), "{arguments:?}: {refused:?}");
    };
    let taken = cluster.peer_url(1);
    let exists = "etcdserver: Peer URLs already exists";
    check(&["member", "add", "x", "--peer-urls", &taken], exists);
    check(
        &["member", "remove", "1234"],
        "etcdserver: member not found",
    );
    check(
        &["member", "promote", "1234"],
        "etcdserver: member not found",
    );
    let voter = cluster.id(1);
    let promoted = "etcdserver: can only promote a learner member";
    check(&["member", "promote", &voter], promoted);
    let url = "http://127.0.0.1:2,http://127.0.0.1:3";
    let updated = cluster.must(&["member", "update", &voter, "--peer-urls", url]);
    assert!(updated.contains("updated in cluster"), "{updated}");
    cluster.must(&["member", "update", &voter, "--peer-urls", &taken]);

    // The removed member ends by itself, and again when it is started once more.
    let gone = (leader + 1) % 3;
    let id = cluster.id(gone);
    cluster.change(&["member", "remove", &id]);
    assert!(cluster.logs(
        gone,
        "the member has been permanently removed from the cluster",
        LIMIT
    ));
    cluster.wait_exit(gone);
    let list = cluster.must(&["member", "list"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    cluster.launch(gone);
    assert!(cluster.logs(
        gone,
        "the member has been permanently removed from the cluster",
        LIMIT
    ));
    cluster.wait_exit(gone);
    cluster.must(&["put", "k", "w"]);
}

fn learners_learn_and_are_promoted(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject], &[]) else {
        return;
    };
    cluster.must(&["put", "k", "v"]);
    let place = cluster.add(subject, true).expect("the binary is there");
    let list = cluster.must(&["member", "list", "-w", "json"]);
    let parsed: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let members = parsed["members"].as_array().expect("members");
    let learner = members.iter().find(|member| member["isLearner"] == true);
    let id = learner.and_then(|it| it["ID"].as_u64()).expect("a learner");
    let id = format!("{id:x}");
    let url = "http://127.0.0.1:1";
    let second = ["member", "add", "y", "--peer-urls", url, "--learner"];
    let many = cluster.etcdctl(&second);
    assert!(
        many.stderr
            .contains("etcdserver: too many learner members in cluster"),
        "{many:?}"
    );
    let early = cluster.etcdctl(&["member", "promote", &id]);
    let text = "etcdserver: can only promote a learner member which is in sync with leader";
    assert!(early.stderr.contains(text), "{early:?}");

    cluster.launch(place);
    cluster.wait_ready(place);
    cluster.wait("learner that has caught up", || {
        let read = cluster.etcdctl_on(
            place,
            &["get", "k", "--consistency=s", "--print-value-only"],
        );
        (read.stdout == "v\n").then_some(())
    });
    assert!(cluster.standing(place).expect("it answers").is_learner);
    for refused in [
        &["get", "k"][..],
        &["put", "k", "w"],
        &["lease", "list"],
        &["member", "list"],
    ] {
        let outcome = cluster.etcdctl_on(place, refused);
        let text = "etcdserver: rpc not supported for learner";
        assert!(outcome.stderr.contains(text), "{refused:?}: {outcome:?}");
    }
    cluster.wait("promotion", || {
        let outcome = cluster.etcdctl_on(0, &["member", "promote", &id]);
        (outcome.code == Some(0)).then_some(())
    });
    cluster.wait("vote", || {
        let standing = cluster.standing(place)?;
        (!standing.is_learner).then_some(())
    });
    cluster.must_on(place, &["put", "k", "by a voter"]);
}

fn a_wiped_member_is_refused_under_its_old_id(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject; 3], &[]) else {
        return;
    };
    cluster.must(&["put", "k", "v"]);
    cluster.kill(2);
    cluster.wipe(2);
    cluster.launch(2);
    assert!(cluster.logs(2, "has already been bootstrapped", LIMIT));
    let (status, _) = cluster.wait_exit(2);
    assert_eq!(status.code(), Some(1));
    cluster.must(&["put", "k", "w"]);
}
