//! A client that writes and reads as its workload says, one request at a time.

use kvorum_proto::ids::Moment;

use super::node::Place;
use super::process::OperationId;
use crate::history::{Keys, Operation, Outcome, Request};
use crate::random::Random;
use crate::workload::{Kind, Pen, Workload};

/// One client. It has one request on its way at most.
pub(super) struct Client {
    pub(super) kind: Kind,
    workload: Box<dyn Workload>,
    pen: Pen,
    /// Whether it asks for something by itself.
    pub(super) acts: bool,
    /// The request it waits for.
    pub(super) waits_for: Option<OperationId>,
    /// The life of the member that it sent it to.
    pub(super) boot: u64,
    /// The member that it talks to.
    pub(super) member: Place,
}

impl Client {
    pub(super) fn new(name: u32, kind: Kind, value_bytes: (u64, u64)) -> Self {
        Self {
            kind,
            workload: kind.begin(),
            pen: Pen::new(name, value_bytes),
            acts: true,
            waits_for: None,
            boot: 0,
            member: name as usize,
        }
    }

    /// What it asks for next.
    pub(super) fn choose(&mut self, random: &mut Random) -> Request {
        self.workload.next(&mut self.pen, random)
    }

    /// A write for the sake of writing.
    pub(super) fn probe(&mut self, random: &mut Random) -> Request {
        Request::Put {
            key: "probe".into(),
            value: self.pen.value(random),
            lease: 0,
        }
    }

    /// Learns from a request that was answered or given up.
    pub(super) fn learn(&mut self, operation: &Operation) {
        self.workload.learn(operation);
    }
}

/// The request that reads everything as of a revision; 0 means the newest.
pub(super) fn read_all(revision: i64) -> Request {
    Request::Range {
        keys: Keys::all(),
        revision,
        serializable: false,
        limit: 0,
    }
}

/// An operation that was just sent.
pub(super) fn sent(client: u32, invoked: Moment, request: Request) -> Operation {
    Operation {
        client,
        invoked,
        returned: None,
        request,
        outcome: Outcome::Unknown,
    }
}
