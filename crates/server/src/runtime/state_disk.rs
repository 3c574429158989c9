//! The threads that bring the state into files.
//!
//! One writes what a checkpoint waits for, the other copies segments, for which nothing waits. Both write in small
//! steps and let the log go first: its groups are what clients wait for, and they share a disk. When puts fill the
//! memory faster than that, the state goes as fast as it can: applying stops where too much of it waits. A job that
//! fails ends the process. At the end of the process both are left where they are: a file that no manifest lists is no part of
//! the state.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kvorum_member::checkpoint::{Done, Executor, Job, Lane};
use kvorum_storage::checkpoint::StateError;
use kvorum_storage::vfs::Vfs;

use super::core_thread::Command;
use super::disk::Load;

/// Bytes per second that a checkpoint may write while the log has work for the disk and no other job of the state
/// waits.
const STATE_BYTES_PER_SECOND: u64 = 128 << 20;
/// Bytes per second that the copier may write while the log is idle.
const COPIER_BYTES_PER_SECOND: u64 = 64 << 20;
/// By how much the copier slows down while the log has work for the disk.
const COPIER_SLOWDOWN: u32 = 4;
/// What a step of the copier counts for that wrote nothing: it looked at some rows.
const LOOK_BYTES: u64 = 16 << 10;

/// Sends jobs to the thread of their lane.
pub(super) struct StateThreads {
    state: Sender<Job>,
    /// Jobs of the state that were handed over and are not done.
    unfinished: Arc<AtomicUsize>,
    copier: Sender<Job>,
}

impl StateThreads {
    /// Starts both threads. What they finish arrives as [`Command::StateDone`]; a failure as [`Command::Failed`].
    pub(super) fn start<V: Vfs>(
        executor: Executor<V>,
        load: &Load,
        done: &Arc<OnceLock<Sender<Command>>>,
    ) -> std::io::Result<Self> {
        let (state, jobs) = channel();
        let unfinished = Arc::new(AtomicUsize::new(0));
        let (busy, waiting) = (load.clone(), Arc::clone(&unfinished));
        let pace = move |bytes| {
            if busy.is_busy() && waiting.load(Ordering::Relaxed) <= 1 {
                std::thread::sleep(time_for(bytes, STATE_BYTES_PER_SECOND));
            }
        };
        let finished = Arc::clone(&unfinished);
        let mut run = runner(executor.clone(), pace);
        let run = move |job| {
            let result = run(job);
            finished.fetch_sub(1, Ordering::Relaxed);
            result
        };
        spawn("state", jobs, run, Arc::clone(done))?;
        let (copier, jobs) = channel();
        let busy = load.clone();
        let pace = move |bytes: usize| {
            let bytes = bytes.max(LOOK_BYTES as usize);
            let slow = if busy.is_busy() { COPIER_SLOWDOWN } else { 1 };
            std::thread::sleep(time_for(bytes, COPIER_BYTES_PER_SECOND) * slow);
        };
        spawn("copier", jobs, runner(executor, pace), Arc::clone(done))?;
        Ok(Self {
            state,
            unfinished,
            copier,
        })
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

fn time_for(bytes: usize, per_second: u64) -> Duration {
    Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / per_second)
}

fn runner<V: Vfs>(
    executor: Executor<V>,
    mut pace: impl FnMut(usize) + Send + 'static,
) -> impl FnMut(Job) -> Result<Done, StateError> + Send + 'static {
    move |job| executor.run(job, &mut pace)
}

fn spawn(
    name: &str,
    jobs: Receiver<Job>,
    mut run: impl FnMut(Job) -> Result<Done, StateError> + Send + 'static,
    done: Arc<OnceLock<Sender<Command>>>,
) -> std::io::Result<()> {
    let run = move || {
        for job in jobs {
            let result = run(job);
            let failed = result.is_err();
            let command = match result {
                Ok(done) => Command::StateDone(done),
                Err(error) => Command::Failed(chain(&error)),
            };
            if let Some(sender) = done.get() {
                let _ = sender.send(command);
            }
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
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
