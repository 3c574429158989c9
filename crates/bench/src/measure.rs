//! One run: a window of time in which operations and CPU are counted together.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::latency::Percentiles;
use crate::load::Load;
use crate::tally::{Tally, Window};
use crate::usage::{Cpu, Memory, load_average};

/// How long it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Not counted.
    pub(crate) warm_up: Duration,
    /// Counted.
    pub(crate) window: Duration,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    pub(crate) operations: u64,
    pub(crate) per_second: f64,
    pub(crate) latency_us: Percentiles,
    /// Failed calls by gRPC code; they are no operations.
    pub(crate) refused: BTreeMap<u32, u64>,
    /// What the server said to one of them.
    pub(crate) refusal: Option<String>,
    /// Requests without an answer at the end.
    pub(crate) unanswered: u64,
    /// None if the server's process is not known.
    pub(crate) server: Option<ServerUse>,
    /// CPU of this tool per operation, in microseconds.
    pub(crate) generator_cpu_us: f64,
    /// Of the machine, over the last minute: what else ran.
    pub(crate) load_average: f64,
}

/// What the server used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerUse {
    /// Per operation, in microseconds.
    pub(crate) cpu_us: f64,
    /// The kernel's part of it.
    pub(crate) cpu_system_us: f64,
    /// Cores kept busy.
    pub(crate) cores: f64,
    /// At the end.
    pub(crate) memory: Memory,
}

/// CPU of both sides at one moment.
struct Look {
    at: Instant,
    server: Option<Cpu>,
    own: Cpu,
}

impl Look {
    fn now(server: Option<u32>) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            server: server.map(Cpu::of).transpose()?,
            own: Cpu::own()?,
        })
    }
}

/// Runs a load whose keys are there. `server`: the process whose CPU and memory are told.
pub(crate) fn run(
    load: &Load,
    address: SocketAddr,
    times: Times,
    server: Option<u32>,
) -> Result<Run> {
    let jobs = load.open(address)?;
    let progress = AtomicU64::new(0);
    let from = Instant::now() + times.warm_up;
    let window = Window {
        from,
        until: from + times.window,
    };
    let (tally, looks) = std::thread::scope(|scope| {
        let progress = &progress;
        let spawn = |job: crate::load::Job| scope.spawn(move || job(window, progress));
        let threads: Vec<_> = jobs.into_iter().map(spawn).collect();
        let failed = || {
            threads
                .iter()
                .any(std::thread::ScopedJoinHandle::is_finished)
        };
        let looks = watch(window, server, progress, failed);
        let mut tally = Tally::default();
        for thread in threads {
            let counted = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))?;
            tally.merge(counted?);
        }
        anyhow::Ok((tally, looks?))
    })?;
    summarise(tally, &looks, server)
}

/// Sleeps through the run, shows how it goes on a terminal, and looks at the CPU at both ends of the window.
fn watch(
    window: Window,
    server: Option<u32>,
    progress: &AtomicU64,
    failed: impl Fn() -> bool,
) -> Result<(Look, Look)> {
    const STEP: Duration = Duration::from_millis(50);
    const LINES_EVERY: Duration = Duration::from_secs(1);
    let mut screen = std::io::stderr();
    let shows = screen.is_terminal();
    let mut first = None;
    let mut shown = (Instant::now(), 0);
    loop {
        let now = Instant::now();
        if first.is_none() && now >= window.from {
            first = Some(Look::now(server)?);
        }
        if now >= window.until || failed() {
            break;
        }
        if shows && now >= shown.0 + LINES_EVERY {
            let count = progress.load(Ordering::Relaxed);
            let rate = (count - shown.1) as f64 / (now - shown.0).as_secs_f64();
            let left = window.until.saturating_duration_since(now).as_secs();
            write!(
                screen,
                "\r{count:>12} answers {rate:>10.0}/s {left:>4} s to go "
            )?;
            screen.flush()?;
            shown = (now, count);
        }
        let next = if first.is_none() {
            window.from
        } else {
            window.until
        };
        std::thread::sleep(next.saturating_duration_since(now).min(STEP));
    }
    if shows {
        write!(screen, "\r{:60}\r", "")?;
    }
    let last = Look::now(server)?;
    let first = match first {
        Some(first) => first,
        None => Look::now(server)?,
    };
    Ok((first, last))
}

fn summarise(tally: Tally, looks: &(Look, Look), server: Option<u32>) -> Result<Run> {
    let (first, last) = looks;
    let seconds = (last.at - first.at).as_secs_f64();
    let operations = tally.latencies.total();
    ensure!(
        operations > 0,
        "no operation succeeded; refused: {:?} {:?}",
        tally.refused,
        tally.refusal
    );
    let per_operation = |microseconds: u64| microseconds as f64 / operations as f64;
    let server = match (server, first.server, last.server) {
        (Some(pid), Some(before), Some(after)) => {
            let used = after.since(before);
            Some(ServerUse {
                cpu_us: per_operation(used.total_us()),
                cpu_system_us: per_operation(used.system_us),
                cores: used.total_us() as f64 / 1e6 / seconds,
                memory: Memory::of(pid)?,
            })
        }
        _ => None,
    };
    Ok(Run {
        seconds,
        operations,
        per_second: operations as f64 / seconds,
        latency_us: tally.latencies.percentiles(),
        refused: tally.refused,
        refusal: tally.refusal,
        unanswered: tally.unanswered,
        server,
        generator_cpu_us: per_operation(last.own.since(first.own).total_us()),
        load_average: load_average(),
    })
}
