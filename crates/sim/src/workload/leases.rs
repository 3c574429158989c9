//! Keys that live as long as the lease they hang on, and leases that are kept alive, let go or forgotten.

use super::{Pen, Workload, numbered, prefix, read};
use crate::history::{Keys, Operation, Outcome, Request};
use crate::random::Random;

const KEYS: u64 = 6;
/// Leases that a client keeps in mind.
const LEASES_MAX: usize = 3;
const TTL_SECONDS_MAX: u64 = 6;

/// The leases of one client.
#[derive(Default)]
pub(super) struct Leases {
    own: Vec<i64>,
}

impl Workload for Leases {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        if self.own.is_empty() {
            return pen.grant(random, TTL_SECONDS_MAX);
        }
        match random.below(100) {
            0..16 => pen.grant(random, TTL_SECONDS_MAX),
            // By and by each key changes its lease, or has none.
            16..50 => Request::Put {
                key: numbered('l', random.below(KEYS)),
                value: pen.value(random),
                lease: match random.below(6) {
                    0 => 0,
                    _ => *random.pick(&self.own),
                },
            },
            50..80 => Request::KeepAlive {
                lease: *random.pick(&self.own),
            },
            80..84 => Request::Revoke {
                lease: self.own.pop().unwrap_or_default(),
            },
            84..88 => Request::Delete(Keys::one(numbered('l', random.below(KEYS)))),
            _ => read(prefix("l")),
        }
    }

    fn learn(&mut self, operation: &Operation) {
        if let (Request::Grant { lease, .. }, Outcome::Replied(_)) =
            (&operation.request, &operation.outcome)
        {
            self.own.push(*lease);
            if self.own.len() > LEASES_MAX {
                self.own.remove(0);
            }
        }
    }
}
