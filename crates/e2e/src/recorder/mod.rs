//! Writes while servers are being hurt, and a judge of what is left afterwards.
//!
//! Workers write, read, swap, grant, keep alive, revoke and compact without pause, and note for each
//! request what they sent and what came back. A write that got no answer may have happened or not.
//! A watcher over all keys resumes where it stood after each kill; as every revision is a change,
//! its events are the whole history of the store, and everything that the workers saw can be held
//! against them. With several members each worker goes to the next one when an answer fails to come,
//! and there is a watcher for each member, which does the same.
//!
//! - **kept**: an acknowledged write is in the history, at the revision of its answer, whole and
//!   with its lease;
//! - **sent**: every event was sent by somebody, and a value at most once; or it is the end of a
//!   lease, which deletes exactly the keys that hang on it, at one revision;
//! - **forward**: no worker ever sees the store's revision go back;
//! - **once**: the watcher sees every revision once, in order, without a gap;
//! - **alike**: all watchers see the same events, whichever members they were connected to;
//! - **fresh**: a write, a swap or a linearizable read is of no revision older than any that anybody
//!   had been told of when it was sent: with **state** and **kept**, that is linearizability;
//! - **state**: a read, serializable or not, shows exactly what the history up to its revision makes,
//!   and is of a revision that the history reaches;
//! - **condition**: a swap was done or refused as the history before it demands;
//! - **early**: a lease lives for its whole time after the last acknowledged keep-alive;
//! - **revoked**: a lease whose revoke was acknowledged is gone with its keys, for good;
//! - **late**: a lease that nobody keeps alive is gone within a bounded time, also when the server
//!   was killed meanwhile;
//! - **leases**: the server lists every living lease at the end, and no other;
//! - **attached**: the keys of each lease at the end are those that the history attached to it.
//!
//! Times are taken on the side that makes a rule sure: a lease may end one lifetime after the
//! keep-alive was *sent*, and an end has happened at the latest when its event *arrived*.

mod check;
mod lease_check;
mod load;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use check::violations;
pub use load::{Load, Size};

/// How often the crash test kills the server in each way where nothing else is said.
pub const KILLS: u32 = 8;
/// How long after its time a lease may still be there: a new leader adds an election timeout, ended
/// leases are looked for twice a second, and the machine is busy.
pub const LATE: Duration = Duration::from_secs(10);

/// What a swap asks first: whether a key was last changed at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The key.
    pub key: String,
    /// Revision of its last change; 0 asks for a key that is not there.
    pub changed_at: i64,
}

/// What one write would change at one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The new value, or none for a delete.
    pub value: Option<String>,
    /// The lease that the key hangs on from now on; 0 is none.
    pub lease: i64,
}

/// A value and the lease of its key, or 0.
pub type Held = (String, i64);

/// What a worker noted about one request. Times count from the start of the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A put, or a transaction of several. `revision` is that of the answer, or none without one.
    Write {
        /// On which it was to be done, or none.
        condition: Option<Condition>,
        /// Everything that it changes.
        changes: Vec<Change>,
        /// The highest revision that anybody had been told of when it was sent; 0 is none.
        floor: i64,
        /// Revision of the answer.
        revision: Option<i64>,
    },
    /// A swap that was answered and not done.
    Refused {
        /// What did not hold.
        condition: Condition,
        /// As of a write.
        floor: i64,
        /// Revision of the answer.
        revision: i64,
    },
    /// A read of everything.
    Read {
        /// Revision of the answer.
        revision: i64,
        /// As of a write; none for a serializable read, which may be as old as it likes.
        floor: Option<i64>,
        /// What every key holds.
        state: BTreeMap<String, Held>,
    },
    /// A lease that was asked for.
    Grant {
        /// Its id.
        lease: i64,
        /// When the request was sent.
        sent: Duration,
        /// The lifetime of the answer, or none without one.
        ttl: Option<Duration>,
    },
    /// A keep-alive, or a put that told whether the lease is there.
    Renew {
        /// Its id.
        lease: i64,
        /// When the request was sent.
        sent: Duration,
        /// When the answer came, or the news that none will.
        got: Duration,
        /// What the server said.
        answer: Renewal,
    },
    /// A revoke.
    Revoke {
        /// The lease.
        lease: i64,
        /// Revision of the answer, or none without one.
        revision: Option<i64>,
    },
}

/// What the server said about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It lives on for this long.
    Alive(Duration),
    /// There is no such lease.
    Gone,
    /// Nothing.
    Unknown,
}

/// One event of the watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Revision of the change.
    pub revision: i64,
    /// When it arrived.
    pub at: Duration,
    /// What changed. A delete has no lease.
    pub change: Change,
}

/// What the server lists when all is over.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Each lease and its keys.
    pub leases: BTreeMap<i64, BTreeSet<String>>,
    /// When they were listed.
    pub at: Duration,
    /// When the server had last become ready, at the latest.
    pub last_start: Duration,
}

/// Everything that was noted.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Notes of each worker, in the order of its requests.
    pub workers: Vec<Vec<Note>>,
    /// Events in the order in which the first watcher got them.
    pub events: Vec<Event>,
    /// And what each of the other watchers got.
    pub others: Vec<Vec<Event>>,
    /// What was there at the end.
    pub ending: Ending,
    /// What went wrong in ways that have no place above.
    pub troubles: Vec<String>,
}

impl Evidence {
    fn notes(&self) -> impl Iterator<Item = &Note> {
        self.workers.iter().flatten()
    }
}
