//! Numbers that clients raise by one, each if it is still what it read.

use super::{Pen, Workload, numbered, put_if, read, said};
use crate::history::{Holds, Keys, Operation, Outcome, Pair, Reply, Request};
use crate::random::Random;

const COUNTERS: u64 = 3;
/// First letter of the keys.
pub(crate) const KEYS: char = 'c';

/// What one client has read.
#[derive(Default)]
pub(super) struct Counters {
    /// A counter and its newest write; `None` of one that was not there.
    read: Option<(u64, i64, u64)>,
    which: u64,
}

impl Workload for Counters {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        match self.read.take() {
            Some((which, modified, number)) => {
                let raised = pen.saying(&(number + 1).to_string());
                put_if(numbered(KEYS, which), Holds::Modified(modified), raised, 0)
            }
            None => {
                self.which = random.below(COUNTERS);
                read(Keys::one(numbered(KEYS, self.which)))
            }
        }
    }

    fn learn(&mut self, operation: &Operation) {
        match &operation.outcome {
            Outcome::Replied(Reply::Pairs { pairs, .. }) => {
                let (modified, number) = pairs.first().map_or((0, 0), number_in);
                self.read = Some((self.which, modified, number));
            }
            // Somebody else was faster: what was found is as good as a read.
            Outcome::Replied(Reply::Txn {
                succeeded: false,
                found,
                ..
            }) => {
                if let Some(Some(pair)) = found.first() {
                    let (modified, number) = number_in(pair);
                    self.read = Some((self.which, modified, number));
                }
            }
            _ => {}
        }
    }
}

fn number_in(pair: &Pair) -> (i64, u64) {
    (pair.mod_revision, number(&pair.value))
}

/// The number in a counter's value.
pub(crate) fn number(value: &[u8]) -> u64 {
    said(value).parse().unwrap_or_default()
}
