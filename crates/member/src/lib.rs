//! One member of a cluster as deterministic machines.

pub mod alarm;
pub mod apply;
pub mod auth;
pub mod check;
pub mod cluster;
pub mod consensus;
pub mod lease;
pub mod quota;
