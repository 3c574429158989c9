//! A client that writes and reads: what it asks for next, and what it remembers.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvorum_proto::ids::Moment;

use super::mix::Mix;
use super::node::Place;
use super::process::OperationId;
use crate::history::{Keys, Operation, Outcome, Reply, Request};
use crate::random::Random;

/// Keys that clients share.
const KEYS: u64 = 12;
/// Keys that are written with leases.
const LEASED_KEYS: u64 = 6;
/// Leases that a client keeps in mind.
const LEASES_MAX: usize = 3;

/// One client. It has one request on its way at most.
pub(super) struct Client {
    name: u32,
    /// The request it waits for.
    pub(super) waits_for: Option<OperationId>,
    /// The life of the member that it sent it to.
    pub(super) boot: u64,
    /// The member that it talks to.
    pub(super) member: Place,
    leases: Vec<i64>,
    next_lease: i64,
    next_value: u64,
    /// The newest write of each key that it has seen.
    seen: BTreeMap<Bytes, i64>,
    /// The newest revision it has seen.
    revision: i64,
}

impl Client {
    pub(super) fn new(name: u32) -> Self {
        Self {
            name,
            waits_for: None,
            boot: 0,
            member: name as usize,
            leases: Vec::new(),
            next_lease: 1 + i64::from(name) * 1_000_000,
            next_value: 0,
            seen: BTreeMap::new(),
            revision: 1,
        }
    }

    /// What it asks for next.
    pub(super) fn choose(&mut self, random: &mut Random, mix: &Mix) -> Request {
        match random.below(100) {
            0..24 => Request::Put {
                key: key(random),
                value: self.value(random, mix),
                lease: 0,
            },
            24..34 => self.put_leased(random, mix),
            34..44 => self.put_if(random, mix),
            44..52 => {
                let first = random.below(KEYS);
                let second = (first + 1 + random.below(KEYS - 1)) % KEYS;
                let pairs = [first, second].map(|key| (name_of('k', key), self.value(random, mix)));
                Request::PutBoth { pairs }
            }
            52..58 => Request::Delete(Keys::one(key(random))),
            58..61 => Request::Delete(some_keys(random)),
            61..76 => range(some_keys(random), 0, false),
            76..82 => range(some_keys(random), 0, true),
            82..87 => {
                let revision = (self.revision - random.below(40) as i64).max(1);
                range(some_keys(random), revision, random.chance(1, 2))
            }
            87..91 => self.grant(random),
            91..97 => match self.leases.is_empty() {
                true => self.grant(random),
                false => Request::KeepAlive {
                    lease: *random.pick(&self.leases),
                },
            },
            97..98 => match self.leases.pop() {
                Some(lease) => Request::Revoke { lease },
                None => self.grant(random),
            },
            _ => Request::Compact {
                revision: (self.revision - random.below(20) as i64).max(1),
            },
        }
    }

    /// Learns from an answer.
    pub(super) fn learn(&mut self, operation: &Operation) {
        let Outcome::Replied(reply) = &operation.outcome else {
            return;
        };
        self.revision = self.revision.max(reply.revision().unwrap_or_default());
        match (&operation.request, reply) {
            (Request::Put { key, .. }, Reply::Done { revision, .. })
            | (
                Request::PutIf { key, .. },
                Reply::Conditional {
                    revision,
                    succeeded: true,
                    ..
                },
            ) => {
                self.seen.insert(key.clone(), *revision);
            }
            (_, Reply::Pairs { pairs, .. }) => {
                for pair in pairs {
                    self.seen.insert(pair.key.clone(), pair.mod_revision);
                }
            }
            (Request::PutIf { key, .. }, Reply::Conditional { found, .. }) => {
                self.seen.insert(
                    key.clone(),
                    found.as_ref().map_or(0, |pair| pair.mod_revision),
                );
            }
            (Request::Grant { lease, .. }, _) => {
                self.leases.push(*lease);
                if self.leases.len() > LEASES_MAX {
                    self.leases.remove(0);
                }
            }
            _ => {}
        }
    }

    fn put_leased(&mut self, random: &mut Random, mix: &Mix) -> Request {
        let key = name_of('l', random.below(LEASED_KEYS));
        let lease = match self.leases.is_empty() {
            true => 0,
            false => *random.pick(&self.leases),
        };
        Request::Put {
            key,
            value: self.value(random, mix),
            lease,
        }
    }

    fn put_if(&mut self, random: &mut Random, mix: &Mix) -> Request {
        let key = key(random);
        let mod_revision = self.seen.get(&key).copied().unwrap_or_default();
        Request::PutIf {
            key,
            mod_revision,
            value: self.value(random, mix),
        }
    }

    fn grant(&mut self, random: &mut Random) -> Request {
        self.next_lease += 1;
        Request::Grant {
            lease: self.next_lease,
            ttl_seconds: random.between(1, 6) as i64,
        }
    }

    /// A value that nobody else writes.
    fn value(&mut self, random: &mut Random, mix: &Mix) -> Bytes {
        self.next_value += 1;
        let length = random.between(mix.value_bytes.0, mix.value_bytes.1) as usize;
        let mut value = format!("{}.{}.", self.name, self.next_value);
        while value.len() < length {
            value.push('x');
        }
        value.into()
    }
}

/// The request that reads everything.
pub(super) fn read_all() -> Request {
    range(Keys::all(), 0, false)
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

fn range(keys: Keys, revision: i64, serializable: bool) -> Request {
    Request::Range {
        keys,
        revision,
        serializable,
    }
}

fn key(random: &mut Random) -> Bytes {
    name_of('k', random.below(KEYS))
}

fn name_of(kind: char, number: u64) -> Bytes {
    format!("{kind}{number:02}").into()
}

/// Everything, a part of it, or one key; leased keys among them.
pub(super) fn some_keys(random: &mut Random) -> Keys {
    match random.below(5) {
        0 => Keys::all(),
        1 => Keys {
            start: "k".into(),
            end: "l".into(),
        },
        2 => Keys {
            start: "l".into(),
            end: Bytes::from_static(&[0]),
        },
        3 => {
            let from = random.below(KEYS);
            Keys {
                start: name_of('k', from),
                end: name_of('k', from + random.between(1, 4)),
            }
        }
        _ => Keys::one(key(random)),
    }
}
