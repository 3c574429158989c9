//! Plays scenarios: the servers take turns (A B A B), each turn on a new server or, where filling it takes long, all
//! turns on the same one.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::load;
use crate::measure::{Run, Times};
use crate::results::{self, Outcome, Results, Scenario, Side, Turn};
use crate::servers::{self, Servers, Setup};
use crate::suite::{Fixture, Group, Size, Spec, Stage};
use crate::usage::Machine;

/// What to compare.
pub(crate) struct Plan {
    /// One or two binaries with what tables call them.
    pub(crate) sides: Vec<(PathBuf, String)>,
    pub(crate) flags: Vec<String>,
    pub(crate) size: Size,
    pub(crate) rounds: usize,
    pub(crate) times: Times,
    /// Where the data directories are made.
    pub(crate) directory: PathBuf,
    /// What the files of the results are called.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) notes: Vec<String>,
}

/// Plays all groups. A line per run goes to standard error. A turn that fails is on record with its reason, and the
/// others go on.
pub(crate) fn run(plan: &Plan, groups: &[Group]) -> Result<Results> {
    ensure!(plan.rounds > 0, "at least one round is needed");
    ensure!(
        (1..=2).contains(&plan.sides.len()),
        "one server or two, not {}",
        plan.sides.len()
    );
    let sides = plan.sides.iter().map(|(binary, name)| {
        Ok(Side {
            name: name.clone(),
            version: servers::version(binary)?,
        })
    });
    let mut results = Results {
        name: plan.name.clone(),
        title: plan.title.clone(),
        notes: plan.notes.clone(),
        command: results::command(),
        commit: results::commit(),
        machine: Machine::here(),
        sides: sides.collect::<Result<_>>()?,
        flags: plan.flags.clone(),
        rounds: plan.rounds,
        warm_up_seconds: plan.times.warm_up.as_secs_f64(),
        seconds: plan.times.window.as_secs_f64(),
        scenarios: Vec::new(),
        turns: Vec::new(),
    };
    for group in groups {
        let mut stages = Stages::new(plan, &group.fixture);
        for spec in &group.scenarios {
            results.scenarios.push(scenario(spec, &group.fixture));
            let rounds = if spec.is_long { 1 } else { plan.rounds };
            for round in 1..=rounds {
                for place in 0..plan.sides.len() {
                    let outcome = stages.turn(place, spec);
                    let side = ['a', 'b'][place];
                    tell(&spec.name, side, &outcome)?;
                    results.turns.push(Turn {
                        scenario: spec.name.clone(),
                        side,
                        round,
                        outcome,
                    });
                }
            }
        }
    }
    Ok(results)
}

fn scenario(spec: &Spec, fixture: &Fixture) -> Scenario {
    let often = if fixture.is_fresh {
        "in each turn"
    } else {
        "once"
    };
    let filled = fixture
        .keys
        .map(|keys| format!("{}, {often}", keys.in_words()));
    let own = Some(spec.written_before.clone()).filter(|own| !own.is_empty());
    let parts: Vec<String> = filled.into_iter().chain(own).collect();
    Scenario {
        name: spec.name.clone(),
        what: spec.what.clone(),
        members: fixture.members,
        is_fresh: fixture.is_fresh,
        written_before: if parts.is_empty() {
            "nothing".to_owned()
        } else {
            parts.join("; ")
        },
        load: spec.load.clone(),
        figures: spec.figures.clone(),
    }
}

/// The servers of a group, by side.
struct Stages<'a> {
    plan: &'a Plan,
    fixture: &'a Fixture,
    running: Vec<Option<Servers>>,
}

impl<'a> Stages<'a> {
    fn new(plan: &'a Plan, fixture: &'a Fixture) -> Self {
        Self {
            plan,
            fixture,
            running: plan.sides.iter().map(|_| None).collect(),
        }
    }

    /// A turn that fails leaves servers in a state that nobody knows: the next turn gets new ones.
    fn turn(&mut self, place: usize, spec: &Spec) -> Outcome {
        let played = self.play(place, spec);
        if self.fixture.is_fresh || played.is_err() {
            self.running[place] = None;
        }
        played.unwrap_or_else(|error| Outcome {
            failure: Some(format!("{error:#}")),
            ..Outcome::default()
        })
    }

    fn play(&mut self, place: usize, spec: &Spec) -> Result<Outcome> {
        // What the turns before have written and deleted is not paid for by this one.
        rustix::fs::sync();
        if self.running[place].is_none() {
            self.running[place] = Some(self.start(place)?);
        }
        let Some(servers) = &mut self.running[place] else {
            anyhow::bail!("no servers");
        };
        let mut stage = Stage {
            servers,
            times: self.plan.times,
            size: self.plan.size,
        };
        (spec.play)(&mut stage)
    }

    fn start(&self, place: usize) -> Result<Servers> {
        let mut flags = self.fixture.flags.clone();
        flags.extend(self.plan.flags.iter().cloned());
        let servers = Servers::start(Setup {
            binary: self.plan.sides[place].0.clone(),
            parent: self.plan.directory.clone(),
            members: self.fixture.members,
            flags,
            memory_bytes: self.fixture.memory_bytes,
        })?;
        if let Some(keys) = self.fixture.keys {
            load::fill(keys, keys.count, &servers.target())?;
        }
        Ok(servers)
    }
}

fn tell(scenario: &str, side: char, outcome: &Outcome) -> Result<()> {
    let mut screen = std::io::stderr();
    if let Some(failure) = &outcome.failure {
        writeln!(screen, "{scenario:<26} {side} failed: {failure}")?;
    }
    for phase in &outcome.phases {
        let Run {
            per_second,
            latency_us,
            ..
        } = phase.run;
        let cpu = phase.run.server.map_or(0.0, |server| server.cpu_us);
        writeln!(
            screen,
            "{scenario:<26} {side} {per_second:>10.0}/s  p50 {:>9.1} us  p99 {:>9.1} us  server {cpu:>8.2} us/op  \
             generator {:>6.2} us/op  {}",
            latency_us.p50, latency_us.p99, phase.run.generator_cpu_us, phase.name
        )?;
    }
    for (name, number) in &outcome.figures {
        writeln!(screen, "{scenario:<26} {side} {name} {number:.3}")?;
    }
    Ok(())
}
