//! The services behind the ports.

pub mod http;
pub mod v3;
