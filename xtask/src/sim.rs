//! `cargo xtask sim`: many seeds, one seed with its story, or the planted bugs.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use crate::{planted, root};

/// Simulators that run side by side, one per core of the machines that tests run on.
const SIDE_BY_SIDE: u64 = 2;
/// Seeds that one simulator runs before it is asked whether there is time left.
const SEEDS_AT_ONCE: u64 = 20;

/// Passes the words on to the simulator, lets it run for a while, or plants bugs.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    match words {
        ["--planted", name @ ..] => planted::run(&name.join(" ")),
        ["--minutes", minutes, rest @ ..] => {
            let minutes: u64 = minutes.parse().context("--minutes wants a number")?;
            run_for(Duration::from_secs(60 * minutes), rest)
        }
        _ => {
            build()?;
            ensure!(follow(start(words)?)? == 0, "the simulator found something");
            Ok(())
        }
    }
}

/// New seeds until the time is over. They begin at the second of the start, so no two runs are alike, and each failing
/// one is named.
fn run_for(length: Duration, words: &[&str]) -> Result<()> {
    build()?;
    let begun = Instant::now();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let first = since_1970.context("the clock is before 1970")?.as_secs() * 1_000;
    let (mut next, mut failed) = (first, 0);
    while begun.elapsed() < length {
        let mut running = Vec::new();
        for _ in 0..SIDE_BY_SIDE {
            let seeds = format!("{next}..{}", next + SEEDS_AT_ONCE);
            next += SEEDS_AT_ONCE;
            running.push(start(&[&["--seeds", &seeds], words].concat())?);
        }
        for child in running {
            failed += follow(child)?;
        }
    }
    println!("{} seeds from {first} on, {failed} failed", next - first);
    ensure!(failed == 0, "the simulator found something");
    Ok(())
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

/// Prints what the simulator says, failing seeds with the commit; returns how many there are.
fn follow(mut child: Child) -> Result<u64> {
    let commit = commit();
    let mut failed = 0;
    let output = child.stdout.take().context("the simulator speaks")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.starts_with("seed ") {
            failed += 1;
            println!("commit {commit}, {line}");
        } else {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && failed == 0 {
        bail!("the simulator ended with {status}");
    }
    Ok(failed)
}

fn commit() -> String {
    let output = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .current_dir(root())
        .output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
