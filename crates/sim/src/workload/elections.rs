//! Candidates with a key each on a lease: who came first leads and speaks, as long as its key is there.

use bytes::Bytes;

use super::{Pen, Workload, delete_if, prefix, put_if, read};
use crate::history::{Condition, Holds, Operation, Outcome, Reply, Request, Txn, Write};
use crate::random::Random;

/// First letters of the candidates' keys.
pub(crate) const CANDIDATES: &str = "e/";
/// The key under which the leader speaks; what it says is its own key.
pub(crate) const SPEECH: &str = "speech";
const TTL_SECONDS_MAX: u64 = 5;

/// Where one candidate stands.
#[derive(Debug, Default)]
pub(super) struct Elections {
    lease: i64,
    /// Its key with the revision that created it.
    candidate: Option<(Bytes, i64)>,
    leads: bool,
}

impl Workload for Elections {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        if self.lease == 0 {
            return pen.grant(random, TTL_SECONDS_MAX);
        }
        if random.chance(1, 4) {
            return Request::KeepAlive { lease: self.lease };
        }
        let Some((key, created)) = self.candidate.clone() else {
            let key = format!("{CANDIDATES}{}", pen.name());
            return put_if(key.into(), Holds::Created(0), pen.saying(""), self.lease);
        };
        let holds = Holds::Created(created);
        match random.below(8) {
            _ if !self.leads => read(prefix(CANDIDATES)),
            0 => delete_if(key, holds),
            _ => {
                let value = pen.saying(&String::from_utf8_lossy(&key));
                let speech = Write::Put {
                    key: SPEECH.into(),
                    value,
                    lease: 0,
                };
                Request::Txn(Txn {
                    conditions: vec![Condition { key, holds }],
                    writes: vec![speech],
                })
            }
        }
    }

    fn learn(&mut self, operation: &Operation) {
        match (&operation.request, &operation.outcome) {
            (Request::Grant { lease, .. }, Outcome::Replied(_)) => self.lease = *lease,
            (Request::KeepAlive { .. }, Outcome::Replied(Reply::KeptAlive { ttl_seconds: 0 })) => {
                *self = Self::default();
            }
            (Request::Range { .. }, Outcome::Replied(Reply::Pairs { pairs, .. })) => {
                let first = pairs.iter().map(|pair| pair.create_revision).min();
                let own = self.candidate.as_ref().map(|(_, created)| *created);
                self.leads = own.is_some() && own == first;
                if own.is_some_and(|own| pairs.iter().all(|pair| pair.create_revision != own)) {
                    *self = Self::default();
                }
            }
            (
                Request::Txn(txn),
                Outcome::Replied(Reply::Txn {
                    revision,
                    succeeded: true,
                    ..
                }),
            ) => match txn.writes.first() {
                Some(Write::Put { key, .. }) if key != SPEECH => {
                    self.candidate = Some((key.clone(), *revision));
                }
                Some(Write::Delete(_)) => *self = Self::default(),
                _ => {}
            },
            (Request::Txn(_), _) => *self = Self::default(),
            _ => {}
        }
    }
}
