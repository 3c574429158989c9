//! Writes while the server is being killed, and a judge of what is left afterwards.
//!
//! Workers write, read, grant and compact without pause, and note for each request what they sent
//! and what came back. A write that got no answer may have happened or not. A watcher over all
//! keys resumes where it stood after each kill; as every revision is a change, its events are the
//! whole history of the store, and everything that the workers saw can be held against them:
//!
//! - **kept**: an acknowledged write is in the history, at the revision of its answer, whole;
//! - **sent**: every event was sent by somebody, and a value at most once;
//! - **forward**: no worker ever sees the store's revision go back;
//! - **once**: the watcher sees every revision once, in order, without a gap;
//! - **state**: a read shows exactly what the history up to its revision makes;
//! - **leases**: every acknowledged lease is still there at the end.

mod check;
mod load;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use check::violations;
pub use load::Load;

/// How often the crash test kills the server where nothing else is said.
pub const KILLS: u32 = 8;

/// What one write would change: a new value, or none for a delete.
pub type Change = (String, Option<String>);

/// What a worker noted about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A put, or a transaction of several. `revision` is that of the answer, or none without one.
    Write {
        /// Everything that it changes.
        changes: Vec<Change>,
        /// Revision of the answer.
        revision: Option<i64>,
    },
    /// A linearizable read of everything.
    Read {
        /// Revision of the answer.
        revision: i64,
        /// Every key and its value.
        state: BTreeMap<String, String>,
    },
    /// A lease that the server said it granted.
    Lease(i64),
}

/// One event of the watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Revision of the change.
    pub revision: i64,
    /// What changed.
    pub change: Change,
}

/// Everything that was noted.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Notes of each worker, in the order of its requests.
    pub workers: Vec<Vec<Note>>,
    /// Events in the order in which the watcher got them.
    pub events: Vec<Event>,
    /// Leases that the server lists at the end.
    pub leases: Vec<i64>,
    /// What went wrong in ways that have no place above.
    pub troubles: Vec<String>,
}
