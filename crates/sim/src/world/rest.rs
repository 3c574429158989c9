//! The end of a run: faults and clients stop, everything comes to rest, and is read back after one more restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kvorum_member::apply::{Apply, Local};
use kvorum_member::checkpoint::{self, OpenError};
use kvorum_mvcc::{HashKv, ReadError, View};
use kvorum_proto::etcdserverpb::{RangeResponse, ResponseHeader};
use kvorum_proto::ids::{LogIndex, MemberId, RequestId};
use kvorum_storage::checkpoint::Directory;
use kvorum_storage::wal::{self, WalError};
use prost::Message as _;

use super::node::Place;
use super::process::Process;
use super::{LOG_DIRECTORY, STATE_DIRECTORY, World, agreed, backup, client, wire};
use crate::disk::Disk;
use crate::history::{Kept, Keys, Outcome, Pair};

/// Longer than any pause, hang, lifetime of a lease and retry of its revoke together.
const REST: Duration = Duration::from_secs(40);
/// Enough for a start without faults.
const RESTART: Duration = Duration::from_secs(8);
/// How many single bits are flipped in copies of the log.
const FLIPS: u64 = 3;

/// How long the cluster may take until it serves again when faults have ended.
const RECOVERY_MAX: Duration = Duration::from_secs(15);
/// How long until a write is acknowledged then, through whichever member: a disk job may still hang, requests to a member
/// that does not answer time out, and a full store is emptied first.
const WRITE_MAX: Duration = Duration::from_secs(30);

impl World {
    pub(super) fn rest(&mut self) {
        self.is_resting = true;
        self.disk_work = (self.nodes[0].disk.calls(), self.jobs);
        self.cuts.clear();
        self.lags.clear();
        for node in &mut self.nodes {
            node.hang = None;
            node.slow_until = self.now;
            node.stalled_until = self.now;
            node.disk.forget_plan();
            node.disk.set_capacity(u64::MAX);
        }
        self.log.line(self.now, || "rest".to_owned());
        for place in self.present() {
            // What it has acknowledged is as good as gone.
            if self.nodes[place].disk.lies() {
                self.cut_power(place);
            }
        }
        self.recover();
        self.take_a_write();
        self.run_until(self.now + REST);
        let Some(before) = self.rested() else { return };
        self.history.rested_at = Some(before.0);
        for place in self.present() {
            // A trial ends with what shows the most.
            if self.mix.disturbs && self.schedule.chance(1, 2) {
                self.kill_for(place, "killed at rest");
            } else {
                self.nodes[place].disk.crash();
                self.lose_power(place);
            }
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
        self.read_what_is_kept();
        self.restore_a_backup();
        for place in self.present() {
            self.kill(place);
        }
        for _ in 0..FLIPS {
            self.flip_a_bit();
        }
    }

    /// Somebody leads again within bounded time.
    fn recover(&mut self) {
        let from = self.now;
        while self.violations.is_empty() && !self.is_led() {
            if self.now.since(from) > RECOVERY_MAX {
                let story = format!("no leader {RECOVERY_MAX:?} after the last fault");
                return self.violated("the cluster serves again when faults end", story);
            }
            self.run_until(self.now + Duration::from_millis(100));
        }
        let millis = self.now.since(from).as_millis() as u64;
        *self
            .counts
            .entry("milliseconds to recover, over all seeds")
            .or_default() += millis;
    }

    fn is_led(&self) -> bool {
        // A member that was removed may have campaigned in a later one, unheard.
        let present = self.present().into_iter();
        let processes = present.filter_map(|place| self.nodes[place].process.as_ref());
        let terms = processes.map(|process| process.core.status().leadership.term);
        let term = terms.max().unwrap_or_default();
        let leads = |process: &Process| {
            let leadership = process.core.status().leadership;
            leadership.settled && leadership.term == term
        };
        self.nodes
            .iter()
            .any(|node| node.process.as_ref().is_some_and(leads))
    }

    /// The members that are in the cluster as far as they know, running or not.
    fn present(&self) -> Vec<Place> {
        (0..self.nodes.len())
            .filter(|place| self.nodes[*place].is_called && !self.nodes[*place].is_gone)
            .collect()
    }

    /// Revision and hash of the store, when everybody has it and all that has an end has ended.
    fn rested(&mut self) -> Option<(i64, HashKv)> {
        if !self.violations.is_empty() {
            return None;
        }
        let present = self.present();
        let last = present
            .iter()
            .filter_map(|place| self.nodes[*place].process.as_ref())
            .map(|process| process.core.status().last)
            .max();
        let mut states = Vec::new();
        for place in &present {
            match self.rested_one(*place, last) {
                Ok(state) => states.push(state),
                Err((property, story)) => {
                    let story = format!("member {place}: {story}");
                    self.violated(property, story);
                    return None;
                }
            }
        }
        if !self.is_led() {
            let story = "nobody leads".to_owned();
            self.violated("the member recovers when faults end", story);
            return None;
        }
        let rosters = present.iter().filter_map(|place| {
            let process = self.nodes[*place].process.as_ref()?;
            let roster = &process.view.cluster.roster;
            let members: Vec<_> = roster.members().cloned().collect();
            Some((members, roster.removed().collect::<Vec<_>>()))
        });
        let rosters: Vec<_> = rosters.collect();
        if rosters.windows(2).any(|two| two[0] != two[1]) {
            self.violated("one membership", format!("{rosters:?}"));
            return None;
        }
        for place in present {
            self.compare_states(place);
        }
        let first = states.first().copied();
        if states.iter().any(|state| Some(state) != first.as_ref()) {
            self.violated("the same store on all members", format!("{states:?}"));
            return None;
        }
        first
    }

    /// What a member has when everything has come to rest, or the property that it breaks.
    fn rested_one(
        &self,
        place: Place,
        last: Option<LogIndex>,
    ) -> Result<(i64, HashKv), (&'static str, String)> {
        let recovers = |story| ("the member recovers when faults end", story);
        let Some(process) = &self.nodes[place].process else {
            return Err(recovers("it is down".to_owned()));
        };
        if Some(process.view.applied) < last {
            let status = process.core.status();
            return Err(recovers(format!(
                "it has not applied the log up to {last:?}: {status:?}"
            )));
        }
        if !process.core.apply().grants().is_empty() {
            let story = "nobody keeps them alive, and they have not ended".to_owned();
            return Err(("leases are gone when due", story));
        }
        agreed::one_membership(process).map_err(|story| ("one membership", story))?;
        let view = &process.view.keys;
        match view.hash_kv(0) {
            Ok(hash) => Ok((view.current_revision(), hash)),
            Err(error) => Err(recovers(error.to_string())),
        }
    }

    fn read_back(&mut self) {
        let reader = self.present().first().copied();
        let Some(boot) = reader.and_then(|place| self.serving(place)) else {
            return;
        };
        let operation = self.send(0, boot, client::read_all(0));
        self.run_until(self.now + RESTART);
        let read = &self.history.operations[operation];
        if !matches!(read.outcome, Outcome::Replied(_)) {
            let story = format!("{read:?}");
            self.violated("everything can be read back", story);
        }
    }

    /// Once somebody leads, a write is acknowledged within bounded time; a full store is emptied before that.
    fn take_a_write(&mut self) {
        let from = self.now;
        while self.violations.is_empty() {
            if self.now.since(from) > WRITE_MAX {
                let story = format!("no write was acknowledged {WRITE_MAX:?} after an election");
                return self.violated("the cluster serves again when faults end", story);
            }
            let place = self.any_member();
            let serving = self.serving(place);
            let is_free = self.clients[0].waits_for.is_none();
            let Some(boot) = serving.filter(|_| is_free) else {
                self.run_until(self.now + Duration::from_millis(100));
                continue;
            };
            let request = self.clients[0].probe(&mut self.traffic);
            let operation = self.send(0, boot, request);
            self.run_until(self.now + Duration::from_millis(500));
            if matches!(
                self.history.operations[operation].outcome,
                Outcome::Replied(_)
            ) {
                return;
            }
        }
    }

    /// Every member shows what it holds of its oldest revision, of its newest, and of one between.
    fn read_what_is_kept(&mut self) {
        for place in self.present() {
            let Some(process) = &self.nodes[place].process else {
                continue;
            };
            let view = &process.view.keys;
            let (oldest, newest) = (view.compact_revision().max(1), view.current_revision());
            for revision in [oldest, (oldest + newest) / 2, newest] {
                match pairs_at(view, revision) {
                    Ok(pairs) => self.history.kept.push(Kept {
                        member: self.nodes[place].id.0,
                        compacted: view.compact_revision(),
                        revision,
                        pairs,
                    }),
                    Err(story) => return self.violated("compaction keeps what it must", story),
                }
            }
        }
    }

    /// The state of a member goes into a backup and from there into a new member, whose power goes then: what it finds
    /// is the same store, and itself as the only member.
    fn restore_a_backup(&mut self) {
        let present = self.present();
        if self.weather.chance(2, 3) || present.is_empty() {
            return;
        }
        let place = *self.weather.pick(&present);
        let Some(process) = &self.nodes[place].process else {
            return;
        };
        let apply = process.core.apply();
        let view = apply.read_view().keys;
        let same = backup::restore(apply, self.weather.split("backup")).and_then(|restored| {
            let there = restored.read_view();
            let leases = (apply.grants(), restored.grants());
            let stores = (view.hash_kv(0), there.keys.hash_kv(0));
            let members = there.cluster.roster.members().count();
            match stores {
                (Ok(one), Ok(other)) if one.hash == other.hash && members == 1 => {
                    let (one, other) = (view.current_revision(), there.keys.current_revision());
                    (one == other && format!("{:?}", leases.0) == format!("{:?}", leases.1))
                        .then_some(())
                        .ok_or_else(|| format!("revision {other} instead of {one}, {leases:?}"))
                }
                stores => Err(format!("{stores:?}, {members} members")),
            }
        });
        self.count("restores from a backup");
        if let Err(story) = same {
            self.violated("a backup is restored whole", story);
        }
    }

    /// Damages a copy of the log at rest.
    fn flip_a_bit(&mut self) {
        let present = self.present();
        let place = *self.weather.pick(&present);
        if let Some((file, byte)) = self.pick_a_byte(place) {
            let bit = self.weather.below(8) as u8;
            self.judge_flip(place, &file, byte, bit);
        }
    }

    /// Damages one bit in each byte of the log, each in a copy of its own. For a world that has run.
    pub fn damage_every_byte(&mut self) {
        for (file, bytes) in self.log_files(0) {
            for byte in 0..bytes {
                let bit = self.weather.below(8) as u8;
                self.judge_flip(0, &file, byte, bit);
            }
        }
    }

    /// Damage is refused with the file's name, or nothing is missing.
    fn judge_flip(&mut self, place: Place, file: &Path, byte: u64, bit: u8) {
        if file.starts_with(STATE_DIRECTORY) {
            return self.judge_state_flip(place, file, byte, bit);
        }
        let directory = Path::new(LOG_DIRECTORY);
        let disk = self.nodes[place].disk.copy();
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

    /// A damaged state is refused by name when it is opened, or found when it is read; never served.
    fn judge_state_flip(&mut self, place: Place, file: &Path, byte: u64, bit: u8) {
        let disk = self.nodes[place].disk.copy();
        let Ok(whole) = open_state(&disk.copy()) else {
            return self.violated("the state at rest is whole", file.display().to_string());
        };
        let whole = hashes(&whole);
        disk.flip_bit(file, byte, bit);
        self.count("bits flipped");
        self.count("bits flipped in the state");
        let judged = match open_state(&disk) {
            Ok(opened) => match hashes(&opened) {
                hash if hash.is_ok() && hash == whole => Ok("bits flipped where nothing was"),
                Ok(hash) => Err(format!("{hash:?} is served, {whole:?} was written")),
                Err(error) => blames(&error.to_string(), file),
            },
            Err(error) => blames(&error.to_string(), file),
        };
        match judged {
            Ok(what) => self.count(what),
            Err(story) => {
                let story = format!("bit {bit} of byte {byte} in {}: {story}", file.display());
                self.violated("damage at rest is refused", story);
            }
        }
    }

    fn pick_a_byte(&mut self, place: Place) -> Option<(PathBuf, u64)> {
        let files = self.log_files(place);
        if files.is_empty() {
            return None;
        }
        let (file, bytes) = self.weather.pick(&files).clone();
        Some((file, self.weather.below(bytes)))
    }

    /// The files of log and state with their lengths.
    fn log_files(&self, place: Place) -> Vec<(PathBuf, u64)> {
        let is_log = |path: &Path| {
            path.extension().is_some_and(|ending| ending == "wal")
                || path.starts_with(STATE_DIRECTORY)
        };
        let files = self.nodes[place].disk.files().into_iter();
        files
            .filter(|(path, bytes)| *bytes > 0 && is_log(path))
            .collect()
    }
}

/// All pairs of a revision, as a client would read them.
fn pairs_at(view: &View, revision: i64) -> Result<Vec<Pair>, String> {
    let request = wire::range(&Keys::all(), revision, true, 0);
    let reply = view.range(&request).map_err(|error| error.to_string())?;
    let header = ResponseHeader::default().encode_to_vec();
    let bytes = reply.encode(Some(&header));
    let message = RangeResponse::decode(bytes).map_err(|error| error.to_string())?;
    Ok(message.kvs.iter().map(wire::pair).collect())
}

/// The state on a disk, as a start would take it up.
fn open_state(disk: &Disk) -> Result<Apply, OpenError> {
    let recovered = wal::read(disk, Path::new(LOG_DIRECTORY)).expect("the log is sound");
    let directory = Directory::new(disk.clone(), STATE_DIRECTORY.into());
    let local = Local {
        member: MemberId(1),
        first_request: RequestId(0),
    };
    checkpoint::open(&directory, recovered, local).map(|opened| opened.apply)
}

/// What the whole state comes to.
fn hashes(apply: &Apply) -> Result<(HashKv, String, String), ReadError> {
    let hash = apply.read_view().keys.hash_kv(0)?;
    let (cluster, grants) = (apply.cluster(), apply.grants());
    Ok((hash, format!("{cluster:?}"), format!("{grants:?}")))
}

/// An error about damage names the damaged file and the place in it.
fn blames(error: &str, file: &Path) -> Result<&'static str, String> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if error.contains(&*name) && error.contains("offset") {
        Ok("damage refused")
    } else {
        Err(error.to_owned())
    }
}
