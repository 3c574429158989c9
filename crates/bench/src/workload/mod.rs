//! What is asked, and what an answer must say.
//!
//! A load is a method or two, requests that were encoded before the run, and a check of every answer. An answer that
//! the check refuses ends the run: numbers about a server that answers wrongly mean nothing.

mod lease;
mod mixed;
mod put;
mod range;
mod stm;
mod txn;

use anyhow::Result;

pub(crate) use lease::{Grant, KeepAlive};
pub(crate) use mixed::Mixed;
pub(crate) use put::Put;
pub(crate) use range::{List, Page, Range};
pub(crate) use stm::Stm;
pub(crate) use txn::CompareAndPut;

/// One request.
pub(crate) struct Request<'a> {
    /// Place of the method in [`Workload::paths`].
    pub(crate) path: usize,
    /// By it the answer is checked.
    pub(crate) number: u64,
    pub(crate) message: &'a [u8],
}

/// Where an operation stands after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is done.
    Done,
    /// It goes on with [`Workload::follow`].
    Further,
    /// It goes on, and begins again because something else was faster.
    Again,
}

/// The requests of one connection.
pub(crate) trait Workload: Send {
    /// The methods, such as `/etcdserverpb.KV/Put`.
    fn paths(&self) -> &'static [&'static str];

    /// Whether requests are messages on one stream, answered in order, and not calls of their own.
    fn is_stream(&self) -> bool {
        false
    }

    /// The longest request there will be, in bytes.
    fn request_bytes_max(&self) -> usize;

    /// The first request of the next operation.
    fn next(&mut self) -> Request<'_>;

    /// Whether this answers the request with that number, and whether the operation is done with it.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer.
    fn check(&mut self, number: u64, answer: &[u8]) -> Result<Step>;

    /// The next request of the operation that has this number; asked for only after a step that was not the last.
    fn follow(&mut self, _number: u64) -> Request<'_> {
        self.next()
    }
}
