//! A set of elements, each a key of its own.

use super::{Pen, Workload, delete_if, prefix, put_if, read};
use crate::history::{Holds, Operation, Request, Write};
use crate::random::Random;

/// First letters of the keys.
pub(crate) const ELEMENTS: &str = "s/";
/// Elements that a client adds before it takes one of its own out for each that it adds.
const OWN_MAX: usize = 12;

/// The elements of one client.
#[derive(Default)]
pub(super) struct Sets {
    own: Vec<(bytes::Bytes, i64)>,
}

impl Workload for Sets {
    fn next(&mut self, pen: &mut Pen, random: &mut Random) -> Request {
        if random.chance(1, 3) {
            return read(prefix(ELEMENTS));
        }
        if self.own.len() > OWN_MAX {
            let (key, revision) = self.own.remove(0);
            return delete_if(key, Holds::Modified(revision));
        }
        let key = format!("{ELEMENTS}{}", pen.name());
        put_if(key.into(), Holds::Created(0), pen.value(random), 0)
    }

    fn learn(&mut self, operation: &Operation) {
        if let (Request::Txn(txn), Some((revision, true))) =
            (&operation.request, super::made(operation))
            && let Some(Write::Put { key, .. }) = txn.writes.first()
        {
            self.own.push((key.clone(), revision));
        }
    }
}
