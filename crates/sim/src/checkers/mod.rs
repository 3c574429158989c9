//! Judges of a [`History`]. Each is named after what it holds, and none knows the machines.
//!
//! The store's revision makes the judgement exact: every change names its place in one total order, so a history is
//! linearizable if that order explains every answer and never contradicts real time. No search is needed.

mod appends;
mod attachments;
mod counters;
mod durable;
mod elections;
mod kept;
mod lease;
mod linearizable;
mod locks;
mod sets;
mod state;
mod watch;

use crate::history::History;

/// A property that does not hold, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub property: &'static str,
    /// What was seen and what should have been.
    pub story: String,
}

/// Everything that every history must satisfy.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut judge = |property, result: Result<(), String>| {
        if let Err(story) = result {
            violations.push(Violation { property, story });
        }
    };
    judge("revisions have no gap", durable::no_gap(history));
    judge("nothing invented", durable::nothing_invented(history));
    judge("nothing acknowledged lost", durable::nothing_lost(history));
    judge("linearizable", linearizable::respects_real_time(history));
    judge(
        "reads are of their revision",
        linearizable::reads_match(history),
    );
    judge(
        "conditions were judged rightly",
        linearizable::conditions_match(history),
    );
    judge(
        "watch ordered, unique, without gap, atomic",
        watch::complete(history),
    );
    judge("watch bookmarks are true", watch::bookmarks(history));
    judge("watchers catch up", watch::caught_up(history));
    judge(
        "watches end by compactions only",
        watch::ended_by_compactions(history),
    );
    judge("lease never early", lease::never_early(history));
    judge("lease never denied", lease::never_denied(history));
    judge("lease takes what hangs on it", attachments::right(history));
    judge("watch tells what was before", watch::before(history));
    judge(
        "compaction keeps what it must",
        kept::keeps_what_it_must(history),
    );
    judge("counters go up by one", counters::go_up_by_one(history));
    judge("sets lose nothing", sets::lose_nothing(history));
    judge(
        "lists grow at their end",
        appends::grow_at_their_end(history),
    );
    judge("lock has its revision as a fence", locks::fence(history));
    judge("lock has one holder", locks::one_holder(history));
    judge(
        "election: the first speaks",
        elections::the_first_speaks(history),
    );
    violations
}

#[cfg(test)]
mod tests;
