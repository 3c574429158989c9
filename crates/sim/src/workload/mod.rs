//! What clients do: each follows one workload, which decides what it asks for next and learns from the answers.
//!
//! Workloads know keys, revisions and leases as any client does, and nothing of the machines. Every value they write is
//! theirs alone ([`Pen`]), so a value in the store names the request that wrote it.

pub(crate) mod appends;
mod big_values;
pub(crate) mod counters;
pub(crate) mod elections;
mod hot_keys;
mod kubernetes;
mod leases;
pub(crate) mod locks;
mod registers;
pub(crate) mod sets;

use bytes::Bytes;

use crate::history::{Condition, Holds, Keys, Operation, Outcome, Reply, Request, Txn, Write};
use crate::random::Random;
pub(crate) use registers::some_keys;

/// A client's side of one kind of use.
pub trait Workload {
    /// What the client asks for next.
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request;
    /// Looks at a request that was answered or given up.
    fn learn(&mut self, operation: &Operation);
}

/// The kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Keys written and read in every way, two at once too.
    Registers,
    /// Numbers raised by one.
    Counters,
    /// Elements added, and all read.
    Sets,
    /// Lists that grow at their end.
    Appends,
    /// A lock whose creation revision is a fence.
    Locks,
    /// Candidates, the first of whom speaks.
    Elections,
    /// Keys that live as long as their lease.
    Leases,
    /// Objects changed by revision, paged lists at a revision, compaction all the time.
    Kubernetes,
    /// Values of many pages.
    BigValues,
    /// One key that everybody wants.
    HotKeys,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 10] = [
        Kind::Registers,
        Kind::Counters,
        Kind::Sets,
        Kind::Appends,
        Kind::Locks,
        Kind::Elections,
        Kind::Leases,
        Kind::Kubernetes,
        Kind::BigValues,
        Kind::HotKeys,
    ];

    /// Its name in counts and stories.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Registers => "registers",
            Kind::Counters => "counters",
            Kind::Sets => "sets",
            Kind::Appends => "appends",
            Kind::Locks => "locks",
            Kind::Elections => "elections",
            Kind::Leases => "leases",
            Kind::Kubernetes => "kubernetes",
            Kind::BigValues => "big values",
            Kind::HotKeys => "hot keys",
        }
    }

    /// A client of this kind.
    #[must_use]
    pub fn begin(self) -> Box<dyn Workload> {
        match self {
            Kind::Registers => Box::new(registers::Registers::default()),
            Kind::Counters => Box::new(counters::Counters::default()),
            Kind::Sets => Box::new(sets::Sets::default()),
            Kind::Appends => Box::new(appends::Appends::default()),
            Kind::Locks => Box::new(locks::Locks::default()),
            Kind::Elections => Box::new(elections::Elections::default()),
            Kind::Leases => Box::new(leases::Leases::default()),
            Kind::Kubernetes => Box::new(kubernetes::Kubernetes::default()),
            Kind::BigValues => Box::new(big_values::BigValues),
            Kind::HotKeys => Box::new(hot_keys::HotKeys::default()),
        }
    }
}

/// Gives a client values and lease ids that nobody else uses.
#[derive(Debug)]
pub struct Pen {
    client: u32,
    values: u64,
    leases: i64,
    value_bytes: (u64, u64),
}

impl Pen {
    /// For the client of this number; values are this long unless they hold more.
    #[must_use]
    pub fn new(client: u32, value_bytes: (u64, u64)) -> Self {
        Self {
            client,
            values: 0,
            leases: 1 + i64::from(client) * 1_000_000,
            value_bytes,
        }
    }

    /// A name that is given once.
    pub fn name(&mut self) -> String {
        self.values += 1;
        format!("{}.{}", self.client, self.values)
    }

    /// A value without a meaning.
    pub fn value(&mut self, random: &mut Random) -> Bytes {
        let (low, high) = self.value_bytes;
        self.value_of(random.between(low, high) as usize)
    }

    /// A value of this length, or a little longer.
    pub fn value_of(&mut self, bytes: usize) -> Bytes {
        let mut value = self.name();
        value.push('.');
        while value.len() < bytes {
            value.push('x');
        }
        value.into()
    }

    /// A value that says something: see [`said`].
    pub fn saying(&mut self, what: &str) -> Bytes {
        format!("{}|{what}", self.name()).into()
    }

    /// A request for a lease that nobody has.
    pub fn grant(&mut self, random: &mut Random, ttl_max: u64) -> Request {
        self.leases += 1;
        Request::Grant {
            lease: self.leases,
            ttl_seconds: random.between(1, ttl_max) as i64,
        }
    }
}

/// What a value says behind the name that makes it unique; nothing in one without a meaning.
#[must_use]
pub fn said(value: &[u8]) -> &str {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.split_once('|').map_or("", |(_, what)| what)
}

fn put(key: impl Into<Bytes>, value: Bytes) -> Request {
    Request::Put {
        key: key.into(),
        value,
        lease: 0,
    }
}

/// A write that is made if the key is as it should be.
fn put_if(key: Bytes, holds: Holds, value: Bytes, lease: i64) -> Request {
    let conditions = vec![Condition {
        key: key.clone(),
        holds,
    }];
    let writes = vec![Write::Put { key, value, lease }];
    Request::Txn(Txn { conditions, writes })
}

fn delete_if(key: Bytes, holds: Holds) -> Request {
    let conditions = vec![Condition {
        key: key.clone(),
        holds,
    }];
    let writes = vec![Write::Delete(key)];
    Request::Txn(Txn { conditions, writes })
}

/// A linearizable read of the newest state.
fn read(keys: Keys) -> Request {
    Request::Range {
        keys,
        revision: 0,
        serializable: false,
        limit: 0,
    }
}

/// All keys that begin so.
fn prefix(start: &'static str) -> Keys {
    let mut end = start.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Keys {
        start: start.into(),
        end: end.into(),
    }
}

fn numbered(kind: char, number: u64) -> Bytes {
    format!("{kind}{number:02}").into()
}

/// What a transaction answered: its revision, and whether it was made.
fn made(operation: &Operation) -> Option<(i64, bool)> {
    match &operation.outcome {
        Outcome::Replied(Reply::Txn {
            revision,
            succeeded,
            ..
        }) => Some((*revision, *succeeded)),
        _ => None,
    }
}
