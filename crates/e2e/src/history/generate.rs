//! Histories from a seed: mostly sensible requests on few keys, so that they meet each other, with
//! every kind of mistake among them.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::compare::TargetUnion;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest,
};

use super::Step;
use crate::dice::Dice;

/// Few keys, neighbours of each other, with the bytes at which intervals end.
const KEYS: [&[u8]; 12] = [
    b"a",
    b"aa",
    b"ab",
    b"b",
    b"b\0",
    b"c",
    b"k/",
    b"k/1",
    b"k/2",
    b"z",
    b"\xff",
    b"\xff\xff",
];
/// Leases that a history may grant.
const LEASES: [i64; 4] = [1, 2, 7_587_000_000_000_000_000, -5];
/// Long enough that no lease ends during a test, in seconds.
const TTL: i64 = 100_000;
/// Operations in a list that official servers refuse by default.
const TOO_MANY_OPERATIONS: usize = 129;

/// A history of `length` steps. The same seed gives the same history.
pub fn history(seed: u64, length: usize) -> Vec<Step> {
    let mut generator = Generator {
        dice: Dice::new(seed),
        changes: 1,
        compacted: 0,
    };
    (0..length).map(|_| generator.step()).collect()
}

struct Generator {
    dice: Dice,
    /// About the revision that the store may have by now.
    changes: u64,
    /// The revision that was to be compacted last, where answers are special.
    compacted: i64,
}

impl Generator {
    fn step(&mut self) -> Step {
        match self.dice.below(100) {
            0..30 => {
                self.changes += 1;
                Step::Put(self.put())
            }
            30..38 => {
                self.changes += self.dice.below(2);
                Step::Delete(self.delete())
            }
            38..58 => {
                self.changes += self.dice.below(2);
                Step::Txn(self.transaction(2))
            }
            58..78 => Step::Range(self.range()),
            78..82 => Step::RangeStream(self.streamed_range()),
            82..84 => {
                self.compacted = self.revision();
                Step::Compact(CompactionRequest {
                    revision: self.compacted,
                    physical: self.dice.once_in(2),
                })
            }
            84..88 => Step::Grant(self.grant()),
            88..90 => {
                self.changes += 1;
                Step::Revoke(LeaseRevokeRequest { id: self.lease() })
            }
            90..94 => Step::TimeToLive(LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.dice.once_in(2),
            }),
            94..95 => Step::Leases(LeaseLeasesRequest::default()),
            _ => Step::HashKv(HashKvRequest {
                revision: self.revision(),
            }),
        }
    }

    fn key(&mut self) -> Bytes {
        if self.dice.once_in(60) {
            return Bytes::new();
        }
        Bytes::from_static(self.dice.pick(&KEYS))
    }

    /// None, everything behind, all with this prefix, or up to any other key, also a smaller one.
    fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.dice.below(8) {
            0..4 => Bytes::new(),
            4 => Bytes::from_static(b"\0"),
            5 => {
                let mut end = key.to_vec();
                if let Some(last) = end.last_mut() {
                    *last = last.wrapping_add(1);
                }
                end.into()
            }
            _ => Bytes::from_static(self.dice.pick(&KEYS)),
        }
    }

    /// Now, some revision that may be compacted or not have come yet, the compacted one itself, or
    /// a negative number.
    fn revision(&mut self) -> i64 {
        match self.dice.below(20) {
            0..8 => 0,
            8 => self.compacted,
            9 => -1,
            // Rather late ones: after a compaction the early ones all answer alike.
            10..18 => (self.changes - self.dice.below(self.changes.min(40))) as i64,
            _ => self.dice.below(self.changes + 2) as i64,
        }
    }

    fn lease(&mut self) -> i64 {
        if self.dice.once_in(12) {
            404
        } else {
            self.dice.pick(&LEASES)
        }
    }

    fn value(&mut self) -> Bytes {
        let length = if self.dice.once_in(50) {
            3000
        } else {
            self.dice.below(6)
        };
        (0..length)
            .map(|_| b'a' + self.dice.below(3) as u8)
            .collect()
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.dice.once_in(10);
        let ignore_lease = self.dice.once_in(10);
        let keeps = !self.dice.once_in(4);
        PutRequest {
            key: self.key(),
            value: if ignore_value && keeps {
                Bytes::new()
            } else {
                self.value()
            },
            lease: if ignore_lease && keeps || !self.dice.once_in(4) {
                0
            } else {
                self.lease()
            },
            prev_kv: self.dice.once_in(3),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let key = self.key();
        let range_end = if self.dice.once_in(3) {
            self.range_end(&key)
        } else {
            Bytes::new()
        };
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.dice.once_in(2),
        }
    }

    fn bound(&mut self) -> i64 {
        if self.dice.once_in(6) {
            self.dice.below(self.changes + 2) as i64
        } else {
            0
        }
    }

    fn range(&mut self) -> RangeRequest {
        let key = self.key();
        RangeRequest {
            range_end: self.range_end(&key),
            key,
            limit: self.dice.pick(&[0, 0, 0, 1, 2, 5, -1]),
            revision: self.revision(),
            sort_order: self.number(3),
            sort_target: self.number(5),
            serializable: self.dice.once_in(2),
            keys_only: self.dice.once_in(5),
            count_only: self.dice.once_in(8),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    /// Mostly one that a stream can answer: in key order and without bounds.
    fn streamed_range(&mut self) -> RangeRequest {
        let range = self.range();
        if self.dice.once_in(4) {
            return range;
        }
        RangeRequest {
            sort_order: 0,
            sort_target: 0,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            ..range
        }
    }

    /// A value of an enumeration with `known` values, and now and then one that it does not have.
    fn number(&mut self, known: u64) -> i32 {
        if self.dice.once_in(60) {
            42
        } else {
            self.dice.below(known) as i32
        }
    }

    fn grant(&mut self) -> LeaseGrantRequest {
        let ttl = self
            .dice
            .pick(&[TTL, TTL, TTL, TTL, 9_000_000_000, 9_000_000_001]);
        LeaseGrantRequest {
            ttl,
            id: self.dice.pick(&LEASES),
        }
    }

    fn transaction(&mut self, depth: u32) -> TxnRequest {
        let compares = self.dice.below(3);
        let compare = (0..compares).map(|_| self.compare()).collect();
        let success = self.operations(depth);
        let failure = self.operations(depth);
        TxnRequest {
            compare,
            success,
            failure,
        }
    }

    fn operations(&mut self, depth: u32) -> Vec<RequestOp> {
        if self.dice.once_in(200) {
            return (0..TOO_MANY_OPERATIONS)
                .map(|_| self.operation(0))
                .collect();
        }
        let count = self.dice.below(4);
        (0..count).map(|_| self.operation(depth)).collect()
    }

    fn operation(&mut self, depth: u32) -> RequestOp {
        if self.dice.once_in(100) {
            return RequestOp { request: None };
        }
        let request = match self.dice.below(10) {
            0..3 => Request::RequestRange(self.range()),
            3..6 => Request::RequestPut(self.put()),
            6..8 => Request::RequestDeleteRange(self.delete()),
            _ if depth > 0 => Request::RequestTxn(self.transaction(depth - 1)),
            _ => Request::RequestRange(self.range()),
        };
        RequestOp {
            request: Some(request),
        }
    }

    fn compare(&mut self) -> Compare {
        let key = self.key();
        let target = self.number(5);
        let kind = if self.dice.once_in(20) {
            self.dice.below(6) as i32
        } else {
            target
        };
        let small = self.dice.below(4) as i64;
        let near = self.dice.below(self.changes + 2) as i64;
        let target_union = match kind {
            0 => Some(TargetUnion::Version(small)),
            1 => Some(TargetUnion::CreateRevision(near)),
            2 => Some(TargetUnion::ModRevision(near)),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(self.dice.pick(&[0, 1, 2]))),
            _ => None,
        };
        let range_end = if self.dice.once_in(4) {
            self.range_end(&key)
        } else {
            Bytes::new()
        };
        Compare {
            result: self.number(4),
            target,
            key,
            range_end,
            target_union,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::history;

    #[test]
    fn same_seed_gives_same_history() {
        let text = |seed| format!("{:?}", history(seed, 300));
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }
}
