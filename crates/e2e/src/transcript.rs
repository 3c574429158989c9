//! Transcripts: a script of etcdctl commands run against one server, and what they wrote.
//!
//! The script has a command per line; its syntax is explained at the top of
//! `tests/testdata/etcdctl.txt`. What may differ between two servers that are both right is masked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Process, run};
use crate::server::Server;

/// The output forms of etcdctl.
pub const FORMS: [&str; 5] = ["simple", "fields", "json", "protobuf", "table"];

const LIMIT: Duration = Duration::from_secs(120);

/// How long a command may take, as the tool reads it.
const COMMAND_TIMEOUT: &str = "60s";

/// Names before numbers in which two servers may differ, in the spellings of the output formats.
const FREE_NUMBERS: [&str; 18] = [
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
    "\"Took\" : ",
    "took = ",
    "took\":\"",
    "took ",
    "remaining(",
];

/// One etcdctl against one server.
pub struct Session {
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
    /// A session of the tool at this path, which is of this release, with a fresh server.
    pub fn new(etcdctl: PathBuf, release: (u32, u32), server: Server) -> Self {
        Self {
            etcdctl,
            release,
            server,
            lease: String::new(),
        }
    }

    /// Runs a script: for each command it and what it wrote.
    ///
    /// # Panics
    /// When the script is malformed or the tool does not start.
    pub fn transcript(mut self, script: &str) -> Vec<String> {
        let script = script
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut transcript = Vec::new();
        for text in script.flat_map(in_forms) {
            let text = text.as_str();
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
        if !line
            .arguments
            .iter()
            .any(|word| word.starts_with("--command-timeout"))
        {
            // A machine that stands still for a moment is no answer of the server.
            command.env("ETCDCTL_COMMAND_TIMEOUT", COMMAND_TIMEOUT);
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
            .filter(|line| !line.starts_with("{\"level\""))
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
        let form = line.arguments.first().is_some_and(|word| word == "-w");
        let words = &line.arguments[if form { 2 } else { 0 }..];
        match words.first().map(String::as_str) {
            Some("endpoint") if words.len() == 2 && words[1] == "status" => mask_columns(&text),
            Some("endpoint") if text.starts_with('┌') => mask_cells(&text),
            // Leases of these are of their own making, and show as the end of a key.
            Some("lock" | "elect") => mask_sessions(&text),
            Some("lease") if text.starts_with("{\"cluster_id\"") => mask_after(&text, "\"ID\":"),
            Some("lease") if words.get(1).is_some_and(|word| word == "grant") => {
                mask_after(&text, "\"ID\" : ")
            }
            // What the official tool then says of its memory.
            Some("lease") if text.contains("marshal unsupported for type ") => {
                let shown = text.lines().map(|line| line.split(" (&{").next());
                shown.flatten().map(|line| format!("{line}\n")).collect()
            }
            _ => text,
        }
    }
}

/// The lines that a line of a script stands for: itself, or one for each output form.
fn in_forms(line: &str) -> Vec<String> {
    let Some(command) = line.strip_prefix("forms: ") else {
        return vec![line.to_owned()];
    };
    let (arguments, input) = match command.split_once(" <<< ") {
        Some((arguments, input)) => (arguments, format!(" <<< {input}")),
        None => (command, String::new()),
    };
    let of_form = |form| format!("-w {form} {arguments}{input}");
    FORMS.into_iter().map(of_form).collect()
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
    // The last column is empty in a cluster without errors.
    let columns = text.trim_end().trim_end_matches(',').split(", ");
    let masked: Vec<&str> = columns
        .map(|column| if is_free(column) { "N" } else { column })
        .collect();
    masked.join(", ") + "\n"
}

/// The same in a table, whose cells lose their padding with it, and times as well.
fn mask_cells(text: &str) -> String {
    let is_time =
        |cell: &str| cell.ends_with('s') && cell.starts_with(|c: char| c.is_ascii_digit());
    let is_free = |cell: &str| is_free(cell) || is_time(cell);
    let mask = |line: &str| {
        if line.contains('─') {
            return "─\n".to_owned();
        }
        let cells = line.split('│').map(str::trim);
        let masked: Vec<&str> = cells
            .map(|cell| if is_free(cell) { "N" } else { cell })
            .collect();
        masked.join("│") + "\n"
    };
    text.lines().map(mask).collect()
}

fn is_free(column: &str) -> bool {
    let sized = column.ends_with('B') || column.ends_with('%');
    sized || column.chars().all(|c| c.is_ascii_digit()) && !column.is_empty()
}

/// The last part of a key that is the hex number of a lease.
fn mask_sessions(text: &str) -> String {
    let mask = |line: &str| match line.rsplit_once('/') {
        Some((key, lease)) if i64::from_str_radix(lease, 16).is_ok() => format!("{key}/LEASE\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(mask).collect()
}

/// The commands of two transcripts that wrote different things, each with what both wrote. If the
/// environment asks for it, the second transcript is kept as a file of this name.
///
/// # Panics
/// When the transcripts are not of one script, or cannot be kept.
pub fn differences(one: (&str, &[String]), other: (&str, &[String]), file: &str) -> Vec<String> {
    assert_eq!(one.1.len(), other.1.len());
    if let Some(folder) = std::env::var_os("KVORUM_E2E_TRANSCRIPTS") {
        let path = Path::new(&folder).join(file);
        std::fs::write(path, other.1.concat()).expect("the transcript can be written");
    }
    let pairs = one.1.iter().zip(other.1);
    pairs
        .filter(|(one, other)| one != other)
        .map(|(this, that)| format!("--- {}\n{this}--- {}\n{that}", one.0, other.0))
        .collect()
}
