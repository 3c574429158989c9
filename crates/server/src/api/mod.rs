//! The services behind the ports.

pub mod http;
