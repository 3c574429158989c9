//! Our etcdctl with a cluster of three whose leader is killed: what goes on for long goes on with
//! the members that are left.

use std::process::Command;
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{self, Subject};
use kvorum_e2e::process::{Process, run};

on_each_server!(
    what_goes_on_for_long_rides_through_the_death_of_a_leader,
    a_leader_is_moved_and_found
);

/// How long any answer may take: an election of servers and a lease of a minute lie in it.
const LIMIT: Duration = Duration::from_secs(90);
fn command(endpoints: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(peers::etcdctl());
    command.env("ETCDCTL_ENDPOINTS", endpoints);
    command.args(arguments);
    command
}

fn etcdctl(endpoints: &str, arguments: &[&str]) -> String {
    let outcome = run(&mut command(endpoints, arguments), "", LIMIT);
    assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
    outcome.stdout
}

fn wait(process: &Process, text: &str, from: usize) -> usize {
    let found = process.wait_for(text, from, LIMIT);
    found.unwrap_or_else(|| panic!("no line with {text:?}: {:?}", process.lines()))
}

/// The endpoint of the leader.
fn leader(endpoints: &str) -> String {
    let status = etcdctl(endpoints, &["endpoint", "status"]);
    let line = status.lines().find(|line| {
        // The ninth column says who leads.
        line.split(", ").nth(8) == Some("true")
    });
    let line = line.unwrap_or_else(|| panic!("no leader: {status}"));
    line.split(", ").next().unwrap_or_default().to_owned()
}

fn what_goes_on_for_long_rides_through_the_death_of_a_leader(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject; 3], &[]) else {
        return;
    };
    let endpoints = cluster.endpoints();
    let all = endpoints.join(",");
    etcdctl(&all, &["put", "k/0", "first"]);
    let start = |arguments: &[&str]| Process::spawn(&mut command(&all, arguments));
    let watch = start(&["watch", "k/", "--prefix", "--rev=2"]);
    wait(&watch, "first", 0);
    let mut holder = start(&["lock", "door", "--ttl=60"]);
    wait(&holder, "door/", 0);
    let mut candidate = start(&["elect", "crown", "one"]);
    wait(&candidate, "one", 0);
    let granted = etcdctl(&all, &["lease", "grant", "20"]);
    let lease = granted
        .split(' ')
        .nth(1)
        .expect("the ID of the lease")
        .to_owned();
    let mut keeper = start(&["lease", "keep-alive", &lease]);
    wait(&keeper, "keepalived", 0);

    let dead = leader(&all);
    let at = endpoints.iter().position(|endpoint| *endpoint == dead);
    cluster.kill(at.expect("it is one of them"));
    let renewals = keeper.lines().len();
    // Calls find their way without being told who is left.
    for number in 1..4 {
        // While the members elect a leader a write fails, and whether it was done is unknown.
        let put = ["put", &format!("k/{number}"), "later"];
        while run(&mut command(&all, &put), "", LIMIT).code != Some(0) {}
    }
    wait(&watch, "k/3", 0);
    wait(&keeper, "keepalived", renewals);
    assert!(holder.is_running() && candidate.is_running() && keeper.is_running());
    // Every event came once and in order; a write that was tried twice may be there twice.
    let history = etcdctl(&all, &["get", "k/", "--prefix", "-w", "fields"]);
    let versions = history
        .lines()
        .filter_map(|line| line.strip_prefix("\"Version\" : "));
    let written: usize = versions
        .map(|version| version.parse::<usize>().expect("a number"))
        .sum();
    let mut from = 0;
    for _ in 0..written {
        from = wait(&watch, "k/", from) + 1;
    }
    let mut keys = watch.lines();
    keys.retain(|line| line.starts_with("k/"));
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(keys, sorted);
    assert_eq!(keys.len(), written, "{keys:?}");
    for process in [&mut holder, &mut candidate] {
        process.terminate();
        let (status, _) = process.wait_exit(LIMIT).expect("it ends");
        assert_eq!(status.code(), Some(0), "{:?}", process.lines());
    }
    assert_eq!(etcdctl(&all, &["get", "door/", "--prefix"]), "");
}

fn a_leader_is_moved_and_found(subject: Subject) {
    // It moves for no other reason, also where the machine stands still for some seconds.
    let flags = ["--election-timeout=5000"];
    let Some(cluster) = Cluster::start(&[subject; 3], &flags) else {
        return;
    };
    let all = cluster.endpoints().join(",");
    let before = leader(&all);
    let status = etcdctl(&all, &["endpoint", "status"]);
    let other = status.lines().find(|line| !line.starts_with(&before));
    let id = other
        .and_then(|line| line.split(", ").nth(1))
        .expect("a number");
    let moved = etcdctl(&all, &["move-leader", id]);
    assert!(moved.ends_with(&format!(" to {id}\n")), "{moved}");
    assert_ne!(leader(&all), before);
    // Only the leader can do it.
    let follower = run(&mut command(&before, &["move-leader", id]), "", LIMIT);
    assert_eq!(follower.code, Some(128));
    let expected = format!("Error: no leader endpoint given at [{before}]\n");
    assert_eq!(follower.stderr, expected);
    let healthy = etcdctl(&before, &["endpoint", "health", "--cluster"]);
    assert_eq!(healthy.matches("is healthy").count(), 3, "{healthy}");
}
