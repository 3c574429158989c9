//! Transactions that compare and put.

use anyhow::{Result, ensure};
use kvorum_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{Compare, RequestOp, TxnRequest};
use prost::Message;

use super::Workload;
use super::put;
use crate::fields::Fields;
use crate::keys::{self, Dice, Template};

/// "If the key exists, put it": true for every key that was filled in before, so every transaction must succeed.
pub(crate) struct CompareAndPut {
    template: Template,
    dice: Dice,
    keys: u64,
}

impl CompareAndPut {
    /// Keys at random out of `keys` that are there.
    pub(crate) fn new(keys: u64, value_bytes: usize, seed: u64) -> Self {
        let compare = Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Create.into(),
            key: keys::key(0).into(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        };
        let put = RequestOp {
            request: Some(Request::RequestPut(put::request(0, value_bytes))),
        };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![put],
            failure: Vec::new(),
        };
        Self {
            template: Template::new(request.encode_to_vec(), 0),
            dice: Dice::new(seed),
            keys,
        }
    }
}

impl Workload for CompareAndPut {
    fn path(&self) -> &'static str {
        "/etcdserverpb.KV/Txn"
    }

    fn request_bytes_max(&self) -> usize {
        self.template.len()
    }

    fn next(&mut self) -> (u64, &[u8]) {
        let number = self.dice.below(self.keys);
        (number, self.template.with(number))
    }

    fn check(&mut self, _number: u64, answer: &[u8]) -> Result<()> {
        const SUCCEEDED: u64 = 2;
        const RESPONSES: u64 = 3;
        let (mut succeeded, mut responses) = (0, 0);
        let mut fields = Fields(answer);
        while let Some((number, value)) = fields.next()? {
            match number {
                SUCCEEDED => succeeded = value.number(),
                RESPONSES => responses += 1,
                _ => {}
            }
        }
        ensure!(
            succeeded == 1 && responses == 1,
            "a transaction on a key that exists: succeeded {succeeded}, {responses} responses"
        );
        Ok(())
    }
}
