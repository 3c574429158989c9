//! Puts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use kvorum_proto::etcdserverpb::PutRequest;
use prost::Message;

use super::{Request, Step, Workload};
use crate::api;
use crate::fields::{Fields, header_revision};
use crate::keys::{Dice, KeySpace, Template};

/// Puts of one value under keys of a key space.
pub(crate) struct Put {
    template: Template,
    keys: u64,
    order: Order,
}

enum Order {
    Random(Dice),
    /// The puts that all connections have made together.
    Ascending(Arc<AtomicU64>),
    /// One of ten is new: every `step`th from `new` on.
    Growing {
        dice: Dice,
        new: u64,
        step: u64,
    },
}

impl Put {
    /// Keys at random.
    pub(crate) fn random(keys: KeySpace, seed: u64) -> Self {
        Self::new(keys, Order::Random(Dice::new(seed)))
    }

    /// All keys in order, and then from the start again; connections that share `made` share the work.
    pub(crate) fn in_order(keys: KeySpace, made: Arc<AtomicU64>) -> Self {
        Self::new(keys, Order::Ascending(made))
    }

    /// Nine of ten overwrite a key, the tenth makes a new one: `new`, and then every `step`th after it.
    pub(crate) fn churn(keys: KeySpace, seed: u64, new: u64, step: u64) -> Self {
        let dice = Dice::new(seed);
        Self::new(keys, Order::Growing { dice, new, step })
    }

    fn new(keys: KeySpace, order: Order) -> Self {
        Self {
            template: Template::new(request(keys).encode_to_vec(), keys),
            keys: keys.count,
            order,
        }
    }
}

/// The put of key 0.
pub(super) fn request(keys: KeySpace) -> PutRequest {
    PutRequest {
        key: keys.key(0).into(),
        value: keys.value().into(),
        ..PutRequest::default()
    }
}

impl Workload for Put {
    fn paths(&self) -> &'static [&'static str] {
        &[api::PUT]
    }

    fn request_bytes_max(&self) -> usize {
        self.template.len()
    }

    fn next(&mut self) -> Request<'_> {
        let number = match &mut self.order {
            Order::Random(dice) => dice.below(self.keys),
            Order::Ascending(made) => made.fetch_add(1, Ordering::Relaxed) % self.keys,
            Order::Growing { dice, new, step } => {
                if dice.below(10) == 0 {
                    *new += *step;
                    *new - *step
                } else {
                    dice.below(self.keys)
                }
            }
        };
        Request {
            path: 0,
            number,
            message: self.template.with(number),
        }
    }

    fn check(&mut self, _number: u64, answer: &[u8]) -> Result<Step> {
        let mut revision = 0;
        let mut fields = Fields(answer);
        while let Some((number, value)) = fields.next()? {
            if number == 1 {
                revision = header_revision(value)?;
            }
        }
        ensure!(revision > 1, "a put answered at revision {revision}");
        Ok(Step::Done)
    }
}
