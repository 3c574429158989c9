//! The power fails at every call to the disk.

use proptest::prelude::*;

use super::history::{History, Memory};
use crate::vfs::crash_disk::{CrashDisk, Fate};
use crate::wal::WalError;

const STEPS: usize = 120;

/// Runs a random history until its end or until the power fails.
fn run(disk: &CrashDisk, seed: u64) -> Memory {
    match History::create(disk, seed) {
        Ok(history) => go_on(history, STEPS),
        Err(_) => Memory::default(),
    }
}

fn go_on(mut history: History, steps: usize) -> Memory {
    for _ in 0..steps {
        if history.step().is_err() {
            break;
        }
    }
    history.into_memory()
}

fn reopen(disk: &CrashDisk, memory: Memory, what: &str) -> History {
    match History::open(disk, memory) {
        Ok(history) => history,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Crashes the same history at every call, and once more while it is being opened or goes on.
fn check(seed: u64) {
    let disk = CrashDisk::new();
    run(&disk, seed);
    let calls = disk.calls();
    assert!(calls > 60, "the history is too short to show anything");
    for at in 1..=calls {
        let disk = CrashDisk::new();
        disk.crash_in(at);
        let memory = run(&disk, seed);
        let torn = [1, 2, 3].map(|number| Fate::Torn {
            seed: seed ^ at << 8 ^ number,
        });
        for fate in [Fate::Lost, Fate::Kept].into_iter().chain(torn) {
            let what = format!("seed {seed}, crash at call {at}, {fate:?}");
            let survivor = disk.after_crash(fate);
            let twice = 1 + at % 9;
            survivor.crash_in(twice);
            let memory = match History::open(&survivor, memory.clone()) {
                Ok(history) => go_on(history, 10),
                Err(WalError::Damaged {
                    file,
                    offset,
                    damage,
                }) => {
                    panic!("{what}: {} refused at {offset}: {damage}", file.display())
                }
                Err(_) => memory.clone(),
            };
            let what = format!("{what}, then at call {twice}");
            let last = survivor.after_crash(fate);
            let mut history = reopen(&last, memory, &what);
            history.append_entries(1, 40);
            history.run_all().unwrap();
            let memory = history.into_memory();
            drop(reopen(&last.after_crash(Fate::Lost), memory, &what));
        }
        // Only the process died; what the next one builds on must survive a power failure.
        let what = format!("seed {seed}, process killed at call {at}");
        disk.restart();
        let memory = reopen(&disk, memory, &what).into_memory();
        drop(reopen(&disk.after_crash(Fate::Lost), memory, &what));
    }
}

#[test]
fn crash_at_any_call_loses_nothing_reported_and_invents_nothing() {
    for seed in 0..4 {
        check(seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn random_history_is_read_back(seed: u64, rounds in 1_usize..6, steps in 1_usize..80) {
        let disk = CrashDisk::new();
        let mut history = History::create(&disk, seed).unwrap();
        for _ in 0..rounds {
            let mut memory = go_on(history, steps);
            history = {
                let kept = disk.after_crash(Fate::Kept);
                memory = reopen(&kept, memory, "power failed").into_memory();
                reopen(&disk, memory, "the process ended")
            };
        }
    }
}
