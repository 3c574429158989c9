//! Load on any etcd endpoint, and two servers side by side.
//!
//! ```text
//! bench put --endpoints 127.0.0.1:2379 --connections 100 --in-flight 10
//! bench put --rate 2000                      # open loop: fixed times, honest latency
//! bench suite lone --quick --a ./etcd --b /usr/bin/etcd
//! bench compare --a ./etcd --b /usr/bin/etcd --scenarios put,range
//! bench table docs/benchmarks/2026-11-21-lone.json
//! ```
//!
//! The generator must stay cheaper than what it measures, and says what it costs: one thread drives many connections
//! over an HTTP/2 of its own ([`http2`]), requests are encoded before the run, and of answers only what a check needs is
//! read. Every answer is checked ([`workload`]).
//!
//! - [`load`] is what was asked for, [`measure`] one run of it.
//! - [`drive`] sends requests in a closed or open loop; [`fan_out`] does it for watchers.
//! - [`suite`] has the scenarios, [`servers`] starts what they play on, [`compare`] plays them.
//! - [`latency`] and [`tally`] count, [`usage`] asks the kernel, [`results`] is what is kept, [`page`] tells people.

mod api;
mod arguments;
mod compare;
mod drive;
mod endpoint;
mod fan_out;
mod fields;
mod http2;
mod keys;
mod latency;
mod load;
mod measure;
mod page;
mod poller;
mod results;
mod servers;
mod suite;
mod tally;
mod usage;
mod workload;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::arguments::{Arguments, Command, ExpireArguments, LoadArguments, SideArguments};
use crate::load::Kind;
use crate::results::Results;
use crate::suite::{Group, Size, Suite};

fn main() -> ExitCode {
    allow_many_files();
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done where this cannot be written.
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    if let Some((kind, load)) = command.load() {
        return one(kind, load);
    }
    match command {
        Command::Suite(asked) => {
            // One that fails does not keep the others from being played.
            let played: Vec<Result<()>> = asked
                .suites
                .iter()
                .map(|suite| play_suite(*suite, &asked.sides))
                .collect();
            played.into_iter().collect()
        }
        Command::Compare(asked) => {
            let groups = suite::chosen(&asked.scenarios, asked.sides.size())?;
            let name = asked.name.clone();
            let name = name.unwrap_or_else(|| format!("{}-compare", results::today()));
            play(&asked.sides, &name, &groups)
        }
        Command::Expire(asked) => expire(&asked),
        Command::Scenarios => scenarios(),
        Command::Join(asked) => {
            let parts = asked.results.iter().map(|path| read(path));
            let joined = Results::join(parts.collect::<Result<_>>()?)?;
            let title = asked.title.clone().unwrap_or(joined.title.clone());
            let joined = Results {
                name: asked.name.clone(),
                title,
                ..joined
            };
            write(&joined, &asked.out)
        }
        Command::Table { results } => {
            write_page(&read(&results)?, results.parent().unwrap_or(Path::new("")))
        }
        _ => Ok(()),
    }
}

/// Runs one load on servers that are there.
fn one(kind: Kind, asked: &LoadArguments) -> Result<()> {
    let load = asked.load(kind)?;
    let target = asked.target()?;
    if load.needs_keys() && !asked.no_fill {
        load::fill(load.keys, load.keys.count, &target).context("fill in keys")?;
    }
    let run = measure::run(&load, &target, asked.times()?)?;
    if asked.json {
        let both = serde_json::json!({ "load": load, "run": run });
        print(&format!("{both:#}\n"))?;
    } else {
        print(&page::run(&run))?;
    }
    ensure!(
        run.operations > 0 || run.refused.is_empty(),
        "the server refused all: {}",
        run.refusal.unwrap_or_default()
    );
    Ok(())
}

/// Lets leases end on servers that are there.
fn expire(asked: &ExpireArguments) -> Result<()> {
    let (leases, rate) = (asked.leases, asked.rate);
    let times = asked.times()?;
    let outcome = suite::lease::expire(&asked.target()?, leases, asked.lead()?, rate, times)?;
    if asked.json {
        return print(&format!("{:#}\n", serde_json::json!(outcome)));
    }
    for phase in &outcome.phases {
        print(&format!("{}\n{}", phase.name, page::run(&phase.run)))?;
    }
    for seconds in outcome.figures.values() {
        print(&format!(
            "all {leases} keys gone {seconds:.2} s after the last lease ended\n"
        ))?;
    }
    Ok(())
}

fn play_suite(suite: Suite, sides: &SideArguments) -> Result<()> {
    let size = sides.size();
    let name = match size {
        Size::Full => suite.name(),
        other => format!("{}-{}", suite.name(), other.name()),
    };
    let groups = suite::groups(suite, size);
    play(sides, &format!("{}-{name}", results::today()), &groups)
}

/// Plays scenarios on the servers that were named, and writes what came out.
fn play(asked: &SideArguments, name: &str, groups: &[Group]) -> Result<()> {
    let plan = asked.plan(name)?;
    let results = compare::run(&plan, groups)?;
    if let Some(folder) = &asked.out {
        write(&results, folder)?;
    }
    print(&page::markdown(&results))?;
    let failed = |turn: &&results::Turn| turn.outcome.failure.is_some();
    let failed = results.turns.iter().filter(failed).count();
    ensure!(failed == 0, "{failed} turns failed; the page says why");
    Ok(())
}

/// Reads raw results.
fn read(path: &Path) -> Result<Results> {
    let raw = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&raw).with_context(|| path.display().to_string())
}

/// Writes raw results with their page.
fn write(results: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let raw = folder.join(format!("{}.json", results.name));
    let text = serde_json::to_string_pretty(results)? + "\n";
    fs::write(&raw, text).with_context(|| raw.display().to_string())?;
    write_page(results, folder)
}

/// Writes the page of some results and its charts.
fn write_page(results: &Results, folder: &Path) -> Result<()> {
    let page = folder.join(format!("{}.md", results.name));
    fs::write(&page, page::markdown(results)).with_context(|| page.display().to_string())?;
    for chart in page::charts(results) {
        let path = folder.join(&chart.file);
        fs::write(&path, chart.svg).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Tells every scenario by name.
fn scenarios() -> Result<()> {
    let mut text = String::new();
    for suite in Suite::value_variants() {
        text += &format!("{}\n", suite.name());
        for spec in suite::groups(*suite, Size::Full)
            .iter()
            .flat_map(|group| &group.scenarios)
        {
            text += &format!("  {:<26} {}\n", spec.name, spec.what);
        }
    }
    print(&text)
}

/// Thousands of connections need as many open files. The servers inherit the limit.
fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it cannot be raised, opening a connection will say so.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
