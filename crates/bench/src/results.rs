//! Everything that was measured, and how: what is written as JSON, and all that pages and charts are made from.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::load::Load;
use crate::measure::Run;
use crate::usage::Machine;

/// The results of one command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// What the files are called.
    pub(crate) name: String,
    pub(crate) title: String,
    /// What a reader must know beside the numbers.
    pub(crate) notes: Vec<String>,
    pub(crate) command: String,
    /// Of the working copy that this tool was run in.
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    /// One or two; the first is A.
    pub(crate) sides: Vec<Side>,
    /// Flags that all servers had beside name, addresses, data directory and `--log-level=error`.
    pub(crate) flags: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) warm_up_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) turns: Vec<Turn>,
}

/// One of the servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Side {
    /// How tables call it.
    pub(crate) name: String,
    /// What its binary says about itself.
    pub(crate) version: Vec<String>,
}

/// Something to measure, under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) members: usize,
    /// Whether every turn has a new server; if not, all turns of one side have the same.
    pub(crate) is_fresh: bool,
    /// What was written before.
    pub(crate) written_before: String,
    /// The load, where there is but one.
    pub(crate) load: Option<Load>,
    pub(crate) figures: Vec<Figure>,
}

/// A number that is not about a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) unit: String,
}

/// One turn of one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub(crate) scenario: String,
    /// `a` or `b`.
    pub(crate) side: char,
    /// From 1.
    pub(crate) round: usize,
    pub(crate) outcome: Outcome,
}

/// What came out of a turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Why there is nothing, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) phases: Vec<Phase>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) figures: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) series: Vec<Series>,
}

/// A load under one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// Empty where there is but one.
    pub(crate) name: String,
    pub(crate) run: Run,
}

/// A number over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) unit: String,
    /// Seconds and the number.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Outcome {
    /// A load alone.
    pub(crate) fn of(run: Run) -> Self {
        Self::default().phase("", run)
    }

    pub(crate) fn phase(mut self, name: &str, run: Run) -> Self {
        self.phases.push(Phase {
            name: name.to_owned(),
            run,
        });
        self
    }

    pub(crate) fn figure(mut self, name: &str, number: f64) -> Self {
        self.figures.insert(name.to_owned(), number);
        self
    }
}

impl Results {
    /// One of several, played apart on the same two servers. Turns of a scenario that comes again are more rounds of it.
    ///
    /// # Errors
    ///
    /// When there is none, or they are not of the same servers, flags and commit.
    pub(crate) fn join(parts: Vec<Self>) -> Result<Self> {
        let mut parts = parts.into_iter();
        let mut all = parts.next().context("nothing to join")?;
        for part in parts {
            let same = part.sides == all.sides && part.flags == all.flags;
            ensure!(
                same && part.commit == all.commit && part.machine == all.machine,
                "{} is of other servers, flags, another commit or machine than {}",
                part.name,
                all.name
            );
            all.command = format!("{}\n{}", all.command, part.command);
            all.notes.extend(part.notes);
            all.rounds = all.rounds.max(part.rounds);
            all.warm_up_seconds = all.warm_up_seconds.min(part.warm_up_seconds);
            all.seconds = all.seconds.min(part.seconds);
            for scenario in part.scenarios {
                if all
                    .scenarios
                    .iter()
                    .all(|known| known.name != scenario.name)
                {
                    all.scenarios.push(scenario);
                }
            }
            all.turns.extend(part.turns);
        }
        Ok(all)
    }

    /// `a`, and `b` if there are two.
    pub(crate) fn letters(&self) -> &'static [char] {
        &['a', 'b'][..self.sides.len().min(2)]
    }

    /// The names of the phases of a scenario, as they came.
    pub(crate) fn phases(&self, scenario: &str) -> Vec<&str> {
        let mut names = Vec::new();
        let turns = self.turns.iter().filter(|turn| turn.scenario == scenario);
        for phase in turns.flat_map(|turn| &turn.outcome.phases) {
            if !names.contains(&phase.name.as_str()) {
                names.push(phase.name.as_str());
            }
        }
        names
    }

    /// The turns of one side.
    pub(crate) fn turns(&self, scenario: &str, side: char) -> impl Iterator<Item = &Outcome> {
        let turns = self.turns.iter();
        turns
            .filter(move |turn| turn.scenario == scenario && turn.side == side)
            .map(|turn| &turn.outcome)
    }

    /// The middle of a number over all turns of one side; none if it was never measured.
    pub(crate) fn median(
        &self,
        scenario: &str,
        phase: &str,
        side: char,
        number: impl Fn(&Run) -> f64,
    ) -> Option<f64> {
        let phases = self.turns(scenario, side).flat_map(|turn| &turn.phases);
        let numbers = phases
            .filter(|one| one.name == phase)
            .map(|one| number(&one.run));
        median(numbers.collect())
    }

    /// The same of a figure.
    pub(crate) fn figure(&self, scenario: &str, name: &str, side: char) -> Option<f64> {
        let turns = self.turns(scenario, side);
        median(
            turns
                .filter_map(|turn| turn.figures.get(name).copied())
                .collect(),
        )
    }
}

/// The middle of some numbers; none of none.
pub(crate) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(numbers[middle]),
        _ => Some(f64::midpoint(numbers[middle - 1], numbers[middle])),
    }
}

/// How this tool was called. Folders are left out: they belong to one machine.
pub(crate) fn command() -> String {
    let plain = |word: String| {
        let word = match word.rsplit_once('/') {
            Some((folder, name)) if word.starts_with('/') || folder.contains("target") => {
                name.to_owned()
            }
            _ => word,
        };
        if word.contains(' ') {
            format!("'{word}'")
        } else {
            word
        }
    };
    std::env::args().map(plain).collect::<Vec<_>>().join(" ")
}

/// The commit of the working copy here, marked if it was changed since; empty if there is none.
pub(crate) fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=10"]);
    let output = git.output().map(|output| output.stdout);
    String::from_utf8_lossy(&output.unwrap_or_default())
        .trim()
        .to_owned()
}

/// Today in UTC, such as `2026-11-21`.
pub(crate) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    date(since.unwrap_or_default().as_secs() / 86_400)
}

/// The date of a day since 1970, by the rule that a year begins in March and ends with the leap day.
fn date(day: u64) -> String {
    const DAYS_PER_ERA: u64 = 146_097;
    const MARCH_OF_YEAR_0: u64 = 719_468;
    let day = day + MARCH_OF_YEAR_0;
    let (era, of_era) = (day / DAYS_PER_ERA, day % DAYS_PER_ERA);
    let leap_days = of_era / 1460 - of_era / 36_524 + of_era / (DAYS_PER_ERA - 1);
    let year = (of_era - leap_days) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months from March on have 30.6 days on average, in a pattern that this line follows.
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..=9 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    format!("{:04}-{month:02}-{of_month:02}", era * 400 + year)
}

#[cfg(test)]
mod tests {
    use super::{date, median};

    #[test]
    fn dates_of_days() {
        for (day, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (20_778, "2026-11-21"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(day), expected, "day {day}");
        }
    }

    #[test]
    fn median_of_numbers() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
