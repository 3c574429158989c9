//! The part of the core that brings the state into files; see [`crate::checkpoint`].

use kvorum_mvcc::StoreJob;
use kvorum_proto::ids::{LogIndex, Moment};

use super::{Core, Output};
use crate::apply::Effect;
use crate::checkpoint::{Done, Job, Policy};
use crate::consensus::{self, ReadToken};
use crate::router::INSTALLED_TOKENS;

impl Core {
    /// Changes when checkpoints are made, never what is in them.
    pub fn set_checkpoint_policy(&mut self, policy: Policy) {
        self.checkpoints.set_policy(policy);
    }

    /// Changes the size at which a run in memory becomes a file, in bytes. Small ones are for tests.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.segment_bytes = bytes;
        self.apply.store_mut().set_segment_bytes(bytes);
    }

    /// The entry from which a start would replay the log.
    pub fn last_checkpoint(&self) -> LogIndex {
        self.checkpoints.last()
    }

    /// Begins a checkpoint as soon as none is under way, however little is new.
    pub fn ask_for_checkpoint(&mut self) {
        self.checkpoints.ask();
    }

    /// None is made during a replay.
    pub(super) fn checkpoint_is_due(&self, now: Moment) -> bool {
        self.may_checkpoint() && self.checkpoints.is_due(self.apply.applied(), now)
    }

    pub(super) fn checkpoint_deadline(&self) -> Option<Moment> {
        let deadline = || self.checkpoints.deadline(self.apply.applied());
        self.may_checkpoint().then(deadline).flatten()
    }

    fn may_checkpoint(&self) -> bool {
        self.replay().is_none()
    }

    pub(super) fn step_checkpoint(&mut self, now: Moment) {
        while let Some(done) = self.queues.state_done.pop_front() {
            self.state_done(done);
        }
        if self.checkpoint_is_due(now) {
            let sealed = self.apply.seal();
            self.checkpoints.begin(sealed, now);
        }
        if let Some(manifest) = self.checkpoints.take_manifest() {
            self.state_job(Job::Manifest(Box::new(manifest)));
        }
        self.plan_copy();
        self.drain_apply(false, 0);
    }

    fn state_done(&mut self, done: Done) {
        match done {
            Done::Written { id, segment } => {
                if self.orphans.remove(&id) {
                    // It belongs to a state that a snapshot has replaced since.
                    return self.state_job(Job::Store(StoreJob::Remove(vec![id])));
                }
                self.writing.remove(&id);
                if let Some(segment) = &segment {
                    self.checkpoints.written(segment);
                }
                self.apply.store_written(id, segment);
            }
            Done::Manifest(index) => {
                if let Some(record) = self.checkpoints.named(index) {
                    let input = consensus::Input::Checkpointed(record);
                    self.queues.consensus.push_back(input);
                }
            }
            Done::Adopted => {
                if let Some(index) = self.adopting.pop_front() {
                    self.snapshot_done(index, true);
                }
            }
            Done::Removed => {}
        }
    }

    /// Hands out what the store wants of the disk.
    pub(super) fn drain_store(&mut self) {
        while let Some(job) = self.apply.store_mut().take_job() {
            self.store_job(job, Job::Store);
        }
    }

    /// Lets the copier begin where it is worth it.
    pub(super) fn plan_copy(&mut self) {
        self.drain_store();
        if self.replay().is_none() && self.apply.store_mut().copy() {
            while let Some(job) = self.apply.store_mut().take_job() {
                self.store_job(job, Job::Copy);
            }
        }
    }

    fn store_job(&mut self, job: StoreJob, kind: impl FnOnce(StoreJob) -> Job) {
        match &job {
            StoreJob::Write(image) => {
                self.writing.insert(image.id());
            }
            StoreJob::Remove(ids) => self.checkpoints.removed(ids),
        }
        self.state_job(kind(job));
    }

    fn state_job(&mut self, job: Job) {
        self.outputs.push_back(Output::StateJob(job));
    }

    /// What is older than a checkpoint that the log has durably may go.
    pub(super) fn checkpoint_recorded(&mut self) {
        let Some((index, segments)) = self.checkpoints.persisted(self.durable) else {
            return;
        };
        self.log.release(index);
        self.apply.store_mut().checkpointed(&segments);
        self.apply.push_effect(Effect::Checkpointed(index));
        self.drain_log();
        self.drain_apply(false, 0);
    }

    /// Apply has taken over the state of a snapshot, whose record is durable in the log.
    pub(super) fn state_installed(&mut self) {
        let index = self.apply.applied();
        let mut old = self.checkpoints.install(index, self.apply.files());
        self.orphans.append(&mut self.writing);
        old.retain(|id| !self.orphans.contains(id));
        self.log.release(index);
        self.adopting.push_back(index);
        self.state_job(Job::Adopt);
        if !old.is_empty() {
            self.state_job(Job::Store(StoreJob::Remove(old)));
        }
        self.apply.store_mut().set_segment_bytes(self.segment_bytes);
        self.drain_log();
        let token = ReadToken(INSTALLED_TOKENS | index.0);
        self.queues
            .consensus
            .push_back(consensus::Input::Read(token));
    }
}
