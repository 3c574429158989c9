//! Random histories: ours must answer like official etcd 3.7.1, byte for byte.
//!
//! `KVORUM_E2E_SEED=7 cargo test -p kvorum-e2e --test oracle kvorum` runs one history again.

use kvorum_e2e::history::{Difference, Side, compare, history};
use kvorum_e2e::peers::Subject;

/// Histories that every run of the tests compares.
const SEEDS: u64 = 6;
/// Steps of a history.
const LENGTH: usize = 600;

const ORACLE: Side<'static> = Side {
    subject: Subject::Official371,
    flags: &[],
};
const KVORUM: Side<'static> = Side {
    subject: Subject::Kvorum,
    flags: &[],
};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seeds() -> std::ops::Range<u64> {
    match number("KVORUM_E2E_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KVORUM_E2E_SEEDS").unwrap_or(SEEDS),
    }
}

/// None when a server is not to be had.
fn difference(sides: [Side<'_>; 2], seed: u64) -> Option<Option<Difference>> {
    let compared = compare(sides, &history(seed, LENGTH));
    compared.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"))
}

fn check(second: Side<'_>) {
    for seed in seeds() {
        match difference([ORACLE, second], seed) {
            None => return,
            Some(None) => eprintln!("seed {seed}: alike"),
            Some(Some(found)) => panic!("seed {seed}:\n{found}"),
        }
    }
}

#[test]
fn oracle_agrees_with_itself() {
    check(ORACLE);
}

#[test]
fn kvorum_agrees_with_the_oracle() {
    check(KVORUM);
}

#[test]
fn a_server_that_differs_is_found_and_the_history_cut_down() {
    let stricter = Side {
        subject: Subject::Official371,
        flags: &["--max-txn-ops=2"],
    };
    let Some(found) = difference([ORACLE, stricter], 0) else {
        return;
    };
    let found = found.expect("three operations in a transaction are a difference");
    assert!(found.second.contains("too many operations"), "{found}");
    assert!(found.steps.len() < 40, "not cut down:\n{found}");
}
