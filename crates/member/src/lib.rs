//! One member of a cluster as deterministic machines.
//!
//! [`core::Core`] holds them and the queues between them; `router` says what goes where.

pub mod alarm;
pub mod apply;
pub mod auth;
pub mod auto_compaction;
pub mod backend;
pub mod check;
pub mod checkpoint;
pub mod cluster;
pub mod consensus;
pub mod core;
pub mod disk_space;
pub mod lease;
pub mod official;
pub mod quota;
pub mod rescue;
mod router;
pub mod spare;
