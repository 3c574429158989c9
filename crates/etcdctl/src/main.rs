//! `etcdctl`: the command line client of Kvorum, as etcd 3.7.1 has it.
//!
//! What a user or a script sees is etcd's, byte for byte: commands, flags, help, output in every
//! format, error texts, exit codes. One table ([`commands`]) holds every command and flag; help,
//! parsing and environment come from it. The rooms, in reading order:
//!
//! - [`commands`]: the table.
//! - [`line`]: finds the command and reads its flags, by the rules of cobra and pflag; [`usage`]
//!   writes help.
//! - [`settings`]: environment, global flags, and the client that follows from them.
//! - [`run`]: a function per command, from arguments to requests.
//! - [`output`]: from responses to bytes, a file per format.
//! - [`go`]: numbers, durations and quotes in the forms of Go, in which etcd's tools read and
//!   write them.

mod commands;
mod failure;
mod go;
mod line;
mod output;
mod run;
mod settings;
mod usage;

use std::process::ExitCode;

use crate::failure::Failure;

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
    let found = line::find(&commands::ROOT, arguments)?;
    let line = found.parse()?;
    let Some(action) = found.command.action.filter(|_| !line.flag("help")) else {
        print_text(&usage::help(&found.path));
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

/// Writes to standard output. A reader that went away is no error of ours.
fn print_bytes(bytes: &[u8]) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(failure::ERROR.into());
    }
}

fn print_text(text: &str) {
    print_bytes(text.as_bytes());
}
