//! The replicated state of a member, and how log entries change it.
//!
//! [`Apply`] takes committed entries in order and returns [`Effect`]s. The same entries always
//! give the same state, however they are cut into batches and whichever member applies them:
//! nothing here looks at a clock, at the configuration, at who leads or at how much is stored.
//! What may differ between members is only whether somebody waits for a reply; ranges inside
//! transactions, which change nothing, are executed for those who wait.
//!
//! # A request
//!
//! ```text
//! entry ─► decode ─► alarms ─► checks against the state ─► writes ─► events, reply
//! ```
//!
//! Everything that can refuse a request is checked before it writes anything: there is no undo.
//! A refusal is part of the result, as on every other member. An entry that cannot have been
//! proposed by a correct member (bytes that do not decode, an unknown request) stops the process,
//! because going on would mean to know less than the other members.
//!
//! # Invariants
//!
//! * entries are applied exactly once, without a gap
//! * one request changes the store revision by at most one
//! * a key hangs on a lease exactly when its newest record says so and the lease exists
//! * a reply leaves after the view that it rests on

mod alarm;
mod checkpoint;
mod cluster;
mod compaction;
mod delete_range;
mod digest;
mod earlier;
mod effect;
mod error;
mod lease;
mod machine;
mod put;
mod response;
mod state;
mod txn;
mod v2;
mod wire;
mod writer;

#[cfg(test)]
mod tests;

pub use digest::Digest;
pub use effect::{ClusterState, Effect, ReadView};
pub use error::RequestError;
pub use machine::{Apply, Input, Local, MEMBER_BITS};
pub use response::{DeleteRange, Operation, Put, Range, Response, Txn};
pub use txn::read as read_txn;
