//! What a poll does: held requests go to the crate, and what the crate wants becomes outputs.

use kvorum_proto::ids::{LogIndex, RequestId, Term};
use kvorum_storage::wal::Append;
use raft::Ready;
use raft::eraftpb::{self, MessageType};

use super::super::{Output, Refusal, UNCOMMITTED_BYTES_MAX, convert};
use super::{Consensus, TURNS_PER_CREDIT, send};

impl Consensus {
    /// Ends the start once everything committed before it is applied: a voter without others leads
    /// at once instead of waiting for a time-out.
    pub(super) fn finish_start(&mut self) {
        let log = &self.node.raft.raft_log;
        if self.starting && log.applied == log.committed {
            self.starting = false;
            if self.is_alone() {
                self.campaign();
            }
        }
    }

    /// Gives held proposals to the crate, in messages of bounded size.
    pub(super) fn flush_proposals(&mut self) {
        while !self.held.is_empty() && self.may_propose() {
            let mut ids = self.spare_ids.take();
            // The crate keeps the list.
            let mut entries = Vec::with_capacity(self.held.len());
            let mut bytes = 0;
            let leads_in = self.is_leading().then_some(self.node.raft.term);
            while let Some((_, held)) = self.held.pop_front() {
                bytes += held.bytes();
                if held.only_in.is_some() && held.only_in != leads_in {
                    continue;
                }
                ids.push(held.id);
                entries.push(held.entry);
                if bytes as u64 >= self.config.message_bytes_max {
                    break;
                }
            }
            self.held_bytes -= bytes;
            if entries.is_empty() {
                continue;
            }
            if let Err(reason) = self.step_proposals(entries, bytes) {
                ids.drain(..).for_each(|id| self.refuse(id, reason));
            }
            self.spare_ids.put_back(ids);
        }
    }

    pub(super) fn step_proposals(
        &mut self,
        entries: Vec<eraftpb::Entry>,
        bytes: usize,
    ) -> Result<(), Refusal> {
        let raft = &mut self.node.raft;
        let uncommitted = raft.uncommitted_size();
        if uncommitted > 0 && (uncommitted + bytes) as u64 > UNCOMMITTED_BYTES_MAX {
            return Err(Refusal::TooManyRequests);
        }
        let mut message = eraftpb::Message {
            from: self.config.member.0,
            ..Default::default()
        };
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(entries.into());
        // The other reasons for which the crate drops proposals were looked at before.
        raft.step(message).map_err(|_| Refusal::Removed)
    }

    pub(super) fn begin_reads(&mut self) {
        if !self.may_read() {
            return;
        }
        let term = Term(self.node.raft.term);
        if let Some(context) = self.reads.begin(self.now, term) {
            self.node.read_index(context.to_vec());
        }
    }

    /// Carries out one batch of the crate's wishes. Returns whether it held more than committed
    /// entries.
    pub(super) fn turn(&mut self) -> bool {
        let credit = if self.flow.is_backed_up() {
            0
        } else {
            self.config.apply_credit_bytes / TURNS_PER_CREDIT
        };
        self.node.raft.set_max_committed_size_per_ready(credit);
        let mut ready = self.node.ready();
        self.note_leadership();
        let committed = ready.take_committed_entries();
        if let Some(last) = committed.last() {
            self.handed_out = LogIndex(last.index);
        }
        self.flow
            .push(committed.into_iter().map(convert::entry_out));
        let snapshot = self.begin_install(&ready);
        let mut progress = self.append(&mut ready);
        if let Some(index) = snapshot {
            // The crate counts a batch as a whole, so the state waits for the last part of it.
            self.installing.push_back((self.gates.last_ticket(), index));
        }
        for message in ready.take_messages() {
            progress = true;
            let is_snapshot = message.msg_type == MessageType::MsgSnapshot;
            let message = convert::message_out(message);
            let output = if is_snapshot {
                self.send_snapshot(message)
            } else {
                send(message)
            };
            self.outputs.push_back(output);
        }
        for state in ready.take_read_states() {
            progress = true;
            let tokens = self.reads.finish(&state.request_ctx);
            if !tokens.is_empty() {
                self.outputs.push_back(Output::ReadReady {
                    tokens,
                    index: LogIndex(state.index),
                });
            }
        }
        let batch = ready.number();
        self.node.advance_append_async(ready);
        if self.gates.is_empty() {
            self.node.on_persist_ready(batch);
        }
        progress
    }

    /// Tells the log of a checkpoint. Everything the crate had was handed out before, so the hard
    /// state reaches no entry that the log was not given.
    pub(super) fn record_checkpoint(&mut self) {
        if let Some(snapshot) = self.checkpointed.take() {
            let hard_state = convert::hard_state_out(&self.node.raft.hard_state());
            self.outputs.push_back(Output::AppendSnapshot {
                ticket: self.gates.next_ticket(),
                snapshot,
                hard_state,
                received: false,
            });
        }
    }

    /// A snapshot takes the place of the log: in memory now, on the disk with the next ticket.
    fn begin_install(&mut self, ready: &Ready) -> Option<LogIndex> {
        let snapshot = ready.snapshot();
        let metadata = snapshot.get_metadata();
        if metadata.index == 0 {
            return None;
        }
        let index = LogIndex(metadata.index);
        self.node.mut_store().restore(metadata);
        self.flow.clear();
        self.configured = index;
        // Entries that came with it are committed too, but stand behind this record.
        let mut hard_state = convert::hard_state_out(&self.node.raft.hard_state());
        hard_state.commit = Some(index.0);
        self.outputs.push_back(Output::AppendSnapshot {
            ticket: self.gates.next_ticket(),
            snapshot: convert::snapshot_record(snapshot),
            hard_state,
            received: true,
        });
        Some(index)
    }

    /// Sends what is new in log and raft state to the disk, and keeps back the messages that
    /// promise it.
    pub(super) fn append(&mut self, ready: &mut Ready) -> bool {
        let entries = ready.take_entries();
        self.node.mut_store().append(&entries);
        let hard_state = ready.hs().map(convert::hard_state_out);
        // A snapshot moves the commit index, so there is something to write behind it.
        let progress = hard_state.is_some() || !entries.is_empty();
        let must_sync = ready.must_sync();
        if progress {
            let ticket = self.gates.next_ticket();
            if must_sync {
                self.gates.open(ticket, ready.number());
            }
            let entries = entries.into_iter().map(convert::entry_out).collect();
            self.outputs.push_back(Output::Append(Append {
                ticket,
                hard_state,
                entries,
                must_sync,
            }));
        }
        let messages = ready.take_persisted_messages();
        let progress = progress || !messages.is_empty();
        let (promises, free): (Vec<_>, Vec<_>) = messages.into_iter().partition(promises);
        let out = |message| send(convert::message_out(message));
        self.outputs.extend(free.into_iter().map(out));
        let promises = promises.into_iter().map(convert::message_out).collect();
        if let Some(free) = self.gates.follow(ready.number(), promises) {
            self.outputs.extend(free.into_iter().map(send));
        }
        progress
    }

    pub(super) fn note_leadership(&mut self) {
        let current = self.current_leadership();
        let before = self.leadership;
        if current == before {
            return;
        }
        if (current.term, current.leader) != (before.term, before.leader) {
            // A round begun under another leader may never be answered.
            self.reads.restart();
        }
        tracing::info!(
            term = current.term.0,
            leader = %current.leader,
            role = ?current.role,
            settled = current.settled,
            "raft leadership changed"
        );
        self.leadership = current;
        self.outputs.push_back(Output::Leadership(current));
    }

    pub(super) fn refuse(&mut self, id: RequestId, reason: Refusal) {
        self.outputs.push_back(Output::Refused { id, reason });
    }
}

/// Whether a message of a member that does not lead promises what must be durable first. The others
/// only ask, or say that they hear the leader.
fn promises(message: &eraftpb::Message) -> bool {
    !matches!(
        message.msg_type,
        MessageType::MsgPropose
            | MessageType::MsgReadIndex
            | MessageType::MsgTransferLeader
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestPreVote
            | MessageType::MsgRequestPreVoteResponse
    )
}
