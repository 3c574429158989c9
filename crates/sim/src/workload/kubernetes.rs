//! What an API server does: objects are created, updated and deleted by the revision that was read, listed page by page
//! at one revision, and history is given up all the time.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Pen, Workload, delete_if, prefix, put_if};
use crate::history::{Holds, Keys, Operation, Outcome, Refusal, Reply, Request, Write};
use crate::random::Random;

const OBJECTS: u64 = 24;
const OBJECT_KEYS: &str = "registry/pods/";
/// Pairs on a page.
const PAGE: i64 = 5;
/// One request in so many compacts.
const COMPACTS_ONE_IN: u64 = 40;
/// History younger than so many revisions stays.
const HISTORY_REVISIONS: i64 = 30;

/// What one client has seen.
#[derive(Default)]
pub(super) struct Kubernetes {
    /// The newest write of each object.
    seen: BTreeMap<Bytes, i64>,
    revision: i64,
    /// The list under way: its revision and where the next page begins.
    list: Option<(i64, Bytes)>,
}

impl Workload for Kubernetes {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        if random.chance(1, COMPACTS_ONE_IN) {
            let revision = (self.revision - HISTORY_REVISIONS).max(1);
            return Request::Compact { revision };
        }
        if self.list.is_some() || random.chance(1, 5) {
            return self.page();
        }
        let key: Bytes = format!("{OBJECT_KEYS}{:02}", random.below(OBJECTS)).into();
        match self.seen.get(&key).copied().unwrap_or_default() {
            0 => put_if(key, Holds::Modified(0), pen.value(random), 0),
            seen if random.chance(1, 5) => delete_if(key, Holds::Modified(seen)),
            seen => put_if(key, Holds::Modified(seen), pen.value(random), 0),
        }
    }

    fn learn(&mut self, operation: &Operation) {
        let reply = match &operation.outcome {
            Outcome::Replied(reply) => reply,
            Outcome::Refused(Refusal::Compacted) => return self.list = None,
            _ => return,
        };
        self.revision = self.revision.max(reply.revision().unwrap_or_default());
        match (&operation.request, reply) {
            (
                Request::Range { .. },
                Reply::Pairs {
                    revision,
                    pairs,
                    count,
                },
            ) => {
                let of = self.list.as_ref().map_or(*revision, |(of, _)| *of);
                for pair in pairs {
                    self.seen.insert(pair.key.clone(), pair.mod_revision);
                }
                let next = pairs.last().filter(|_| *count > pairs.len() as i64);
                self.list = next.map(|last| (of, [&last.key[..], &[0]].concat().into()));
            }
            (
                Request::Txn(txn),
                Reply::Txn {
                    revision,
                    succeeded,
                    found,
                },
            ) => {
                let (key, seen) = match txn.writes.first() {
                    Some(Write::Put { key, .. }) if *succeeded => (key, *revision),
                    Some(Write::Delete(key)) if *succeeded => (key, 0),
                    Some(Write::Put { key, .. } | Write::Delete(key)) => {
                        let found = found.first().and_then(Option::as_ref);
                        (key, found.map_or(0, |pair| pair.mod_revision))
                    }
                    None => return,
                };
                self.seen.insert(key.clone(), seen);
            }
            _ => {}
        }
    }
}

impl Kubernetes {
    /// The first page of a list, or the next one of the same revision.
    fn page(&self) -> Request {
        let all = prefix(OBJECT_KEYS);
        let (revision, start) = self.list.clone().unwrap_or((0, all.start));
        Request::Range {
            keys: Keys {
                start,
                end: all.end,
            },
            revision,
            serializable: false,
            limit: PAGE,
        }
    }
}
