//! Whole members on one thread from one seed.
//!
//! [`run()`] makes a [`world`] from a seed, lets it run and judges what happened with the [`checkers`].

pub mod checkers;
pub mod disk;
pub mod event_log;
pub mod history;
pub mod random;
mod run;
pub mod shrink;
pub mod workload;
pub mod world;

pub use run::{PANIC, Report, judge, run, run_with};
