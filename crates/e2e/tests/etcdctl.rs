//! Official etcdctl of three releases: the same commands on official etcd 3.7.1 and on ours, whole
//! transcripts compared. The commands are in `testdata/etcdctl.txt`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{Subject, peer};
use kvorum_e2e::process::{Process, run};
use kvorum_e2e::server::Server;

on_each_server!(etcdctl_3_4_23, etcdctl_3_5_1, etcdctl_3_7_1);

const LIMIT: Duration = Duration::from_secs(30);
const SCRIPT: &str = include_str!("testdata/etcdctl.txt");

/// Names before numbers in which two servers may differ, in the spellings of the output formats.
const FREE_NUMBERS: [&str; 17] = [
    "\"raft_term\":",
    "\"raftTerm\":",
    "\"raftIndex\":",
    "\"raftAppliedIndex\":",
    "\"dbSize\":",
    "\"dbSizeInUse\":",
    "\"ttl\":",
    "\"RaftTerm\" : ",
    "\"RaftIndex\" : ",
    "\"RaftAppliedIndex\" : ",
    "\"DBSize\" : ",
    "\"DBSizeInUse\" : ",
    "\"TTL\" : ",
    "took = ",
    "took\":\"",
    "took ",
    "remaining(",
];

/// One etcdctl against one server.
struct Session {
    etcdctl: PathBuf,
    /// Major and minor number of the release.
    release: (u32, u32),
    server: Server,
    /// The lease granted last, in hex as the tool writes it.
    lease: String,
}

/// One line of the script.
struct Line {
    arguments: Vec<String>,
    input: String,
    /// Lines to wait for, when it runs in the background.
    until: Option<usize>,
}

impl Session {
    fn transcript(mut self) -> Vec<String> {
        let script = SCRIPT
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut transcript = Vec::new();
        for text in script {
            let Some(line) = self.parse(text) else {
                continue;
            };
            let output = self.output(&line);
            if let Some(lease) = output
                .strip_prefix("lease ")
                .and_then(|rest| rest.get(..16))
            {
                lease.clone_into(&mut self.lease);
            }
            transcript.push(format!("$ etcdctl {text}\n{}", self.mask(&line, &output)));
        }
        transcript
    }

    /// None when the line is not for this release.
    fn parse(&self, text: &str) -> Option<Line> {
        let mut text = text;
        if let Some((release, rest)) = text
            .strip_prefix('[')
            .and_then(|text| text.split_once("] "))
        {
            let (major, minor) = release.split_once('.').expect("a release has two numbers");
            let least = (major.parse().expect("major"), minor.parse().expect("minor"));
            if self.release < least {
                return None;
            }
            text = rest;
        }
        let mut until = None;
        if let Some((count, rest)) = text
            .strip_prefix("until ")
            .and_then(|text| text.split_once(": "))
        {
            until = Some(count.parse().expect("a number of lines"));
            text = rest;
        }
        let (text, input) = text.split_once(" <<< ").unwrap_or((text, ""));
        let arguments = words(&text.replace("$lease", &self.lease));
        Some(Line {
            arguments,
            input: input.replace("\\n", "\n"),
            until,
        })
    }

    fn output(&self, line: &Line) -> String {
        let mut command = Command::new(&self.etcdctl);
        command.env("ETCDCTL_ENDPOINTS", self.server.endpoint());
        if self.release < (3, 6) {
            // Later releases know one API only and complain about the variable.
            command.env("ETCDCTL_API", "3");
        }
        command.args(&line.arguments);
        let Some(until) = line.until else {
            let outcome = run(&mut command, &line.input, LIMIT);
            let mut text = outcome.stdout;
            for complaint in outcome
                .stderr
                .lines()
                .filter(|line| !line.starts_with("{\"level\""))
            {
                let _ = writeln!(text, "stderr: {complaint}");
            }
            match outcome.code {
                Some(0) => {}
                Some(code) => {
                    let _ = writeln!(text, "exit {code}");
                }
                None => text.push_str("did not end\n"),
            }
            return text;
        };
        let process = Process::spawn(&mut command);
        for number in 0..until {
            process.wait_for("", number, LIMIT);
        }
        let lines = process.lines();
        lines
            .iter()
            .take(until)
            .fold(String::new(), |text, line| text + line + "\n")
    }

    /// Replaces what may differ between two servers.
    fn mask(&self, line: &Line, output: &str) -> String {
        let mut text = output.replace(&format!("127.0.0.1:{}", self.server.port()), "ENDPOINT");
        if let Ok(lease) = i64::from_str_radix(&self.lease, 16) {
            text = text
                .replace(&self.lease, "LEASE")
                .replace(&lease.to_string(), "LEASE");
            text = text.replace(&format!("{lease:x}"), "LEASE");
        }
        for name in FREE_NUMBERS {
            text = mask_after(&text, name);
        }
        match line.arguments.first().map(String::as_str) {
            Some("endpoint") if line.arguments.len() == 2 && line.arguments[1] == "status" => {
                mask_columns(&text)
            }
            // Leases of these are of their own making, and show as the end of a key.
            Some("lock" | "elect") => mask_sessions(&text),
            Some("lease") if text.starts_with("{\"cluster_id\"") => mask_after(&text, "\"ID\":"),
            _ => text,
        }
    }
}

/// Splits at spaces, but not inside single quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Replaces digits, points and letters of units after each `name` by an `N`. A sign stays: -1 says
/// that something is not there.
fn mask_after(text: &str, name: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = rest.split_at(at + name.len());
        masked.push_str(before);
        let number = |c: char| c.is_ascii_digit() || c == '.' || c == 'm' || c == 's' || c == 'µ';
        let end = after.find(|c: char| !number(c)).unwrap_or(after.len());
        if after.starts_with(|c: char| c.is_ascii_digit()) {
            masked.push('N');
            rest = &after[end..];
        } else {
            rest = after;
        }
    }
    masked + rest
}

/// Sizes, shares, and raft numbers of the status line are columns that begin with a digit and are
/// no version.
fn mask_columns(text: &str) -> String {
    let free = |column: &str| {
        let sized = column.ends_with('B') || column.ends_with('%');
        sized || column.chars().all(|c| c.is_ascii_digit()) && !column.is_empty()
    };
    // The last column is empty in a cluster without errors.
    let columns = text.trim_end().trim_end_matches(',').split(", ");
    let masked: Vec<&str> = columns
        .map(|column| if free(column) { "N" } else { column })
        .collect();
    masked.join(", ") + "\n"
}

/// The last part of a key that is the hex number of a lease.
fn mask_sessions(text: &str) -> String {
    let mask = |line: &str| match line.rsplit_once('/') {
        Some((key, lease)) if i64::from_str_radix(lease, 16).is_ok() => format!("{key}/LEASE\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(mask).collect()
}

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
    Some(Session {
        etcdctl,
        release,
        server,
        lease: String::new(),
    })
}

/// Runs the script on the official server and on `subject`, side by side.
fn check(tool: &'static str, subject: Subject) {
    let official = thread::spawn(|| session(tool, Subject::Official371).map(Session::transcript));
    let other = session(tool, subject).map(Session::transcript);
    let official = official.join().expect("the official server answers");
    let (Some(official), Some(other)) = (official, other) else {
        return;
    };
    assert_eq!(official.len(), other.len());
    if let Some(folder) = std::env::var_os("KVORUM_E2E_TRANSCRIPTS") {
        let path = Path::new(&folder).join(format!("{tool}-{subject:?}.txt"));
        std::fs::write(path, other.concat()).expect("the transcript can be written");
    }
    let differing: Vec<String> = official
        .iter()
        .zip(&other)
        .filter(|(official, other)| official != other)
        .map(|(official, other)| format!("--- official\n{official}--- {subject:?}\n{other}"))
        .collect();
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
