//! Our etcdctl beside the official one of 3.7.1: the same commands, each tool on a fresh server of
//! its own, whole transcripts compared byte for byte. Both scripts run: the one of
//! `tests/etcdctl.rs`, and `testdata/own_etcdctl.txt` for what concerns the tool alone.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use kvorum_e2e::peers::{self, Subject, peer};
use kvorum_e2e::process::{Outcome, Process, run};
use kvorum_e2e::server::{Server, free_port, new_folder};
use kvorum_e2e::transcript::{FORMS, Session, differences};
use kvorum_e2e::{name_server, on_each_server};

on_each_server!(
    own_etcdctl_beside_official,
    own_etcdctl_as_others_beside_official,
    own_etcdctl_in_all_forms_beside_official,
    own_etcdctl_authentication_beside_official,
    members_come_and_go_as_with_the_official_tool,
    several_watches_are_read_from_lines
);

/// How long any command may take.
const LIMIT: Duration = Duration::from_secs(120);
/// The release that our tool is.
const RELEASE: (u32, u32) = (3, 7);

const OWN: &str = include_str!("testdata/own_etcdctl.txt");
const OTHERS: &str = include_str!("testdata/etcdctl.txt");
const IN_ALL_FORMS: &str = include_str!("testdata/formats.txt");
const AUTHENTICATION: &str = include_str!("testdata/authentication.txt");

fn own_etcdctl_beside_official(subject: Subject) {
    compare(subject, "etcdctl", OWN);
}

fn own_etcdctl_as_others_beside_official(subject: Subject) {
    compare(subject, "others", OTHERS);
}

fn own_etcdctl_in_all_forms_beside_official(subject: Subject) {
    compare(subject, "forms", IN_ALL_FORMS);
}

fn own_etcdctl_authentication_beside_official(subject: Subject) {
    compare_tools(subject, "authentication", AUTHENTICATION);
}

/// Older servers know less; our tool hears and says of it what the official one does.
#[test]
fn own_etcdctl_beside_official_on_older_servers() {
    for subject in [Subject::Official351, Subject::Official3423] {
        compare_tools(subject, "others", OTHERS);
    }
}

#[test]
fn own_etcdctl_in_all_forms_beside_official_on_older_servers() {
    for subject in [Subject::Official351, Subject::Official3423] {
        compare_tools(subject, "forms", IN_ALL_FORMS);
        compare_tools(subject, "authentication", AUTHENTICATION);
    }
}

/// What a tool writes, script and server being given.
fn transcript(tool: PathBuf, subject: Subject, script: &str) -> Option<Vec<String>> {
    let server = Server::start(subject, &[])?;
    server.wait_storage_version();
    Some(Session::new(tool, RELEASE, server).transcript(script))
}

/// Runs both tools through a script on servers of one kind, and the official tool on the official
/// server: three of the four combinations, and on the official server the fourth.
fn compare(subject: Subject, name: &str, script: &'static str) {
    compare_tools(subject, name, script);
    if subject == Subject::Official371 {
        return;
    }
    let Some(tool) = peer("etcd-3.7.1", "etcdctl") else {
        return;
    };
    let official = tool.clone();
    let expected = thread::spawn(move || transcript(official, Subject::Official371, script));
    let actual = transcript(tool, subject, script);
    let expected = expected.join().expect("the official tool runs");
    assert_same(
        ("official server", expected),
        ("our server", actual),
        "servers",
    );
}

/// Runs both tools through a script on servers of one kind.
fn compare_tools(subject: Subject, name: &str, script: &'static str) {
    let Some(official) = peer("etcd-3.7.1", "etcdctl") else {
        return;
    };
    let expected = thread::spawn(move || transcript(official, subject, script));
    let actual = transcript(peers::etcdctl(), subject, script);
    let expected = expected.join().expect("the official tool runs");
    let name = format!("{name}-{subject:?}");
    assert_same(("official tool", expected), ("our tool", actual), &name);
}

/// Fails with the commands that differ.
fn assert_same(
    (one, expected): (&str, Option<Vec<String>>),
    (other, actual): (&str, Option<Vec<String>>),
    name: &str,
) {
    let (Some(expected), Some(actual)) = (expected, actual) else {
        return;
    };
    let file = format!("own-{name}.txt");
    let differing = differences((one, &expected), (other, &actual), &file);
    assert!(
        differing.is_empty(),
        "{name}: {} of {} commands differ:\n{}",
        differing.len(),
        actual.len(),
        differing.join("\n")
    );
}

/// The commands below one, as the tool offers them to a shell.
fn offered(words: &[String]) -> Vec<String> {
    let mut command = Command::new(peers::etcdctl());
    command.arg("__complete").args(words).arg("");
    let outcome = run(&mut command, "", LIMIT);
    let lines = outcome.stdout.lines().filter(|line| !line.starts_with(':'));
    let words = lines.filter_map(|line| line.split('\t').next());
    words.map(str::to_owned).collect()
}

/// All commands that have none below them.
fn commands() -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![Vec::new()];
    while let Some(words) = open.pop() {
        let name = words.join(" ");
        // They take the names of commands and shells.
        let is_leaf = name == "help" || name == "completion";
        let below = if is_leaf { Vec::new() } else { offered(&words) };
        if below.is_empty() {
            found.push(name);
        }
        open.extend(
            below
                .into_iter()
                .map(|word| [words.clone(), vec![word]].concat()),
        );
    }
    found
}

#[test]
fn scripts_have_every_command_in_every_form() {
    let scripts = [OWN, OTHERS, IN_ALL_FORMS, AUTHENTICATION, OF_MEMBERS];
    let lines: Vec<String> = scripts
        .iter()
        .flat_map(|script| script.lines())
        .filter(|line| !line.starts_with('#') && !line.contains("--help"))
        .map(|line| format!(" {line} "))
        .collect();
    let commands = commands();
    assert!(commands.len() > 40, "{commands:?}");
    let mut missing = Vec::new();
    for command in commands {
        let with_command = |line: &&String| line.contains(&format!(" {command} "));
        for form in FORMS.into_iter().filter(|form| *form != "simple") {
            let in_form = |line: &String| {
                line.starts_with(" forms: ")
                    || line.contains(&format!(" -w {form} "))
                    || line.contains(&format!(" -w{form} "))
            };
            if !lines.iter().filter(with_command).any(in_form) {
                missing.push(format!("{command} in {form}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// Commands about members. The number of a member follows from its URLs and the second: each
/// addition has other URLs.
const OF_MEMBERS: &str = "\
member add m9 --peer-urls=http://HOST:1 --learner
member add m8 --peer-urls=http://HOST:2 --learner
member list
member list -w json
member list -w json --hex
member list -w table
member list -w fields
member update ID --peer-urls=http://HOST:3,http://HOST:4
member update ID --peer-urls=http://HOST:3 -w json
member update ID --peer-urls=http://HOST:3 -w json --hex
member update ID --peer-urls=http://HOST:3 -w fields
member update ID --peer-urls=http://HOST:3 -w table
member promote ID
member promote ID -w json
move-leader ID
move-leader ID -w json
member remove ID
member add m9 --peer-urls=http://HOST:5 --learner -w json
member remove ID -w json
member add m9 --peer-urls=http://HOST:6 --learner -w json --hex
member remove ID -w json --hex
member add m9 --peer-urls=http://HOST:7 --learner -w fields
member remove ID -w fields";

/// Members are listed in the order of their numbers, which are chosen at random: the words are
/// compared without their order.
fn members_come_and_go_as_with_the_official_tool(subject: Subject) {
    let (Some(official), Some(server)) =
        (peer("etcd-3.7.1", "etcdctl"), Server::start(subject, &[]))
    else {
        return;
    };
    let run = |tool: &PathBuf, arguments: &[&str]| {
        let mut command = Command::new(tool);
        command.env("ETCDCTL_ENDPOINTS", server.endpoint());
        run(command.args(arguments), "", LIMIT)
    };
    // The number of the learner in hex and without a base, or what cannot be a number.
    let learner = || {
        let listed = run(&official, &["member", "list"]).stdout;
        let line = listed.lines().find(|line| line.ends_with("true"));
        let hex = line.and_then(|line| line.split(',').next()).unwrap_or("?");
        let number = u64::from_str_radix(hex, 16);
        (
            hex.to_owned(),
            number.map_or("?".to_owned(), |number| number.to_string()),
        )
    };
    let own = peers::etcdctl();
    let transcripts = [(&official, "127.0.0.1"), (&own, "127.0.0.2")].map(|(tool, host)| {
        let step = |step: &str| {
            let before = learner();
            let line = step.replace("ID", &before.0).replace("HOST", host);
            let arguments: Vec<&str> = line.split(' ').collect();
            let outcome = run(tool, &arguments);
            let mut text = outcome.stdout + &outcome.stderr;
            for (hex, number) in [before, learner()] {
                text = text.replace(&hex, "ID").replace(&number, "ID");
            }
            let text = text.replace(host, "127.0.0.1");
            let is_log = |line: &&str| !line.starts_with("{\"level\"");
            let lines: Vec<&str> = text.lines().filter(is_log).collect();
            let lines = lines.join("\n");
            let is_end = |letter: char| " ,\"{}[]\n│".contains(letter);
            // A number that begins with a zero is filled up with a blank.
            let words = lines.split(is_end).filter(|word| !word.is_empty());
            let mut words: Vec<String> = words.map(str::to_owned).collect();
            words.sort();
            (step.to_owned(), outcome.code, words)
        };
        OF_MEMBERS.lines().map(step).collect::<Vec<_>>()
    });
    for (theirs, ours) in transcripts[0].iter().zip(&transcripts[1]) {
        assert_eq!(ours, theirs);
    }
}

/// Lines of an interactive session start watches that go on side by side.
fn several_watches_are_read_from_lines(subject: Subject) {
    let (Some(official), Some(server)) =
        (peer("etcd-3.7.1", "etcdctl"), Server::start(subject, &[]))
    else {
        return;
    };
    let endpoint = server.endpoint();
    let put = |key: &str| {
        let mut command = Command::new(peers::etcdctl());
        command.env("ETCDCTL_ENDPOINTS", &endpoint);
        let outcome = run(command.args(["put", key, "value"]), "", LIMIT);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    };
    put("a");
    for tool in [official, peers::etcdctl()] {
        let mut command = Command::new(&tool);
        command
            .env("ETCDCTL_ENDPOINTS", &endpoint)
            .args(["watch", "-i"]);
        let mut watches = Process::spawn_with_input(&mut command);
        watches.write("watch a --rev=1\nbogus\nwatch b --rev=1 -- echo ran\n");
        watches.write("watch c --prefix --rev=1 --prev-kv\n");
        for text in ["value", "Invalid command bogus (only support watch)"] {
            assert!(
                watches.wait_for(text, 0, LIMIT).is_some(),
                "{text}: {:?}",
                watches.lines()
            );
        }
        // A server does not answer before all watches have caught up.
        let mut asked = 0;
        while watches
            .wait_for("progress notify: ", 0, Duration::from_secs(1))
            .is_none()
        {
            asked += 1;
            assert!(asked < 60, "{:?}", watches.lines());
            watches.write("progress\n");
        }
        put("b");
        put("c/1");
        for text in ["ran", "c/1"] {
            assert!(
                watches.wait_for(text, 0, LIMIT).is_some(),
                "{text}: {:?}",
                watches.lines()
            );
        }
        watches.close_input();
        let end = "error reading watch request line: EOF";
        assert!(
            watches.wait_for(end, 0, LIMIT).is_some(),
            "{:?}",
            watches.lines()
        );
        let (status, _) = watches.wait_exit(LIMIT).expect("it ends");
        assert_eq!(status.code(), Some(3), "{:?}", watches.lines());
    }
}

/// Every line is asked of the same name server, by each tool.
#[test]
fn a_domain_leads_to_the_servers() {
    let (Some(official), Some(server)) = (
        peer("etcd-3.7.1", "etcdctl"),
        Server::start(Subject::Kvorum, &[]),
    ) else {
        return;
    };
    let dead = free_port();
    let records = [
        ("_etcd-client._tcp.example.com", vec![dead, server.port()]),
        ("_etcd-client-two._tcp.example.com", vec![server.port()]),
        ("_etcd-client-ssl._tcp.secure.example.com", vec![dead]),
    ];
    let records = records.map(|(name, ports)| (name.to_owned(), ports));
    let folder = new_folder();
    let test = "a_domain_leads_to_the_servers";
    let Some(wrapper) = name_server::start(test, "127.0.53.8", &folder, records.to_vec()) else {
        return;
    };
    let run = |tool: &PathBuf, arguments: &str| {
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).arg(tool);
        command.args(arguments.split(' '));
        let outcome = run(&mut command, "", LIMIT);
        let is_log = |line: &&str| !line.starts_with("{\"level\"");
        let errors: Vec<&str> = outcome.stderr.lines().filter(is_log).collect();
        (outcome.code, outcome.stdout, errors.join("\n"))
    };
    for (arguments, works) in [
        ("--discovery-srv=example.com put a 1", true),
        ("-d example.com get a -w json", true),
        (
            "--discovery-srv=example.com --discovery-srv-name=two get a",
            true,
        ),
        ("--discovery-srv=example.com member list -w json", true),
        (
            "--discovery-srv=secure.example.com get a --command-timeout=700ms",
            false,
        ),
        ("--discovery-srv=nowhere.example get a", false),
        // What is left is the default of --endpoints, as with `endpoint hashkv`.
        (
            "--discovery-srv=example.com --insecure-discovery=false --command-timeout=700ms get a",
            false,
        ),
    ] {
        let theirs = run(&official, arguments);
        assert_eq!(run(&peers::etcdctl(), arguments), theirs, "{arguments}");
        assert_eq!(theirs.0 == Some(0), works, "{arguments}: {theirs:?}");
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// Runs our tool with this environment.
fn own(variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut command = Command::new(peers::etcdctl());
    command.envs(variables.iter().copied()).args(arguments);
    run(&mut command, "", LIMIT)
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
    // Long enough for a first try, on a machine that is busy with something else.
    let flags = ["--endpoints", &endpoint, "--command-timeout=4s"];
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
