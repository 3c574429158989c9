//! Official etcdctl of three releases: the same commands on official etcd 3.7.1 and on ours, whole
//! transcripts compared. The commands are in `testdata/etcdctl.txt`.

use std::thread;

use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{Subject, peer};
use kvorum_e2e::server::Server;
use kvorum_e2e::transcript::{Session, differences};

on_each_server!(etcdctl_3_4_23, etcdctl_3_5_1, etcdctl_3_7_1);

const SCRIPT: &str = include_str!("testdata/etcdctl.txt");

fn session(tool: &str, subject: Subject) -> Option<Session> {
    let etcdctl = peer(tool, "etcdctl")?;
    let release = tool.trim_start_matches("etcd-");
    let mut numbers = release
        .split('.')
        .map(|number| number.parse().expect("a number"));
    let release = (
        numbers.next().expect("major"),
        numbers.next().expect("minor"),
    );
    let server = Server::start(subject, &[])?;
    server.wait_storage_version();
    Some(Session::new(etcdctl, release, server))
}

/// Runs the script on the official server and on `subject`, side by side.
fn check(tool: &'static str, subject: Subject) {
    let transcript = |session: Session| session.transcript(SCRIPT);
    let official = thread::spawn(move || session(tool, Subject::Official371).map(transcript));
    let other = session(tool, subject).map(transcript);
    let official = official.join().expect("the official server answers");
    let (Some(official), Some(other)) = (official, other) else {
        return;
    };
    let name = format!("{subject:?}");
    let file = format!("{tool}-{name}.txt");
    let differing = differences(("official", &official), (&name, &other), &file);
    assert!(
        differing.is_empty(),
        "{} of {} commands differ:\n{}",
        differing.len(),
        other.len(),
        differing.join("\n")
    );
}

fn etcdctl_3_4_23(subject: Subject) {
    check("etcd-3.4.23", subject);
}

fn etcdctl_3_5_1(subject: Subject) {
    check("etcd-3.5.1", subject);
}

fn etcdctl_3_7_1(subject: Subject) {
    check("etcd-3.7.1", subject);
}
