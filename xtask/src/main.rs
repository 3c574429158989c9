//! `cargo xtask`: what developers and the continuous integration run.

// A command line tool speaks on its standard output.
#![allow(clippy::print_stdout)]

mod arrows;
mod codegen;
mod compat;
mod peers;
mod planted;
mod programs;
mod sim;
mod source;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  codegen [--check]   generate crates/proto from proto/*.proto, or check that it is fresh
  tidy                arrows between crates, file sizes, left-over markers, COMPAT.md rows
  peers               fetch and build what the end-to-end tests run against, into target/peers
  sim [--seeds N,A..B,...] [--seconds N] [--mix quiet|rough|hostile] [--members N] [--find N] [--pairs] [--verbose]
                      simulated clusters from seeds; --verbose shows the event log of each run
  sim --minutes N [--jobs N] [--from SEED] ...
                      new seeds for so long, two simulators side by side unless told
  sim --replay SEED [--around LINE] [--steps] ...
                      the story of a seed, around a line or around what went wrong
  sim --shrink SEED ...
                      the same failure with less time, fewer clients and fewer faults
  sim --planted [WORDS]
                      whether the simulator finds bugs planted in a copy of the pure crates
  test [STAGE ...]    everything the continuous integration runs, or only the stages named";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["codegen"] => codegen::write(),
        ["codegen", "--check"] => codegen::check(),
        ["tidy"] => tidy::run(),
        ["peers"] => peers::set_up(),
        ["sim", words @ ..] => sim::run(words),
        ["test", stages @ ..] => test::run(stages),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies below the root")
        .to_owned()
}
