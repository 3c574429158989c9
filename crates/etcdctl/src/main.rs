//! `etcdctl`: the command line client of Kvorum, as etcd 3.7.1 has it.
//!
//! What a user or a script sees is etcd's, byte for byte: commands, flags, help, output in every
//! format, error texts, exit codes. One table ([`commands`]) holds every command and flag; help,
//! parsing and environment come from it. The rooms, in reading order:
//!
//! - [`commands`]: the table.
//! - [`settings`]: environment, global flags, and the client that follows from them.
//! - [`run`]: a function per command, from arguments to requests.
//! - [`output`]: from responses to bytes, a file per format.
//!
//! The crate `kvorum-cli` finds the command, reads its flags and writes help.

mod commands;
mod failure;
mod output;
mod password;
mod run;
mod settings;

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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::error(error.to_string()))?;
    let result = runtime.block_on(run::run(action, line));
    // A thread may sit in a read of standard input, for which nobody waits any more.
    runtime.shutdown_background();
    result
}
