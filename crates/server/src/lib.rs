//! The etcd server: what stands between the sockets and the core.

pub mod api;
pub mod metrics;
pub mod transport;
