//! What one request costs the server in allocations and wake-ups, counted and not timed, so that a loaded machine
//! counts the same.
//!
//! A whole server runs in this process on unix sockets. The client is a thread that writes batches of requests encoded
//! before and reads the answers into a buffer it has: while it is counted it allocates nothing, so every allocation is
//! the server's. Requests come in batches on one connection, as from a client with many in flight. The bounds are what
//! the path takes today with some room; a task, a channel or a copy per request more does not fit in it. The disk is
//! not asked to make anything durable: how long it takes would decide who writes, and who wakes whom.

#![allow(clippy::unwrap_used)] // What fails here fails the test.

mod client;
mod load;

use std::alloc::System;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use client::Client;
use load::Load;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests that one write holds.
const BATCH: usize = 64;
/// Batches that are not counted: tables grow, threads start.
const WARM_UP: usize = 50;
/// Batches that are counted.
const COUNTED: usize = 150;

/// What the server may take per request.
struct Bound {
    allocations: f64,
    wake_ups: f64,
}

impl Bound {
    fn new(allocations: f64, wake_ups: f64) -> Self {
        Self {
            allocations,
            wake_ups,
        }
    }
}

#[test]
fn requests_take_few_allocations_and_no_wake_up_each() {
    let server = Server::start();
    let mut client = server.connect();
    client.prepare();
    let mut report = Vec::new();
    for (load, bound) in [
        (Load::put(), Bound::new(0.6, 0.2)),
        (Load::txn(), Bound::new(0.5, 0.2)),
        (Load::range(), Bound::new(0.06, 0.1)),
        (Load::keep_alive(), Bound::new(0.1, 0.2)),
    ] {
        let mut batch = client.encode(&load, BATCH);
        for _ in 0..WARM_UP {
            client.exchange(&mut batch);
        }
        let (wake_ups, region) = (wake_ups(), Region::new(ALLOCATOR));
        for _ in 0..COUNTED {
            client.exchange(&mut batch);
        }
        let counted = region.change();
        let per_request = |count: usize| count as f64 / (BATCH * COUNTED) as f64;
        let allocations = per_request(counted.allocations + counted.reallocations);
        let woken = per_request(self::wake_ups() - wake_ups);
        report.push(format!(
            "{}: {allocations:.2} allocations, {woken:.3} wake-ups",
            load.name
        ));
        assert!(
            allocations <= bound.allocations && woken <= bound.wake_ups,
            "{} takes more per request than it may: {report:#?}",
            load.name
        );
    }
    for (load, all_max) in [(Load::put(), 2.0), (Load::large_put(), 3.0)] {
        let (core, all) = lone_put(&mut client, &load, all_max);
        report.push(format!(
            "lone {}: {all:.3} wake-ups, {core:.3} of the core thread",
            load.name
        ));
    }
    eprintln!("per request: {report:#?}");
}

/// Puts, one after the other, and returns how often each woke the core thread and any thread. Its connection is to take
/// the core thread's place, and an answer that it gives itself must not wake it again: the runtime would wake a second
/// worker for that. Changes of threads are most of what a lone put waits for beside the disk.
fn lone_put(client: &mut Client, load: &Load, all_max: f64) -> (f64, f64) {
    const PUTS: usize = 500;
    const CORE_MAX: f64 = 0.5;
    let mut batch = client.encode(load, 1);
    client.exchange(&mut batch);
    let (core, all) = (wake_ups_of(is_core), wake_ups());
    for _ in 0..PUTS {
        client.exchange(&mut batch);
    }
    let per_put = |count: usize| count as f64 / PUTS as f64;
    let woken = (
        per_put(wake_ups_of(is_core) - core),
        per_put(wake_ups() - all),
    );
    // With one processor there is one worker, which must not stand still behind a disk.
    let shares = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    assert!(
        !shares || woken.0 <= CORE_MAX && woken.1 <= all_max,
        "a lone {} wakes the core thread and all threads {woken:?} times",
        load.name
    );
    woken
}

fn is_core(thread: &str) -> bool {
    thread == "core"
}

/// How often threads of this process, but for the client's, went to sleep and so had to be woken.
fn wake_ups() -> usize {
    wake_ups_of(|thread| thread != client::THREAD)
}

/// The same of some threads, by their names.
fn wake_ups_of(is_counted: impl Fn(&str) -> bool) -> usize {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if !is_counted(read("comm").trim()) {
            continue;
        }
        let status = read("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.map_or(0, |count| count.trim().parse::<usize>().unwrap());
    }
    sum
}

/// A server in this process. It ends with it.
struct Server {
    folder: PathBuf,
}

impl Server {
    fn start() -> Self {
        let folder =
            std::env::temp_dir().join(format!("kvorum-per-request-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let url = |name: &str| format!("unix://{}", folder.join(name).display());
        let peer = url("peer");
        let arguments = [
            format!("--data-dir={}", folder.join("data").display()),
            format!("--listen-client-urls={}", url("client")),
            format!("--advertise-client-urls={}", url("client")),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--log-level=error".to_owned(),
            "--unsafe-no-fsync".to_owned(),
        ];
        std::thread::spawn(move || {
            kvorum_server::run(arguments.into_iter().map(Into::into), std::iter::empty())
        });
        Self { folder }
    }

    fn connect(&self) -> Client {
        // Bounded by the test runner; a server that does not come up says why on standard error.
        loop {
            if let Ok(client) = Client::connect(&self.folder.join("client")) {
                return client;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all::<&Path>(&self.folder);
    }
}
