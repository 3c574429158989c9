//! Clusters of real processes that are hurt while clients work, and the judgement of everything that the clients saw.
//!
//! Each test hurts a cluster in one way, again and again, under the load of [`kvorum_e2e::recorder`]: eight workers with
//! puts, transactions, swaps, reads of both kinds and leases, and a watcher for each member. Beside it a program around
//! the official Go client writes, reads and watches through all members, and the official etcdctl asks in the middle of
//! each fault. Afterwards the recorder judges the whole history, the Go program's writes included.
//!
//! Ours alone unless `KVORUM_E2E_FAULTS` asks for more than one round: then the official members go first and show that
//! the test is right.

mod clock;
mod disk;
mod kills;
mod members;
mod network;
mod trial;

use kvorum_e2e::peers::Subject;

/// How often each fault strikes.
fn rounds() -> u32 {
    let asked = std::env::var("KVORUM_E2E_FAULTS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Whose clusters are hurt.
fn subjects() -> &'static [Subject] {
    match rounds() {
        0 | 1 => &[Subject::Kvorum],
        _ => &[Subject::Official371, Subject::Kvorum],
    }
}
