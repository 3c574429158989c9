//! One seed from its first step to the verdict.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::checkers::{self, Violation};
use crate::world::{Counts, Cut, Pairs, World};

/// The property that a panic breaks.
pub const PANIC: &str = "no machine panics";

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What is wrong; empty when all is well.
    pub violations: Vec<Violation>,
    /// What happened how often.
    pub counts: Counts,
    /// How often each fault struck while a client of each kind of use waited for an answer.
    pub pairs: Pairs,
    /// Requests of each kind of use.
    pub by_workload: Counts,
    /// The event log, when it was asked for.
    pub lines: Vec<String>,
}

/// Runs a seed for so much virtual time and judges the history. A panic of a machine is a violation too.
#[must_use]
pub fn run(seed: u64, length: Duration, keeps_lines: bool) -> Report {
    let whole = Cut {
        length,
        ..Cut::default()
    };
    run_with(seed, &whole, keeps_lines)
}

/// Runs a seed with something left out.
#[must_use]
pub fn run_with(seed: u64, cut: &Cut, keeps_lines: bool) -> Report {
    judge(&mut World::new(seed, cut, keeps_lines), seed)
}

/// Lets a world run to its end and judges it.
#[must_use]
pub fn judge(world: &mut World, seed: u64) -> Report {
    let panicked = catch_unwind(AssertUnwindSafe(|| world.run())).err();
    let mut violations = world.violations().to_vec();
    if let Some(panic) = panicked {
        let story = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        violations.push(Violation {
            property: PANIC,
            story,
        });
    }
    violations.extend(checkers::check(world.history()));
    Report {
        seed,
        violations,
        counts: world.counts(),
        pairs: world.pairs().clone(),
        by_workload: world.by_workload().clone(),
        lines: world.lines().to_vec(),
    }
}
