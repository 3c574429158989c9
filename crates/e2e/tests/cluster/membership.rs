//! Members that come and go.

use std::thread;
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;

on_each_server!(
    members_are_added_updated_and_removed,
    learners_learn_and_are_promoted,
    a_leader_that_removes_itself_ends_and_the_others_go_on,
    changes_at_the_same_time_are_done_or_refused,
    a_wiped_member_is_refused_under_its_old_id
);

/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(120);

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
    }
    let leader = cluster.leader();
    let taken = cluster.peer_url(1);
    let exists = "etcdserver: Peer URLs already exists";
    cluster.refuses(&["member", "add", "x", "--peer-urls", &taken], exists);
    let unknown = "etcdserver: member not found";
    cluster.refuses(&["member", "remove", "1234"], unknown);
    cluster.refuses(&["member", "promote", "1234"], unknown);
    let voter = cluster.id(1);
    let promoted = "etcdserver: can only promote a learner member";
    cluster.refuses(&["member", "promote", &voter], promoted);
    let url = "http://127.0.0.1:2,http://127.0.0.1:3";
    let updated = cluster.change(&["member", "update", &voter, "--peer-urls", url]);
    assert!(updated.contains("updated in cluster"), "{updated}");
    cluster.change(&["member", "update", &voter, "--peer-urls", &taken]);

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
    let many = "etcdserver: too many learner members in cluster";
    cluster.refuses(&second, many);
    let early = "etcdserver: can only promote a learner member which is in sync with leader";
    cluster.refuses(&["member", "promote", &id], early);

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
    // What is promoted and not told so, is so all the same.
    cluster.wait("promotion", || {
        cluster.etcdctl_on(0, &["member", "promote", &id]);
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
    cluster.put("k", "w");

    // The remedy: another id in the old place. The old one never comes back.
    let list = cluster.must(&["member", "list"]);
    let lost = list.lines().find(|line| line.contains(", n2, "));
    let old = lost.and_then(|line| line.split(',').next());
    let old = old.expect("the lost member is listed").to_owned();
    cluster.change(&["member", "remove", &old]);
    let url = cluster.peer_url(2);
    let added = cluster.change(&["member", "add", "n2", "--peer-urls", &url]);
    assert!(!added.contains(&old), "{added}");
    let again = cluster.etcdctl(&["member", "update", &old, "--peer-urls", &url]);
    assert!(
        again.stderr.contains("etcdserver: member not found"),
        "{again:?}"
    );
    cluster.add_flags(2, &["--initial-cluster-state", "existing"]);
    let _ = std::fs::remove_dir_all(cluster.data_directory(2));
    cluster.launch(2);
    cluster.wait_ready(2);
    assert_ne!(cluster.id(2), old);
    cluster.same_hash();
}

fn changes_at_the_same_time_are_done_or_refused(subject: Subject) {
    let Some(cluster) = Cluster::start(&[subject; 3], &[]) else {
        return;
    };
    let ids: Vec<String> = (0..3).map(|place| cluster.id(place)).collect();
    let urls: Vec<String> = (0..6)
        .map(|number| format!("http://127.0.0.1:{}", 2 + number))
        .collect();
    // Two addresses each: its own, so that peers reach it on, and another that may be taken by then.
    let change = &|number: usize| {
        let own = cluster.peer_url(number % 3);
        let both = format!("{own},{}", urls[number / 2]);
        let update = [
            "member",
            "update",
            &ids[number % 3],
            "--peer-urls",
            &both,
            "--command-timeout=9s",
        ];
        cluster.etcdctl_on(number % 3, &update)
    };
    let outcomes: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..12)
            .map(|number| scope.spawn(move || change(number)))
            .collect();
        running
            .into_iter()
            .map(|it| it.join().expect("no panic"))
            .collect()
    });
    let refused = [
        "etcdserver: Peer URLs already exists",
        "etcdserver: request timed out",
        "etcdserver: too many requests",
        "etcdserver: leader changed",
        // Official members drop a change that meets one under way, and let its caller wait.
        "context deadline exceeded",
    ];
    for outcome in &outcomes {
        let told = refused.iter().any(|text| outcome.stderr.contains(text));
        assert!(outcome.code == Some(0) || told, "{outcome:?}");
    }
    assert!(
        outcomes.iter().any(|outcome| outcome.code == Some(0)),
        "{outcomes:?}"
    );
    // All members come to the same list, with no address twice. What nobody waited for any more may be done later.
    let list = cluster.wait("list that all members have", || {
        let lists: Vec<String> = (0..3)
            .map(|place| cluster.must_on(place, &["member", "list"]))
            .collect();
        let first = lists.first()?.clone();
        lists.iter().all(|list| *list == first).then_some(first)
    });
    for url in &urls {
        let named =
            list.matches(&format!("{url},")).count() + list.matches(&format!("{url} ")).count();
        assert!(named <= 1, "{url}: {list}");
    }
    cluster.put("k", "v");
    cluster.same_hash();
}

fn a_leader_that_removes_itself_ends_and_the_others_go_on(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject; 3], &[]) else {
        return;
    };
    cluster.must(&["put", "k", "v"]);
    let leader = cluster.leader();
    let id = cluster.id(leader);
    let command = ["member", "remove", &id];
    // A member of ours answers before it ends; an official one may end first, so that one of the others is asked.
    let removed = match subject {
        Subject::Kvorum => cluster.wait("healthy cluster", || {
            let outcome = cluster.etcdctl_on(leader, &command);
            (outcome.code == Some(0)).then_some(outcome.stdout)
        }),
        _ => cluster.change(&command),
    };
    assert!(removed.contains("removed from cluster"), "{removed}");
    let text = "the member has been permanently removed from the cluster";
    assert!(cluster.logs(leader, text, LIMIT));
    cluster.wait_exit(leader);
    cluster.put("k", "w");
    assert_ne!(cluster.leader(), leader);
    let list = cluster.must(&["member", "list"]);
    assert_eq!(list.lines().count(), 2, "{list}");
    cluster.same_hash();
}

#[test]
fn a_learner_that_has_caught_up_is_promoted_when_that_is_asked_for() {
    let flags = ["--experimental-kvorum-promote-learners"];
    let Some(mut cluster) = Cluster::start(&[Subject::Kvorum], &flags) else {
        return;
    };
    for number in 0..20 {
        cluster.must(&["put", &format!("k{number}"), "v"]);
    }
    let place = cluster
        .add(Subject::Kvorum, true)
        .expect("the binary is there");
    // One that is not there is not promoted: the leader would lose its quorum at once.
    cluster.must(&["put", "while", "it is away"]);
    let list = cluster.must(&["member", "list"]);
    assert!(list.contains(", true"), "{list}");
    cluster.launch(place);
    cluster.wait_ready(place);
    cluster.wait("promotion", || {
        let standing = cluster.standing(place)?;
        (!standing.is_learner).then_some(())
    });
    assert!(cluster.logs(0, "a learner that had caught up was promoted", LIMIT));
    let page = kvorum_e2e::http::get(cluster.client_port(0), "/metrics").expect("a page");
    let counted = "\netcd_server_learner_promote_successes 1\n";
    assert!(page.body.contains(counted), "{}", page.body);
    cluster.must_on(place, &["put", "k", "by a voter"]);
    cluster.same_hash();
}
