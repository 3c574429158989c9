//! Reads the state's files again, slowly, to find damage before a client or the next start does.
//!
//! A damaged segment ends the process with file and offset: what it holds cannot be served, and the other members
//! have it. A damaged manifest is written anew, because everything in it is in memory, too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kvorum_member::core;
use kvorum_mvcc::Scrub;
use kvorum_storage::checkpoint::Directory;
use kvorum_storage::vfs::OsVfs;
use tracing::{debug, error};

use super::Member;
use super::pace::{Latency, Pace};
use super::priority::lower_priority;
use super::state_disk::chain;

/// How much is read in one step.
const STEP_BYTES: usize = 256 << 10;
/// Bytes per second at most; fewer when clients would notice. 1 TB takes a day and a half.
const BYTES_PER_SECOND_MAX: u64 = 8 << 20;
/// No single sleep is longer, so that the thread sees when the member stops.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// A scrub over the files of one member.
pub(super) struct Scrubber {
    pub(super) member: Member,
    pub(super) directory: PathBuf,
    pub(super) latency: Latency,
    /// Time between two rounds.
    pub(super) pause: Duration,
}

impl Scrubber {
    /// Starts the thread. Nobody waits for it at the end of the process.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub(super) fn start(self) -> std::io::Result<()> {
        std::thread::Builder::new()
            .name("scrub".to_owned())
            .spawn(move || self.run())
            .map(drop)
    }

    fn run(self) {
        lower_priority();
        let directory = Directory::new(OsVfs::default(), self.directory.clone());
        let mut scrub = Scrub::default();
        let mut pace = Pace::new(self.latency.clone(), BYTES_PER_SECOND_MAX);
        let metrics = Arc::clone(self.member.shared_metrics());
        self.sleep(self.pause);
        while !self.member.is_stopping() {
            let work = self.latency.disturb();
            let step = scrub.step(&self.member.view(), STEP_BYTES);
            drop(work);
            match step {
                Ok(step) if step.is_round => {
                    self.check_manifest(&directory);
                    let now = SystemTime::now().duration_since(UNIX_EPOCH);
                    metrics.scrub_rounds.increment();
                    metrics
                        .scrub_last
                        .set(now.unwrap_or_default().as_secs() as f64);
                    debug!("read all files of the state again");
                    self.sleep(self.pause);
                }
                Ok(step) => {
                    metrics.scrub_bytes.add(step.bytes as u64);
                    self.sleep(pace.pause(step.bytes as u64));
                }
                Err(damage) => {
                    metrics.scrub_damages.increment();
                    let damage = chain(&directory.damaged(damage));
                    error!(damage, "a file of the state is damaged");
                    return self.member.disk_failed(damage);
                }
            }
        }
    }

    fn check_manifest(&self, directory: &Directory<OsVfs>) {
        if let Err(damage) = directory.manifest() {
            self.member.metrics().scrub_damages.increment();
            let damage = chain(&damage);
            error!(damage, "the manifest is damaged: it is written anew");
            self.member.tell_machines(core::Input::Checkpoint);
        }
    }

    fn sleep(&self, time: Duration) {
        let mut left = time;
        while left > Duration::ZERO && !self.member.is_stopping() {
            let now = left.min(SLEEP_MAX);
            std::thread::sleep(now);
            left -= now;
        }
    }
}
