//! `sim`: runs seeds and says which of them break something.

use std::process::ExitCode;
use std::time::Duration;

use kvorum_sim::{Report, run};

const USAGE: &str = "usage: sim [--seeds A..B | --seed N] [--seconds N] [--stop] [--verbose]";
/// Lines of the event log shown before the end of a failed run.
const LINES_SHOWN: usize = 400;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(asked) = Asked::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut failed = 0;
    let mut counts = kvorum_sim::world::Counts::new();
    for seed in asked.from..asked.to {
        let report = run(seed, Duration::from_secs(asked.seconds), asked.verbose);
        for (what, times) in &report.counts {
            *counts.entry(what).or_default() += times;
        }
        show(&report);
        if !report.violations.is_empty() {
            failed += 1;
            if asked.stops {
                break;
            }
        }
    }
    for (what, times) in &counts {
        say(&format!("{times:>12} {what}"));
    }
    say(&format!("{} seeds, {failed} failed", asked.to - asked.from));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What the command line asks for.
struct Asked {
    from: u64,
    to: u64,
    seconds: u64,
    verbose: bool,
    /// Whether the first failure ends the program.
    stops: bool,
}

impl Asked {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut asked = Self {
            from: 0,
            to: 100,
            seconds: 60,
            verbose: false,
            stops: false,
        };
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--verbose" => asked.verbose = true,
                "--stop" => asked.stops = true,
                "--seconds" => asked.seconds = words.next()?.parse().ok()?,
                "--seed" => {
                    asked.from = words.next()?.parse().ok()?;
                    asked.to = asked.from.checked_add(1)?;
                }
                "--seeds" => {
                    let (from, to) = words.next()?.split_once("..")?;
                    (asked.from, asked.to) = (from.parse().ok()?, to.parse().ok()?);
                }
                _ => return None,
            }
        }
        (asked.from <= asked.to).then_some(asked)
    }
}

fn show(report: &Report) {
    let from = report.lines.len().saturating_sub(LINES_SHOWN);
    report.lines[from..].iter().for_each(|line| say(line));
    for violation in &report.violations {
        say(&format!(
            "seed {}: {}: {}",
            report.seed, violation.property, violation.story
        ));
    }
}

#[allow(clippy::print_stdout, reason = "this is what the program is for")]
fn say(line: &str) {
    println!("{line}");
}
