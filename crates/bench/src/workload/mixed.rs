//! Reads and writes on the same connections.

use anyhow::Result;

use super::{Put, Range, Request, Step, Workload};
use crate::api;
use crate::keys::{Dice, KeySpace};

const PUT: usize = 0;
const RANGE: usize = 1;

/// Puts and reads of single random keys.
pub(crate) struct Mixed {
    put: Put,
    range: Range,
    dice: Dice,
    read_percent: u64,
}

impl Mixed {
    /// Over keys that are there; so many of a hundred operations read.
    pub(crate) fn new(keys: KeySpace, read_percent: u64, serializable: bool, seed: u64) -> Self {
        Self {
            put: Put::random(keys, seed),
            range: Range::new(keys, serializable, seed),
            dice: Dice::new(seed + (1 << 32)),
            read_percent,
        }
    }
}

impl Workload for Mixed {
    fn paths(&self) -> &'static [&'static str] {
        &[api::PUT, api::RANGE]
    }

    fn request_bytes_max(&self) -> usize {
        let reads = self.range.request_bytes_max();
        self.put.request_bytes_max().max(reads)
    }

    fn next(&mut self) -> Request<'_> {
        let (path, inner) = if self.dice.below(100) < self.read_percent {
            (RANGE, self.range.next())
        } else {
            (PUT, self.put.next())
        };
        // The lowest bit says whose number it is.
        Request {
            path,
            number: inner.number << 1 | path as u64,
            message: inner.message,
        }
    }

    fn check(&mut self, number: u64, answer: &[u8]) -> Result<Step> {
        if number & 1 == RANGE as u64 {
            self.range.check(number >> 1, answer)
        } else {
            self.put.check(number >> 1, answer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Workload;
    use super::{Mixed, RANGE};
    use crate::keys::KeySpace;

    #[test]
    fn the_share_of_reads_is_kept() {
        for percent in [0, 2, 50, 98, 100] {
            let mut mixed = Mixed::new(KeySpace::short(10, 1), percent, false, 3);
            let reads = (0..10_000).filter(|_| mixed.next().path == RANGE).count();
            let off = (reads as i64 - percent as i64 * 100).abs();
            assert!(off < 200, "{reads} of 10000 for {percent} %");
        }
    }
}
