//! `sim`: runs seeds and says which of them break something, tells the story of one, makes one smaller.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use kvorum_sim::checkers::Violation;
use kvorum_sim::shrink::shrink;
use kvorum_sim::workload::Kind;
use kvorum_sim::world::{Counts, Cut, Drill, FAULTS, Pairs, STORMS, Weather};
use kvorum_sim::{PANIC, Report, run_with};

const USAGE: &str =
    "usage: sim [--seeds N,A..B,...] [--seconds N] [--mix quiet|rough|hostile] [--members N]
           [--drill elections|links|membership|comebacks|snapshots] [--find N] [--pairs] [--verbose]
       sim --replay SEED [--around LINE] [--steps] [--seconds N] [--mix ...] [--members N] ...
       sim --shrink SEED [--seconds N] [--mix ...] [--members N] ...

  --seeds    these seeds and ranges of seeds (the last of a range is left out); 0..100 unless told
  --seconds  virtual time of each run before everything comes to rest; 60 unless told
  --drill    faults that come one after another on purpose
  --find     end after so many seeds that fail by more than a panic
  --pairs    count each fault during each kind of use";
/// Lines of the event log shown before the end of a failed run.
const LINES_SHOWN: usize = 400;
/// A line is shown up to here, in characters.
const LINE_CHARACTERS_MAX: usize = 400;
/// Of a row of the letter that fills values, so many are shown.
const FILLING_SHOWN: usize = 3;
/// Lines shown on each side of the one that was asked for.
const LINES_AROUND: usize = 60;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = match Asked::parse(&arguments) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(word) => {
            eprintln!("sim: {word} is not understood\n{USAGE}");
            return ExitCode::from(2);
        }
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
    let (mut ran, mut failed, mut found) = (0, 0, 0);
    let (mut counts, mut pairs) = (Counts::new(), Pairs::new());
    for seed in asked.seeds.iter().flat_map(|(from, to)| *from..*to) {
        ran += 1;
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
        let lines = report.lines[from..].iter();
        lines.for_each(|line| say(&told_shortly(line)));
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
    if asked.pairs {
        for ((fault, kind), times) in &pairs {
            say(&format!("{times:>12} {fault} / {kind}"));
        }
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
    say(&format!("{ran} seeds, {failed} failed"));
    failed == 0
}

/// The story of one seed: its event log around a line, or around its end. Steps of machines that did nothing else are left
/// out unless they are asked for.
fn replay(asked: &Asked, around: Option<usize>, steps: bool) -> bool {
    let report = run_with(asked.first(), &asked.cut, true);
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
        say(&format!(
            "{number:>8} {}",
            told_shortly(&report.lines[*number])
        ));
    }
    let seed = report.seed;
    say(&format!(
        "the log of seed {seed} has {} lines",
        report.lines.len()
    ));
    if report.violations.is_empty() {
        say(&format!("nothing is wrong with seed {seed}"));
    }
    show_violations(&report);
    report.violations.is_empty()
}

fn shrink_seed(asked: &Asked) -> bool {
    let seed = asked.first();
    match shrink(seed, &asked.cut) {
        None => {
            say(&format!("nothing is wrong with seed {seed}"));
            true
        }
        Some(small) => {
            let report = run_with(seed, &small.cut, true);
            let steps = |line: &&String| !line.contains(": step ");
            let told: Vec<_> = report.lines.iter().filter(steps).collect();
            let from = told.len().saturating_sub(LINES_SHOWN);
            told[from..]
                .iter()
                .for_each(|line| say(&told_shortly(line)));
            say(&format!("left out: {:?}", small.cut));
            show_violations(&report);
            false
        }
    }
}

/// What the command line asks for.
struct Asked {
    task: Task,
    /// Ranges, each without its last.
    seeds: Vec<(u64, u64)>,
    cut: Cut,
    verbose: bool,
    /// So many seeds that fail by more than a panic end the program.
    finds: u64,
    /// Whether each pair of a fault and a kind of use is counted.
    pairs: bool,
}

enum Task {
    Run,
    Replay { around: Option<usize>, steps: bool },
    Shrink,
}

impl Asked {
    /// What the words ask for; none when they ask for help.
    ///
    /// # Errors
    ///
    /// The word that cannot be understood, or that lacks another one.
    fn parse(arguments: &[String]) -> Result<Option<Self>, &str> {
        let mut asked = Self {
            task: Task::Run,
            seeds: vec![(0, 100)],
            cut: Cut {
                length: Duration::from_secs(60),
                ..Cut::default()
            },
            verbose: false,
            finds: u64::MAX,
            pairs: false,
        };
        let (mut around, mut steps) = (None, false);
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "--help" | "-h" => return Ok(None),
                "--verbose" => asked.verbose = true,
                "--pairs" => asked.pairs = true,
                "--steps" => steps = true,
                _ => {
                    let value = words.next().ok_or(word)?;
                    if word == "--around" {
                        around = Some(value.parse().map_err(|_| value)?);
                    } else {
                        asked.take(word, value).ok_or(word)?.ok_or(value)?;
                    }
                }
            }
        }
        if let Task::Replay { .. } = asked.task {
            asked.task = Task::Replay { around, steps };
        }
        Ok(Some(asked))
    }

    /// Takes a word with a value: none when there is no such word, and none in it when the value is wrong.
    fn take(&mut self, word: &str, value: &str) -> Option<Option<()>> {
        let number = || value.parse::<u64>().ok();
        let taken = match word {
            "--find" => number().map(|finds| self.finds = finds),
            "--seconds" => number().map(|it| self.cut.length = Duration::from_secs(it)),
            "--mix" => weather(value).map(|it| self.cut.weather = Some(it)),
            "--drill" => {
                let drill = Drill::ALL.into_iter().find(|drill| drill.name() == value);
                drill.map(|it| self.cut.drill = Some(it))
            }
            "--members" => {
                let members = value.parse().ok().filter(|it| (1..=7).contains(it));
                members.map(|it| self.cut.members = Some(it))
            }
            "--seeds" => seeds(value).map(|seeds| self.seeds = seeds),
            "--seed" | "--replay" | "--shrink" => {
                self.task = match word {
                    "--replay" => Task::Replay {
                        around: None,
                        steps: false,
                    },
                    "--shrink" => Task::Shrink,
                    _ => Task::Run,
                };
                number().map(|seed| self.seeds = vec![(seed, seed.saturating_add(1))])
            }
            _ => return None,
        };
        Some(taken)
    }

    /// The seed that is asked for when it is one.
    fn first(&self) -> u64 {
        self.seeds.first().map_or(0, |(first, _)| *first)
    }
}

/// Seeds and ranges of seeds, separated by commas.
fn seeds(list: &str) -> Option<Vec<(u64, u64)>> {
    let range = |word: &str| match word.split_once("..") {
        Some((from, to)) => Some((from.parse().ok()?, to.parse().ok()?)),
        None => word
            .parse::<u64>()
            .ok()
            .map(|seed| (seed, seed.saturating_add(1))),
    };
    list.split(',').map(range).collect()
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

/// A line of the event log as an engineer can read it: values are mostly filling, and lists may be long.
fn told_shortly(line: &str) -> String {
    let mut short = String::new();
    let (mut filling, mut characters) = (0, 0);
    for character in line.chars() {
        filling = if character == 'x' { filling + 1 } else { 0 };
        if filling > FILLING_SHOWN {
            continue;
        }
        characters += 1;
        if characters > LINE_CHARACTERS_MAX {
            return short + " ...";
        }
        short.push(character);
    }
    short
}

/// Who stops reading has seen enough.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
