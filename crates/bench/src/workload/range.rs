//! Reads of one key and of many.

use anyhow::{Result, ensure};
use kvorum_proto::etcdserverpb::RangeRequest;
use prost::Message;

use super::{Request, Step, Workload};
use crate::api;
use crate::fields::Fields;
use crate::keys::{self, Dice, KeySpace, Template};

/// Reads of one key each, at random.
pub(crate) struct Range {
    template: Template,
    expected: Template,
    dice: Dice,
    keys: KeySpace,
}

impl Range {
    /// Out of keys that are there. `serializable`: without asking the leader.
    pub(crate) fn new(keys: KeySpace, serializable: bool, seed: u64) -> Self {
        let request = RangeRequest {
            key: keys.key(0).into(),
            serializable,
            ..RangeRequest::default()
        };
        Self {
            template: Template::new(request.encode_to_vec(), keys),
            expected: Template::new(keys.key(0), keys),
            dice: Dice::new(seed),
            keys,
        }
    }
}

impl Workload for Range {
    fn paths(&self) -> &'static [&'static str] {
        &[api::RANGE]
    }

    fn request_bytes_max(&self) -> usize {
        self.template.len()
    }

    fn next(&mut self) -> Request<'_> {
        let number = self.dice.below(self.keys.count);
        Request {
            path: 0,
            number,
            message: self.template.with(number),
        }
    }

    fn check(&mut self, number: u64, answer: &[u8]) -> Result<Step> {
        let found = Found::read(answer)?;
        ensure!(
            found.listed == 1 && found.count == 1,
            "a read of one key found {} of {}",
            found.listed,
            found.count
        );
        let (key, value_bytes) = key_and_value(found.last)?;
        let asked = self.expected.with(number);
        ensure!(
            key == asked && value_bytes == self.keys.value_bytes,
            "asked for {} with {} bytes, got {} with {value_bytes}",
            String::from_utf8_lossy(asked),
            self.keys.value_bytes,
            String::from_utf8_lossy(key)
        );
        Ok(Step::Done)
    }
}

/// Reads of the first keys in order, many at a time.
pub(crate) struct List {
    request: Vec<u8>,
    listed: u64,
    count: u64,
}

impl List {
    /// The first `limit` of the keys that are there; 0: all.
    pub(crate) fn new(keys: KeySpace, limit: u64, serializable: bool) -> Self {
        let request = RangeRequest {
            key: keys::PREFIX.as_bytes().to_vec().into(),
            range_end: keys::range_end().into(),
            limit: limit as i64,
            serializable,
            ..RangeRequest::default()
        };
        let listed = if limit == 0 {
            keys.count
        } else {
            limit.min(keys.count)
        };
        Self {
            request: request.encode_to_vec(),
            listed,
            count: keys.count,
        }
    }
}

impl Workload for List {
    fn paths(&self) -> &'static [&'static str] {
        &[api::RANGE]
    }

    fn request_bytes_max(&self) -> usize {
        self.request.len()
    }

    fn next(&mut self) -> Request<'_> {
        Request {
            path: 0,
            number: 0,
            message: &self.request,
        }
    }

    fn check(&mut self, _number: u64, answer: &[u8]) -> Result<Step> {
        Found::read(answer)?.must_be(self.listed, self.count)?;
        Ok(Step::Done)
    }
}

/// Reads all keys page after page, the way a client does that cannot take them at once. Every page tells how many keys
/// there are from its start on.
pub(crate) struct Page {
    template: Template,
    keys: u64,
    limit: u64,
    next: u64,
}

impl Page {
    /// Pages of `limit` of the keys that are there; the first one begins at page `first`.
    pub(crate) fn new(keys: KeySpace, limit: u64, serializable: bool, first: u64) -> Self {
        let limit = limit.clamp(1, keys.count.max(1));
        let request = RangeRequest {
            key: keys.key(0).into(),
            range_end: keys::range_end().into(),
            limit: limit as i64,
            serializable,
            ..RangeRequest::default()
        };
        Self {
            template: Template::new(request.encode_to_vec(), keys),
            keys: keys.count,
            limit,
            next: first * limit % keys.count.max(1),
        }
    }
}

impl Workload for Page {
    fn paths(&self) -> &'static [&'static str] {
        &[api::RANGE]
    }

    fn request_bytes_max(&self) -> usize {
        self.template.len()
    }

    fn next(&mut self) -> Request<'_> {
        let number = self.next;
        self.next += self.limit;
        if self.next >= self.keys {
            self.next = 0;
        }
        Request {
            path: 0,
            number,
            message: self.template.with(number),
        }
    }

    fn check(&mut self, number: u64, answer: &[u8]) -> Result<Step> {
        let left = self.keys - number;
        Found::read(answer)?.must_be(self.limit.min(left), left)?;
        Ok(Step::Done)
    }
}

/// The key, and how long its value is.
fn key_and_value(pair: &[u8]) -> Result<(&[u8], usize)> {
    const KEY: u64 = 1;
    const VALUE: u64 = 5;
    let (mut key, mut value_bytes) = (&[][..], 0);
    let mut fields = Fields(pair);
    while let Some((field, value)) = fields.next()? {
        match field {
            KEY => key = value.bytes(),
            VALUE => value_bytes = value.bytes().len(),
            _ => {}
        }
    }
    Ok((key, value_bytes))
}

/// What a range answer holds.
pub(super) struct Found<'a> {
    listed: u64,
    count: u64,
    /// The last key with its value.
    pub(super) last: &'a [u8],
}

impl<'a> Found<'a> {
    fn must_be(&self, listed: u64, count: u64) -> Result<()> {
        ensure!(
            self.listed == listed && self.count == count,
            "a list of {} of {} keys, expected {listed} of {count}",
            self.listed,
            self.count
        );
        Ok(())
    }

    pub(super) fn read(answer: &'a [u8]) -> Result<Self> {
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
    use super::{List, Page, Range};
    use crate::keys::KeySpace;

    fn answer(numbers: std::ops::Range<u64>, count: i64, value_bytes: usize) -> Vec<u8> {
        let kvs = numbers.map(|number| KeyValue {
            key: KeySpace::short(1, 1).key(number).into(),
            value: vec![0; value_bytes].into(),
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
        let mut range = Range::new(KeySpace::short(10, 3), false, 1);
        assert!(range.check(4, &answer(4..5, 1, 3)).is_ok());
        assert!(range.check(4, &answer(4..5, 1, 2)).is_err());
        assert!(range.check(4, &answer(5..6, 1, 3)).is_err());
        assert!(range.check(4, &answer(4..6, 2, 3)).is_err());
        assert!(range.check(4, &answer(4..4, 0, 3)).is_err());
    }

    #[test]
    fn list_wants_exact_numbers() {
        let keys = KeySpace::short(5, 1);
        let mut list = List::new(keys, 3, false);
        assert!(list.check(0, &answer(0..3, 5, 1)).is_ok());
        assert!(list.check(0, &answer(0..2, 5, 1)).is_err());
        assert!(list.check(0, &answer(0..3, 3, 1)).is_err());
        let mut all = List::new(keys, 0, false);
        assert!(all.check(0, &answer(0..5, 5, 1)).is_ok());
    }

    #[test]
    fn pages_go_through_all_keys_and_start_again() {
        let mut pages = Page::new(KeySpace::short(5, 1), 2, false, 1);
        let starts: Vec<u64> = (0..4).map(|_| pages.next().number).collect();
        assert_eq!(starts, [2, 4, 0, 2]);
        assert!(pages.check(2, &answer(2..4, 3, 1)).is_ok());
        assert!(pages.check(4, &answer(4..5, 1, 1)).is_ok());
        assert!(pages.check(2, &answer(2..4, 5, 1)).is_err());
        assert!(pages.check(2, &answer(2..3, 3, 1)).is_err());
    }
}
