//! The state on disk: when it is written, in which order, and how it is read back.
//!
//! # Theory
//!
//! The write-ahead log makes every request durable. A *checkpoint* bounds what of it must be
//! replayed: the state at entry N, in files. A checkpoint costs what is new: the run in memory is
//! sealed and written, what older segments hold is only listed again. It is valid after, in this
//! order (`Checkpoints` keeps it, each step begins when the one before is durable):
//!
//! 1. the segments and their names;
//! 2. the manifest: N, term, the list of segments, and all of the state that is in no segment;
//! 3. in the log a hard state with commit ≥ N, and the snapshot record {N}.
//!
//! Only then older log files and replaced segments go. Everything that the manifest at N holds is
//! taken in one step of the machine, between two entries; what happens later (a compaction, a copy
//! of segments, more runs) is part of the next one.
//!
//! A start ([`open()`]) takes the manifest's state and replays the log from N, effects dropped. The
//! manifest may be newer than the log's snapshot record (the process ended between 2 and 3); it is
//! never older.
//!
//! A snapshot from a leader is read ([`take_in`] for etcd's database file, [`stream`] for files as
//! they are) and made durable beside the state ([`receive()`]): segments under numbers of their own
//! and a manifest of another name, then the log's record {N}. From then on a start takes that one;
//! so the record is the moment of the switch, and every prefix opens.

mod body;
mod executor;
mod machine;
mod open;
mod receive;
pub mod stream;

pub use body::BodyError;
pub use executor::{Done, Executor, Job, Lane};
pub use machine::Policy;
pub use open::{OpenError, Opened, Prepared, open, open_prepared, prepare};
pub use receive::{ReceiveError, import, receive, take_in};

pub(crate) use body::encode_body;
pub(crate) use machine::{Checkpoints, Sealed};
#[cfg(test)]
pub(crate) use open::state_of;
