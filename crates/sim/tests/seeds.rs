//! Many worlds from many seeds. The story of a failure is told by `cargo xtask sim --replay N`.

#![allow(clippy::print_stdout, reason = "the counts are part of the result")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kvorum_sim::workload::Kind;
use kvorum_sim::world::{Counts, FAULTS, Pairs, STORMS};
use kvorum_sim::{Report, run};

const LENGTH: Duration = Duration::from_secs(60);
const SEEDS: u64 = 1_000;
/// Requests that each kind of use must have sent.
const REQUESTS_OF_EACH_KIND: u64 = 20_000;

/// What must have happened, and how often at least: a simulation in which nothing goes wrong shows
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

/// What came of all seeds together.
#[derive(Default)]
struct Sum {
    counts: Counts,
    pairs: Pairs,
    by_workload: Counts,
    failed: BTreeMap<u64, String>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        for (what, times) in report.counts {
            *self.counts.entry(what).or_default() += times;
        }
        for (pair, times) in report.pairs {
            *self.pairs.entry(pair).or_default() += times;
        }
        for (kind, requests) in report.by_workload {
            *self.by_workload.entry(kind).or_default() += requests;
        }
        if let Some(first) = report.violations.first() {
            self.failed.insert(report.seed, format!("{first:?}"));
        }
    }
}

#[test]
fn a_thousand_seeds_hold() {
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Sum::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return;
            }
            let report = run(seed, LENGTH, false);
            sum.lock().expect("nobody panics with it").add(report);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let sum = sum.into_inner().expect("nobody panicked with it");
    for (what, times) in sum.counts.iter().chain(&sum.by_workload) {
        println!("{times:>10} {what}");
    }
    println!("{:>10} pairs of a fault and a kind of use", sum.pairs.len());
    assert!(sum.failed.is_empty(), "{:#?}", sum.failed);
    let missing = too_rare(&sum);
    assert!(missing.is_empty(), "too rare: {missing:#?}");
}

/// What happened less often than it must.
fn too_rare(sum: &Sum) -> Vec<String> {
    let mut rare = Vec::new();
    let of = |counts: &Counts, what| counts.get(what).copied().unwrap_or_default();
    for (what, floor) in FLOOR {
        let times = of(&sum.counts, *what);
        if times < *floor {
            rare.push(format!("{what}: {times} times, at least {floor} are due"));
        }
    }
    let kinds = Kind::ALL.map(Kind::name);
    for kind in kinds {
        let requests = of(&sum.by_workload, kind);
        if requests < REQUESTS_OF_EACH_KIND {
            rare.push(format!("{kind}: {requests} requests"));
        }
    }
    for fault in FAULTS {
        for kind in kinds.into_iter().chain([STORMS]) {
            if !sum.pairs.contains_key(&(*fault, kind)) {
                rare.push(format!("{fault} during {kind}: never"));
            }
        }
    }
    rare
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
