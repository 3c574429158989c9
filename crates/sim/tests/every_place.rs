//! One short history, disturbed at every place in turn: the log is created, written through several tiny files, the
//! process is killed, the log is replayed, written on, and opened once more at the end.

use kvorum_sim::disk::Fault;
use kvorum_sim::judge;
use kvorum_sim::world::{Trial, World};

/// Deaths between two steps of a compaction that a fault at each disk call must bring.
const COMPACTING: u64 = 20;

/// Histories beside the first, in which other clients do other things: each is disturbed at every place, too.
const MORE_HISTORIES: std::ops::RangeInclusive<u64> = 2..=4;

/// Disk calls and jobs of an undisturbed history.
fn undisturbed(seed: u64) -> (u64, u64) {
    let trial = Trial {
        seed,
        ..Trial::default()
    };
    let mut world = World::of_trial(trial, false);
    let report = judge(&mut world, 0);
    assert_eq!(report.violations, []);
    assert!(report.counts["log files begun"] >= 3, "{:?}", report.counts);
    assert!(report.counts["writes"] >= 50, "{:?}", report.counts);
    let (calls, jobs) = world.disk_work_before_rest();
    assert!(calls > 150 && jobs > 50, "{calls} calls, {jobs} jobs");
    (calls, jobs)
}

/// Lets a trial run; `happened` names what must have been counted more often than without the fault. Returns how often the
/// process died in the midst of a compaction.
fn check(trial: Trial, happened: &str) -> u64 {
    let report = judge(&mut World::of_trial(trial, false), 0);
    assert_eq!(report.violations, [], "{trial:?}");
    assert!(report.counts[happened] > 0, "{trial:?}: {happened}");
    let compacting = report.counts.get("deaths during a compaction");
    compacting.copied().unwrap_or_default()
}

/// A fault at each call of a history up to the last restart, by when plans are forgotten. Returns how often the process
/// died in the midst of a compaction.
fn at_each_call_of(seed: u64, fault: Fault, lucks: u64, happened: &str) -> u64 {
    let (calls, _) = undisturbed(seed);
    let mut compacting = 0;
    for call in 0..calls {
        for luck in 0..lucks {
            let trial = Trial {
                seed,
                luck,
                call: Some((call, fault)),
                ..Trial::default()
            };
            compacting += check(trial, happened);
        }
    }
    compacting
}

fn at_each_call(fault: Fault, lucks: u64, happened: &str) {
    let compacting = at_each_call_of(0, fault, lucks, happened);
    if fault != Fault::Full {
        assert!(
            compacting >= COMPACTING,
            "{compacting} deaths in the midst of a compaction"
        );
    }
}

#[test]
fn power_loss_before_each_call() {
    at_each_call(Fault::CrashBefore, 3, "power losses");
}

#[test]
fn power_loss_after_each_call() {
    at_each_call(Fault::CrashAfter, 3, "power losses");
}

#[test]
fn input_output_error_at_each_call() {
    at_each_call(Fault::Fail, 3, "disk calls failed");
}

#[test]
fn full_disk_at_each_call() {
    at_each_call(Fault::Full, 3, "disk calls refused by a full disk");
}

#[test]
fn power_loss_before_each_call_of_more_histories() {
    for seed in MORE_HISTORIES {
        at_each_call_of(seed, Fault::CrashBefore, 1, "power losses");
    }
}

#[test]
fn power_loss_after_each_call_of_more_histories() {
    for seed in MORE_HISTORIES {
        at_each_call_of(seed, Fault::CrashAfter, 1, "power losses");
    }
}

#[test]
fn each_job_hangs() {
    let (_, jobs) = undisturbed(0);
    for job in 0..jobs {
        check(
            Trial {
                hanging_job: Some(job),
                ..Trial::default()
            },
            "disk jobs hung",
        );
    }
}

#[test]
fn damage_in_each_byte_at_rest_is_refused_or_harmless() {
    // With other seeds the last record may reach into a sector with nothing but zeros of its own; damage in such a
    // record cannot be told from a torn write, in this format or by official members.
    let trial = Trial {
        seed: 1,
        ..Trial::default()
    };
    let mut world = World::of_trial(trial, false);
    assert_eq!(judge(&mut world, 0).violations, []);
    world.damage_every_byte();
    assert_eq!(world.violations(), []);
    assert!(
        world.counts()["damage refused"] > 5_000,
        "{:?}",
        world.counts()
    );
}
