//! What a member keeps on disk: the one door to the disk ([`vfs`]), the write-ahead log ([`wal`]),
//! the history of keys as immutable files ([`segment`]) under one manifest ([`checkpoint`]), and at
//! the border the files of etcd's own backend ([`bolt`]).
//!
//! Everything above the door is a plain state machine or a plain function over a [`vfs::Vfs`], so
//! that the simulator can put a disk behind it that crashes, tears writes and loses directory
//! entries. No thread, clock or lock lives here.

pub mod bolt;
pub mod checkpoint;
pub mod reserve;
pub mod segment;
pub mod vfs;
pub mod wal;
