//! Transactions that compare and put.

use anyhow::{Result, ensure};
use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::request_op;
use kvorum_proto::etcdserverpb::{Compare, RequestOp, TxnRequest};
use prost::Message;

use super::{Request, Step, Workload, put};
use crate::api;
use crate::fields::Fields;
use crate::keys::{Dice, KeySpace, Template};

/// "If the key exists, put it": true for every key that was filled in before, so every transaction must succeed.
pub(crate) struct CompareAndPut {
    template: Template,
    dice: Dice,
    keys: u64,
}

impl CompareAndPut {
    /// Keys at random out of those that are there.
    pub(crate) fn new(keys: KeySpace, seed: u64) -> Self {
        let compare = Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Create.into(),
            key: keys.key(0).into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        };
        let put = RequestOp {
            request: Some(request_op::Request::RequestPut(put::request(keys))),
        };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![put],
            failure: Vec::new(),
        };
        Self {
            template: Template::new(request.encode_to_vec(), keys),
            dice: Dice::new(seed),
            keys: keys.count,
        }
    }
}

impl Workload for CompareAndPut {
    fn paths(&self) -> &'static [&'static str] {
        &[api::TXN]
    }

    fn request_bytes_max(&self) -> usize {
        self.template.len()
    }

    fn next(&mut self) -> Request<'_> {
        let number = self.dice.below(self.keys);
        Request {
            path: 0,
            number,
            message: self.template.with(number),
        }
    }

    fn check(&mut self, _number: u64, answer: &[u8]) -> Result<Step> {
        let (succeeded, responses) = outcome(answer)?;
        ensure!(
            succeeded && responses == 1,
            "a transaction on a key that exists: succeeded {succeeded}, {responses} responses"
        );
        Ok(Step::Done)
    }
}

/// Whether the comparison held, and how many answers there are inside.
pub(super) fn outcome(answer: &[u8]) -> Result<(bool, usize)> {
    const SUCCEEDED: u64 = 2;
    const RESPONSES: u64 = 3;
    let (mut succeeded, mut responses) = (false, 0);
    let mut fields = Fields(answer);
    while let Some((number, value)) = fields.next()? {
        match number {
            SUCCEEDED => succeeded = value.number() != 0,
            RESPONSES => responses += 1,
            _ => {}
        }
    }
    Ok((succeeded, responses))
}
