//! What clients did and saw, as an outsider would write it down.
//!
//! The checkers work on these records alone. They know nothing of the machines, so a bug in a machine cannot hide in
//! a checker.

use std::collections::BTreeMap;

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
    /// Put `key` if its newest revision is the given one (0: if it does not exist); else read it.
    PutIf {
        /// The key.
        key: Bytes,
        /// The expected revision of its newest write.
        mod_revision: i64,
        /// The value; unique over a run.
        value: Bytes,
    },
    /// Put two keys at once.
    PutBoth {
        /// Keys and values; the values are unique over a run.
        pairs: [(Bytes, Bytes); 2],
    },
    /// Read keys.
    Range {
        /// Which.
        keys: Keys,
        /// At this revision; 0 means the newest.
        revision: i64,
        /// From local state, without asking for the newest.
        serializable: bool,
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
    /// A conditional put.
    Conditional {
        /// Revision in the header.
        revision: i64,
        /// Whether the put was made.
        succeeded: bool,
        /// The pair that was found where the condition did not hold.
        found: Option<Pair>,
    },
    /// A read.
    Pairs {
        /// Revision in the header.
        revision: i64,
        /// The pairs.
        pairs: Vec<Pair>,
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
            | Self::Conditional { revision, .. }
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
    /// Messages in order.
    pub messages: Vec<WatchMessage>,
}

/// One message on a watch stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchMessage {
    /// Events of one or more revisions.
    Events(Vec<(i64, Change)>),
    /// Everything up to this revision was delivered.
    Progress(i64),
    /// The history asked for is gone; it starts at this revision now.
    Compacted(i64),
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
    /// The newest revision when everything had come to rest and every watcher had been given time to catch up; `None`
    /// when the run did not get that far.
    pub rested_at: Option<i64>,
}
