//! The etcd server: what stands between the sockets and the core.

pub mod api;
pub mod config;
pub mod log;
pub mod metrics;
pub mod process;
pub mod transport;

#[cfg(test)]
mod scratch;
