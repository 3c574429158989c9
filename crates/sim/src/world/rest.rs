//! The end of a run: faults and clients stop, everything comes to rest, and is read back after one more restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kvorum_mvcc::HashKv;
use kvorum_storage::wal::{self, WalError};

use super::{LOG_DIRECTORY, World, client};
use crate::history::Outcome;

/// Longer than any pause, hang, lifetime of a lease and retry of its revoke together.
const REST: Duration = Duration::from_secs(40);
/// Enough for a start without faults.
const RESTART: Duration = Duration::from_secs(8);
/// How many single bits are flipped in copies of the log.
const FLIPS: u64 = 3;

impl World {
    pub(super) fn rest(&mut self) {
        self.is_resting = true;
        self.disk_work = (self.disk.calls(), self.jobs);
        self.hang = None;
        self.disk.forget_plan();
        self.disk.set_capacity(u64::MAX);
        self.log.line(self.now, || "rest".to_owned());
        self.run_until(self.now + REST);
        let Some(before) = self.rested() else { return };
        self.history.rested_at = Some(before.0);
        // A trial ends with what shows the most.
        if self.mix.disturbs && self.schedule.chance(1, 2) {
            self.kill_for("killed at rest");
        } else {
            self.disk.crash();
            self.lose_power();
        }
        self.run_until(self.now + RESTART);
        let after = self.rested();
        if after.as_ref() != Some(&before) {
            return self.violated(
                "the same state after a restart",
                format!("{before:?}, then {after:?}"),
            );
        }
        self.read_back();
        self.kill();
        for _ in 0..FLIPS {
            self.flip_a_bit();
        }
    }

    /// Revision and hash of the store, when the member leads and all that has an end has ended.
    fn rested(&mut self) -> Option<(i64, HashKv)> {
        if !self.violations.is_empty() {
            return None;
        }
        let story = match &self.process {
            None => "it is down".to_owned(),
            Some(process) if !process.core.status().leadership.settled => {
                "it does not lead".to_owned()
            }
            Some(process) if process.view.applied < process.core.status().last => {
                "it has not applied its log".to_owned()
            }
            Some(process) if !process.core.apply().grants().is_empty() => {
                "leases have not ended".to_owned()
            }
            Some(process) => {
                let view = &process.view.keys;
                match view.hash_kv(0) {
                    Ok(hash) => return Some((view.current_revision(), hash)),
                    Err(error) => error.to_string(),
                }
            }
        };
        self.violated("the member recovers when faults end", story);
        None
    }

    fn read_back(&mut self) {
        let Some(boot) = self.serving() else { return };
        let operation = self.send(0, boot, client::read_all());
        self.run_until(self.now + RESTART);
        let read = &self.history.operations[operation];
        if !matches!(read.outcome, Outcome::Replied(_)) {
            let story = format!("{read:?}");
            self.violated("everything can be read back", story);
        }
    }

    /// Damages a copy of the log at rest.
    fn flip_a_bit(&mut self) {
        if let Some((file, byte)) = self.pick_a_byte() {
            let bit = self.weather.below(8) as u8;
            self.judge_flip(&file, byte, bit);
        }
    }

    /// Damages one bit in each byte of the log, each in a copy of its own. For a world that has run.
    pub fn damage_every_byte(&mut self) {
        for (file, bytes) in self.log_files() {
            for byte in 0..bytes {
                let bit = self.weather.below(8) as u8;
                self.judge_flip(&file, byte, bit);
            }
        }
    }

    /// Damage is refused with the file's name, or nothing is missing.
    fn judge_flip(&mut self, file: &Path, byte: u64, bit: u8) {
        let directory = Path::new(LOG_DIRECTORY);
        let disk = self.disk.copy();
        let whole = match wal::read(&disk, directory) {
            Ok(recovered) => recovered,
            Err(error) => return self.violated("the log at rest is whole", error.to_string()),
        };
        disk.flip_bit(file, byte, bit);
        self.count("bits flipped");
        let judged = match wal::open(&disk, directory, self.mix.log) {
            Ok(opened) if opened.recovered.entries == whole.entries => {
                Ok("bits flipped where nothing was")
            }
            Ok(opened) => {
                let (left, all) = (opened.recovered.entries.len(), whole.entries.len());
                Err(format!("{left} of {all} entries are left"))
            }
            Err(WalError::Damaged { file: blamed, .. }) if blamed == file => Ok("damage refused"),
            Err(error) => Err(error.to_string()),
        };
        match judged {
            Ok(what) => self.count(what),
            Err(story) => {
                let story = format!("bit {bit} of byte {byte} in {}: {story}", file.display());
                self.violated("damage at rest is refused", story);
            }
        }
    }

    fn pick_a_byte(&mut self) -> Option<(PathBuf, u64)> {
        let files = self.log_files();
        if files.is_empty() {
            return None;
        }
        let (file, bytes) = self.weather.pick(&files).clone();
        Some((file, self.weather.below(bytes)))
    }

    /// The files of the log with their lengths.
    fn log_files(&self) -> Vec<(PathBuf, u64)> {
        let is_log = |path: &Path| path.extension().is_some_and(|ending| ending == "wal");
        let files = self.disk.files().into_iter();
        files
            .filter(|(path, bytes)| *bytes > 0 && is_log(path))
            .collect()
    }
}
