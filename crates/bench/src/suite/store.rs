//! One member with much data.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Fixture, Group, Size, Spec, Stage, accept, churn, steady_puts};
use crate::api;
use crate::endpoint::Endpoint;
use crate::keys::KeySpace;
use crate::load::{self, Kind, Load, Target};
use crate::measure::{self, Run, Times};
use crate::results::Outcome;
use crate::tally::Window;
use crate::usage::Memory;

const MEGABYTE: f64 = 1e6;

pub(super) fn groups(size: Size) -> Vec<Group> {
    let mut groups = vec![wide(size), busy(size), churn::group(size)];
    if size != Size::Quick {
        groups.extend([restart_large(size), larger_than_memory(size)]);
    }
    groups
}

/// Keys of 64 B with 256 B.
fn wide_keys(count: u64) -> KeySpace {
    KeySpace {
        count,
        key_bytes: 64,
        value_bytes: 256,
    }
}

/// Reading, keeping and reopening many keys.
fn wide(size: Size) -> Group {
    let keys = wide_keys(size.pick(2000, 1_000_000, 1_000_000));
    let words = size.pick("2,000", "1 M", "1 M");
    let list = Load {
        keys,
        limit: size.pick(100, 10_000, 10_000),
        ..Load::new(Kind::List)
    };
    let page = Load {
        keys,
        limit: 500,
        ..Load::new(Kind::Page)
    };
    Group {
        fixture: Fixture::filled(1, keys).large(),
        scenarios: vec![
            memory(&format!("memory with {words} keys of 64 B with 256 B each")),
            Spec::load_on_fixture(
                "list-wide",
                &format!("list {} of {words} keys", list.limit),
                list,
            ),
            Spec::load_on_fixture(
                "page-wide",
                &format!("page of 500 of {words} keys with count"),
                page,
            ),
            snapshot(&format!("snapshot of {words} keys, nothing else to do")),
            restart("restart", &format!("restart with {words} keys")),
        ],
    }
}

fn memory(what: &str) -> Spec {
    let play = |stage: &mut Stage<'_>| {
        let memory = Memory::of(&stage.servers.target().pids)?;
        Ok(memory_figures(Outcome::default(), memory))
    };
    with_memory(Spec::new("memory", what, play)).long()
}

fn with_memory(spec: Spec) -> Spec {
    spec.figure("anonymous", "memory, anonymous", "MB")
        .figure("resident", "memory, with mapped files", "MB")
        .figure("peak", "memory, resident at most", "MB")
}

fn memory_figures(outcome: Outcome, memory: Memory) -> Outcome {
    outcome
        .figure("anonymous", memory.anonymous_bytes as f64 / MEGABYTE)
        .figure("resident", memory.resident_bytes as f64 / MEGABYTE)
        .figure("peak", memory.peak_bytes as f64 / MEGABYTE)
}

fn snapshot(what: &str) -> Spec {
    let play = |stage: &mut Stage<'_>| {
        let began = Instant::now();
        let bytes = api::snapshot(stage.servers.target().first()?)? as f64;
        let seconds = began.elapsed().as_secs_f64();
        Ok(Outcome::default()
            .figure("rate", bytes / seconds / MEGABYTE)
            .figure("bytes", bytes / MEGABYTE))
    };
    Spec::new("snapshot", what, play)
        .figure("rate", "speed", "MB/s")
        .figure("bytes", "size", "MB")
}

fn restart(name: &str, what: &str) -> Spec {
    let play = |stage: &mut Stage<'_>| {
        let (before, revision) = api::count(stage.servers.target().first()?)?;
        let began = Instant::now();
        stage.servers.end(0)?;
        let ended = began.elapsed();
        let started = stage.servers.restart(0)?;
        let target = stage.servers.target();
        let memory = Memory::of(&target.pids)?;
        let after = api::count(target.first()?)?;
        ensure!(
            after == (before, revision),
            "{before} keys at revision {revision} before, {after:?} after"
        );
        let outcome = Outcome::default()
            .figure("end", ended.as_secs_f64())
            .figure("start", started.as_secs_f64());
        Ok(memory_figures(outcome, memory))
    };
    let spec = Spec::new(name, what, play)
        .figure("end", "SIGTERM until the process is gone", "s")
        .figure("start", "start until the first answer", "s");
    with_memory(spec).long()
}

/// Puts at a steady rate while something large goes on.
fn busy(size: Size) -> Group {
    let keys = KeySpace::short(size.pick(500, 100_000, 100_000), 256);
    let revisions = size.pick(1000, 200_000, 1_000_000);
    let rate = size.pick(200.0, 1000.0, 1000.0);
    let overwrite = move |stage: &Stage<'_>| load::fill(keys, revisions, &stage.servers.target());
    let puts = move || Load {
        slice_seconds: Some(size.pick(0.1, 0.1, 0.5)),
        ..steady_puts(keys, rate)
    };
    let words = size.pick("1,000", "200,000", "1 M");
    let compaction = Spec::new(
        "put-compaction",
        &format!("put, 1,000 per second, while {words} revisions are compacted"),
        move |stage| {
            overwrite(stage)?;
            quiet_and(stage, &puts(), "compaction", |endpoint, _| {
                let (_, revision) = api::count(endpoint)?;
                api::compact(endpoint, revision, true)?;
                Ok(None)
            })
        },
    );
    let snapshot = Spec::new(
        "put-snapshot",
        "put, 1,000 per second, while snapshots are saved",
        move |stage| {
            quiet_and(stage, &puts(), "snapshot", |address, window| {
                let (began, mut bytes) = (Instant::now(), 0);
                while Instant::now() < window.until {
                    bytes += api::snapshot(address)?;
                }
                Ok(Some(
                    bytes as f64 / began.elapsed().as_secs_f64() / MEGABYTE,
                ))
            })
        },
    );
    let reclaim = reclaim(size, puts());
    let overwritten = format!("{words} puts over them before each turn");
    Group {
        fixture: Fixture::filled(1, keys).large(),
        scenarios: vec![
            compaction
                .written(&overwritten)
                .figure("seconds", "compaction", "s"),
            snapshot
                .figure("seconds", "until the last snapshot is there", "s")
                .figure("result", "speed of snapshots", "MB/s"),
            reclaim,
        ],
    }
}

/// Of two kinds of keys that were written by turns, one is written again and the history compacted: half of what lies in
/// every old stretch of the history is dead. Kvorum then copies the other half by itself, which a Defragment does
/// elsewhere. The compaction itself is another scenario's: it is over when the window begins, which is short enough for
/// the copier to be busy in most of it.
fn reclaim(size: Size, puts: Load) -> Spec {
    const VALUE_BYTES: usize = 16 << 10;
    const WINDOW_MAX: Duration = Duration::from_secs(3);
    let stay = KeySpace {
        count: size.pick(50, 12_000, 20_000),
        key_bytes: 32,
        value_bytes: VALUE_BYTES,
    };
    let go = KeySpace {
        key_bytes: 40,
        ..stay
    };
    let what = "put, 1,000 per second, while half of the disk space is given back";
    let play = move |stage: &mut Stage<'_>| {
        let target = stage.servers.target();
        let endpoint = target.first()?;
        std::thread::scope(|scope| {
            let staying = scope.spawn(|| load::fill(stay, stay.count, &target));
            load::fill(go, go.count, &target)?;
            staying.join().expect("it does not panic")
        })?;
        load::fill(go, go.count, &target)?;
        let quiet = stage.run(&puts, &target)?;
        let (_, revision) = api::count(endpoint)?;
        accept_timeout(api::compact(endpoint, revision, true))?;
        let times = Times {
            window: stage.times.window.min(WINDOW_MAX),
            ..stage.times
        };
        let (run, (took, copied)) = measure::run_during(&puts, &target, times, move |window| {
            give_back(endpoint, window)
        })?;
        ensure!(
            size == Size::Smoke || copied.is_none_or(|bytes| bytes > 0.0),
            "the copier did not run in the window"
        );
        let mut outcome = Outcome::default()
            .phase("quiet", quiet)
            .phase("reclaim", accept(run)?)
            .figure("seconds", took.as_secs_f64());
        if let Some(bytes) = copied {
            outcome = outcome.figure("copied", bytes / MEGABYTE);
        }
        Ok(outcome)
    };
    Spec::new("put-reclaim", what, play)
        .written(&format!(
            "{} and {}, by turns, the second kind twice",
            stay.in_words(),
            go.in_words()
        ))
        .figure("seconds", "Defragment", "s")
        .figure("copied", "written by the copier in the window", "MB")
}

/// Defragments when the window begins. Returns how long that took, and what the copier wrote in the window, in bytes,
/// where there is one.
fn give_back(endpoint: &Endpoint, window: Window) -> Result<(Duration, Option<f64>)> {
    const COPIED: &str = "kvorum_copier_bytes_total";
    let wait = |until: Instant| {
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    };
    wait(window.from);
    let before = api::metric(endpoint, COPIED)?;
    let began = Instant::now();
    api::defragment(endpoint)?;
    let took = began.elapsed();
    wait(window.until);
    let after = api::metric(endpoint, COPIED)?;
    Ok((
        took,
        before.zip(after).map(|(before, after)| after - before),
    ))
}

/// A server that gives up waiting for its own compaction goes on with it.
fn accept_timeout(result: Result<()>) -> Result<()> {
    result.or_else(|error| {
        let timed_out = format!("{error:#}").contains("request timed out");
        if timed_out { Ok(()) } else { Err(error) }
    })
}

/// Two phases: nothing else goes on; the other thing begins with the window. `seconds` is how long it took, `result` the
/// number that it returned. A server that gives up waiting for its own compaction goes on with it, so the puts count and
/// only the time is missing.
fn quiet_and(
    stage: &Stage<'_>,
    puts: &Load,
    name: &str,
    other: impl FnOnce(&Endpoint, Window) -> Result<Option<f64>> + Send,
) -> Result<Outcome> {
    let target = stage.servers.target();
    let endpoint = target.first()?;
    let quiet = stage.run(puts, &target)?;
    let (run, (took, result)) = measure::run_during(puts, &target, stage.times, move |window| {
        std::thread::sleep(window.from.saturating_duration_since(Instant::now()));
        let began = Instant::now();
        match other(endpoint, window) {
            Ok(result) => Ok((Some(began.elapsed()), result)),
            Err(error) if format!("{error:#}").contains("request timed out") => Ok((None, None)),
            Err(error) => Err(error),
        }
    })?;
    let mut outcome = Outcome::default()
        .phase("quiet", quiet)
        .phase(name, accept(run)?);
    if let Some(took) = took {
        outcome = outcome.figure("seconds", took.as_secs_f64());
    }
    if let Some(result) = result {
        outcome = outcome.figure("result", result);
    }
    Ok(outcome)
}

fn restart_large(size: Size) -> Group {
    let keys = wide_keys(size.pick(3000, 10_000_000, 10_000_000));
    let words = size.pick("3,000", "10 M", "10 M");
    Group {
        fixture: Fixture::filled(1, keys).large(),
        scenarios: vec![restart(
            "restart-large",
            &format!("restart with {words} keys"),
        )],
    }
}

/// The same puts on 1 GB and on 20 GB, with 4 GiB of memory for the server and its pages.
fn larger_than_memory(size: Size) -> Group {
    const VALUE_BYTES: usize = 1024;
    let limit = size.pick(1 << 30, 4 << 30, 4 << 30);
    let count = |bytes: u64| bytes / VALUE_BYTES as u64;
    let small = KeySpace::short(count(size.pick(1 << 20, 1 << 30, 1 << 30)), VALUE_BYTES);
    let large = KeySpace::short(count(size.pick(2 << 20, 20 << 30, 20 << 30)), VALUE_BYTES);
    let rate = size.pick(200.0, 1000.0, 1000.0);
    let measured =
        move |stage: &Stage<'_>, keys: KeySpace, target: &Target| -> Result<(Run, Run)> {
            load::fill(keys, keys.count, target)?;
            // What was filled in goes to the disk before anything is measured.
            std::thread::sleep(Duration::from_secs(1).min(stage.times.window));
            let reads = Load {
                keys,
                ..Load::sequential(Kind::Range)
            };
            let puts = stage.run(&steady_puts(keys, rate), target)?;
            Ok((puts, stage.run(&reads, target)?))
        };
    let play = move |stage: &mut Stage<'_>| {
        let target = stage.servers.target();
        let (small_puts, small_reads) = measured(stage, small, &target)?;
        let (large_puts, large_reads) = measured(stage, large, &target)?;
        Ok(Outcome::default()
            .phase("puts on 1 GB", small_puts)
            .phase("puts on 20 GB", large_puts)
            .phase("reads of 1 GB", small_reads)
            .phase("reads of 20 GB", large_reads))
    };
    let what =
        "20 GB of data with 4 GiB of memory: put, 1,000 per second; range, one after the other";
    Group {
        fixture: Fixture {
            memory_bytes: Some(limit),
            ..Fixture::fresh(1).large()
        },
        scenarios: vec![
            Spec::new("larger-than-memory", what, play)
                .written(&format!("{}, then {}", small.in_words(), large.in_words()))
                .long(),
        ],
    }
}
