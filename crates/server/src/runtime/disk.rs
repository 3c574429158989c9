//! The two threads that carry out the log's jobs.
//!
//! One runs what somebody waits for (a group write and its sync, the change to the next file), the other what may be
//! slow (zeros ahead of the groups, removal of old files). A job that fails ends the process: after a failed sync
//! nobody knows what the disk holds, so nothing is tried again.
//!
//! The core thread may run a job of the foreground itself ([`DiskThreads::run`]). The log has at most one such job in
//! flight, so the lock around the executor is never waited for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kvorum_storage::vfs::Vfs;
use kvorum_storage::wal::{BackgroundExecutor, Executor, Job, Lane, WalError, Work};

use super::core_thread::Command;
use super::door::Door;
use super::pace::Latency;
use crate::metrics::Metrics;

/// Runs a job of the foreground.
type Foreground = Arc<Mutex<dyn FnMut(&Job) -> Result<(), WalError> + Send>>;

/// Whether the log has work for the disk that somebody waits for, and how long such work takes. Clones tell of the
/// same log.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    waiting: Arc<AtomicUsize>,
    /// Jobs that are done.
    done: Arc<AtomicUsize>,
    latency: Latency,
}

impl Load {
    /// Whether such a job is waiting or being done, or was done since `seen` was last given here.
    pub(super) fn is_busy(&self, seen: &mut usize) -> bool {
        let done = self.done.load(Ordering::Relaxed);
        self.waiting.load(Ordering::Relaxed) > 0 || done != std::mem::replace(seen, done)
    }

    /// What a group write takes.
    pub(super) fn latency(&self) -> &Latency {
        &self.latency
    }
}

/// Sends jobs to the thread of their lane.
pub(super) struct DiskThreads {
    load: Load,
    executor: Foreground,
    foreground: Sender<Job>,
    background: Sender<Job>,
    threads: Vec<JoinHandle<()>>,
}

impl DiskThreads {
    /// Starts both threads. What they finish arrives as [`Command::JobDone`]; a failure as
    /// [`Command::Failed`].
    pub(super) fn start<V: Vfs>(
        executor: Executor<V>,
        background: BackgroundExecutor<V>,
        done: &Arc<Door>,
        metrics: &Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (foreground_jobs, foreground) = channel();
        let (background_jobs, slow) = channel();
        let load = Load::default();
        let executor: Foreground = {
            let (metrics, load) = (Arc::clone(metrics), load.clone());
            let mut executor = executor;
            Arc::new(Mutex::new(move |job: &Job| {
                let result = run_timed(&mut executor, job, &metrics, &load.latency);
                load.done.fetch_add(1, Ordering::Relaxed);
                result
            }))
        };
        let timed = {
            let (executor, load) = (Arc::clone(&executor), load.clone());
            move |job: &Job| {
                let done = run(&executor, job);
                load.waiting.fetch_sub(1, Ordering::Relaxed);
                done
            }
        };
        let slow_run = {
            let mut background = background;
            move |job: &Job| background.run(job)
        };
        let threads = vec![
            spawn("wal", foreground, Arc::clone(done), timed)?,
            spawn("wal-background", slow, Arc::clone(done), slow_run)?,
        ];
        Ok(Self {
            load,
            executor,
            foreground: foreground_jobs,
            background: background_jobs,
            threads,
        })
    }

    /// Hands a job over. A thread that is gone has reported its failure already.
    pub(super) fn submit(&self, job: Job) {
        let lane = match job.lane() {
            Lane::Foreground => {
                self.load.waiting.fetch_add(1, Ordering::Relaxed);
                &self.foreground
            }
            Lane::Background => &self.background,
        };
        let _ = lane.send(job);
    }

    /// Tells how busy the disk is with the log.
    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// Does a job of the foreground here and now.
    ///
    /// # Errors
    /// When the disk refuses; the process must stop.
    pub(super) fn run(&self, job: &Job) -> Result<(), WalError> {
        run(&self.executor, job)
    }

    /// Lets the threads finish what they have and end.
    pub(super) fn join(self) {
        drop((self.foreground, self.background));
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn spawn(
    name: &str,
    jobs: Receiver<Job>,
    done: Arc<Door>,
    mut run: impl FnMut(&Job) -> Result<(), WalError> + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            for job in jobs {
                let command = match run(&job) {
                    Ok(()) => Command::JobDone(job),
                    Err(error) => Command::Failed(error.to_string()),
                };
                let failed = matches!(command, Command::Failed(_));
                let _ = done.send(command);
                if failed {
                    return;
                }
            }
        })
}

fn run(executor: &Foreground, job: &Job) -> Result<(), WalError> {
    // A panic in a job ends the process.
    let mut run = executor.lock().unwrap_or_else(PoisonError::into_inner);
    run(job)
}

/// Writes a group and tells the metrics how long its durability took.
fn run_timed<V: Vfs>(
    executor: &mut Executor<V>,
    job: &Job,
    metrics: &Metrics,
    latency: &Latency,
) -> Result<(), WalError> {
    let before = executor.counts().bytes_written;
    let started = Instant::now();
    executor.run(job)?;
    if matches!(job.work, Work::Write { .. }) {
        let bytes = executor.counts().bytes_written - before;
        let took = started.elapsed();
        metrics.wal_fsync.observe_duration(took);
        latency.observe(took);
        metrics.wal_write_bytes.add(bytes as f64);
        // Write and sync are one call; there is no part before the sync.
        metrics.wal_write.observe_duration(Duration::ZERO);
    }
    Ok(())
}
