//! Lists under one key, longer by one element with each write.

use super::{Pen, Workload, numbered, put_if, read, said};
use crate::history::{Holds, Keys, Operation, Outcome, Pair, Reply, Request};
use crate::random::Random;

const LISTS: u64 = 2;
/// A list of so many elements begins anew.
const ELEMENTS_MAX: usize = 40;
/// First letter of the keys.
pub(crate) const KEYS: char = 'a';

/// What one client has read.
#[derive(Default)]
pub(super) struct Appends {
    which: u64,
    read: Option<(i64, String)>,
}

impl Workload for Appends {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        let Some((modified, list)) = self.read.take() else {
            self.which = random.below(LISTS);
            return read(Keys::one(numbered(KEYS, self.which)));
        };
        let element = pen.name();
        let longer = match list.split(',').count() {
            _ if list.is_empty() => element,
            ELEMENTS_MAX.. => element,
            _ => format!("{list},{element}"),
        };
        let value = pen.saying(&longer);
        put_if(
            numbered(KEYS, self.which),
            Holds::Modified(modified),
            value,
            0,
        )
    }

    fn learn(&mut self, operation: &Operation) {
        let list_in = |pair: &Pair| (pair.mod_revision, said(&pair.value).to_owned());
        self.read = match &operation.outcome {
            Outcome::Replied(Reply::Pairs { pairs, .. }) => {
                Some(pairs.first().map_or((0, String::new()), list_in))
            }
            Outcome::Replied(Reply::Txn {
                succeeded: false,
                found,
                ..
            }) => found.first().and_then(|pair| pair.as_ref().map(list_in)),
            _ => None,
        };
    }
}
