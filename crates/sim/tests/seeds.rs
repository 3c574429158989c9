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
const REQUESTS_OF_EACH_KIND: u64 = 30_000;

/// Faults too rare to meet every kind of use.
const RARE: &[&str] = &[
    "deaths during a compaction",
    "deaths while a snapshot comes in",
    "deaths while a snapshot goes out",
    "snapshots given up in silence",
    "snapshots with a wrong byte",
    "snapshots that give way to another",
];

/// What must have happened, and how often at least: a simulation in which nothing goes wrong shows
/// nothing.
const FLOOR: &[(&str, u64)] = &[
    ("addresses changed", 400),
    ("answers lost with a snapshot", 100),
    ("applies that stall", 1_000),
    ("bits flipped in the state", 600),
    ("bits flipped", 900),
    ("checkpoints", 80_000),
    ("clocks put ahead", 60),
    ("clocks that drift", 4_000),
    ("clocks that stand still", 60),
    ("compactions finished", 20_000),
    ("compactions", 4_000),
    ("connections reset", 30),
    ("copies of segments", 70_000),
    ("damage refused", 900),
    ("deaths during a checkpoint", 100),
    ("deaths during a compaction", 60),
    ("deaths during a copy", 10),
    ("deaths during the installation of a snapshot", 100),
    ("deaths while a snapshot comes in", 80),
    ("deaths while a snapshot goes out", 40),
    ("disk calls failed", 100),
    ("disk calls refused by a full disk", 100),
    ("disk jobs hung", 100),
    ("disks that lie", 90),
    ("elections disturbed", 200),
    ("faults beyond the budget left out", 1_000),
    ("files torn", 10_000),
    ("keep-alives forwarded to a leader", 10_000),
    ("kills", 1_000),
    ("leaders elected", 2_000),
    ("leaders isolated", 100),
    ("leaders that come back", 100),
    ("leads moved", 900),
    ("learners added", 500),
    ("learners promoted", 400),
    ("leases kept alive", 50_000),
    ("leases revoked", 3_000),
    ("links that flap", 50),
    ("links that lag", 500),
    ("log files begun", 80_000),
    ("members removed", 800),
    ("members that are slow", 60),
    ("members that hear nobody", 60),
    ("members that nobody hears", 50),
    ("members wiped and replaced", 200),
    ("members wiped", 100),
    ("membership changes made", 3_000),
    ("messages between members", 8_000_000),
    ("messages late", 100_000),
    ("messages lost by a cut", 40_000),
    ("messages lost", 20_000),
    ("messages sent twice", 50_000),
    ("messages that overtake others", 700_000),
    ("names lost", 1_000),
    ("order: learner, learner", 20),
    ("order: learner, promotion", 20),
    ("order: learner, removal", 20),
    ("order: learner, voter", 20),
    ("order: promotion, learner", 20),
    ("order: promotion, removal", 20),
    ("order: promotion, voter", 20),
    ("order: removal, learner", 20),
    ("order: removal, promotion", 20),
    ("order: removal, removal", 20),
    ("order: removal, voter", 20),
    ("order: voter, learner", 20),
    ("order: voter, promotion", 20),
    ("order: voter, removal", 20),
    ("order: voter, voter", 20),
    ("partitions", 100),
    ("pauses of the process", 600),
    ("power losses", 1_000),
    ("processes stopped by a failed job", 300),
    ("quotas cleared", 500),
    ("quotas reached", 500),
    ("reads of compacted revisions", 2_000),
    ("reads of the disk failed", 60),
    ("reads", 200_000),
    ("refusals", 50_000),
    ("removals of segments", 10_000),
    ("removed members stopped", 400),
    ("removed members turned away", 500),
    ("requests without an answer", 2_000),
    ("restores from a backup", 50),
    ("revisions", 200_000),
    ("runs sealed", 300_000),
    ("sectors kept", 400_000),
    ("sectors lost", 400_000),
    ("snapshots installed", 800),
    ("snapshots given up in silence", 3),
    ("snapshots lost", 200),
    ("snapshots not wanted", 5),
    ("snapshots refused while another came in", 200),
    ("snapshots that came too late", 5),
    ("snapshots that give way to another", 20),
    ("starts from a checkpoint", 2_000),
    ("starts that failed", 100),
    ("starts", 4_000),
    ("states compared", 30_000),
    ("syncs failed", 50),
    ("syncs that lied", 5_000),
    ("torn tails cut", 1),
    ("voters added", 100),
    ("watch bookmarks", 40_000),
    ("watch messages put together from pieces", 5_000),
    ("watch messages", 800_000),
    ("watch streams ended without a leader", 900),
    ("watch streams left", 4_000),
    ("watch streams lost", 2_000),
    ("watches ended by a compaction", 4_000),
    ("worlds of one member", 50),
    ("worlds of seven members", 30),
    ("writes failed", 70),
    ("writes", 300_000),
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
    for fault in FAULTS.iter().filter(|fault| !RARE.contains(fault)) {
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
