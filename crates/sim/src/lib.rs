//! Whole members on one thread from one seed.

pub mod checkers;
pub mod disk;
pub mod history;
pub mod random;
