//! A lock that is a key on a lease. Its creation revision is a fence: who writes under the lock writes only while the
//! key that he has created is there.

use super::{Pen, Workload, delete_if, put_if, read};
use crate::history::{Condition, Holds, Keys, Operation, Outcome, Reply, Request, Txn, Write};
use crate::random::Random;

/// The key that is the lock.
pub(crate) const LOCK: &str = "m/lock";
/// The key that is written under it; its value says the fence.
pub(crate) const FENCED: &str = "m/fenced";
const TTL_SECONDS_MAX: u64 = 5;

/// Where one client stands.
#[derive(Debug, Default)]
pub(super) struct Locks {
    lease: i64,
    /// The creation revision of the lock, while the client takes it for its own.
    fence: Option<i64>,
}

impl Workload for Locks {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        if self.lease == 0 {
            return pen.grant(random, TTL_SECONDS_MAX);
        }
        if random.chance(1, 4) {
            return Request::KeepAlive { lease: self.lease };
        }
        let Some(fence) = self.fence else {
            return match random.below(3) {
                0 => read(Keys::one(LOCK)),
                _ => put_if(
                    LOCK.into(),
                    Holds::Created(0),
                    pen.saying("held"),
                    self.lease,
                ),
            };
        };
        match random.below(6) {
            0 => delete_if(LOCK.into(), Holds::Created(fence)),
            _ => Request::Txn(Txn {
                conditions: vec![Condition {
                    key: LOCK.into(),
                    holds: Holds::Created(fence),
                }],
                writes: vec![Write::Put {
                    key: FENCED.into(),
                    value: pen.saying(&fence.to_string()),
                    lease: 0,
                }],
            }),
        }
    }

    fn learn(&mut self, operation: &Operation) {
        match (&operation.request, &operation.outcome) {
            (Request::Grant { lease, .. }, Outcome::Replied(_)) => self.lease = *lease,
            (Request::KeepAlive { .. }, Outcome::Replied(Reply::KeptAlive { ttl_seconds: 0 })) => {
                *self = Self::default();
            }
            (
                Request::Txn(txn),
                Outcome::Replied(Reply::Txn {
                    revision,
                    succeeded,
                    ..
                }),
            ) => {
                let takes = matches!(&txn.writes[..], [Write::Put { key, .. }] if key == LOCK);
                let lets_go = matches!(&txn.writes[..], [Write::Delete(_)]);
                match (takes, succeeded) {
                    (true, true) => self.fence = Some(*revision),
                    (true, false) => {}
                    (false, made) if lets_go || !made => self.fence = None,
                    (false, _) => {}
                }
            }
            // Whether the lock was taken nobody knows: another lease is asked for, and the old one runs out.
            (Request::Txn(_), _) => *self = Self::default(),
            _ => {}
        }
    }
}
