//! One key that everybody writes and reads.

use super::{Pen, Workload, put, put_if, read};
use crate::history::{Holds, Keys, Operation, Outcome, Request};
use crate::random::Random;

const KEY: &str = "hot";

/// The newest revision that one client has seen.
#[derive(Default)]
pub(super) struct HotKeys {
    seen: i64,
}

impl Workload for HotKeys {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        match random.below(10) {
            0..4 => put(KEY, pen.value(random)),
            4..6 => put_if(KEY.into(), Holds::Modified(self.seen), pen.value(random), 0),
            6 => Request::Delete(Keys::one(KEY)),
            _ => read(Keys::one(KEY)),
        }
    }

    fn learn(&mut self, operation: &Operation) {
        if let Outcome::Replied(reply) = &operation.outcome {
            self.seen = reply.revision().unwrap_or(self.seen);
        }
    }
}
