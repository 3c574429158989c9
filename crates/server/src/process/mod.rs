//! The process around the member: version, signals, service manager, data directory, limits.

pub mod data_directory;
pub mod huge_pages;
pub mod limits;
pub mod service;
pub mod signals;
pub mod version;
