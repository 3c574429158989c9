//! Reads of one key and of many.

use anyhow::{Result, ensure};
use kvorum_proto::etcdserverpb::RangeRequest;
use prost::Message;

use super::Workload;
use crate::fields::Fields;
use crate::keys::{self, Dice, Template};

const PATH: &str = "/etcdserverpb.KV/Range";

/// Reads of one key each, at random.
pub(crate) struct Range {
    template: Template,
    expected: Template,
    dice: Dice,
    keys: u64,
}

impl Range {
    /// Out of `keys` keys that are there. `serializable`: without asking the leader.
    pub(crate) fn new(keys: u64, serializable: bool, seed: u64) -> Self {
        let request = RangeRequest {
            key: keys::key(0).into(),
            serializable,
            ..RangeRequest::default()
        };
        Self {
            template: Template::new(request.encode_to_vec(), 0),
            expected: Template::new(keys::key(0), 0),
            dice: Dice::new(seed),
            keys,
        }
    }
}

impl Workload for Range {
    fn path(&self) -> &'static str {
        PATH
    }

    fn request_bytes_max(&self) -> usize {
        self.template.len()
    }

    fn next(&mut self) -> (u64, &[u8]) {
        let number = self.dice.below(self.keys);
        (number, self.template.with(number))
    }

    fn check(&mut self, number: u64, answer: &[u8]) -> Result<()> {
        let found = Found::read(answer)?;
        ensure!(
            found.listed == 1 && found.count == 1,
            "a read of one key found {} of {}",
            found.listed,
            found.count
        );
        let mut fields = Fields(found.last);
        let key = fields.next()?.filter(|(field, _)| *field == 1);
        let key = key.map(|(_, key)| key.bytes()).unwrap_or_default();
        let asked = self.expected.with(number);
        ensure!(
            key == asked,
            "asked for {}, got {}",
            String::from_utf8_lossy(asked),
            String::from_utf8_lossy(key)
        );
        Ok(())
    }
}

/// Reads of the first keys in order, many at a time.
pub(crate) struct List {
    request: Vec<u8>,
    listed: u64,
    count: u64,
}

impl List {
    /// The first `limit` of `keys` keys that are there; 0: all.
    pub(crate) fn new(keys: u64, limit: u64, serializable: bool) -> Self {
        let request = RangeRequest {
            key: keys::PREFIX.as_bytes().to_vec().into(),
            range_end: keys::range_end().into(),
            limit: limit as i64,
            serializable,
            ..RangeRequest::default()
        };
        let listed = if limit == 0 { keys } else { limit.min(keys) };
        Self {
            request: request.encode_to_vec(),
            listed,
            count: keys,
        }
    }
}

impl Workload for List {
    fn path(&self) -> &'static str {
        PATH
    }

    fn request_bytes_max(&self) -> usize {
        self.request.len()
    }

    fn next(&mut self) -> (u64, &[u8]) {
        (0, &self.request)
    }

    fn check(&mut self, _number: u64, answer: &[u8]) -> Result<()> {
        let found = Found::read(answer)?;
        ensure!(
            found.listed == self.listed && found.count == self.count,
            "a list of {} of {} keys, expected {} of {}",
            found.listed,
            found.count,
            self.listed,
            self.count
        );
        Ok(())
    }
}

/// What a range answer holds.
struct Found<'a> {
    listed: u64,
    count: u64,
    /// The last key with its value.
    last: &'a [u8],
}

impl<'a> Found<'a> {
    fn read(answer: &'a [u8]) -> Result<Self> {
        const KVS: u64 = 2;
        const COUNT: u64 = 4;
        let mut found = Self {
            listed: 0,
            count: 0,
            last: &[],
        };
        let mut fields = Fields(answer);
        while let Some((number, value)) = fields.next()? {
            match number {
                KVS => {
                    found.listed += 1;
                    found.last = value.bytes();
                }
                COUNT => found.count = value.number(),
                _ => {}
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use kvorum_proto::etcdserverpb::RangeResponse;
    use kvorum_proto::mvccpb::KeyValue;
    use prost::Message;

    use super::super::Workload;
    use super::{List, Range};
    use crate::keys;

    fn answer(numbers: std::ops::Range<u64>, count: i64) -> Vec<u8> {
        let kvs = numbers.map(|number| KeyValue {
            key: keys::key(number).into(),
            ..KeyValue::default()
        });
        let answer = RangeResponse {
            kvs: kvs.collect(),
            count,
            ..RangeResponse::default()
        };
        answer.encode_to_vec()
    }

    #[test]
    fn range_wants_the_key_it_asked_for() {
        let mut range = Range::new(10, false, 1);
        assert!(range.check(4, &answer(4..5, 1)).is_ok());
        assert!(range.check(4, &answer(5..6, 1)).is_err());
        assert!(range.check(4, &answer(4..6, 2)).is_err());
        assert!(range.check(4, &answer(4..4, 0)).is_err());
    }

    #[test]
    fn list_wants_exact_numbers() {
        let mut list = List::new(5, 3, false);
        assert!(list.check(0, &answer(0..3, 5)).is_ok());
        assert!(list.check(0, &answer(0..2, 5)).is_err());
        assert!(list.check(0, &answer(0..3, 3)).is_err());
        assert!(List::new(5, 0, false).check(0, &answer(0..5, 5)).is_ok());
    }
}
