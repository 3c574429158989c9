//! Many worlds from many seeds. A failure is repeated with `cargo xtask sim --seed N --verbose`.
//!
//! The seeds are split over four tests so that they run side by side.

#![allow(clippy::print_stdout, reason = "the counts are part of the result")]

use std::ops::Range;
use std::time::Duration;

use kvorum_sim::run;
use kvorum_sim::world::Counts;

const LENGTH: Duration = Duration::from_secs(60);

/// What must have happened in each part, and how often at least: a simulation in which nothing goes wrong shows
/// nothing.
const FLOOR: &[(&str, u64)] = &[
    ("bits flipped", 50),
    ("compactions", 100),
    ("compactions finished", 100),
    ("damage refused", 50),
    ("disk calls failed", 50),
    ("disk calls refused by a full disk", 10),
    ("disk jobs hung", 20),
    ("files torn", 100),
    ("kills", 50),
    ("leases kept alive", 1_000),
    ("leases revoked", 100),
    ("log files begun", 500),
    ("names lost", 20),
    ("pauses of the process", 2),
    ("power losses", 100),
    ("processes stopped by a failed job", 50),
    ("reads", 10_000),
    ("reads of compacted revisions", 100),
    ("refusals", 100),
    ("requests without an answer", 200),
    ("revisions", 20_000),
    ("sectors kept", 1_000),
    ("sectors lost", 1_000),
    ("starts", 200),
    ("starts that failed", 20),
    ("torn tails cut", 1),
    ("watch bookmarks", 1_000),
    ("watch messages", 10_000),
    ("watch streams left", 100),
    ("watch streams lost", 100),
    ("watches ended by a compaction", 20),
    ("writes", 20_000),
];

fn check(seeds: Range<u64>) {
    let mut counts = Counts::new();
    let mut failed = Vec::new();
    for seed in seeds.clone() {
        let report = run(seed, LENGTH, false);
        for (what, times) in report.counts {
            *counts.entry(what).or_default() += times;
        }
        failed.extend(
            report
                .violations
                .first()
                .map(|first| format!("seed {seed}: {first:?}")),
        );
    }
    for (what, times) in &counts {
        println!("{seeds:?} {times:>10} {what}");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    for (what, floor) in FLOOR {
        let times = counts.get(what).copied().unwrap_or_default();
        assert!(
            times >= *floor,
            "{what}: {times} times, at least {floor} were expected"
        );
    }
}

#[test]
fn first_quarter_of_the_seeds_holds() {
    check(0..75);
}

#[test]
fn second_quarter_of_the_seeds_holds() {
    check(75..150);
}

#[test]
fn third_quarter_of_the_seeds_holds() {
    check(150..225);
}

#[test]
fn fourth_quarter_of_the_seeds_holds() {
    check(225..300);
}
