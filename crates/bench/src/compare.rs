//! Two servers in turn: A B A B, each turn on a fresh data directory.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::launch::{self, Server};
use crate::load::{Kind, Load};
use crate::measure::{self, Run, Times};
use crate::usage::Machine;

/// A load under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) load: Load,
    /// Keys and leases that are there before.
    pub(crate) written_before: String,
}

/// One of the two servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Side {
    /// How tables call it.
    pub(crate) name: String,
    /// What its binary says about itself.
    pub(crate) version: Vec<String>,
}

/// One run of one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) scenario: String,
    /// `a` or `b`.
    pub(crate) side: char,
    /// From 1.
    pub(crate) round: usize,
    pub(crate) run: Run,
}

/// Everything that was measured, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) title: String,
    /// What a reader must know beside the numbers.
    pub(crate) notes: Vec<String>,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) a: Side,
    pub(crate) b: Side,
    /// Flags that both servers had beside name, addresses, data directory and `--log-level=error`.
    pub(crate) flags: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) warm_up_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) turns: Vec<Turn>,
}

/// The named loads.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let list = Load {
        keys: 20_000,
        limit: 10_000,
        ..Load::new(Kind::List)
    };
    let sequential = Load {
        connections: 1,
        in_flight: 1,
        ..Load::new(Kind::Put)
    };
    let named = [
        (
            "put",
            "put, 100 connections × 10 in flight",
            Load::new(Kind::Put),
        ),
        ("put-sequential", "put, one after the other", sequential),
        (
            "range",
            "linearizable range of one key, 100 × 10",
            Load::new(Kind::Range),
        ),
        ("txn", "compare-and-put txn, 100 × 10", Load::new(Kind::Txn)),
        (
            "list",
            "list 10,000 of 20,000 keys, one after the other",
            list,
        ),
        (
            "watch",
            "event to one of 1,000 watchers on one stream",
            Load::new(Kind::Watch),
        ),
        (
            "keep-alive",
            "lease keep-alive, 100 streams × 10",
            Load::new(Kind::KeepAlive),
        ),
    ];
    let scenario = |(name, what, load): (&str, &str, Load)| Scenario {
        name: name.to_owned(),
        what: what.to_owned(),
        written_before: load.written_before(),
        load,
    };
    named.into_iter().map(scenario).collect()
}

/// What to compare.
pub(crate) struct Plan {
    pub(crate) a: PathBuf,
    pub(crate) b: PathBuf,
    pub(crate) a_name: String,
    pub(crate) b_name: String,
    /// Names of [`scenarios`]; empty: all.
    pub(crate) scenarios: Vec<String>,
    pub(crate) flags: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) times: Times,
    /// Where the data directories are made.
    pub(crate) directory: PathBuf,
    pub(crate) title: String,
    pub(crate) notes: Vec<String>,
}

/// Runs every scenario, the two servers in turn. A line per turn goes to standard error.
pub(crate) fn run(plan: &Plan) -> Result<Comparison> {
    let scenarios = chosen(&plan.scenarios)?;
    ensure!(plan.rounds > 0, "at least one round is needed");
    let side = |binary: &Path, name: &str| {
        Ok::<_, anyhow::Error>(Side {
            name: name.to_owned(),
            version: launch::version(binary)?,
        })
    };
    let mut comparison = Comparison {
        title: plan.title.clone(),
        notes: plan.notes.clone(),
        command: command(plan),
        machine: Machine::here(),
        a: side(&plan.a, &plan.a_name)?,
        b: side(&plan.b, &plan.b_name)?,
        flags: plan.flags.clone(),
        rounds: plan.rounds,
        warm_up_seconds: plan.times.warm_up.as_secs_f64(),
        seconds: plan.times.window.as_secs_f64(),
        scenarios,
        turns: Vec::new(),
    };
    for scenario in &comparison.scenarios {
        for round in 1..=plan.rounds {
            for (side, binary) in [('a', &plan.a), ('b', &plan.b)] {
                let run = turn(plan, &scenario.load, binary)
                    .with_context(|| format!("{} on {}", scenario.name, binary.display()))?;
                tell(&scenario.name, side, &run)?;
                comparison.turns.push(Turn {
                    scenario: scenario.name.clone(),
                    side,
                    round,
                    run,
                });
            }
        }
    }
    Ok(comparison)
}

fn chosen(names: &[String]) -> Result<Vec<Scenario>> {
    let mut all = scenarios();
    if let Some(unknown) = names
        .iter()
        .find(|name| all.iter().all(|known| known.name != **name))
    {
        let known: Vec<_> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        bail!("no scenario {unknown}; there are {}", known.join(", "));
    }
    all.retain(|scenario| names.is_empty() || names.contains(&scenario.name));
    Ok(all)
}

fn turn(plan: &Plan, load: &Load, binary: &Path) -> Result<Run> {
    let server = Server::start(binary, &plan.directory, &plan.flags)?;
    if load.needs_keys() {
        load.fill(server.address).context("fill in keys")?;
    }
    let run = measure::run(load, server.address, plan.times, Some(server.pid()))?;
    ensure!(
        run.refused.is_empty(),
        "calls failed: {:?} {:?}",
        run.refused,
        run.refusal
    );
    Ok(run)
}

fn tell(scenario: &str, side: char, run: &Run) -> Result<()> {
    let cpu = run.server.map_or(0.0, |server| server.cpu_us);
    writeln!(
        std::io::stderr(),
        "{scenario:<16} {side} {:>10.0}/s  p50 {:>9.1} us  p99 {:>9.1} us  server {cpu:>8.2} us/op  generator {:>6.2} us/op",
        run.per_second,
        run.latency_us.p50,
        run.latency_us.p99,
        run.generator_cpu_us,
    )?;
    Ok(())
}

/// How to do it again. Paths are left out: they belong to one machine.
fn command(plan: &Plan) -> String {
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let mut words = vec![
        "bench compare".to_owned(),
        format!("--a {} --a-name '{}'", name(&plan.a), plan.a_name),
        format!("--b {} --b-name '{}'", name(&plan.b), plan.b_name),
        format!("--rounds {}", plan.rounds),
        format!("--warm-up {}", plan.times.warm_up.as_secs_f64()),
        format!("--seconds {}", plan.times.window.as_secs_f64()),
    ];
    if !plan.scenarios.is_empty() {
        words.push(format!("--scenarios {}", plan.scenarios.join(",")));
    }
    words.extend(
        plan.flags
            .iter()
            .map(|flag| format!("--server-flag={flag}")),
    );
    words.join(" ")
}

impl Comparison {
    /// The middle of a number over all rounds of one side; 0 without any.
    pub(crate) fn median(&self, scenario: &str, side: char, number: impl Fn(&Run) -> f64) -> f64 {
        let turns = self.turns.iter();
        let mut numbers: Vec<f64> = turns
            .filter(|turn| turn.scenario == scenario && turn.side == side)
            .map(|turn| number(&turn.run))
            .collect();
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        match numbers.len() {
            0 => 0.0,
            odd if odd % 2 == 1 => numbers[middle],
            _ => f64::midpoint(numbers[middle - 1], numbers[middle]),
        }
    }
}
