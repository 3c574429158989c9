//! What a member keeps on disk: the one door to the disk ([`vfs`]) and the write-ahead log
//! ([`wal`]).
//!
//! Everything above the door is a plain state machine or a plain function over a [`vfs::Vfs`], so
//! that the simulator can put a disk behind it that crashes, tears writes and loses directory
//! entries. No thread, clock or lock lives here.

pub mod vfs;
pub mod wal;
