//! Makes a failing run smaller: less time, no operator, fewer clients, fewer faults, as long as the same property breaks.
//!
//! Leaving something out moves everything after it, so each cut is simply tried: it stays when the run still fails in the
//! same way. What is left is not the smallest run there is, but one in which little happens that does not matter.

use std::time::Duration;

use crate::run::{Report, run_with};
use crate::world::Cut;

/// Most runs that a shrink may take.
const RUNS_MAX: usize = 120;

/// A failing seed with what may be left out of its run.
#[derive(Debug)]
pub struct Shrunk {
    /// What is left out.
    pub cut: Cut,
    /// The failing run.
    pub report: Report,
}

/// Shrinks a seed that fails with this left out; none when it does not fail.
#[must_use]
pub fn shrink(seed: u64, whole: &Cut) -> Option<Shrunk> {
    let mut search = Search::begin(seed, whole.clone())?;
    search.time();
    search.try_cut(|cut| cut.operator = true);
    search.try_cut(|cut| cut.undrilled = true);
    search.try_cut(|cut| cut.watch_clients = u32::MAX);
    for clients in (1..6).rev() {
        search.try_cut(|cut| cut.clients = clients);
    }
    search.faults();
    search.time();
    Some(search.best)
}

struct Search {
    seed: u64,
    property: &'static str,
    runs: usize,
    best: Shrunk,
}

impl Search {
    fn begin(seed: u64, cut: Cut) -> Option<Self> {
        let report = run_with(seed, &cut, false);
        let property = report.violations.first()?.property;
        let best = Shrunk { cut, report };
        Some(Self {
            seed,
            property,
            runs: 1,
            best,
        })
    }

    /// Keeps a cut after which the same property breaks.
    fn try_cut(&mut self, change: impl FnOnce(&mut Cut)) -> bool {
        let mut cut = self.best.cut.clone();
        change(&mut cut);
        if self.runs >= RUNS_MAX || cut == self.best.cut {
            return false;
        }
        self.runs += 1;
        let report = run_with(self.seed, &cut, false);
        let fails = report
            .violations
            .iter()
            .any(|violation| violation.property == self.property);
        if fails {
            self.best = Shrunk { cut, report };
        }
        fails
    }

    /// Half the time, as often as that is enough.
    fn time(&mut self) {
        while self.best.cut.length > Duration::from_secs(1) && self.try_cut(|cut| cut.length /= 2) {
        }
    }

    /// Leaves out faults, in blocks first and then one by one.
    fn faults(&mut self) {
        let faults = self.best.report.counts.get("disturbances");
        let faults = faults.copied().unwrap_or_default();
        let mut block = faults.next_power_of_two();
        while block > 0 {
            let mut from = 0;
            while from < faults {
                let left_out = from..(from + block).min(faults);
                self.try_cut(|cut| cut.faults.extend(left_out));
                from += block;
            }
            block /= 2;
        }
    }
}
