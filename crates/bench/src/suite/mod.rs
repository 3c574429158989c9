//! What is measured under which name: groups of scenarios with what must be there before.
//!
//! A scenario is a function on a stage: servers that run, filled as the group says. It returns phases (a load under a
//! condition), figures (single numbers) and series (numbers over time). The runner ([`crate::compare`]) sets the
//! stages and lets the sides take turns.

mod churn;
mod cluster;
mod failover;
pub(crate) mod lease;
mod lone;
mod matrix;
mod store;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::keys::KeySpace;
use crate::load::{self, Kind, Load, Target};
use crate::measure::{self, Run, Times};
use crate::results::{Figure, Outcome};
use crate::servers::Servers;

/// A named set of scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// One member: every kind of request
    Lone,
    /// One member with much data: lists, memory, restart, snapshots, compaction, churn
    Store,
    /// Three members: puts, reads, fail-over, a new member
    Cluster,
    /// One member: connections × value sizes × shares of reads
    Matrix,
}

/// How much work scenarios are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// Seconds; for tests of this tool, the numbers mean nothing
    Smoke,
    /// Minutes per suite
    Quick,
    /// An hour and more per suite
    Full,
}

impl Size {
    /// The one of three that is meant.
    pub(crate) fn pick<T>(self, smoke: T, quick: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Quick => quick,
            Self::Full => full,
        }
    }

    /// Length of a run.
    pub(crate) fn times(self) -> Times {
        let (warm_up, window) = self.pick((50, 200), (500, 2000), (2000, 10_000));
        Times {
            warm_up: Duration::from_millis(warm_up),
            window: Duration::from_millis(window),
        }
    }

    /// Turns of each side.
    pub(crate) fn rounds(self) -> usize {
        self.pick(1, 2, 5)
    }
}

/// Scenarios that have the same servers or the same kind of them.
pub(crate) struct Group {
    pub(crate) fixture: Fixture,
    pub(crate) scenarios: Vec<Spec>,
}

/// What is there before a scenario begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fixture {
    pub(crate) members: usize,
    /// Every turn has new servers; else a side's servers stay for the whole group.
    pub(crate) is_fresh: bool,
    /// Keys that are filled in.
    pub(crate) keys: Option<KeySpace>,
    /// Flags of all servers.
    pub(crate) flags: Vec<String>,
    /// Memory that a side's servers have; none: all there is.
    pub(crate) memory_bytes: Option<u64>,
}

/// A scenario that can be played.
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) load: Option<Load>,
    /// What the scenario itself writes before it measures.
    pub(crate) written_before: String,
    pub(crate) figures: Vec<Figure>,
    /// Where one turn is long, there is but one.
    pub(crate) is_long: bool,
    pub(crate) play: Play,
}

/// One turn.
type Play = Box<dyn Fn(&mut Stage<'_>) -> Result<Outcome>>;

/// Where a scenario plays.
pub(crate) struct Stage<'a> {
    pub(crate) servers: &'a mut Servers,
    pub(crate) times: Times,
    pub(crate) size: Size,
}

impl Fixture {
    /// New servers without data for every turn.
    fn fresh(members: usize) -> Self {
        Self {
            members,
            is_fresh: true,
            ..Self::default()
        }
    }

    /// Servers with keys that stay for all scenarios of the group.
    fn filled(members: usize, keys: KeySpace) -> Self {
        Self {
            members,
            keys: Some(keys),
            ..Self::default()
        }
    }

    fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Servers may hold more than the 2 GiB that they allow by themselves.
    fn large(self) -> Self {
        self.flag("--quota-backend-bytes=107374182400")
    }
}

impl Spec {
    fn new(
        name: &str,
        what: &str,
        play: impl Fn(&mut Stage<'_>) -> Result<Outcome> + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            load: None,
            written_before: String::new(),
            figures: Vec::new(),
            is_long: false,
            play: Box::new(play),
        }
    }

    /// A load on all members; its keys are filled in before if it needs them.
    fn load(name: &str, what: &str, load: Load) -> Self {
        Self::load_on(name, what, load, |stage| Ok(stage.servers.target()))
    }

    /// A load on some members.
    fn load_on(
        name: &str,
        what: &str,
        load: Load,
        target: impl Fn(&Stage<'_>) -> Result<Target> + 'static,
    ) -> Self {
        let own = load.clone();
        let spec = Self::new(name, what, move |stage| {
            let target = target(stage)?;
            if own.needs_keys() {
                load::fill(own.keys, own.keys.count, &target)?;
            }
            Ok(Outcome::of(stage.run(&own, &target)?))
        });
        Self {
            written_before: load.written_before(),
            load: Some(load),
            ..spec
        }
    }

    /// The same on keys that the fixture has filled in.
    fn load_on_fixture(name: &str, what: &str, load: Load) -> Self {
        let own = load.clone();
        let spec = Self::new(name, what, move |stage| {
            let target = stage.servers.target();
            Ok(Outcome::of(stage.run(&own, &target)?))
        });
        Self {
            load: Some(load),
            ..spec
        }
    }

    fn figure(mut self, name: &str, what: &str, unit: &str) -> Self {
        self.figures.push(Figure {
            name: name.to_owned(),
            what: what.to_owned(),
            unit: unit.to_owned(),
        });
        self
    }

    fn long(mut self) -> Self {
        self.is_long = true;
        self
    }

    fn written(mut self, what: &str) -> Self {
        what.clone_into(&mut self.written_before);
        self
    }
}

impl Stage<'_> {
    /// One run; a call that fails fails the turn.
    pub(crate) fn run(&self, load: &Load, target: &Target) -> Result<Run> {
        accept(measure::run(load, target, self.times)?)
    }
}

/// A run in which calls failed counts for nothing.
pub(crate) fn accept(run: Run) -> Result<Run> {
    if !run.refused.is_empty() {
        bail!("calls failed: {:?} {:?}", run.refused, run.refusal);
    }
    Ok(run)
}

/// A steady stream of puts under which something else is tried: equal for both sides, whatever they can do.
fn steady_puts(keys: KeySpace, per_second: f64) -> Load {
    Load {
        connections: 10,
        in_flight: 1000,
        keys,
        rate: Some(per_second),
        ..Load::new(Kind::Put)
    }
}

/// The groups of a suite.
pub(crate) fn groups(suite: Suite, size: Size) -> Vec<Group> {
    match suite {
        Suite::Lone => lone::groups(size),
        Suite::Store => store::groups(size),
        Suite::Cluster => cluster::groups(size),
        Suite::Matrix => matrix::groups(size),
    }
}

/// The scenarios with these names, or names that begin so (`matrix-2048-*`), of all suites, in their groups.
pub(crate) fn chosen(names: &[String], size: Size) -> Result<Vec<Group>> {
    let mut all: Vec<Group> = Suite::value_variants()
        .iter()
        .flat_map(|suite| groups(*suite, size))
        .collect();
    let known: Vec<String> = all
        .iter()
        .flat_map(|group| group.scenarios.iter().map(|spec| spec.name.clone()))
        .collect();
    let is_meant = |name: &String, known: &String| match name.strip_suffix('*') {
        Some(start) => known.starts_with(start),
        None => name == known,
    };
    let is_unknown = |name: &&String| !known.iter().any(|known| is_meant(name, known));
    if let Some(unknown) = names.iter().find(is_unknown) {
        bail!("no scenario {unknown}; there are {}", known.join(", "));
    }
    for group in &mut all {
        let scenarios = &mut group.scenarios;
        scenarios.retain(|spec| names.iter().any(|name| is_meant(name, &spec.name)));
    }
    all.retain(|group| !group.scenarios.is_empty());
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum;

    use super::{Size, Suite, chosen, groups};

    #[test]
    fn scenarios_have_names_of_their_own() {
        for size in Size::value_variants() {
            let mut seen = BTreeSet::new();
            for suite in Suite::value_variants() {
                for spec in groups(*suite, *size)
                    .iter()
                    .flat_map(|group| &group.scenarios)
                {
                    assert!(seen.insert(spec.name.clone()), "{} twice", spec.name);
                }
            }
        }
    }

    #[test]
    fn scenarios_are_chosen_with_their_groups() {
        let count = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let groups = chosen(&names, Size::Quick).unwrap();
            groups
                .iter()
                .map(|group| group.scenarios.len())
                .sum::<usize>()
        };
        assert_eq!(count(&["range", "put"]), 2);
        assert_eq!(count(&["matrix-*"]), 48, "every cell");
        assert_eq!(count(&["matrix-2048-*", "range"]), 13);
        let unknown = chosen(&["pot".to_owned()], Size::Quick).map(|_| ());
        assert!(
            unknown
                .unwrap_err()
                .to_string()
                .starts_with("no scenario pot; there are put")
        );
    }
}
