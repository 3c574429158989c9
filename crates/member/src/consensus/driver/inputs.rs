//! What each input does to the driver.

use bytes::Bytes;
use kvorum_proto::ids::{LogIndex, MemberId, RequestId, Term};
use kvorum_proto::raftpb;
use kvorum_storage::wal::Ticket;
use prost::Message as _;
use raft::eraftpb::{self, MessageType};
use raft::{SnapshotStatus, StateRole};

use super::super::hurry::Hurry;
use super::super::{
    CATCH_UP_BYTES_ALONE, FORWARDED_PENDING_APPLY_ENTRIES_MAX, HELD_BYTES_MAX, HELD_PROPOSALS_MAX,
    Output, PENDING_APPLY_ENTRIES_MAX, Proposal, Refusal, SnapshotNumber, convert, reads,
};
use super::{Consensus, Held, send};

impl Consensus {
    pub(super) fn tick(&mut self) {
        self.now += 1;
        if self.birth.is_none() && self.may_campaign() {
            self.node.tick();
        }
        self.hurry_on();
        let oldest = self.now.saturating_sub(self.config.request_timeout_ticks);
        for token in self.reads.tick(self.now, oldest) {
            self.outputs.push_back(Output::ReadRefused {
                token,
                reason: Refusal::NoLeader,
            });
        }
        while let Some((_, held)) = self.held.pop_front_if(|(came, _)| *came < oldest) {
            self.held_bytes -= held.bytes();
            self.refuse(held.id, Refusal::NoLeader);
        }
    }

    pub(super) fn propose(&mut self, mut proposals: Vec<Proposal>) {
        for Proposal { id, data } in proposals.drain(..) {
            self.hold(
                id,
                eraftpb::Entry {
                    data,
                    ..Default::default()
                },
            );
        }
        self.spare_proposals.put_back(proposals);
    }

    pub(super) fn intend(&mut self, data: Bytes) {
        if self.is_leading() {
            let entry = eraftpb::Entry {
                data,
                ..Default::default()
            };
            self.hold_for(RequestId(0), entry, Some(self.node.raft.term));
        }
    }

    pub(super) fn propose_conf_change(&mut self, change: &raftpb::ConfChange) {
        let id = RequestId(change.id());
        let entry = convert::entry_in(raftpb::Entry {
            r#type: Some(raftpb::EntryType::EntryConfChange as i32),
            data: Some(change.encode_to_vec().into()),
            ..Default::default()
        });
        match entry {
            Ok(entry) => self.hold(id, entry),
            Err(error) => {
                tracing::warn!(%error, "membership change refused");
                self.refuse(id, Refusal::Malformed);
            }
        }
    }

    pub(super) fn hold(&mut self, id: RequestId, entry: eraftpb::Entry) {
        self.hold_for(id, entry, None);
    }

    /// Queues a proposal for the next poll, unless too much is under way.
    fn hold_for(&mut self, id: RequestId, entry: eraftpb::Entry, only_in: Option<u64>) {
        self.hold_within(PENDING_APPLY_ENTRIES_MAX, id, entry, only_in);
    }

    /// The same with a bound of entries that wait for apply. What the local disk does not have yet cannot be applied
    /// and says nothing of apply: a follower whose disk is slower than those of the others is not behind for that.
    fn hold_within(
        &mut self,
        entries_max: u64,
        id: RequestId,
        entry: eraftpb::Entry,
        only_in: Option<u64>,
    ) {
        let held = Held { id, only_in, entry };
        let log = &self.node.raft.raft_log;
        let behind = log.committed.min(log.persisted).saturating_sub(log.applied) > entries_max;
        let full = self.held.len() >= HELD_PROPOSALS_MAX || self.held_bytes >= HELD_BYTES_MAX;
        if behind || (full && !self.may_propose()) {
            return self.refuse(id, Refusal::TooManyRequests);
        }
        self.held_bytes += held.bytes();
        self.held.push_back((self.now, held));
    }

    pub(super) fn persisted(&mut self, ticket: Ticket) {
        if self.birth.is_some_and(|birth| birth <= ticket) {
            self.birth = None;
        }
        if let Some((batch, messages)) = self.gates.close(ticket) {
            self.node.on_persist_ready(batch);
            self.outputs.extend(messages.into_iter().map(send));
        }
        while let Some((_, index)) = self.installing.pop_front_if(|(last, _)| *last <= ticket) {
            self.handed_out = index;
            self.outputs.push_back(Output::Install(index));
        }
    }

    pub(super) fn applied(&mut self, index: LogIndex) {
        if index.0 <= self.node.raft.raft_log.applied {
            return;
        }
        assert!(index <= self.handed_out, "apply confirms what it was given");
        self.node.advance_apply_to(index.0);
        self.flow.confirm(index);
        self.node.mut_store().applied(index.0);
        let keep = self.config.catch_up_entries;
        let held = index.0.saturating_sub(self.node.store().trimmed());
        if held >= self.config.snapshot_count.max(keep).saturating_add(keep) {
            self.node.mut_store().trim(index.0 - keep);
        }
        let is_for_itself = self.node.store().is_for_itself();
        let bytes_max = if is_for_itself {
            self.config.catch_up_bytes_max.min(CATCH_UP_BYTES_ALONE)
        } else {
            self.config.catch_up_bytes_max
        };
        self.node.mut_store().trim_to_bytes(bytes_max);
    }

    pub(super) fn conf_changed(&mut self, index: LogIndex, change: &raftpb::ConfChange) {
        if index <= self.configured {
            return;
        }
        let result = match convert::change_in(change) {
            Ok(None) => return,
            Ok(Some(change)) => self
                .node
                .apply_conf_change(&change)
                .map(|state| self.node.mut_store().configured(state))
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            let node = MemberId(change.node_id());
            self.outputs.push_back(Output::Stop(format!(
                "committed membership change of {node} cannot be carried out: {error}"
            )));
        }
    }

    pub(super) fn message(&mut self, message: raftpb::Message) {
        if self.birth.is_some() {
            return;
        }
        let from = MemberId(message.from());
        let message = match convert::message_in(message) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%from, %error, "message from peer refused");
                return;
            }
        };
        if message.to != self.config.member.0 || !self.fits_log(&message) {
            tracing::warn!(%from, "message from peer refused: it is not for this log");
            return;
        }
        if message.msg_type == MessageType::MsgPropose {
            return self.forwarded(message);
        }
        if self.is_half_confirmed(&message) {
            return self.answer_read(message);
        }
        if let Err(error) = self.node.step(message) {
            tracing::debug!(%from, %error, "message from peer ignored");
        }
    }

    /// Whether the crate would neither panic nor lose its way: at an index that this log never had,
    /// at entries that contradict what is committed, and at an election that it may not win yet.
    fn fits_log(&self, message: &eraftpb::Message) -> bool {
        let log = &self.node.raft.raft_log;
        let last = log.last_index();
        match message.msg_type {
            MessageType::MsgHeartbeat => message.commit <= last,
            MessageType::MsgAppendResponse => message.reject || message.index <= last,
            MessageType::MsgAppend => {
                let committed_term = log.term(log.committed).unwrap_or(0);
                message.index < log.committed || message.log_term >= committed_term
            }
            MessageType::MsgTimeoutNow => self.may_campaign(),
            _ => true,
        }
    }

    /// Proposals that a follower sent here. Who waits for them waits there, so a refusal is silent,
    /// as it is in etcd, and its client waits in vain: the bound is a wide one. What comes while
    /// leadership is handed over goes on to the next leader.
    fn forwarded(&mut self, mut message: eraftpb::Message) {
        let entries: Vec<_> = message.take_entries().into();
        for mut entry in entries {
            (entry.index, entry.term) = (0, 0);
            self.hold_within(
                FORWARDED_PENDING_APPLY_ENTRIES_MAX,
                RequestId(0),
                entry,
                None,
            );
        }
    }

    /// Whether this is a follower's question for a read index that needs no round: it shows that the
    /// asker has not left this term, and asker and leader are a quorum (see the module `reads`).
    fn is_half_confirmed(&self, message: &eraftpb::Message) -> bool {
        if message.msg_type != MessageType::MsgReadIndex || !self.is_leading() || !self.may_read() {
            return false;
        }
        let context = message.entries.first().map(|entry| &entry.data[..]);
        let asker = context.and_then(reads::asker);
        let here = Term(self.node.raft.term);
        asker == Some((MemberId(message.from), here))
            && self.is_quorum([self.config.member.0, message.from])
    }

    /// Tells a follower what is committed.
    fn answer_read(&mut self, mut question: eraftpb::Message) {
        let mut answer = eraftpb::Message {
            from: self.config.member.0,
            to: question.from,
            term: self.node.raft.term,
            index: self.node.raft.raft_log.committed,
            ..Default::default()
        };
        answer.set_msg_type(MessageType::MsgReadIndexResp);
        answer.set_entries(question.take_entries());
        self.outputs.push_back(send(convert::message_out(answer)));
    }

    /// A snapshot, whose state waits outside.
    pub(super) fn snapshot(&mut self, message: &raftpb::Message) {
        let from = MemberId(message.from());
        let metadata = message
            .snapshot
            .as_ref()
            .and_then(|it| it.metadata.as_ref());
        let index = LogIndex(metadata.map_or(0, raftpb::SnapshotMetadata::index));
        if self.installing.iter().any(|(_, other)| *other == index) {
            return;
        }
        match convert::snapshot_in(message) {
            Ok(inside) if self.birth.is_none() && inside.to == self.config.member.0 => {
                if let Err(error) = self.node.step(inside) {
                    tracing::debug!(%from, %error, "snapshot from peer ignored");
                }
            }
            Ok(_) => tracing::warn!(%from, "snapshot from peer refused: it is not for this log"),
            Err(error) => tracing::warn!(%from, %error, "snapshot from peer refused"),
        }
        let pending = self.node.snap();
        if pending.is_none_or(|snapshot| snapshot.get_metadata().index != index.0) {
            self.outputs.push_back(Output::SnapshotRefused(index));
        }
    }

    /// Hands on a snapshot for a peer.
    pub(super) fn send_snapshot(&mut self, message: raftpb::Message) -> Output {
        self.snapshots_sent += 1;
        let number = SnapshotNumber(self.snapshots_sent);
        self.snapshots.insert(MemberId(message.to()), number);
        Output::SendSnapshot(number, Box::new(message))
    }

    /// What became of a snapshot says nothing of a later one that is on its way to the same peer. If that were sent
    /// once more for it, it would be replaced by its own copy at the receiver, whose end is reported too, without end.
    pub(super) fn snapshot_sent(&mut self, number: SnapshotNumber, received: bool) {
        let mut newest = self.snapshots.iter();
        let Some((&to, _)) = newest.find(|(_, newest)| **newest == number) else {
            return;
        };
        self.snapshots.remove(&to);
        let status = if received {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.node.report_snapshot(to.0, status);
    }

    /// Forgets a leader whose connections are closed, and takes part in finding the next one.
    pub(super) fn closed(&mut self, peer: MemberId) {
        let raft = &mut self.node.raft;
        if raft.leader_id != peer.0 || peer == self.config.member {
            return;
        }
        tracing::info!(leader = %peer, "the leader has closed its connections");
        raft.leader_id = raft::INVALID_ID;
        if !self.config.pre_vote {
            return;
        }
        let mut voters: Vec<u64> = raft.prs().conf().to_conf_state().voters;
        voters.sort_unstable();
        let term = Term(raft.term);
        self.hurry = Hurry::new(self.now, term, self.config.member, peer, &voters);
        self.hurry_on();
    }

    /// Asks for pre-votes while it is this member's turn and there is still no leader.
    fn hurry_on(&mut self) {
        let Some(hurry) = self.hurry else { return };
        let raft = &self.node.raft;
        let is_needless = raft.leader_id != raft::INVALID_ID || Term(raft.term) != hurry.term;
        if is_needless || hurry.is_over(self.now) {
            self.hurry = None;
        } else if hurry.is_turn(self.now) {
            self.campaign();
        }
    }

    pub(super) fn advance_election(&mut self) {
        let ticks = self.config.election_ticks - 1;
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Follower && raft.leader_id == raft::INVALID_ID {
            raft.election_elapsed = raft.election_elapsed.max(ticks);
        }
    }

    pub(super) fn campaign(&mut self) {
        if self.birth.is_none() && self.may_campaign() {
            // An election that cannot be held now is not an error; the next time-out tries again.
            let _ = self.node.campaign();
        }
    }
}
