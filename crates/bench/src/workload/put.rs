//! Puts.

use anyhow::{Result, ensure};
use kvorum_proto::etcdserverpb::PutRequest;
use prost::Message;

use super::Workload;
use crate::fields::{Fields, header_revision};
use crate::keys::{self, Dice, Template};

/// Puts of one value under keys of a key space.
pub(crate) struct Put {
    template: Template,
    order: Order,
}

enum Order {
    Random { dice: Dice, keys: u64 },
    Ascending { next: u64 },
}

impl Put {
    /// Keys at random out of `keys`.
    pub(crate) fn random(keys: u64, value_bytes: usize, seed: u64) -> Self {
        let dice = Dice::new(seed);
        Self::new(value_bytes, Order::Random { dice, keys })
    }

    /// All keys in order, from 0.
    pub(crate) fn ascending(value_bytes: usize) -> Self {
        Self::new(value_bytes, Order::Ascending { next: 0 })
    }

    fn new(value_bytes: usize, order: Order) -> Self {
        Self {
            template: Template::new(request(0, value_bytes).encode_to_vec(), 0),
            order,
        }
    }
}

/// The put of a key.
pub(super) fn request(number: u64, value_bytes: usize) -> PutRequest {
    PutRequest {
        key: keys::key(number).into(),
        value: keys::value(value_bytes).into(),
        ..PutRequest::default()
    }
}

impl Workload for Put {
    fn path(&self) -> &'static str {
        "/etcdserverpb.KV/Put"
    }

    fn request_bytes_max(&self) -> usize {
        self.template.len()
    }

    fn next(&mut self) -> (u64, &[u8]) {
        let number = match &mut self.order {
            Order::Random { dice, keys } => dice.below(*keys),
            Order::Ascending { next } => {
                *next += 1;
                *next - 1
            }
        };
        (number, self.template.with(number))
    }

    fn check(&mut self, _number: u64, answer: &[u8]) -> Result<()> {
        let mut revision = 0;
        let mut fields = Fields(answer);
        while let Some((number, value)) = fields.next()? {
            if number == 1 {
                revision = header_revision(value)?;
            }
        }
        ensure!(revision > 1, "a put answered at revision {revision}");
        Ok(())
    }
}
