//! The load generator does what it says, on our server and on the official one that it compares it with. How fast
//! anything is does not matter here.

use std::fs;
use std::process::Command;
use std::time::Duration;

use kvorum_client::{Client, Config, Tls, TlsOptions};
use kvorum_e2e::certificates::Certificates;
use kvorum_e2e::peers::{self, Subject};
use kvorum_e2e::process::{Outcome, run};
use kvorum_e2e::server::{Server, new_folder};
use serde_json::Value;

/// Every load, and what makes it small.
const LOADS: [(&str, &[&str]); 13] = [
    ("range", &[]),
    ("txn", &[]),
    // These count all keys of all loads: the ones below make more.
    ("list", &["--limit=20"]),
    ("page", &["--limit=7", "--serializable"]),
    ("mixed", &["--read-percent=30", "--threads=2"]),
    ("put", &[]),
    ("put", &["--rate=200"]),
    (
        "put",
        &["--value-bytes=1048576", "--key-bytes=100", "--in-flight=2"],
    ),
    ("churn", &[]),
    ("watch", &["--connections=3", "--watchers=20"]),
    ("put-watched", &["--watch-streams=3", "--watchers=20"]),
    ("lease-grant", &[]),
    ("keep-alive", &["--leases=2"]),
];

/// Conflicts are sure: many operations in flight on one key.
const STM: (&str, &[&str]) = ("stm", &["--keys=1", "--in-flight=20"]);

const LIMIT: Duration = Duration::from_secs(600);

/// Runs one load; on a busy machine it may take more than a short window until this is counted.
fn load(server: &Server, name: &str, arguments: &[&str], counted: &str) -> Value {
    for seconds in ["0.2", "2", "20"] {
        let mut command = Command::new(peers::bench());
        command
            .args([name, "--endpoints", &server.endpoint(), "--json"])
            .args(["--warm-up", "0.05", "--seconds", seconds])
            .args(["--server-pids", &server.pid().to_string()])
            .args(arguments);
        if !arguments
            .iter()
            .any(|argument| argument.starts_with("--keys"))
        {
            command.arg("--keys=50");
        }
        if !arguments
            .iter()
            .any(|argument| argument.starts_with("--connections"))
        {
            command.arg("--connections=2");
        }
        let outcome = run(&mut command, "", LIMIT);
        assert_eq!(outcome.code, Some(0), "{name}: {}", outcome.stderr);
        let found: Value = serde_json::from_str(&outcome.stdout).expect("it prints JSON");
        let run = &found["run"];
        assert_eq!(run["refused"], serde_json::json!({}), "{name}: {run}");
        if run[counted].as_u64() > Some(0) {
            return found;
        }
    }
    panic!("{name}: no {counted} in any window");
}

/// Plays all of them, with these flags besides.
fn every_load(server: &Server, flags: &[&str]) {
    for (name, arguments) in LOADS {
        let found = load(server, name, &[arguments, flags].concat(), "operations");
        assert_eq!(found["load"]["kind"], name);
        assert_eq!(found["run"]["unanswered"], 0, "{name}");
        let memory = &found["run"]["server"]["memory"];
        assert!(
            memory["anonymous_bytes"].as_u64() > Some(0),
            "{name}: {memory}"
        );
    }
    let (name, arguments) = STM;
    load(server, name, &[arguments, flags].concat(), "conflicts");
}

#[test]
fn every_load_on_official() {
    if let Some(server) = Server::start(Subject::Official351, &[]) {
        every_load(&server, &[]);
    }
}

#[test]
fn every_load_on_kvorum() {
    if let Some(server) = Server::start(Subject::Kvorum, &[]) {
        every_load(&server, &[]);
    }
}

/// A server with TLS that asks for certificates and for the password of the one user whom it serves.
#[test]
fn every_load_through_closed_doors() {
    let folder = new_folder();
    let certificates = Certificates::new(&folder);
    let [ca, cert, key] =
        ["ca.pem", "client.pem", "client.key"].map(|name| certificates.path(name));
    let (own_cert, own_key) = (
        certificates.path("server.pem"),
        certificates.path("server.key"),
    );
    let flags = [
        ["--cert-file", &own_cert],
        ["--key-file", &own_key],
        ["--trusted-ca-file", &ca],
    ];
    let flags = [&flags.concat()[..], &["--client-cert-auth"]].concat();
    let Some(server) = Server::start_secure(Subject::Official371, &flags) else {
        return;
    };
    let options = TlsOptions {
        ca_file: Some(ca.clone().into()),
        cert_file: Some(cert.clone().into()),
        key_file: Some(key.clone().into()),
        ..TlsOptions::default()
    };
    ask_for_passwords(&server, Tls::new(&options).expect("files that fit"));

    let paths = [["--cacert", &ca], ["--cert", &cert], ["--key", &key]].concat();
    let user = ["--user", "root:secret"];
    every_load(&server, &[&paths[..], &user[..]].concat());
    let leases = ["--leases=5", "--lead=5"];
    let all = [&paths[..], &user[..], &leases[..]].concat();
    assert!(bench(&server, "expire", &all).contains("all 5 keys gone"));

    for (flags, said) in [
        (&user[..], "invalid peer certificate"),
        (
            &[&user[..], &["--cacert", &ca]].concat(),
            "CertificateRequired",
        ),
        (&paths[..], "refused all: etcdserver: permission denied"),
        (
            &[&paths[..], &["--user", "root:wrong"]].concat(),
            "authentication failed",
        ),
        (&["--user", "root"], "--user is name:password"),
        (&["--cert", &cert], "must both be present"),
    ] {
        let outcome = try_bench(&server, "put", flags);
        assert_eq!(outcome.code, Some(1), "{flags:?}: {}", outcome.stdout);
        assert!(
            outcome.stderr.contains(said),
            "{flags:?}: {}",
            outcome.stderr
        );
    }
    fs::remove_dir_all(&folder).expect("the folder is ours");
}

/// Makes the user `root` with the password `secret`, and authentication a must.
fn ask_for_passwords(server: &Server, tls: Tls) {
    let mut config = Config::new([server.endpoint()]);
    config.tls = Some(tls);
    let client = Client::new(&config).expect("a client").with_timeout(LIMIT);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        client
            .user_add("root", Some("secret"))
            .await
            .expect("a user");
        client.role_add("root").await.expect("a role");
        let granted = client.user_grant_role("root", "root").await;
        granted.expect("a grant");
        client.auth_enable().await.expect("authentication");
    });
}

fn try_bench(server: &Server, name: &str, flags: &[&str]) -> Outcome {
    let mut command = Command::new(peers::bench());
    command.args([name, "--seconds=1", "--endpoints", &server.endpoint()]);
    run(command.args(flags), "", LIMIT)
}

fn bench(server: &Server, name: &str, flags: &[&str]) -> String {
    let outcome = try_bench(server, name, flags);
    assert_eq!(outcome.code, Some(0), "{name}: {}", outcome.stderr);
    outcome.stdout
}

/// A server that does not hold what the load expects is found out.
#[test]
fn wrong_answers_end_a_run() {
    let Some(server) = Server::start(Subject::Kvorum, &[]) else {
        return;
    };
    for (name, said) in [
        ("range", "a read of one key found 0 of 0"),
        ("list", "a list of 0 of 0 keys, expected 10 of 10"),
        ("txn", "a transaction on a key that exists: succeeded false"),
    ] {
        let mut command = Command::new(peers::bench());
        command.args([
            name,
            "--no-fill",
            "--keys=10",
            "--endpoints",
            &server.endpoint(),
        ]);
        let outcome = run(&mut command, "", LIMIT);
        assert_eq!(outcome.code, Some(1), "{name}: {}", outcome.stdout);
        assert!(outcome.stderr.contains(said), "{name}: {}", outcome.stderr);
    }
}

/// Plays scenarios with next to no data, and holds what is written against what was asked for.
fn play(a: Subject, b: Option<Subject>, scenarios: &str) {
    let Some(a) = a.etcd() else { return };
    let folder = new_folder();
    let b = match b.map(Subject::etcd) {
        None => "none".into(),
        Some(Some(b)) => b,
        Some(None) => return,
    };
    let mut command = Command::new(peers::bench());
    command
        .args([
            "compare",
            "--smoke",
            "--name=smoke",
            "--scenarios",
            scenarios,
        ])
        .args(["--note", "Only a test."])
        .arg("--a")
        .arg(a)
        .arg("--b")
        .arg(b)
        .arg("--out")
        .arg(&folder)
        .arg("--directory")
        .arg(&folder);
    let outcome = run(&mut command, "", LIMIT);
    let told = format!("{}\n{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.code, Some(0), "{told}");
    let page = fs::read_to_string(folder.join("smoke.md")).expect("a page");
    assert_eq!(outcome.stdout, page);
    let raw = fs::read_to_string(folder.join("smoke.json")).expect("raw results");
    let raw: Value = serde_json::from_str(&raw).expect("raw results are JSON");
    for name in scenarios.split(',') {
        let turns = raw["turns"].as_array().expect("turns");
        assert!(turns.iter().any(|turn| turn["scenario"] == name), "{name}");
        assert!(page.contains(&format!("| `{name}` |")), "{name} in {page}");
    }
    for chart in page.lines().filter_map(|line| line.strip_prefix("![")) {
        let (_, file) = chart.split_once("](").expect("a picture");
        let chart = fs::read_to_string(folder.join(file.trim_end_matches(')')));
        assert!(chart.expect("a chart").ends_with("</svg>\n"), "{file}");
    }
    fs::remove_dir_all(&folder).expect("the folder is ours");
}

#[test]
fn two_servers_side_by_side() {
    let scenarios =
        "put,put-steady,page,watch-streams,put-watched,watchers-memory,mass-expiry,idle";
    play(Subject::Kvorum, Some(Subject::Official351), scenarios);
}

#[test]
fn much_data() {
    let scenarios =
        "memory,list-wide,page-wide,snapshot,restart,put-compaction,put-snapshot,put-reclaim,churn";
    play(Subject::Kvorum, Some(Subject::Official351), scenarios);
}

#[test]
fn three_members() {
    let scenarios = "cluster-put,leader-kill,leader-term,member-join,member-join-gb";
    play(Subject::Kvorum, Some(Subject::Official351), scenarios);
}
