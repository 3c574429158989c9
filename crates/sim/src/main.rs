//! `sim`: runs seeds and says which of them break something, tells the story of one, makes one smaller.

use std::process::ExitCode;
use std::time::Duration;

use kvorum_sim::checkers::Violation;
use kvorum_sim::shrink::shrink;
use kvorum_sim::workload::Kind;
use kvorum_sim::world::{Counts, Cut, Drill, FAULTS, Pairs, STORMS, Weather};
use kvorum_sim::{PANIC, Report, run_with};

const USAGE: &str =
    "usage: sim [--seeds A..B | --seed N] [--seconds N] [--mix quiet|rough|hostile] [--members N]
           [--drill elections|links|membership|snapshots] [--find N] [--verbose]
       sim --replay N [--around LINE] [--steps] [--seconds N] [--mix ...] [--members N]
       sim --shrink N [--seconds N]";
/// Lines of the event log shown before the end of a failed run.
const LINES_SHOWN: usize = 400;
/// Lines shown on each side of the one that was asked for.
const LINES_AROUND: usize = 60;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(asked) = Asked::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let is_sound = match asked.task {
        Task::Run => run_seeds(&asked),
        Task::Replay { around, steps } => replay(&asked, around, steps),
        Task::Shrink => shrink_seed(&asked),
    };
    if is_sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_seeds(asked: &Asked) -> bool {
    let (mut failed, mut found) = (0, 0);
    let (mut counts, mut pairs) = (Counts::new(), Pairs::new());
    for seed in asked.from..asked.to {
        let report = run_with(seed, &asked.cut, asked.verbose);
        for (what, times) in &report.counts {
            *counts.entry(what).or_default() += times;
        }
        for (pair, times) in &report.pairs {
            *pairs.entry(*pair).or_default() += times;
        }
        for (kind, requests) in &report.by_workload {
            *counts.entry(kind).or_default() += requests;
        }
        let from = report.lines.len().saturating_sub(LINES_SHOWN);
        report.lines[from..].iter().for_each(|line| say(line));
        show_violations(&report);
        failed += u64::from(!report.violations.is_empty());
        let is_judged = |it: &Violation| it.property != PANIC;
        found += u64::from(report.violations.iter().any(is_judged));
        if found >= asked.finds {
            break;
        }
    }
    for (what, times) in &counts {
        say(&format!("{times:>12} {what}"));
    }
    say(&format!(
        "{:>12} pairs of a fault and a kind of use",
        pairs.len()
    ));
    for fault in FAULTS {
        let never = |kind: &&str| !pairs.contains_key(&(*fault, *kind));
        let kinds = Kind::ALL.map(Kind::name).into_iter().chain([STORMS]);
        let missing: Vec<&str> = kinds.filter(never).collect();
        if !missing.is_empty() {
            say(&format!(
                "       never {fault} during {}",
                missing.join(", ")
            ));
        }
    }
    say(&format!("{} seeds, {failed} failed", asked.to - asked.from));
    failed == 0
}

/// The story of one seed: its event log around a line, or around its end. Steps of machines that did nothing else are left
/// out unless they are asked for.
fn replay(asked: &Asked, around: Option<usize>, steps: bool) -> bool {
    let report = run_with(asked.from, &asked.cut, true);
    let violated = report
        .lines
        .iter()
        .position(|line| line.contains(" VIOLATED "));
    let middle = around.or(violated).unwrap_or(report.lines.len());
    let told: Vec<usize> = (0..report.lines.len())
        .filter(|number| steps || !report.lines[*number].contains(": step "))
        .collect();
    let place = told.partition_point(|number| *number < middle);
    let from = place.saturating_sub(LINES_AROUND);
    let to = (place + LINES_AROUND).min(told.len());
    for number in &told[from..to] {
        say(&format!("{number:>8} {}", report.lines[*number]));
    }
    show_violations(&report);
    report.violations.is_empty()
}

fn shrink_seed(asked: &Asked) -> bool {
    match shrink(asked.from, asked.cut.length) {
        None => {
            say(&format!("seed {} does not fail", asked.from));
            true
        }
        Some(small) => {
            let report = run_with(asked.from, &small.cut, true);
            let steps = |line: &&String| !line.contains(": step ");
            let told: Vec<_> = report.lines.iter().filter(steps).collect();
            let from = told.len().saturating_sub(LINES_SHOWN);
            told[from..].iter().for_each(|line| say(line));
            say(&format!("left out: {:?}", small.cut));
            show_violations(&report);
            false
        }
    }
}

/// What the command line asks for.
struct Asked {
    task: Task,
    from: u64,
    to: u64,
    cut: Cut,
    verbose: bool,
    /// So many seeds that fail by more than a panic end the program.
    finds: u64,
}

enum Task {
    Run,
    Replay { around: Option<usize>, steps: bool },
    Shrink,
}

impl Asked {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut asked = Self {
            task: Task::Run,
            from: 0,
            to: 100,
            cut: Cut {
                length: Duration::from_secs(60),
                ..Cut::default()
            },
            verbose: false,
            finds: u64::MAX,
        };
        let (mut around, mut steps) = (None, false);
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--verbose" => asked.verbose = true,
                "--find" => asked.finds = words.next()?.parse().ok()?,
                "--steps" => steps = true,
                "--around" => around = Some(words.next()?.parse().ok()?),
                "--seconds" => {
                    asked.cut.length = Duration::from_secs(words.next()?.parse().ok()?);
                }
                "--mix" => asked.cut.weather = Some(weather(words.next()?)?),
                "--drill" => {
                    let name = words.next()?;
                    let drill = Drill::ALL.into_iter().find(|drill| drill.name() == name);
                    asked.cut.drill = Some(drill?);
                }
                "--members" => asked.cut.members = Some(words.next()?.parse().ok()?),
                "--seeds" => {
                    let (from, to) = words.next()?.split_once("..")?;
                    (asked.from, asked.to) = (from.parse().ok()?, to.parse().ok()?);
                }
                "--seed" | "--replay" | "--shrink" => {
                    asked.from = words.next()?.parse().ok()?;
                    asked.to = asked.from.checked_add(1)?;
                    asked.task = match word {
                        "--replay" => Task::Replay { around, steps },
                        "--shrink" => Task::Shrink,
                        _ => Task::Run,
                    };
                }
                _ => return None,
            }
        }
        if matches!(asked.task, Task::Replay { .. }) {
            asked.task = Task::Replay { around, steps };
        }
        let members = 1..=7;
        let fits = asked
            .cut
            .members
            .is_none_or(|count| members.contains(&count));
        (asked.from <= asked.to && fits).then_some(asked)
    }
}

fn weather(name: &str) -> Option<Weather> {
    match name {
        "quiet" => Some(Weather::Quiet),
        "rough" => Some(Weather::Rough),
        "hostile" => Some(Weather::Hostile),
        _ => None,
    }
}

fn show_violations(report: &Report) {
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
