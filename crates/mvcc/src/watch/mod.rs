//! Watching: every change of a key, in order, once, for everybody who asked.
//!
//! # Theory
//!
//! A **watcher** is a cursor over the history of the store: the next revision it has to see. It
//! is never a queue. The hub itself is such a cursor, the **live** revision: the newest one it has
//! shown to the watchers that keep up.
//!
//! * A **synced** watcher has seen all up to the live revision. When the next revision arrives the
//!   hub finds the watchers that match its keys and hands each a message. The others are not
//!   touched: their cursor is the hub's.
//! * A watcher is **behind** when it starts in the past, or when an event for it met a stream
//!   without room. Then its cursor is written down, and [`WatchHub::poll`] reads pages of history
//!   for it, a bounded step at a time and stream after stream in turn, until it is synced.
//!
//! So what a client does not read costs the cursors of its watchers and nothing more, and nobody
//! waits for it.
//!
//! Each stream has a window: how many messages and bytes handed out to it have not left the
//! process. The shell gives room back with [`Input::Room`].
//!
//! Watchers of the same keys share a **target**; an event is matched against targets: single keys
//! in a map, ranges in an interval tree. It is encoded once without and once with the pair it
//! changed, when somebody wants it so; events that several watchers get alike are joined once; a
//! message is this body behind a head of its own.
//!
//! # Example
//!
//! The store is at revision 7, compacted at 4. Watcher 0 asks for `a` from revision 5, watcher 1
//! for `a`..`c` from now on. Both are created; 0 is behind at 5, 1 is synced. Revision 8 puts `b`:
//! it matches the target `a`..`c`, and 1 gets its message. `poll` reads revisions 5 to 8, finds
//! those that changed `a`, and 0 gets one message with all of them; then 0 is synced. A watcher
//! from revision 3 would be told `compact_revision` 4, and end.
//!
//! # Invariants
//!
//! * A watcher stands in exactly one place: in the set of its target when synced, among those
//!   behind of its stream otherwise, with the same cursor.
//! * A cursor that is written down is at most the live revision.
//! * All events up to its cursor that a watcher selects are in messages already handed out, and
//!   none above. This is what a progress notification promises: it is sent only for synced
//!   watchers, through the same queue.
//! * A stream is in the turn exactly when it has room and a watcher behind.
//!
//! A watcher ended by a compaction is forgotten at once. etcd keeps its number in use, and the
//! stream without progress notifications, until the client cancels it.
//!
//! Source: etcd v3.7.1, `server/storage/mvcc/watchable_store.go` and
//! `server/etcdserver/api/v3rpc/watch.go`.

mod catch_up;
mod door;
mod encode;
mod hub;
mod interval_tree;
mod invariants;
mod live;
mod page;
mod progress;
mod slots;
mod stream;
mod targets;

#[cfg(test)]
mod tests;

pub use door::{
    Config, Counts, Input, Message, MessageKind, Output, PROGRESS_INTERVAL_DEFAULT,
    PROGRESS_INTERVAL_MIN,
};
pub use hub::{FRAGMENT_OVERHEAD_BYTES, WatchHub};
pub use stream::{Room, StreamId};

/// Spreads the bits of a number: the finalizer of splitmix64, a fixed permutation.
const fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
