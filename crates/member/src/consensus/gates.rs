//! What waits for the disk.
//!
//! Each append that must be durable opens a gate. Behind it wait the crate's own bookkeeping (the
//! number of the batch that is then persisted) and the messages that promise durability to peers.

use std::collections::VecDeque;

use kvorum_proto::raftpb;
use kvorum_storage::wal::Ticket;

/// The appends that are not durable yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Gates {
    last: Ticket,
    open: VecDeque<Gate>,
}

#[derive(Debug)]
struct Gate {
    ticket: Ticket,
    /// The number of the crate's batch, or of the last one after it that needed no disk of its own.
    batch: u64,
    messages: Vec<raftpb::Message>,
}

impl Gates {
    /// The next ticket.
    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.last = Ticket(self.last.0 + 1);
        self.last
    }

    /// The ticket given last.
    pub(super) fn last_ticket(&self) -> Ticket {
        self.last
    }

    /// From now on `batch` waits for `ticket`.
    pub(super) fn open(&mut self, ticket: Ticket, batch: u64) {
        assert!(
            self.open.back().is_none_or(|gate| gate.ticket < ticket),
            "tickets ascend"
        );
        self.open.push_back(Gate {
            ticket,
            batch,
            messages: Vec::new(),
        });
    }

    /// Lets a batch that needs no disk of its own wait for the youngest gate. Without any gate it
    /// is persisted already, and the messages come back.
    pub(super) fn follow(
        &mut self,
        batch: u64,
        messages: Vec<raftpb::Message>,
    ) -> Option<Vec<raftpb::Message>> {
        let Some(gate) = self.open.back_mut() else {
            return Some(messages);
        };
        gate.batch = batch;
        gate.messages.extend(messages);
        None
    }

    /// Closes the gates up to `ticket`: the batch that is now persisted and the messages that may
    /// leave.
    pub(super) fn close(&mut self, ticket: Ticket) -> Option<(u64, Vec<raftpb::Message>)> {
        let mut closed: Option<(u64, Vec<raftpb::Message>)> = None;
        while self.open.front().is_some_and(|gate| gate.ticket <= ticket) {
            let gate = self.open.pop_front()?;
            let (batch, messages) = closed.get_or_insert_default();
            *batch = gate.batch;
            messages.extend(gate.messages);
        }
        closed
    }

    /// Whether nothing waits for the disk.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the tickets ascend and none is younger than the last one given.
    pub(super) fn ascend(&self) -> bool {
        let tickets = || self.open.iter().map(|gate| gate.ticket);
        tickets()
            .zip(tickets().skip(1))
            .all(|(older, younger)| older < younger)
            && self.open.back().is_none_or(|gate| gate.ticket <= self.last)
    }
}
