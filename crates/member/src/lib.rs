//! Placeholder.

pub mod alarm;
pub mod apply;
pub mod auth;
pub mod cluster;
pub mod quota;
