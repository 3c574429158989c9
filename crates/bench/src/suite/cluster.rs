//! Three members on one machine. CPU and memory are added up over them.

use std::time::Duration;

use super::{Fixture, Group, Size, Spec, Stage, accept, failover, steady_puts};
use crate::endpoint::Endpoint;
use crate::keys::KeySpace;
use crate::load::{Kind, Load};
use crate::measure;
use crate::results::{Outcome, Series, median};
use crate::usage::Memory;

const MEMBERS: usize = 3;

pub(super) fn groups(size: Size) -> Vec<Group> {
    vec![
        Group {
            fixture: Fixture::fresh(MEMBERS),
            scenarios: loads(size),
        },
        Group {
            fixture: Fixture::filled(MEMBERS, KeySpace::short(100, 256)),
            scenarios: vec![kills(size), terminations(size)],
        },
        joining(
            "member-join",
            size.pick(100, 60_000, 250_000),
            size.pick(100.0, 200.0, 500.0),
        ),
        joining("member-join-gb", size.pick(100, 250_000, 250_000), 200.0),
    ]
}

fn loads(size: Size) -> Vec<Spec> {
    let small = |load: Load| Load {
        connections: load.connections.min(size.pick(4, usize::MAX, usize::MAX)),
        keys: KeySpace::short(size.pick(100, 10_000, 10_000), 256),
        ..load
    };
    let leader = |stage: &Stage<'_>| Ok(stage.servers.only(stage.servers.leader()?));
    let follower = |stage: &Stage<'_>| Ok(stage.servers.only(stage.servers.follower()?));
    vec![
        Spec::load_on(
            "cluster-put",
            "3 members: put through the leader, 100 × 10",
            small(Load::new(Kind::Put)),
            leader,
        ),
        Spec::load_on(
            "cluster-put-sequential",
            "3 members: put through the leader, one after the other",
            small(Load::sequential(Kind::Put)),
            leader,
        ),
        Spec::load(
            "cluster-put-all",
            "3 members: put through all members, 100 × 10",
            small(Load::new(Kind::Put)),
        ),
        Spec::load_on(
            "cluster-range-sequential",
            "3 members: linearizable range through a follower, one after the other",
            small(Load::sequential(Kind::Range)),
            follower,
        ),
        Spec::load_on(
            "cluster-range",
            "3 members: linearizable range through a follower, 100 × 10",
            small(Load::new(Kind::Range)),
            follower,
        ),
    ]
}

fn kills(size: Size) -> Spec {
    let times = size.pick(1, 5, 20);
    let play = move |stage: &mut Stage<'_>| {
        let mut gaps = Vec::new();
        for _ in 0..times {
            let leader = stage.servers.leader()?;
            let survivors = stage.servers.target().endpoints;
            let dead = stage.servers.only(leader).first()?.address;
            let lives = |one: &Endpoint| one.address != dead;
            let survivors: Vec<_> = survivors.into_iter().filter(lives).collect();
            let probe = failover::Probe::open(&survivors)?;
            stage.servers.kill(leader)?;
            gaps.push(probe.until_first_put()?.as_secs_f64() * 1e3);
            stage.servers.restart(leader)?;
        }
        Ok(spread(Outcome::default(), "gap", &gaps))
    };
    let what = format!("leader SIGKILL to the first acknowledged put, {times} times");
    Spec::new("leader-kill", &what, play)
        .figure("gap", "median", "ms")
        .figure("gap_max", "longest", "ms")
        .long()
}

fn terminations(size: Size) -> Spec {
    let times = size.pick(1, 5, 20);
    let play = move |stage: &mut Stage<'_>| {
        let (mut gaps, mut errors) = (Vec::new(), 0);
        for _ in 0..times {
            let leader = stage.servers.leader()?;
            let own = stage.servers.only(leader).first()?.clone();
            let mut endpoints = stage.servers.target().endpoints;
            endpoints.retain(|one| one.address != own.address);
            endpoints.insert(0, own);
            let user = failover::User::open(&endpoints)?;
            let seen = user.through(|| stage.servers.ask_to_end(leader))?;
            gaps.push(seen.longest_gap.as_secs_f64() * 1e3);
            errors += seen.errors;
            stage.servers.end(leader)?;
            stage.servers.restart(leader)?;
        }
        let outcome = spread(Outcome::default(), "gap", &gaps);
        Ok(outcome.figure("errors", errors as f64))
    };
    let what = format!("leader SIGTERM under puts, one per 2 ms, {times} times");
    Spec::new("leader-term", &what, play)
        .figure(
            "gap",
            "longest time without an acknowledged put, median",
            "ms",
        )
        .figure("gap_max", "the same, longest", "ms")
        .figure("errors", "errors that users see, all together", "")
        .long()
}

/// The median, the longest, and all of them as a series.
fn spread(mut outcome: Outcome, name: &str, numbers: &[f64]) -> Outcome {
    let points = numbers.iter().enumerate();
    outcome.series.push(Series {
        name: name.to_owned(),
        unit: "ms".to_owned(),
        points: points
            .map(|(place, number)| (place as f64, *number))
            .collect(),
    });
    outcome
        .figure(name, median(numbers.to_vec()).unwrap_or_default())
        .figure(
            &format!("{name}_max"),
            numbers.iter().copied().fold(0.0, f64::max),
        )
}

/// A member joins a cluster that has so many keys, while so many puts in a second go on.
fn joining(name: &str, keys: u64, rate: f64) -> Group {
    let keys = KeySpace::short(keys, 4096);
    let megabytes = keys.count * keys.value_bytes as u64 / 1_000_000;
    let play = move |stage: &mut Stage<'_>| {
        let leader = stage.servers.only(stage.servers.leader()?);
        let puts = Load {
            slice_seconds: Some(0.1),
            ..steady_puts(keys, rate)
        };
        // Both windows are as long, so that a stall of the machine strikes the quiet one as likely.
        let window = stage.times.window.max(stage.size.pick(
            Duration::from_secs(1),
            Duration::from_secs(10),
            Duration::from_secs(30),
        ));
        let times = measure::Times {
            window,
            ..stage.times
        };
        let quiet = accept(measure::run(&puts, &leader, times)?)?;
        let servers = &mut *stage.servers;
        let (run, took) = measure::run_during(&puts, &leader, times, move |_| {
            let (place, took) = servers.join()?;
            let memory = Memory::of(&servers.only(place).pids)?;
            Ok((took, memory))
        })?;
        stage.servers.leave()?;
        Ok(Outcome::default()
            .phase("quiet", quiet)
            .phase("a member joins", accept(run)?)
            .figure("took", took.0.as_secs_f64())
            .figure("peak", took.1.peak_bytes as f64 / 1e6))
    };
    let what =
        format!("a fourth member joins a cluster with {megabytes} MB; put, {rate} per second");
    Group {
        // A new member gets a snapshot, not the log from its beginning.
        fixture: Fixture::filled(MEMBERS, keys)
            .large()
            .flag("--snapshot-count=10000"),
        scenarios: vec![
            Spec::new(name, &what, play)
                .figure(
                    "took",
                    "start of the process until it has applied all that was there",
                    "s",
                )
                .figure(
                    "peak",
                    "memory of all members, resident at most, added up",
                    "MB",
                ),
        ],
    }
}
