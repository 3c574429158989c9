//! Our etcdctl beside the official one of 3.7.1: the same commands, each tool on a fresh server of
//! its own, whole transcripts compared byte for byte. Both scripts run: the one of
//! `tests/etcdctl.rs`, and `testdata/own_etcdctl.txt` for what concerns the tool alone.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{self, Subject, peer};
use kvorum_e2e::process::{Outcome, run};
use kvorum_e2e::server::{Server, free_port};
use kvorum_e2e::transcript::{Session, differences};

on_each_server!(
    own_etcdctl_beside_official,
    own_etcdctl_as_others_beside_official,
    own_etcdctl_authentication_beside_official
);

/// The release that our tool is.
const RELEASE: (u32, u32) = (3, 7);

fn own_etcdctl_beside_official(subject: Subject) {
    compare(subject, "etcdctl", include_str!("testdata/own_etcdctl.txt"));
}

fn own_etcdctl_as_others_beside_official(subject: Subject) {
    compare(subject, "others", include_str!("testdata/etcdctl.txt"));
}

fn own_etcdctl_authentication_beside_official(subject: Subject) {
    compare(
        subject,
        "authentication",
        include_str!("testdata/authentication.txt"),
    );
}

/// Runs both tools through a script on servers of one kind.
fn compare(subject: Subject, name: &str, script: &'static str) {
    let Some(official) = peer("etcd-3.7.1", "etcdctl") else {
        return;
    };
    let own = peers::etcdctl();
    let transcript = move |tool: PathBuf| {
        let server = Server::start(subject, &[])?;
        Some(Session::new(tool, RELEASE, server).transcript(script))
    };
    let expected = thread::spawn(move || transcript(official));
    let actual = transcript(own);
    let expected = expected.join().expect("the official tool runs");
    let (Some(expected), Some(actual)) = (expected, actual) else {
        return;
    };
    let file = format!("own-{name}-{subject:?}.txt");
    let differing = differences(("official", &expected), ("ours", &actual), &file);
    assert!(
        differing.is_empty(),
        "{} of {} commands differ:\n{}",
        differing.len(),
        actual.len(),
        differing.join("\n")
    );
}

/// Runs our tool with this environment.
fn own(variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut command = Command::new(peers::etcdctl());
    command.envs(variables.iter().copied()).args(arguments);
    run(&mut command, "", Duration::from_secs(30))
}

#[test]
fn a_flag_and_its_variable_together_are_refused() {
    let outcome = own(&[("ETCDCTL_HEX", "true")], &["get", "a", "--hex"]);
    assert_eq!(outcome.code, Some(1));
    let expected = r#""level":"fatal""#;
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    let expected = r#""environment-variable":"ETCDCTL_HEX""#;
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
    let outcome = own(&[("ETCDCTL_WRITE_OUT", "bogus")], &["get", "a"]);
    assert_eq!(outcome.stderr, "Error: unsupported output format\n");
    assert_eq!(outcome.code, Some(4));
    let variables = [("ETCDCTL_BOGUS", "1"), ("ETCDCTL_WRITE_OUT", "bogus")];
    let outcome = own(&variables, &["get", "a"]);
    let expected =
        r#""msg":"unrecognized environment variable","environment-variable":"ETCDCTL_BOGUS=1""#;
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
}

#[test]
fn an_endpoint_that_is_not_there_is_named() {
    let endpoint = format!("127.0.0.1:{}", free_port());
    let flags = ["--endpoints", &endpoint, "--command-timeout=300ms"];
    for command in [&["get", "a"][..], &["put", "a", "b"]] {
        let outcome = own(&[], &[command, &flags].concat());
        assert_eq!(outcome.code, Some(1));
        let (log, error) = outcome
            .stderr
            .trim_end()
            .rsplit_once('\n')
            .expect("two lines");
        assert_eq!(error, "Error: context deadline exceeded");
        assert!(log.contains(&endpoint) && log.contains("refused"), "{log}");
    }
    let outcome = own(&[], &["--endpoints=", "get", "a"]);
    assert_eq!(
        outcome.stderr,
        "Error: etcdclient: no available endpoints\n"
    );
    assert_eq!(outcome.code, Some(2));
}

#[test]
fn a_bad_consistency_is_named() {
    let outcome = own(&[], &["member", "list", "--consistency=x"]);
    assert_eq!(outcome.stderr, "Error: unknown consistency flag \"x\"\n");
    assert_eq!(outcome.code, Some(4));
}

#[test]
fn debug_shows_every_flag() {
    let outcome = own(&[], &["get", "a", "--debug", "-w", "bogus"]);
    let shown: Vec<&str> = outcome.stderr.lines().collect();
    assert!(shown.contains(&"ETCDCTL_ENDPOINTS=[127.0.0.1:2379]"));
    assert!(shown.contains(&"ETCDCTL_DIAL_TIMEOUT=2s"));
    assert!(shown.contains(&"ETCDCTL_WRITE_OUT=bogus"));
}
