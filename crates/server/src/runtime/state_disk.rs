//! The threads that bring the state into files.
//!
//! One writes what a checkpoint waits for, the other copies segments, for which nothing waits. Both write in small
//! steps and let the log go first: its groups are what clients wait for, and they share a disk. The copier goes as fast
//! as these groups do not notice ([`Pace`]). When puts fill the memory faster than that, the state goes as fast as it
//! can: applying stops where too much of it waits. A job that fails ends the process. At the end of the process both
//! are left where they are: a file that no manifest lists is no part of
//! the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use kvorum_member::checkpoint::{Done, Executor, Job, Lane};
use kvorum_mvcc::Freed;
use kvorum_storage::checkpoint::StateError;
use kvorum_storage::vfs::Vfs;

use super::core_thread::Command;
use super::disk::Load;
use super::door::Door;
use super::pace::{Latency, Pace, time_for};
use super::priority::lower_priority;
use crate::metrics::Metrics;

/// Bytes per second that a checkpoint may write while the log has work for the disk and no other job of the state
/// waits.
const STATE_BYTES_PER_SECOND: u64 = 128 << 20;
/// Bytes per second that the copier may write at most.
const COPIER_BYTES_PER_SECOND_MAX: u64 = 128 << 20;
/// What a step of the copier counts for that wrote nothing: it looked at some rows.
const LOOK_BYTES: usize = 16 << 10;

/// Sends jobs to the thread of their lane.
pub(super) struct StateThreads {
    state: Sender<Job>,
    /// Jobs of the state that were handed over and are not done.
    unfinished: Arc<AtomicUsize>,
    copier: Sender<Job>,
    free: Sender<Freed>,
}

impl StateThreads {
    /// Starts both threads. What they finish arrives as [`Command::StateDone`]; a failure as [`Command::Failed`].
    pub(super) fn start<V: Vfs>(
        executor: Executor<V>,
        load: &Load,
        done: &Arc<Door>,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (state, jobs) = channel();
        let unfinished = Arc::new(AtomicUsize::new(0));
        let (busy, waiting) = (load.clone(), Arc::clone(&unfinished));
        let mut seen = 0;
        let pace = move |bytes| {
            if busy.is_busy(&mut seen) && waiting.load(Ordering::Relaxed) <= 1 {
                std::thread::sleep(time_for(bytes as u64, STATE_BYTES_PER_SECOND));
            }
        };
        let latency = load.latency();
        let finished = Arc::clone(&unfinished);
        let mut run = runner(executor.clone(), latency, pace);
        let commits = Arc::clone(metrics);
        let run = move |job| {
            let commits = is_commit(&job).then_some(&commits.backend_commit);
            let begun = Instant::now();
            let result = run(job);
            if let Some(commits) = commits {
                commits.observe_duration(begun.elapsed());
            }
            finished.fetch_sub(1, Ordering::Relaxed);
            result
        };
        spawn("state", || {}, jobs, run, Arc::clone(done))?;
        let (copier, jobs) = channel();
        let mut speed = Pace::new(latency.clone(), COPIER_BYTES_PER_SECOND_MAX);
        let metrics = Arc::clone(metrics);
        let pace = move |bytes: usize| {
            let pause = speed.pause(bytes.max(LOOK_BYTES) as u64);
            metrics.copied_bytes.add(bytes as u64);
            metrics.copier_speed.set(speed.bytes_per_second() as f64);
            std::thread::sleep(pause);
        };
        spawn(
            "copier",
            lower_priority,
            jobs,
            runner(executor, latency, pace),
            Arc::clone(done),
        )?;
        Ok(Self {
            state,
            unfinished,
            copier,
            free: free_thread()?,
        })
    }

    /// Lets go of memory on a thread where nobody waits.
    pub(super) fn free(&self, freed: Freed) {
        let _ = self.free.send(freed);
    }

    /// Hands a job over. A thread that is gone has reported its failure already.
    pub(super) fn submit(&self, job: Job) {
        let lane = match job.lane() {
            Lane::State => {
                self.unfinished.fetch_add(1, Ordering::Relaxed);
                &self.state
            }
            Lane::Copier => &self.copier,
        };
        let _ = lane.send(job);
    }
}

/// Whether what was written before counts once this is durable.
fn is_commit(job: &Job) -> bool {
    matches!(job, Job::Manifest(_) | Job::Adopt)
}

fn free_thread() -> std::io::Result<Sender<Freed>> {
    let (free, freed) = channel::<Freed>();
    std::thread::Builder::new()
        .name("free".to_owned())
        .spawn(move || {
            lower_priority();
            freed.into_iter().for_each(drop);
        })?;
    Ok(free)
}

fn runner<V: Vfs, P: FnMut(usize) + Send + 'static>(
    executor: Executor<V>,
    latency: &Latency,
    mut pace: P,
) -> impl FnMut(Job) -> Result<Done, StateError> + Send + use<V, P> {
    let latency = latency.clone();
    move |job| {
        let _work = latency.disturb();
        executor.run(job, &mut pace)
    }
}

fn spawn(
    name: &str,
    begin: fn(),
    jobs: Receiver<Job>,
    mut run: impl FnMut(Job) -> Result<Done, StateError> + Send + 'static,
    done: Arc<Door>,
) -> std::io::Result<()> {
    let run = move || {
        begin();
        for job in jobs {
            let result = run(job);
            let failed = result.is_err();
            let command = match result {
                Ok(done) => Command::StateDone(done),
                Err(error) => Command::Failed(chain(&error)),
            };
            let _ = done.send(command);
            if failed {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
}

/// An error with what caused it.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
