//! What is asked, and what an answer must say.
//!
//! A load is a method, requests that were encoded before the run, and a check of every answer. An answer that the
//! check refuses ends the run: numbers about a server that answers wrongly mean nothing.

mod keep_alive;
mod put;
mod range;
mod txn;

use anyhow::Result;

pub(crate) use keep_alive::KeepAlive;
pub(crate) use put::Put;
pub(crate) use range::{List, Range};
pub(crate) use txn::CompareAndPut;

/// The requests of one connection.
pub(crate) trait Workload: Send {
    /// The method, such as `/etcdserverpb.KV/Put`.
    fn path(&self) -> &'static str;

    /// Whether requests are messages on one stream, answered in order, and not calls of their own.
    fn is_stream(&self) -> bool {
        false
    }

    /// The longest request there will be, in bytes.
    fn request_bytes_max(&self) -> usize;

    /// The next request, and a number by which its answer is checked.
    fn next(&mut self) -> (u64, &[u8]);

    /// Whether this answers the request with that number.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer.
    fn check(&mut self, number: u64, answer: &[u8]) -> Result<()>;
}
