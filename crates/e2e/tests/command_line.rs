//! Flags, environment and version lines, as packages, scripts and test suites use them.

use std::process::Command;
use std::time::Duration;

use kvorum_e2e::http::get;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::process::{Outcome, Process, run};
use kvorum_e2e::server::{free_port, new_folder};

const LIMIT: Duration = Duration::from_secs(120);

on_each_server!(
    version_lines_are_the_usual_ones,
    mistakes_end_with_the_usual_code_and_name_the_culprit,
    flags_are_taken_in_every_spelling,
    settings_come_from_the_environment,
    a_unix_socket_is_a_file_in_the_working_folder,
);

/// Runs the server with `arguments` to its end.
fn etcd(subject: Subject, arguments: &[&str], environment: &[(&str, &str)]) -> Option<Outcome> {
    let folder = new_folder();
    let mut command = Command::new(subject.etcd()?);
    command.current_dir(&folder).env_clear();
    command.args(arguments).envs(environment.iter().copied());
    let outcome = run(&mut command, "", LIMIT);
    let _ = std::fs::remove_dir_all(folder);
    Some(outcome)
}

fn version_lines_are_the_usual_ones(subject: Subject) {
    for flag in ["--version", "-version", "--version=true"] {
        let Some(outcome) = etcd(subject, &[flag], &[]) else {
            return;
        };
        assert_eq!(outcome.code, Some(0), "{flag}: {outcome:?}");
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(lines[0], "etcd Version: 3.7.1", "{flag}");
        for (line, start) in lines[1..]
            .iter()
            .zip(["Git SHA: ", "Go Version: ", "Go OS/Arch: "])
        {
            assert!(line.starts_with(start), "{flag}: {line}");
        }
        assert!(lines.len() >= 4, "{flag}: {lines:?}");
    }
}

fn mistakes_end_with_the_usual_code_and_name_the_culprit(subject: Subject) {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str);
    let cases: [Case<'_>; 6] = [
        (
            &["--no-such-flag"],
            &[],
            2,
            "flag provided but not defined: -no-such-flag",
        ),
        (
            &["--snapshot-count=abc"],
            &[],
            2,
            "invalid value \"abc\" for flag -snapshot-count",
        ),
        (&["stray"], &[], 1, "\\\"stray\\\" is not a valid flag"),
        (
            &["--name", "x"],
            &[("ETCD_NAME", "y")],
            1,
            "conflicting environment variable is shadowed",
        ),
        (
            &["--election-timeout=10"],
            &[],
            1,
            "--election-timeout[10ms] should be at least as 5 times",
        ),
        (&["--data-dir"], &[], 2, "flag needs an argument: -data-dir"),
    ];
    for (arguments, environment, code, text) in cases {
        let Some(outcome) = etcd(subject, arguments, environment) else {
            return;
        };
        assert_eq!(outcome.code, Some(code), "{arguments:?}: {outcome:?}");
        assert!(
            outcome.stderr.contains(text),
            "{arguments:?}: {}",
            outcome.stderr
        );
    }
}

/// Starts a member with exactly these settings in a folder of its own and fetches its version.
fn starts(
    subject: Subject,
    port: u16,
    arguments: &[String],
    environment: &[(&str, String)],
) -> Option<Vec<String>> {
    let folder = new_folder();
    let mut command = Command::new(subject.etcd()?);
    command.current_dir(&folder).env_clear();
    command
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (*name, value)));
    let process = Process::spawn(&mut command);
    let ready = process.wait_for(subject.ready_line(), 0, LIMIT);
    assert!(
        ready.is_some(),
        "not ready:\n{}",
        process.lines().join("\n")
    );
    if port != 0 {
        assert_eq!(get(port, "/version").expect("a page").status, 200);
    }
    let mut seen = process.lines();
    seen.extend(
        std::fs::read_dir(&folder)
            .expect("the folder")
            .filter_map(|entry| {
                Some(format!(
                    "file: {}",
                    entry.ok()?.file_name().to_string_lossy()
                ))
            }),
    );
    drop(process);
    let _ = std::fs::remove_dir_all(folder);
    Some(seen)
}

fn flags_are_taken_in_every_spelling(subject: Subject) {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let arguments = [
        "-name".to_owned(),
        "spelled".to_owned(),
        "--data-dir=here".to_owned(),
        format!("-listen-client-urls={url}"),
        "--advertise-client-urls".to_owned(),
        url,
        "--listen-peer-urls".to_owned(),
        "http://127.0.0.1:0".to_owned(),
        "--strict-reconfig-check=false".to_owned(),
        "--unsafe-no-fsync".to_owned(),
        "-pre-vote".to_owned(),
    ];
    let Some(seen) = starts(subject, port, &arguments, &[]) else {
        return;
    };
    assert!(seen.iter().any(|line| line == "file: here"), "{seen:?}");
}

fn settings_come_from_the_environment(subject: Subject) {
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let environment = [
        ("ETCD_NAME", "named".to_owned()),
        ("ETCD_DATA_DIR", "from-environment".to_owned()),
        ("ETCD_LISTEN_CLIENT_URLS", url.clone()),
        ("ETCD_ADVERTISE_CLIENT_URLS", url),
        ("ETCD_LISTEN_PEER_URLS", "http://127.0.0.1:0".to_owned()),
        ("ETCD_UNSAFE_NO_FSYNC", "true".to_owned()),
        ("ETCD_NO_SUCH_SETTING", "x".to_owned()),
        ("ETCD_UNSUPPORTED_ARCH", "amd64".to_owned()),
        ("ETCD_VERIFY", "all".to_owned()),
    ];
    let Some(seen) = starts(subject, port, &[], &environment) else {
        return;
    };
    assert!(
        seen.iter().any(|line| line == "file: from-environment"),
        "{seen:?}"
    );
    for (text, variable) in [
        ("recognized and used environment variable", "ETCD_NAME"),
        ("unrecognized environment variable", "ETCD_NO_SUCH_SETTING"),
    ] {
        let logged = seen
            .iter()
            .any(|line| line.contains(text) && line.contains(variable));
        assert!(
            logged,
            "{text} {variable} is not among\n{}",
            seen.join("\n")
        );
    }
}

fn a_unix_socket_is_a_file_in_the_working_folder(subject: Subject) {
    let url = "unix://localhost:23790".to_owned();
    let arguments = [
        "--listen-client-urls".to_owned(),
        url.clone(),
        "--advertise-client-urls".to_owned(),
        url,
        "--listen-peer-urls".to_owned(),
        "http://127.0.0.1:0".to_owned(),
    ];
    let Some(seen) = starts(subject, 0, &arguments, &[]) else {
        return;
    };
    for file in ["file: localhost:23790", "file: default.etcd"] {
        assert!(
            seen.iter().any(|line| line == file),
            "{file} is not among {seen:?}"
        );
    }
}
