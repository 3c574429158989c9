//! The process around the member: version, signals, service manager, data directory, limits.

pub mod version;
