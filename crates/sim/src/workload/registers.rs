//! Keys that clients share, written and read in every way; two of them at once too.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Pen, Workload, numbered, put, put_if, read};
use crate::history::{Condition, Holds, Keys, Operation, Outcome, Reply, Request, Txn, Write};
use crate::random::Random;

const KEYS: u64 = 12;

/// What one client has seen.
#[derive(Default)]
pub(super) struct Registers {
    /// The newest write of each key.
    seen: BTreeMap<Bytes, i64>,
    /// When each key was created, as it was last read.
    created: BTreeMap<Bytes, i64>,
    revision: i64,
}

impl Workload for Registers {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        match random.below(100) {
            0..28 => put(key(random), pen.value(random)),
            28..38 => {
                let key = key(random);
                let created = self.created.get(&key).filter(|_| random.chance(1, 2));
                let as_created = created.map(|created| Holds::Created(*created));
                let holds = as_created.unwrap_or_else(|| self.as_seen(&key));
                put_if(key, holds, pen.value(random), 0)
            }
            38..50 => self.both(pen, random),
            50..56 => Request::Delete(Keys::one(key(random))),
            56..60 => Request::Delete(some_keys(random)),
            60..76 => read(some_keys(random)),
            76..84 => self.older(random, 0, true),
            84..90 => {
                let behind = random.below(40) as i64;
                let serializable = random.chance(1, 2);
                self.older(random, (self.revision - behind).max(1), serializable)
            }
            90..96 => Request::Range {
                keys: some_keys(random),
                revision: 0,
                serializable: false,
                limit: random.between(1, 4) as i64,
            },
            _ => Request::Compact {
                revision: (self.revision - random.below(20) as i64).max(1),
            },
        }
    }

    fn learn(&mut self, operation: &Operation) {
        let Outcome::Replied(reply) = &operation.outcome else {
            return;
        };
        self.revision = self.revision.max(reply.revision().unwrap_or_default());
        match (&operation.request, reply) {
            (Request::Put { key, .. }, Reply::Done { revision, .. }) => {
                self.seen.insert(key.clone(), *revision);
            }
            (_, Reply::Pairs { pairs, .. }) => {
                for pair in pairs {
                    self.seen.insert(pair.key.clone(), pair.mod_revision);
                    self.created.insert(pair.key.clone(), pair.create_revision);
                }
            }
            (
                Request::Txn(txn),
                Reply::Txn {
                    revision,
                    succeeded: true,
                    ..
                },
            ) => {
                for write in &txn.writes {
                    if let Write::Put { key, .. } = write {
                        self.seen.insert(key.clone(), *revision);
                    }
                }
            }
            (Request::Txn(txn), Reply::Txn { found, .. }) => {
                for (condition, pair) in txn.conditions.iter().zip(found) {
                    let (seen, created) = pair
                        .as_ref()
                        .map_or((0, 0), |pair| (pair.mod_revision, pair.create_revision));
                    self.seen.insert(condition.key.clone(), seen);
                    self.created.insert(condition.key.clone(), created);
                }
            }
            _ => {}
        }
    }
}

impl Registers {
    fn as_seen(&self, key: &Bytes) -> Holds {
        Holds::Modified(self.seen.get(key).copied().unwrap_or_default())
    }

    /// Two keys at once, by half only if both are as they were seen.
    fn both(&self, pen: &mut Pen, random: &mut Random) -> Request {
        let first = random.below(KEYS);
        let second = (first + 1 + random.below(KEYS - 1)) % KEYS;
        let keys = [first, second].map(|number| numbered('k', number));
        let conditions = match random.chance(1, 2) {
            true => Vec::new(),
            false => keys
                .iter()
                .map(|key| Condition {
                    key: key.clone(),
                    holds: self.as_seen(key),
                })
                .collect(),
        };
        let writes = keys.map(|key| Write::Put {
            key,
            value: pen.value(random),
            lease: 0,
        });
        let writes = writes.into();
        Request::Txn(Txn { conditions, writes })
    }

    fn older(&self, random: &mut Random, revision: i64, serializable: bool) -> Request {
        Request::Range {
            keys: some_keys(random),
            revision,
            serializable,
            limit: 0,
        }
    }
}

fn key(random: &mut Random) -> Bytes {
    numbered('k', random.below(KEYS))
}

/// Everything, a part of it, or one key.
pub(crate) fn some_keys(random: &mut Random) -> Keys {
    match random.below(5) {
        0 => Keys::all(),
        1 => super::prefix("k"),
        2 => Keys {
            start: "l".into(),
            end: Bytes::from_static(&[0]),
        },
        3 => {
            let from = random.below(KEYS);
            Keys {
                start: numbered('k', from),
                end: numbered('k', from + random.between(1, 4)),
            }
        }
        _ => Keys::one(key(random)),
    }
}
