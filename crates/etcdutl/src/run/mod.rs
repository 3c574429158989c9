//! What the commands do, a file each.

mod completion;
mod defrag;
mod hash;
mod migrate;
mod restore;
pub(crate) mod status;
mod to_etcd;

use kvorum_cli::line::{self, Found};
use kvorum_cli::{Failure, Line, failure, go, print_text, usage};
use kvorum_member::cluster::SERVER_VERSION;

use crate::commands::{Action, TOOL};

/// Does what a line asks for.
pub(crate) fn run(action: Action, line: &Line, found: &Found<Action>) -> Result<(), Failure> {
    match action {
        Action::Completion => completion::run(&exactly_one(line, found)?, found),
        Action::Defrag => {
            required(line, found, &["data-dir"])?;
            defrag::run(line)
        }
        Action::Hashkv => hash::run(&exactly_one(line, found)?, line),
        Action::Help => help(line),
        Action::Migrate if line.is_given("to-etcd") => {
            required(line, found, &["data-dir"])?;
            to_etcd::run(line)
        }
        Action::Migrate => {
            required(line, found, &["data-dir", "target-version"])?;
            migrate::run(line)
        }
        Action::SnapshotRestore => restore::run(line),
        Action::SnapshotStatus => status::run(line),
        Action::Version => {
            let short = SERVER_VERSION.short();
            print_text(&format!(
                "etcdutl version: {SERVER_VERSION}\nAPI version: {short}\n"
            ));
            Ok(())
        }
    }
}

fn help(line: &Line) -> Result<(), Failure> {
    let Some(path) = line::follow(&TOOL, &line.arguments) else {
        let words: Vec<String> = line
            .arguments
            .iter()
            .map(|word| in_backquotes(word))
            .collect();
        eprintln!("Unknown help topic [{}]", words.join(" "));
        // Here alone the list of flags is without the flag of help.
        let usage = usage::usage(&TOOL, &[&TOOL.root]);
        for line in usage.lines().filter(|line| !line.contains("-h, --help")) {
            eprintln!("{line}");
        }
        return Ok(());
    };
    print_text(&usage::help(&TOOL, &path));
    Ok(())
}

/// Quotes as Go's `%#q` does.
fn in_backquotes(word: &str) -> String {
    if word.contains(|letter: char| letter == '`' || letter.is_control()) {
        go::quote(word.as_bytes())
    } else {
        format!("`{word}`")
    }
}

/// The only argument of a command that takes one.
fn exactly_one(line: &Line, found: &Found<Action>) -> Result<String, Failure> {
    match line.arguments.as_slice() {
        [only] => Ok(only.clone()),
        other => {
            let text = format!("accepts 1 arg(s), received {}", other.len());
            Err(refused(found, &text))
        }
    }
}

/// Flags without which a command does nothing.
fn required(line: &Line, found: &Found<Action>, names: &[&str]) -> Result<(), Failure> {
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !line.is_given(name))
        .map(|name| format!("\"{name}\""))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("required flag(s) {} not set", missing.join(", "));
    Err(refused(found, &text))
}

/// An error in the command line: said, then the usage, then said again.
fn refused(found: &Found<Action>, error: &str) -> Failure {
    let usage = usage::usage(&TOOL, &found.path);
    let text = format!("Error: {error}\n{usage}\nError: {error}");
    Failure::verbatim(failure::ERROR, text)
}
