//! What each input does to the driver.

use kvorum_proto::ids::{LogIndex, MemberId, RequestId};
use kvorum_proto::raftpb;
use kvorum_storage::wal::Ticket;
use prost::Message as _;
use raft::eraftpb::{self, MessageType};

use super::super::{
    HELD_BYTES_MAX, HELD_PROPOSALS_MAX, Output, PENDING_APPLY_ENTRIES_MAX, Proposal, Refusal,
    convert,
};
use super::{Consensus, Held, send};

impl Consensus {
    pub(super) fn tick(&mut self) {
        self.now += 1;
        if self.birth.is_none() && self.may_campaign() {
            self.node.tick();
        }
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

    pub(super) fn propose(&mut self, proposals: Vec<Proposal>) {
        for Proposal { id, data } in proposals {
            self.hold(
                id,
                eraftpb::Entry {
                    data,
                    ..Default::default()
                },
            );
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

    /// Queues a proposal for the next poll, unless too much is under way.
    pub(super) fn hold(&mut self, id: RequestId, entry: eraftpb::Entry) {
        let held = Held { id, entry };
        let log = &self.node.raft.raft_log;
        let behind = log.committed - log.applied > PENDING_APPLY_ENTRIES_MAX;
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
    }

    pub(super) fn applied(&mut self, index: LogIndex) {
        if index.0 <= self.node.raft.raft_log.applied {
            return;
        }
        assert!(index <= self.handed_out, "apply confirms what it was given");
        self.node.advance_apply_to(index.0);
        self.flow.confirm(index);
        let keep = self.config.catch_up_entries;
        let held = index.0 - self.node.store().trimmed();
        if held >= self.config.snapshot_count.max(keep).saturating_add(keep) {
            self.node.mut_store().trim(index.0 - keep);
        }
    }

    pub(super) fn conf_changed(&mut self, change: &raftpb::ConfChange) {
        let result = match convert::change_in(change) {
            Ok(None) => return,
            Ok(Some(change)) => self
                .node
                .apply_conf_change(&change)
                .map(drop)
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
        let last = self.node.raft.raft_log.last_index();
        let message = match convert::message_in(message) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%from, %error, "message from peer refused");
                return;
            }
        };
        // The crate would panic or lose its way: at an index that this log never had, and at an
        // election that it may not win yet.
        let beyond = match message.msg_type {
            MessageType::MsgHeartbeat => message.commit > last,
            MessageType::MsgAppendResponse => !message.reject && message.index > last,
            MessageType::MsgTimeoutNow => !self.may_campaign(),
            _ => false,
        };
        if beyond || message.to != self.config.member.0 {
            tracing::warn!(%from, last, "message from peer refused: it is not for this log");
            return;
        }
        if let Err(error) = self.node.step(message) {
            tracing::debug!(%from, %error, "message from peer ignored");
        }
    }

    pub(super) fn campaign(&mut self) {
        if self.birth.is_none() && self.may_campaign() {
            // An election that cannot be held now is not an error; the next time-out tries again.
            let _ = self.node.campaign();
        }
    }
}
