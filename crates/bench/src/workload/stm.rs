//! Transactions in software: read a key, and write it if nobody else did in between.

use anyhow::{Context, Result, ensure};
use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::request_op;
use kvorum_proto::etcdserverpb::{Compare, RangeRequest, RequestOp, TxnRequest};
use prost::Message;

use super::range::Found;
use super::{Request, Step, Workload, put, txn};
use crate::api;
use crate::fields::Fields;
use crate::keys::{Dice, KeySpace};

const RANGE: usize = 0;
const TXN: usize = 1;

/// One operation is a read and as many attempts to write as it takes. The number of a request is its place in `open`.
///
/// The second request holds the revision that the first one found, so it is encoded when it is made; of all loads this
/// is the one whose generator works for each request.
pub(crate) struct Stm {
    keys: KeySpace,
    dice: Dice,
    open: Vec<Attempt>,
    free: Vec<usize>,
    txn: TxnRequest,
    message: Vec<u8>,
}

#[derive(Clone, Copy, Default)]
struct Attempt {
    key: u64,
    /// Of the key when it was read; 0: it is to be read.
    revision: u64,
}

impl Stm {
    /// Keys at random out of those that are there. Few keys and many operations in flight make conflicts.
    pub(crate) fn new(keys: KeySpace, seed: u64) -> Self {
        let put = RequestOp {
            request: Some(request_op::Request::RequestPut(put::request(keys))),
        };
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            ..Compare::default()
        };
        Self {
            keys,
            dice: Dice::new(seed),
            open: Vec::new(),
            free: Vec::new(),
            txn: TxnRequest {
                compare: vec![compare],
                success: vec![put],
                failure: Vec::new(),
            },
            message: Vec::new(),
        }
    }

    fn request(&mut self, place: usize) -> Request<'_> {
        let Attempt { key, revision } = self.open[place];
        self.message.clear();
        let key = self.keys.key(key);
        let path = if revision == 0 {
            let read = RangeRequest {
                key: key.into(),
                ..RangeRequest::default()
            };
            self.message.extend(read.encode_to_vec());
            RANGE
        } else {
            if let Some(compare) = self.txn.compare.first_mut() {
                compare.key = key.clone().into();
                compare.target_union = Some(TargetUnion::ModRevision(revision as i64));
            }
            if let Some(RequestOp {
                request: Some(request_op::Request::RequestPut(put)),
            }) = self.txn.success.first_mut()
            {
                put.key = key.into();
            }
            self.message.extend(self.txn.encode_to_vec());
            TXN
        };
        Request {
            path,
            number: place as u64,
            message: &self.message,
        }
    }
}

impl Workload for Stm {
    fn paths(&self) -> &'static [&'static str] {
        &[api::RANGE, api::TXN]
    }

    fn request_bytes_max(&self) -> usize {
        const REVISION_BYTES_MAX: usize = 10;
        self.txn.encoded_len() + self.keys.key_bytes + REVISION_BYTES_MAX
    }

    fn next(&mut self) -> Request<'_> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.open.push(Attempt::default());
            self.open.len() - 1
        });
        self.open[place] = Attempt {
            key: self.dice.below(self.keys.count),
            revision: 0,
        };
        self.request(place)
    }

    fn check(&mut self, number: u64, answer: &[u8]) -> Result<Step> {
        const MOD_REVISION: u64 = 3;
        let place = number as usize;
        let attempt = self.open.get_mut(place).context("an unknown attempt")?;
        if attempt.revision == 0 {
            let mut fields = Fields(Found::read(answer)?.last);
            while let Some((field, value)) = fields.next()? {
                if field == MOD_REVISION {
                    attempt.revision = value.number();
                }
            }
            ensure!(attempt.revision > 0, "key {} is not there", attempt.key);
            return Ok(Step::Further);
        }
        attempt.revision = 0;
        let (succeeded, responses) = txn::outcome(answer)?;
        if !succeeded {
            ensure!(
                responses == 0,
                "a failed comparison with {responses} answers"
            );
            return Ok(Step::Again);
        }
        ensure!(responses == 1, "a put with {responses} answers");
        self.free.push(place);
        Ok(Step::Done)
    }

    fn follow(&mut self, number: u64) -> Request<'_> {
        self.request(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use kvorum_proto::etcdserverpb::{RangeResponse, ResponseOp, TxnRequest, TxnResponse};
    use kvorum_proto::mvccpb::KeyValue;
    use prost::Message;

    use super::super::{Step, Workload};
    use super::{RANGE, Stm, TXN};
    use crate::keys::KeySpace;

    #[test]
    fn a_conflict_reads_again_and_success_ends() {
        let mut stm = Stm::new(KeySpace::short(1, 5), 1);
        let found = RangeResponse {
            kvs: vec![KeyValue {
                mod_revision: 300,
                ..KeyValue::default()
            }],
            count: 1,
            ..RangeResponse::default()
        };
        let lost = TxnResponse::default();
        let won = TxnResponse {
            succeeded: true,
            responses: vec![ResponseOp::default()],
            ..TxnResponse::default()
        };
        let number = stm.next().number;
        assert_eq!(
            stm.check(number, &found.encode_to_vec()).unwrap(),
            Step::Further
        );
        let request = stm.follow(number);
        assert_eq!(request.path, TXN);
        let sent = TxnRequest::decode(request.message).unwrap();
        assert_eq!(sent.compare[0].key, sent_key(&sent));
        assert_eq!(
            stm.check(number, &lost.encode_to_vec()).unwrap(),
            Step::Again
        );
        assert_eq!(stm.follow(number).path, RANGE);
        assert_eq!(
            stm.check(number, &found.encode_to_vec()).unwrap(),
            Step::Further
        );
        assert_eq!(stm.check(number, &won.encode_to_vec()).unwrap(), Step::Done);
        // The place is used again.
        assert_eq!(stm.next().number, number);
        assert!(
            stm.check(number, &RangeResponse::default().encode_to_vec())
                .is_err()
        );
    }

    fn sent_key(sent: &TxnRequest) -> Vec<u8> {
        match &sent.success[0].request {
            Some(super::request_op::Request::RequestPut(put)) => put.key.to_vec(),
            other => panic!("{other:?}"),
        }
    }
}
