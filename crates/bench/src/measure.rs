//! One run: a window of time in which operations and CPU are counted together.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::latency::{Latencies, Percentiles};
use crate::load::{Load, Target};
use crate::tally::{Tally, Window};
use crate::usage::{Cpu, Memory, load_average, stolen_ms};

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
    /// Operations that began again because something else was faster.
    pub(crate) conflicts: u64,
    /// Events that watchers got beside the operations, per second.
    pub(crate) events_per_second: f64,
    /// Slices of the window, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) timeline: Vec<Slice>,
    /// None if the server's process is not known.
    pub(crate) server: Option<ServerUse>,
    /// CPU of this tool per operation, in microseconds.
    pub(crate) generator_cpu_us: f64,
    /// Of the machine, over the last minute: what else ran.
    pub(crate) load_average: f64,
    /// What the host of this machine took, where it took any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stolen: Option<Stolen>,
}

/// CPU time that the host of a virtual machine gave to others during a run, all cores added up. Nobody here runs then, so
/// it shows as latency of whoever has requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stolen {
    /// In all, in milliseconds.
    pub(crate) total_ms: u64,
    /// At most between two looks, which are 50 ms apart or, when the looking thread did not run either, more.
    pub(crate) burst_ms: u64,
    /// When that ended, in seconds after the start of the window.
    pub(crate) burst_at: f64,
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// Its end, in seconds after the start of the window.
    pub(crate) until: f64,
    pub(crate) operations: u64,
    pub(crate) latency_us: Percentiles,
}

/// What the server used: all its processes together.
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
    server: Cpu,
    own: Cpu,
}

impl Look {
    fn now(server: &[u32]) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            server: Cpu::of(server)?,
            own: Cpu::own()?,
        })
    }
}

/// Runs a load whose keys are there.
pub(crate) fn run(load: &Load, target: &Target, times: Times) -> Result<Run> {
    let (run, ()) = run_during(load, target, times, |_| Ok(()))?;
    Ok(run)
}

/// Runs a load, and beside it something else, which is told the window and should wait for it.
pub(crate) fn run_during<T: Send>(
    load: &Load,
    target: &Target,
    times: Times,
    beside: impl FnOnce(Window) -> Result<T> + Send,
) -> Result<(Run, T)> {
    let jobs = load.open(target)?;
    let progress = AtomicU64::new(0);
    let from = Instant::now() + times.warm_up;
    let window = Window {
        from,
        until: from + times.window,
    };
    let panicked = |_| anyhow::anyhow!("a thread panicked");
    let (tally, looks, other) = std::thread::scope(|scope| {
        let progress = &progress;
        let other = scope.spawn(move || beside(window));
        let spawn = |job: crate::load::Job| scope.spawn(move || job(window, progress));
        let threads: Vec<_> = jobs.into_iter().map(spawn).collect();
        let failed = || threads.iter().any(ScopedJoinHandle::is_finished);
        let looks = watch(window, &target.pids, progress, failed);
        let mut tally = Tally::default();
        for thread in threads {
            tally.merge(thread.join().map_err(panicked)??);
        }
        let other = other.join().map_err(panicked)??;
        anyhow::Ok((tally, looks?, other))
    })?;
    let run = summarise(tally, &looks, &target.pids, load.slice_seconds)?;
    Ok((run, other))
}

/// Adds up what the host takes.
struct Thief {
    seen_ms: u64,
    stolen: Stolen,
}

impl Thief {
    fn new() -> Self {
        Self {
            seen_ms: stolen_ms(),
            stolen: Stolen::default(),
        }
    }

    fn look(&mut self, seen_ms: u64, since_start: Duration) {
        let more = seen_ms.saturating_sub(self.seen_ms);
        self.seen_ms = seen_ms;
        self.stolen.total_ms += more;
        if more > self.stolen.burst_ms {
            self.stolen.burst_ms = more;
            self.stolen.burst_at = since_start.as_secs_f64();
        }
    }

    fn found(&self) -> Option<Stolen> {
        (self.stolen.total_ms > 0).then_some(self.stolen)
    }
}

/// Sleeps through the run, shows how it goes on a terminal, looks at the CPU at both ends of the window, and
/// at what the host takes in between.
fn watch(
    window: Window,
    server: &[u32],
    progress: &AtomicU64,
    failed: impl Fn() -> bool,
) -> Result<(Look, Look, Option<Stolen>)> {
    const STEP: Duration = Duration::from_millis(50);
    const LINES_EVERY: Duration = Duration::from_secs(1);
    let mut screen = std::io::stderr();
    let shows = screen.is_terminal();
    let mut first = None;
    let mut thief = Thief::new();
    let mut shown = (Instant::now(), 0);
    loop {
        let now = Instant::now();
        if first.is_none() && now >= window.from {
            first = Some(Look::now(server)?);
            thief = Thief::new();
        }
        thief.look(stolen_ms(), now.saturating_duration_since(window.from));
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
    Ok((first, last, thief.found()))
}

fn summarise(
    tally: Tally,
    looks: &(Look, Look, Option<Stolen>),
    server: &[u32],
    slice_seconds: Option<f64>,
) -> Result<Run> {
    let (first, last, stolen) = looks;
    let seconds = (last.at - first.at).as_secs_f64();
    let operations = tally.latencies.total();
    let per_operation = |microseconds: u64| microseconds as f64 / operations.max(1) as f64;
    let used = last.server.since(first.server);
    let server_use = ServerUse {
        cpu_us: per_operation(used.total_us()),
        cpu_system_us: per_operation(used.system_us),
        cores: used.total_us() as f64 / 1e6 / seconds,
        memory: Memory::of(server)?,
    };
    let slices = tally.slices.iter().enumerate();
    let slice = |(place, latencies): (usize, &Latencies)| Slice {
        until: (place + 1) as f64 * slice_seconds.unwrap_or_default(),
        operations: latencies.total(),
        latency_us: latencies.percentiles(),
    };
    Ok(Run {
        seconds,
        operations,
        per_second: operations as f64 / seconds,
        latency_us: tally.latencies.percentiles(),
        refused: tally.refused,
        refusal: tally.refusal,
        unanswered: tally.unanswered,
        conflicts: tally.conflicts,
        events_per_second: tally.events as f64 / seconds,
        timeline: slices.map(slice).collect(),
        server: (!server.is_empty()).then_some(server_use),
        generator_cpu_us: per_operation(last.own.since(first.own).total_us()),
        load_average: load_average(),
        stolen: *stolen,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Stolen, Thief};

    #[test]
    fn the_largest_burst_is_kept_with_its_time() {
        let mut thief = Thief {
            seen_ms: 100,
            stolen: Stolen::default(),
        };
        assert_eq!(thief.found(), None);
        for (seen_ms, at) in [(100, 1), (110, 2), (150, 3), (160, 4)] {
            thief.look(seen_ms, Duration::from_secs(at));
        }
        let expected = Stolen {
            total_ms: 60,
            burst_ms: 40,
            burst_at: 3.0,
        };
        assert_eq!(thief.found(), Some(expected));
    }
}
