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
    ("addresses changed", 20),
    ("bits flipped", 50),
    ("bits flipped in the state", 50),
    ("checkpoints", 2_000),
    ("compactions", 100),
    ("compactions finished", 100),
    ("connections reset", 5),
    ("copies of segments", 1_000),
    ("damage refused", 50),
    ("disk calls failed", 50),
    ("disk calls refused by a full disk", 10),
    ("disk jobs hung", 20),
    ("faults beyond the budget left out", 50),
    ("files torn", 100),
    ("keep-alives forwarded to a leader", 500),
    ("kills", 50),
    ("leaders elected", 100),
    ("leaders isolated", 15),
    ("leads moved", 30),
    ("learners added", 20),
    ("learners promoted", 10),
    ("leases kept alive", 1_000),
    ("leases revoked", 100),
    ("links that flap", 4),
    ("log files begun", 500),
    ("members removed", 25),
    ("members that are slow", 5),
    ("members that hear nobody", 6),
    ("members that nobody hears", 4),
    ("members wiped", 12),
    ("membership changes made", 120),
    ("messages between members", 400_000),
    ("messages lost", 1_500),
    ("messages lost by a cut", 2_000),
    ("messages sent twice", 3_000),
    ("names lost", 20),
    ("partitions", 8),
    ("pauses of the process", 2),
    ("power losses", 100),
    ("processes stopped by a failed job", 50),
    ("reads", 10_000),
    ("reads of compacted revisions", 100),
    ("refusals", 100),
    ("removed members stopped", 10),
    ("removed members turned away", 5),
    ("removals of segments", 500),
    ("requests without an answer", 200),
    ("revisions", 20_000),
    ("sectors kept", 1_000),
    ("sectors lost", 1_000),
    ("snapshots installed", 40),
    ("snapshots lost", 5),
    ("snapshots not wanted", 3),
    ("starts", 200),
    ("starts from a checkpoint", 200),
    ("starts that failed", 20),
    ("states compared", 4_000),
    ("torn tails cut", 1),
    ("voters added", 8),
    ("watch bookmarks", 1_000),
    ("watch messages", 10_000),
    ("watch streams ended without a leader", 20),
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

#[test]
fn seeds_that_once_failed_hold() {
    let list = include_str!("../seeds/clusters.txt");
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let word = line.split_whitespace().next().expect("a seed stands first");
        let seed = word.parse().expect("a seed is a number");
        assert_eq!(run(seed, LENGTH, false).violations, [], "{line}");
    }
}
