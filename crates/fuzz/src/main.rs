//! `fuzz TARGET [SEED [INPUTS]]`: gives a target inputs until one makes it panic, or all are through.
//! That one is kept as a file; `fuzz TARGET @FILE` tries it again.

use std::process::ExitCode;

use kvorum_fuzz::{Fuzzer, Target};

/// Inputs where nothing else is said.
const INPUTS: u64 = 1_000_000;
/// Inputs between two lines about how far it is.
const LINE_INPUTS: u64 = 100_000;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(target) = words.next().and_then(|name| Target::of_name(&name)) else {
        eprintln!("usage: fuzz segment|manifest|bolt [SEED [INPUTS]] | @FILE");
        return ExitCode::from(2);
    };
    let word = words.next().unwrap_or_default();
    if let Some(path) = word.strip_prefix('@') {
        return match std::fs::read(path) {
            Ok(bytes) => {
                eprintln!("opened: {}", target.run(&bytes));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let seed = word.parse().unwrap_or(1);
    let inputs = words.next().and_then(|word| word.parse().ok());
    let inputs = inputs.unwrap_or(INPUTS);
    let mut fuzzer = Fuzzer::new(target, seed);
    for number in 0..inputs {
        let input = fuzzer.input();
        let tried = std::panic::catch_unwind(|| target.run(&input));
        if tried.is_err() {
            let path = format!("fuzz-{target:?}-{seed}-{number}.bin").to_lowercase();
            let kept = std::fs::write(&path, &input);
            eprintln!("{target:?}, seed {seed}, input {number}: kept as {path}: {kept:?}");
            return ExitCode::FAILURE;
        }
        if number % LINE_INPUTS == 0 {
            eprintln!("{number} of {inputs}");
        }
    }
    ExitCode::SUCCESS
}
