//! What clients did and saw, as an outsider would write it down.
//!
//! The checkers work on these records alone. They know nothing of the machines, so a bug in a machine cannot hide in
//! a checker.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::ids::Moment;

/// A pair as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Revision of the write that created this incarnation.
    pub create_revision: i64,
    /// Revision of the newest write.
    pub mod_revision: i64,
    /// Writes in this incarnation.
    pub version: i64,
    /// Attached lease; 0 means none.
    pub lease: i64,
}

/// One change of one key, as an event tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The pair as written.
    Put(Pair),
    /// The key that was deleted.
    Delete(Bytes),
}

impl Change {
    /// The key that changed.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put(pair) => &pair.key,
            Self::Delete(key) => key,
        }
    }
}

/// An interval of keys as the wire has it: empty end means one key, a single zero byte means open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// First key.
    pub start: Bytes,
    /// Exclusive end.
    pub end: Bytes,
}

impl Keys {
    /// Exactly one key.
    #[must_use]
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self {
            start: key.into(),
            end: Bytes::new(),
        }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self {
            start: Bytes::from_static(&[0]),
            end: Bytes::from_static(&[0]),
        }
    }

    /// Whether a key lies inside.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.end.is_empty() {
            return key == self.start;
        }
        key >= &self.start[..] && (self.end == [0][..] || key < &self.end[..])
    }
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write one key.
    Put {
        /// The key.
        key: Bytes,
        /// The value; unique over a run, so that a pair names its request.
        value: Bytes,
        /// The lease to attach; 0 means none.
        lease: i64,
    },
    /// Delete keys.
    Delete(Keys),
    /// A transaction.
    Txn(Txn),
    /// Read keys.
    Range {
        /// Which.
        keys: Keys,
        /// At this revision; 0 means the newest.
        revision: i64,
        /// From local state, without asking for the newest.
        serializable: bool,
        /// Most pairs wanted; 0 means all.
        limit: i64,
    },
    /// Create a lease.
    Grant {
        /// Its id, chosen by the client.
        lease: i64,
        /// Lifetime asked for, in seconds.
        ttl_seconds: i64,
    },
    /// End a lease.
    Revoke {
        /// Its id.
        lease: i64,
    },
    /// Show that the owner of a lease is alive.
    KeepAlive {
        /// Its id.
        lease: i64,
    },
    /// Give up history below a revision.
    Compact {
        /// The revision.
        revision: i64,
    },
}

/// Writes that are made together, if all conditions hold; if not, their keys are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// What is written then. A key stands there once, and one that is deleted has a condition by which it exists.
    pub writes: Vec<Write>,
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The key.
    pub key: Bytes,
    /// What must be so.
    pub holds: Holds,
}

/// What a condition compares; 0 means that the key does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Its newest write has this revision.
    Modified(i64),
    /// This incarnation was created at this revision.
    Created(i64),
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A put.
    Put {
        /// The key.
        key: Bytes,
        /// The value; unique over a run.
        value: Bytes,
        /// The lease to attach; 0 means none.
        lease: i64,
    },
    /// A delete of one key.
    Delete(Bytes),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A put, delete, grant, revoke or compaction: the store revision after it.
    Done {
        /// Revision in the header.
        revision: i64,
        /// Keys deleted by a delete; 0 for everything else.
        deleted: i64,
        /// The lifetime granted, in seconds; 0 for everything else.
        ttl_seconds: i64,
    },
    /// A transaction.
    Txn {
        /// Revision in the header.
        revision: i64,
        /// Whether the conditions held, so that the writes were made.
        succeeded: bool,
        /// Where they did not hold: what stood under each of their keys.
        found: Vec<Option<Pair>>,
    },
    /// A read.
    Pairs {
        /// Revision in the header.
        revision: i64,
        /// The pairs.
        pairs: Vec<Pair>,
        /// How many there are, whatever the limit.
        count: i64,
    },
    /// A keep-alive: seconds of life from now; 0 means that there is no such lease.
    KeptAlive {
        /// The lifetime.
        ttl_seconds: i64,
    },
}

impl Reply {
    /// The store revision in the header; `None` for keep-alives, whose header is about no write.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        match self {
            Self::Done { revision, .. }
            | Self::Txn { revision, .. }
            | Self::Pairs { revision, .. } => Some(*revision),
            Self::KeptAlive { .. } => None,
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Replied(Reply),
    /// It was refused and has changed nothing.
    Refused(Refusal),
    /// No answer came: it may or may not have happened, then or later.
    Unknown,
}

/// Why a request was refused, as far as the checkers tell cases apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The history asked for is gone.
    Compacted,
    /// No lease has this id.
    NoLease,
    /// Anything else, in the member's words.
    Other(String),
}

/// One request of one client from its first byte to its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub client: u32,
    /// When.
    pub invoked: Moment,
    /// When the answer came; `None` without one.
    pub returned: Option<Moment>,
    /// What was asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

/// What one watcher saw, over all its streams: a watcher that loses its stream resumes after the last event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// What it asked for.
    pub keys: Option<Keys>,
    /// The first revision it is to see.
    pub start_revision: i64,
    /// What it does not want to see.
    pub without: Without,
    /// Messages in order.
    pub messages: Vec<WatchMessage>,
}

/// What a watcher does not want to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Without {
    /// It wants everything.
    #[default]
    Nothing,
    /// No puts.
    Puts,
    /// No deletes.
    Deletes,
}

/// One message on a watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchMessage {
    /// Events of one or more revisions.
    Events(Vec<(i64, Change)>),
    /// What stood under the keys of the events just told, each before its event.
    Before(Vec<(i64, Bytes, Option<Pair>)>),
    /// Everything up to this revision was delivered.
    Progress(i64),
    /// The history asked for is gone; it starts at this revision now.
    Compacted(i64),
}

/// What a member holds of one revision, read from its own store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which member.
    pub member: u64,
    /// How far its history is given up.
    pub compacted: i64,
    /// The revision; not before `compacted`.
    pub revision: i64,
    /// All pairs.
    pub pairs: Vec<Pair>,
}

/// Everything that happened in a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All requests, by the time of their first byte.
    pub operations: Vec<Operation>,
    /// All watchers.
    pub watchers: Vec<Watched>,
    /// Changes as the member published them, with the time of the first publication.
    pub published: BTreeMap<i64, (Moment, Vec<Change>)>,
    /// When a member's clock was put ahead, and by how much: its leases may end so much earlier.
    pub clock_jumps: Vec<(Moment, Duration)>,
    /// What members hold of older revisions when everything has come to rest.
    pub kept: Vec<Kept>,
    /// The newest revision when everything had come to rest and every watcher had been given time to catch up; `None`
    /// when the run did not get that far.
    pub rested_at: Option<i64>,
}
