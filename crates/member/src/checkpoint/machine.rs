//! When a checkpoint is made, and in which order.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::ids::{LogIndex, Moment, Term};
use kvorum_proto::{raftpb, walpb};
use kvorum_storage::checkpoint::{Listed, Manifest};
use kvorum_storage::segment::{Segment, SegmentId};
use kvorum_storage::wal::Ticket;

/// When a checkpoint is due: the lower bound of entries is reached, and one of the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Entries applied since the last one (`--snapshot-count`); never fewer.
    pub entries_min: u64,
    /// Bytes of entries since the last one. It bounds what a start has to replay.
    pub log_bytes_max: u64,
    /// Time since the last one was begun. It keeps checkpoints from following each other so
    /// closely that they cost more than the puts.
    pub pause: Duration,
}

impl Default for Policy {
    /// As in etcd 10,000 entries; 32 MiB are replayed in a fraction of a second.
    fn default() -> Self {
        Policy {
            entries_min: 10_000,
            log_bytes_max: 32 << 20,
            pause: Duration::from_secs(5),
        }
    }
}

/// A state at one entry, whose runs may still have to be written.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) index: LogIndex,
    pub(crate) term: Term,
    pub(crate) conf_state: raftpb::ConfState,
    /// All runs of its history, in order.
    pub(crate) segments: Vec<SegmentId>,
    /// Above every segment made so far.
    pub(crate) next_segment: SegmentId,
    pub(crate) body: Bytes,
}

/// How far a checkpoint is. Each step rests on what the one before made durable.
#[derive(Debug)]
enum Phase {
    /// None is under way.
    Idle,
    /// Its runs are being written.
    Writing(Box<Sealed>),
    /// The manifest is being replaced.
    Naming {
        record: walpb::Snapshot,
        segments: Vec<SegmentId>,
    },
    /// The log is told. The ticket is known once the record is on its way.
    Recording {
        index: LogIndex,
        ticket: Option<Ticket>,
        segments: Vec<SegmentId>,
    },
}

/// Makes checkpoints.
///
/// Invariants: the order of the phases; a manifest is asked for only when every segment in it is
/// written; nothing is let go before the log's record is durable.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    policy: Policy,
    phase: Phase,
    /// The last one whose record is durable; where this start began before the first.
    last: LogIndex,
    /// None begins before this moment. It is set when one begins.
    not_before: Option<Moment>,
    /// Bytes of entries since the last one began.
    log_bytes: u64,
    /// Somebody asked for one.
    is_asked: bool,
    /// Written segments that still exist.
    files: BTreeMap<SegmentId, Listed>,
}

impl Checkpoints {
    /// After a start from the state at `last`, with these files.
    pub(crate) fn new(last: LogIndex, files: &[Listed]) -> Self {
        Checkpoints {
            policy: Policy::default(),
            phase: Phase::Idle,
            last,
            not_before: None,
            log_bytes: 0,
            is_asked: false,
            files: files.iter().map(|file| (file.id, *file)).collect(),
        }
    }

    pub(crate) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The last checkpoint that a start could begin from.
    pub(crate) fn last(&self) -> LogIndex {
        self.last
    }

    /// These entries were handed to apply.
    pub(crate) fn note_entries(&mut self, entries: &[raftpb::Entry]) {
        let data = entries.iter().filter_map(|entry| entry.data.as_ref());
        self.log_bytes += data.map(|data| data.len() as u64).sum::<u64>();
    }

    /// Whether one should begin now.
    pub(crate) fn is_due(&self, applied: LogIndex, now: Moment) -> bool {
        let entries = applied.0.saturating_sub(self.last.0);
        let is_time = self.log_bytes >= self.policy.log_bytes_max
            || self.not_before.is_none_or(|moment| moment <= now);
        let is_due = entries >= self.policy.entries_min && is_time;
        matches!(self.phase, Phase::Idle) && entries > 0 && (is_due || self.is_asked)
    }

    /// The next one begins as soon as none is under way, if there is anything new.
    pub(crate) fn ask(&mut self) {
        self.is_asked = true;
    }

    /// When time alone makes one due.
    pub(crate) fn deadline(&self, applied: LogIndex) -> Option<Moment> {
        let waits = self.not_before?;
        self.is_due(applied, waits).then_some(waits)
    }

    /// Begins one.
    pub(crate) fn begin(&mut self, sealed: Sealed, now: Moment) {
        assert!(
            matches!(self.phase, Phase::Idle),
            "one checkpoint at a time"
        );
        assert!(sealed.index > self.last, "checkpoints go forward");
        tracing::debug!(index = sealed.index.0, "checkpoint begins");
        self.log_bytes = 0;
        self.is_asked = false;
        self.not_before = Some(now + self.policy.pause);
        self.phase = Phase::Writing(Box::new(sealed));
    }

    /// A segment is written and durable, its name included.
    pub(crate) fn written(&mut self, segment: &Segment) {
        self.files.insert(segment.id(), Listed::of(segment));
    }

    /// These segments are about to be removed.
    pub(crate) fn removed(&mut self, ids: &[SegmentId]) {
        for id in ids {
            self.files.remove(id);
        }
    }

    /// The manifest, once all its segments are written.
    pub(crate) fn take_manifest(&mut self) -> Option<Manifest> {
        let Phase::Writing(sealed) = &mut self.phase else {
            return None;
        };
        let listed = sealed.segments.iter().map(|id| self.files.get(id).copied());
        let listed: Vec<Listed> = listed.collect::<Option<_>>()?;
        let manifest = Manifest {
            index: sealed.index,
            term: sealed.term,
            next_segment: sealed.next_segment,
            segments: listed,
            body: std::mem::take(&mut sealed.body),
        };
        let record = walpb::Snapshot {
            index: Some(sealed.index.0),
            term: Some(sealed.term.0),
            conf_state: Some(sealed.conf_state.clone()),
        };
        let segments = std::mem::take(&mut sealed.segments);
        self.phase = Phase::Naming { record, segments };
        Some(manifest)
    }

    /// The manifest at an entry is durable; returns what the log has to be told. None when a
    /// snapshot has replaced the state since.
    pub(crate) fn named(&mut self, index: LogIndex) -> Option<walpb::Snapshot> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Naming { record, segments } if record.index() == index.0 => {
                self.phase = Phase::Recording {
                    index,
                    ticket: None,
                    segments,
                };
                Some(record)
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// The log's record of this snapshot is on its way under this ticket.
    pub(crate) fn recording(&mut self, snapshot: LogIndex, under: Ticket) {
        if let Phase::Recording { index, ticket, .. } = &mut self.phase
            && *index == snapshot
        {
            *ticket = Some(under);
        }
    }

    /// The log is durable up to this ticket. When that ends a checkpoint: its index, and the
    /// segments it lists. What lies before may go.
    pub(crate) fn persisted(&mut self, up_to: Ticket) -> Option<(LogIndex, Vec<SegmentId>)> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Recording {
                index,
                ticket: Some(ticket),
                segments,
            } if ticket <= up_to => {
                self.last = index;
                tracing::debug!(index = index.0, "checkpoint is durable");
                Some((index, segments))
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// The state was replaced by that of a snapshot at `index`, which lies in these files. Returns
    /// the files of the old state, which nobody needs.
    pub(crate) fn install(&mut self, index: LogIndex, files: &[Listed]) -> Vec<SegmentId> {
        let policy = self.policy;
        let old = std::mem::replace(self, Checkpoints::new(index, files));
        self.policy = policy;
        let kept = &self.files;
        old.files
            .into_keys()
            .filter(|id| !kept.contains_key(id))
            .collect()
    }

    /// Panics with the rule that broke.
    pub(crate) fn check_invariants(&self, applied: LogIndex) {
        assert!(self.last <= applied, "a checkpoint holds what was applied");
        if let Phase::Naming { segments, .. } | Phase::Recording { segments, .. } = &self.phase {
            let there = segments.iter().all(|id| self.files.contains_key(id));
            assert!(there, "a manifest lists what is written");
        }
    }
}
