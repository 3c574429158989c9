//! Values of many pages, larger than a log file and than what a watch stream may hold.

use super::{Pen, Workload, numbered, prefix, put, read};
use crate::history::{Keys, Operation, Request};
use crate::random::Random;

const KEYS: u64 = 4;
const VALUE_BYTES: (u64, u64) = (4 << 10, 40 << 10);

/// Nothing is kept in mind.
pub(super) struct BigValues;

impl Workload for BigValues {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        let key = numbered('b', random.below(KEYS));
        match random.below(8) {
            0..3 => put(
                key,
                pen.value_of(random.between(VALUE_BYTES.0, VALUE_BYTES.1) as usize),
            ),
            3 => Request::Delete(Keys::one(key)),
            4 => read(prefix("b")),
            _ => read(Keys::one(key)),
        }
    }

    fn learn(&mut self, _: &Operation) {}
}
