//! Our etcdctl while its server is killed and started again on the same data: what goes on for long
//! goes on after it.

use std::process::Command;
use std::time::Duration;

use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{self, Subject, peer};
use kvorum_e2e::process::{Process, run};
use kvorum_e2e::server::Server;

on_each_server!(
    watches_go_on_without_loss_or_repeats,
    a_lock_is_held_and_handed_on,
    a_leader_leads_on_and_is_followed,
    a_lease_is_kept_alive,
    a_mirror_goes_on_when_either_side_restarts,
    a_mirror_copies_what_the_official_one_copies,
    a_mirror_from_a_revision_keeps_the_prefix,
    a_mirror_of_a_compacted_history_ends
);

/// How long any answer may take.
const LIMIT: Duration = Duration::from_secs(120);

fn command(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(peers::etcdctl());
    command.env("ETCDCTL_ENDPOINTS", server.endpoint());
    command.args(arguments);
    command
}

/// What a command writes that must succeed.
fn etcdctl(server: &Server, arguments: &[&str]) -> String {
    let outcome = run(&mut command(server, arguments), "", LIMIT);
    assert_eq!(outcome.code, Some(0), "{arguments:?}: {}", outcome.stderr);
    outcome.stdout
}

fn start(server: &Server, arguments: &[&str]) -> Process {
    Process::spawn(&mut command(server, arguments))
}

/// Waits for a line and fails with all lines.
fn wait(process: &Process, text: &str, from: usize) -> usize {
    let found = process.wait_for(text, from, LIMIT);
    found.unwrap_or_else(|| panic!("no line with {text:?}: {:?}", process.lines()))
}

fn watches_go_on_without_loss_or_repeats(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    let created = &["put", "k/0", "first"];
    etcdctl(&server, created);
    let watch = start(&server, &["watch", "k/", "--prefix", "--rev=2"]);
    let runs = ["watch", "k/", "--prefix", "--rev=2", "--", "echo", "event"];
    let commands = start(&server, &runs);
    wait(&watch, "first", 0);
    wait(&commands, "event", 0);
    for round in 1..4 {
        etcdctl(&server, &["put", &format!("k/{round}"), "value"]);
        server.restart();
        etcdctl(&server, &["del", &format!("k/{round}")]);
    }
    let last = &["put", "k/last", "end"];
    etcdctl(&server, last);
    wait(&watch, "end", 0);
    let mut expected = vec!["PUT", "k/0", "first"];
    for key in ["k/1", "k/2", "k/3"] {
        expected.extend(["PUT", key, "value", "DELETE", key, ""]);
    }
    expected.extend(["PUT", "k/last", "end"]);
    assert_eq!(watch.lines(), expected);
    let shown = wait(&commands, "end", 0);
    // The commands of a response run after it was shown, one after the other.
    let ran = || {
        commands
            .lines()
            .iter()
            .filter(|line| *line == "event")
            .count()
    };
    let mut from = shown;
    while ran() < 8 {
        from = wait(&commands, "event", from) + 1;
    }
    assert_eq!(ran(), 8, "{:?}", commands.lines());
}

fn a_lock_is_held_and_handed_on(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    let mut holder = start(&server, &["lock", "door", "--ttl=60"]);
    wait(&holder, "door/", 0);
    let queued = |server: &Server| etcdctl(server, &["get", "door/", "--prefix", "--keys-only"]);
    let mut waiter = start(&server, &["lock", "door", "--ttl=60", "echo", "mine"]);
    while queued(&server).matches("door/").count() < 2 {
        assert!(waiter.is_running(), "{:?}", waiter.lines());
    }
    server.restart();
    assert_eq!(queued(&server).matches("door/").count(), 2);
    assert!(holder.is_running() && waiter.is_running());
    holder.terminate();
    let (status, _) = holder.wait_exit(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(0), "{:?}", holder.lines());
    wait(&waiter, "mine", 0);
    let (status, _) = waiter.wait_exit(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(0), "{:?}", waiter.lines());
    assert_eq!(queued(&server), "");
}

fn a_leader_leads_on_and_is_followed(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    let mut leader = start(&server, &["elect", "crown", "one"]);
    wait(&leader, "one", 0);
    let mut next = start(&server, &["elect", "crown", "two"]);
    let observer = start(&server, &["elect", "-l", "crown"]);
    wait(&observer, "one", 0);
    let candidates = |server: &Server| etcdctl(server, &["get", "crown/", "--prefix"]);
    while !candidates(&server).contains("two") {
        assert!(next.is_running(), "{:?}", next.lines());
    }
    server.restart();
    assert!(candidates(&server).contains("one"));
    assert!(leader.is_running() && next.is_running());
    leader.terminate();
    let (status, _) = leader.wait_exit(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(0), "{:?}", leader.lines());
    wait(&next, "two", 0);
    wait(&observer, "two", 0);
    let seen = observer.lines();
    let values: Vec<&str> = seen
        .iter()
        .map(String::as_str)
        .filter(|line| !line.contains('/'))
        .collect();
    assert_eq!(values, ["one", "two"]);
    next.terminate();
    assert!(next.wait_exit(LIMIT).is_some());
}

fn a_lease_is_kept_alive(subject: Subject) {
    let Some(mut server) = Server::start(subject, &[]) else {
        return;
    };
    let granted = etcdctl(&server, &["lease", "grant", "6"]);
    let lease = granted
        .split(' ')
        .nth(1)
        .expect("the ID of the lease")
        .to_owned();
    etcdctl(
        &server,
        &["put", "leased", "1", &format!("--lease={lease}")],
    );
    let mut keeper = start(&server, &["lease", "keep-alive", &lease]);
    wait(&keeper, "keepalived", 0);
    server.restart();
    let before = keeper.lines().len();
    wait(&keeper, "keepalived", before);
    assert!(etcdctl(&server, &["get", "leased"]).contains('1'));
    etcdctl(&server, &["lease", "revoke", &lease]);
    wait(&keeper, "expired or revoked", 0);
    let (status, _) = keeper.wait_exit(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

fn a_mirror_goes_on_when_either_side_restarts(subject: Subject) {
    let (Some(mut from), Some(mut to)) = (Server::start(subject, &[]), Server::start(subject, &[]))
    else {
        return;
    };
    for number in 0..30 {
        etcdctl(&from, &["put", &format!("in/{number}"), "old"]);
    }
    etcdctl(&from, &["put", "outside", "no"]);
    let arguments = [
        "make-mirror",
        "--prefix=in/",
        "--dest-prefix=out/",
        &to.endpoint(),
    ];
    let mut mirror = start(&from, &arguments);
    let mirrored = |to: &Server, key: &str, value: &str| {
        let watch = start(to, &["watch", &format!("out/{key}"), "--rev=1"]);
        wait(&watch, value, 0);
    };
    mirrored(&to, "29", "old");
    for round in 0..2 {
        from.restart();
        etcdctl(&from, &["put", &format!("in/source-{round}"), "new"]);
        mirrored(&to, &format!("source-{round}"), "new");
        to.restart();
        etcdctl(&from, &["del", &format!("in/{round}")]);
        etcdctl(&from, &["put", &format!("in/target-{round}"), "newer"]);
        mirrored(&to, &format!("target-{round}"), "newer");
    }
    assert!(mirror.is_running(), "{:?}", mirror.lines());
    // The order of revisions is kept: what was deleted before is gone.
    let source = etcdctl(&from, &["get", "in/", "--prefix"]);
    let copy = etcdctl(&to, &["get", "", "--prefix"]);
    assert_eq!(copy.replace("out/", "in/"), source);
    assert!(!copy.contains("outside") && !copy.contains("out/0\n"));
    mirror.kill();
}

fn a_mirror_copies_what_the_official_one_copies(subject: Subject) {
    let servers = [(); 3].map(|()| Server::start(subject, &[]));
    let ([Some(from), Some(one), Some(other)], Some(official)) =
        (servers, peer("etcd-3.7.1", "etcdctl"))
    else {
        return;
    };
    for number in 0..20 {
        etcdctl(&from, &["put", &format!("in/{number}"), "old"]);
    }
    etcdctl(&from, &["put", "outside", "no"]);
    let all_flags = [
        &["--prefix=in/", "--dest-prefix=out/"][..],
        &["--prefix=in/", "--no-dest-prefix"],
        &["--max-txn-ops=2"],
    ];
    for (round, flags) in all_flags.into_iter().enumerate() {
        // What a round writes is told from what earlier ones wrote.
        let (begin, end) = (format!("begin-{round}"), format!("end-{round}"));
        etcdctl(&from, &["put", "in/last", &begin]);
        let copies = [(&official, &one), (&peers::etcdctl(), &other)].map(|(tool, to)| {
            etcdctl(to, &["del", "", "--prefix"]);
            let mut mirroring = Command::new(tool);
            mirroring.env("ETCDCTL_ENDPOINTS", from.endpoint());
            mirroring.arg("make-mirror").args(flags).arg(to.endpoint());
            let mirror = Process::spawn(&mut mirroring);
            // A change of several keys, once the first copy is there.
            let watch = start(to, &["watch", "", "--prefix", "--rev=2"]);
            wait(&watch, &begin, 0);
            let change =
                format!("\nput in/0 new\nput in/more 1\nput in/last {end}\ndel in/1\n\n\n");
            let outcome = run(&mut command(&from, &["txn"]), &change, LIMIT);
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            wait(&watch, &end, 0);
            drop(mirror);
            let copied = etcdctl(to, &["get", "", "--prefix"]);
            let undo =
                format!("\nput in/0 old\nput in/1 old\ndel in/more\nput in/last {begin}\n\n\n");
            let outcome = run(&mut command(&from, &["txn"]), &undo, LIMIT);
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            copied
        });
        assert_eq!(copies[1], copies[0], "{flags:?}");
        assert!(
            copies[0].contains(&format!("last\n{end}\n")),
            "{flags:?}: {}",
            copies[0]
        );
    }
}

fn a_mirror_from_a_revision_keeps_the_prefix(subject: Subject) {
    let (Some(from), Some(to)) = (Server::start(subject, &[]), Server::start(subject, &[])) else {
        return;
    };
    for number in 2..6 {
        let put = &["put", &format!("in/{number}"), "value"];
        etcdctl(&from, put);
    }
    let into = to.endpoint();
    let arguments = [
        "make-mirror",
        "--prefix=in/",
        "--rev=4",
        "--max-txn-ops=1",
        &into,
    ];
    let mirror = start(&from, &arguments);
    let watch = start(&to, &["watch", "in/5", "--rev=1"]);
    wait(&watch, "value", 0);
    let copy = etcdctl(&to, &["get", "", "--prefix", "--keys-only"]);
    assert_eq!(copy, "in/4\n\nin/5\n\n", "{:?}", mirror.lines());
}

fn a_mirror_of_a_compacted_history_ends(subject: Subject) {
    let (Some(from), Some(to)) = (Server::start(subject, &[]), Server::start(subject, &[])) else {
        return;
    };
    for _ in 0..4 {
        etcdctl(&from, &["put", "k", "value"]);
    }
    etcdctl(&from, &["compaction", "4"]);
    let mirror = &["make-mirror", "--rev=2", &to.endpoint()];
    let outcome = run(&mut command(&from, mirror), "", LIMIT);
    assert_eq!(outcome.code, Some(1));
    let expected = "Error: etcdserver: mvcc: required revision has been compacted\n";
    assert_eq!(outcome.stderr, expected);
}
