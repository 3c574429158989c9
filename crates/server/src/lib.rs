//! The etcd server: what stands between the sockets and the core.

pub mod api;
mod arena;
pub mod bootstrap;
pub mod config;
mod facts;
pub mod log;
pub mod metrics;
mod peer;
mod ports;
pub mod process;
pub mod runtime;
mod security;
mod start;
pub mod transport;

pub use start::run;

#[cfg(test)]
mod scratch;
