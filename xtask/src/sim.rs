//! `cargo xtask sim`: many seeds, one seed with its story, or the planted bugs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use crate::{planted, root};

/// Simulators that run side by side unless told: one per core of the machines that tests run on.
const SIDE_BY_SIDE: u64 = 2;
/// Seeds that one simulator runs before it is asked whether there is time left.
const SEEDS_AT_ONCE: u64 = 20;
/// What stands between a fault and the kind of use that it met, in the simulator's words, and between a fault and those that
/// it never met.
const AND: &str = " / ";
const DURING: &str = " during ";

/// Passes the words on to the simulator, lets it run for a while, or plants bugs.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if let ["--planted", name @ ..] = words {
        return planted::run(&name.join(" "));
    }
    let mut words = words.to_vec();
    if let Some(minutes) = take(&mut words, "--minutes")? {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.context("the clock is before 1970")?.as_secs();
        // No two runs are alike unless they are asked to be.
        let from = take(&mut words, "--from")?.unwrap_or(now * 1_000);
        let jobs = take(&mut words, "--jobs")?.unwrap_or(SIDE_BY_SIDE).max(1);
        return run_for(Duration::from_secs(60 * minutes), from, jobs, &words);
    }
    build()?;
    let failed = follow(start(&words)?, |line| println!("{line}"))?;
    ensure!(failed == 0, "the simulator found something");
    Ok(())
}

/// Takes an option with a number out of the words.
fn take(words: &mut Vec<&str>, option: &str) -> Result<Option<u64>> {
    let Some(place) = words.iter().position(|word| *word == option) else {
        return Ok(None);
    };
    let number = words.get(place + 1).and_then(|word| word.parse().ok());
    let number = number.with_context(|| format!("{option} wants a number"))?;
    words.drain(place..place + 2);
    Ok(Some(number))
}

/// New seeds until the time is over. Each failing one is named when it is found; what happened is told in the end.
fn run_for(length: Duration, first: u64, jobs: u64, words: &[&str]) -> Result<()> {
    build()?;
    let begun = Instant::now();
    let (mut next, mut failed) = (first, 0);
    let mut sum = Sum::default();
    while begun.elapsed() < length {
        let mut running = Vec::new();
        for _ in 0..jobs {
            let seeds = format!("{next}..{}", next + SEEDS_AT_ONCE);
            next += SEEDS_AT_ONCE;
            running.push(start(&[&["--seeds", &seeds, "--pairs"], words].concat())?);
        }
        for child in running {
            failed += follow(child, |line| sum.add(line))?;
        }
        let minutes = begun.elapsed().as_secs() / 60;
        println!(
            "{} seeds from {first} on, {failed} failed, {minutes} minutes",
            next - first
        );
    }
    sum.print();
    println!("{} seeds from {first} on, {failed} failed", next - first);
    ensure!(failed == 0, "the simulator found something");
    Ok(())
}

/// What several simulators have counted.
#[derive(Default)]
struct Sum {
    counts: BTreeMap<String, u64>,
    /// The faults, each with the kinds of use that it never met; nobody has counted yet when there is none.
    never: Option<BTreeMap<String, BTreeSet<String>>>,
    never_here: BTreeMap<String, BTreeSet<String>>,
}

impl Sum {
    /// Takes a line of a simulator.
    fn add(&mut self, line: &str) {
        let line = line.trim_start();
        if let Some((fault, kinds)) = line
            .strip_prefix("never ")
            .and_then(|it| it.rsplit_once(DURING))
        {
            let kinds = kinds.split(", ").map(str::to_owned).collect();
            self.never_here.insert(fault.to_owned(), kinds);
        } else if line.contains(" seeds, ") {
            self.end_of_one();
        } else if let Some((times, what)) = line.split_once(' ')
            && let Ok(times) = times.parse::<u64>()
        {
            *self.counts.entry(what.to_owned()).or_default() += times;
        }
    }

    /// One simulator has told everything: what it has met is met.
    fn end_of_one(&mut self) {
        let mut here = std::mem::take(&mut self.never_here);
        self.never = Some(match self.never.take() {
            None => here,
            Some(mut never) => {
                never.retain(|fault, kinds| {
                    let missing = here.remove(fault).unwrap_or_default();
                    kinds.retain(|kind| missing.contains(kind));
                    !kinds.is_empty()
                });
                never
            }
        });
    }

    fn print(&self) {
        let is_pair = |what: &str| what.contains(AND);
        let (pairs, counts): (Vec<_>, Vec<_>) =
            self.counts.iter().partition(|(what, _)| is_pair(what));
        for (what, times) in counts {
            if !what.starts_with("pairs of ") {
                println!("{times:>12} {what}");
            }
        }
        println!("{:>12} pairs of a fault and a kind of use", pairs.len());
        for (fault, kinds) in self.never.iter().flatten() {
            let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
            println!("       never {fault}{DURING}{}", kinds.join(", "));
        }
    }
}

/// Optimized: the seeds take a third of the time.
fn build() -> Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--package=kvorum-sim"])
        .current_dir(root())
        .status()
        .context("build the simulator")?;
    ensure!(status.success(), "the simulator does not build");
    Ok(())
}

fn start(words: &[&str]) -> Result<Child> {
    Command::new(root().join("target/release/sim"))
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .context("start the simulator")
}

/// Hands on what the simulator says, and prints failing seeds with the commit; returns how many seeds failed.
fn follow(mut child: Child, mut hand_on: impl FnMut(&str)) -> Result<u64> {
    let commit = commit();
    let mut failed = BTreeSet::new();
    let output = child.stdout.take().context("the simulator speaks")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        match line
            .strip_prefix("seed ")
            .and_then(|rest| rest.split_once(':'))
        {
            Some((seed, _)) => {
                failed.insert(seed.to_owned());
                println!("commit {commit}, {line}");
            }
            None => hand_on(&line),
        }
    }
    let status = child.wait()?;
    if !status.success() && failed.is_empty() {
        bail!("the simulator ended with {status}");
    }
    Ok(failed.len() as u64)
}

fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(root())
        .output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_simulator_has_met_is_met() {
        let mut sum = Sum::default();
        for line in [
            "           3 kills",
            "           2 deaths during a copy",
            "           2 kills / locks",
            "           2 pairs of a fault and a kind of use",
            "       never deaths during a copy during locks, sets",
            "       never kills during sets",
            "20 seeds, 0 failed",
            "           4 kills",
            "           1 deaths during a copy / sets",
            "       never deaths during a copy during locks",
            "20 seeds, 1 failed",
        ] {
            sum.add(line);
        }
        assert_eq!((sum.counts["kills"], sum.counts["kills / locks"]), (7, 2));
        let never = sum.never.expect("two have told everything");
        let left: Vec<_> = never.iter().collect();
        let locks = BTreeSet::from(["locks".to_owned()]);
        assert_eq!(left, [(&"deaths during a copy".to_owned(), &locks)]);
    }

    #[test]
    fn options_with_numbers_may_stand_anywhere() {
        let mut words = vec!["--mix", "quiet", "--minutes", "30", "--members", "3"];
        assert_eq!(take(&mut words, "--minutes").ok(), Some(Some(30)));
        assert_eq!(words, ["--mix", "quiet", "--members", "3"]);
        assert!(take(&mut vec!["--minutes"], "--minutes").is_err());
    }
}
