//! One member: every kind of request.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Fixture, Group, Size, Spec, Stage, lease};
use crate::fan_out::Audience;
use crate::keys::KeySpace;
use crate::load::{Kind, Load};
use crate::results::Outcome;
use crate::usage::{Memory, ThreadTimes};

const MEGABYTE: f64 = 1e6;

pub(super) fn groups(size: Size) -> Vec<Group> {
    let mut scenarios = requests(size);
    scenarios.extend(watches(size));
    scenarios.extend(leases(size));
    scenarios.push(idle());
    vec![Group {
        fixture: Fixture::fresh(1),
        scenarios,
    }]
}

fn requests(size: Size) -> Vec<Spec> {
    let many = |kind| small(Load::new(kind), size);
    let one = |kind| small(Load::sequential(kind), size);
    let steady = Load {
        rate: Some(size.pick(200.0, 2000.0, 2000.0)),
        connections: 10,
        in_flight: 1000,
        ..one(Kind::Put)
    };
    let wide = KeySpace::short(size.pick(200, 20_000, 20_000), 256);
    let list = Load {
        keys: wide,
        limit: wide.count / 2,
        ..one(Kind::List)
    };
    let page = Load {
        keys: wide,
        limit: 500,
        ..one(Kind::Page)
    };
    vec![
        Spec::load(
            "put",
            "put, 100 connections × 10 in flight",
            many(Kind::Put),
        ),
        Spec::load("put-sequential", "put, one after the other", one(Kind::Put)),
        Spec::load("put-steady", "put, 2,000 per second (open loop)", steady),
        Spec::load(
            "range",
            "linearizable range of one key, 100 × 10",
            many(Kind::Range),
        ),
        Spec::load(
            "range-sequential",
            "linearizable range of one key, one after the other",
            one(Kind::Range),
        ),
        Spec::load("txn", "compare-and-put txn, 100 × 10", many(Kind::Txn)),
        Spec::load(
            "mixed",
            "half puts, half ranges, 100 × 10",
            many(Kind::Mixed),
        ),
        Spec::load(
            "stm",
            "read, then write if unchanged, 100 × 10",
            many(Kind::Stm),
        ),
        Spec::load(
            "list",
            "list 10,000 of 20,000 keys, one after the other",
            list,
        ),
        Spec::load(
            "page",
            "page of 500 of 20,000 keys with count, one after the other",
            page,
        ),
    ]
}

/// Fewer connections for a smoke test.
fn small(load: Load, size: Size) -> Load {
    Load {
        connections: load.connections.min(size.pick(4, usize::MAX, usize::MAX)),
        keys: KeySpace::short(size.pick(100, 10_000, 10_000), 256),
        ..load
    }
}

fn watches(size: Size) -> Vec<Spec> {
    let watch = |streams| Load {
        connections: streams,
        watchers: size.pick(20, 1000, 1000),
        ..Load::new(Kind::Watch)
    };
    let watchers = size.pick(20, 10_000, 10_000);
    let quiet = Load {
        rate: Some(20.0),
        in_flight: 100,
        watchers,
        watch_streams: size.pick(2, 10, 10),
        ..Load::sequential(Kind::Put)
    };
    let watched = Load {
        kind: Kind::PutWatched,
        ..quiet.clone()
    };
    let put_watched = Spec::new(
        "put-watched",
        "put, 20 per second, while 10,000 watchers on 10 streams get each",
        move |stage| {
            let target = stage.servers.target();
            let outcome = Outcome::default().phase("quiet", stage.run(&quiet, &target)?);
            Ok(outcome.phase("watched", stage.run(&watched, &target)?))
        },
    );
    let (streams, many) = size.pick((5, 50), (200, 100_000), (2000, 1_000_000));
    let memory = Spec::new(
        "watchers-memory",
        &format!("{many} watchers on {streams} connections"),
        move |stage| watchers_memory(stage, streams, many),
    );
    vec![
        Spec::load(
            "watch",
            "event to one of 1,000 watchers on one stream",
            watch(1),
        ),
        Spec::load(
            "watch-streams",
            "event to one of 1,000 watchers, each on its own connection",
            watch(size.pick(20, 1000, 1000)),
        ),
        put_watched,
        memory.figure("resident", "memory, resident", "MB").figure(
            "per_watcher",
            "memory per watcher",
            "B",
        ),
    ]
}

fn watchers_memory(stage: &mut Stage<'_>, streams: usize, watchers: usize) -> Result<Outcome> {
    let target = stage.servers.target();
    let before = Memory::of(&target.pids)?.resident_bytes as f64;
    let audience = Audience::open(&target, streams, watchers)?;
    let after = Memory::of(&target.pids)?.resident_bytes as f64;
    drop(audience);
    Ok(Outcome::default()
        .figure("resident", after / MEGABYTE)
        .figure("per_watcher", (after - before) / watchers as f64))
}

fn leases(size: Size) -> Vec<Spec> {
    let many = |kind| small(Load::new(kind), size);
    vec![
        Spec::load(
            "lease-grant",
            "lease grant, 100 × 10",
            many(Kind::LeaseGrant),
        ),
        Spec::load(
            "keep-alive",
            "lease keep-alive, 100 streams × 10",
            many(Kind::KeepAlive),
        ),
        lease::mass_expiry(size),
    ]
}

fn idle() -> Spec {
    let play = |stage: &mut Stage<'_>| {
        const SETTLES: Duration = Duration::from_millis(500);
        // However short the other windows are: what such a process does it does rarely.
        const WINDOW: Duration = Duration::from_secs(10);
        let pids = stage.servers.target().pids;
        std::thread::sleep(SETTLES);
        let (before, since) = (ThreadTimes::of(&pids)?, Instant::now());
        std::thread::sleep(WINDOW);
        let used = ThreadTimes::of(&pids)?.since(&before) as f64 / 1e9;
        let percent = used / since.elapsed().as_secs_f64() * 100.0;
        let resident = Memory::of(&pids)?.resident_bytes as f64 / MEGABYTE;
        Ok(Outcome::default()
            .figure("cpu", percent)
            .figure("resident", resident))
    };
    Spec::new("idle", "a member that is asked nothing", play)
        .figure("cpu", "CPU", "% of a core")
        .figure("resident", "memory, resident", "MB")
        .written("nothing")
}
