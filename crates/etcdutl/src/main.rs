//! `etcdutl`: the tool for files of a member, as etcd 3.7.1 has it, and the way between the files of
//! official servers and ours.
//!
//! It works without a server, on a database file (`snapshot save`, `member/snap/db`) or on the data
//! directory of a member that does not run. What a user or a script sees is etcd's: commands, flags,
//! help, output in every format, exit codes. The rooms, in reading order:
//!
//! - [`commands`]: the table of commands and flags.
//! - [`run`]: a function per command.
//! - [`members`]: the list of members that a restore takes.
//! - [`files`]: opens what a command is given; [`output`]: a row of results in each format.
//! - [`log`]: lines on standard error about what is being done.

mod commands;
mod files;
mod log;
mod members;
mod output;
mod run;

use std::process::ExitCode;

use kvorum_cli::{Failure, completion, line, print_text};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code)
        }
    }
}

fn start(arguments: &[String]) -> Result<(), Failure> {
    if let Some(candidates) = completion::answer(&commands::TOOL, arguments) {
        print_text(&candidates);
        return Ok(());
    }
    let found = line::find(&commands::TOOL, arguments)?;
    let line = found.parse()?;
    let Some(action) = found.command.action.filter(|_| !line.flag("help")) else {
        print_text(&found.help());
        return Ok(());
    };
    run::run(action, &line, &found)
}
