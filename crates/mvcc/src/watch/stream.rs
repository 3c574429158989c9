//! One client's stream, and one watcher on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kvorum_proto::ids::Moment;

use super::page::Selection;
use super::slots::Slot;
use super::targets::Target;

/// Names a stream between the hub and the shell. The shell never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An amount of output: how much a stream may hold, or how much of it has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Messages.
    pub messages: usize,
    /// Bytes of messages, without the framing around them.
    pub bytes: usize,
}

/// Where a watcher stands in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// It has seen all the hub has seen. Its cursor is the revision the hub sees next, and is
    /// written nowhere: an event costs a watcher nothing unless it matches.
    Synced,
    /// This revision, which the hub has seen, is the next one for it.
    Behind(i64),
}

/// One watcher: a cursor over the history and what it selects.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Its stream.
    pub(super) stream: Slot<Stream>,
    /// Its number on the stream.
    pub(super) id: i64,
    /// The keys it watches.
    pub(super) target: Slot<Target>,
    /// The events of these keys that it wants.
    pub(super) selection: Selection,
    /// The cursor. `Synced` stands in the target's set, `Behind` in the stream's.
    pub(super) position: Position,
    /// Events below this revision are not for it.
    pub(super) start: i64,
    /// The lowest revision a progress notification may name: from then on it waits for nothing
    /// that lies in the future.
    pub(super) promise_from: i64,
    /// Large messages may be split.
    pub(super) fragment: bool,
    /// It wants a notification when nothing happens for a while.
    pub(super) notify: bool,
    /// No event was sent since the last turn of the stream's progress timer.
    pub(super) idle: bool,
}

impl Watcher {
    /// The next revision it has to see while the hub has seen those up to `live`.
    pub(super) fn cursor(&self, live: i64) -> i64 {
        match self.position {
            Position::Synced => live + 1,
            Position::Behind(next) => next,
        }
    }
}

/// One stream: many watchers and the room they share.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its name outside.
    pub(super) id: StreamId,
    /// It ends when there is no leader for long.
    pub(super) requires_leader: bool,
    /// Its watchers by their number.
    pub(super) watchers: BTreeMap<i64, Slot<Watcher>>,
    /// Where the search for an unused number begins.
    pub(super) id_next: i64,
    /// The watchers that are behind, by their cursor.
    pub(super) behind: BTreeSet<(i64, Slot<Watcher>)>,
    /// When idle watchers are notified next; the hub's timers hold it too.
    pub(super) progress_at: Option<Moment>,
    window: Room,
    /// Handed out and not yet reported as gone.
    held: Room,
    flowing: bool,
}

impl Stream {
    /// A stream without watchers that may hold `window`.
    pub(super) fn new(id: StreamId, window: Room, requires_leader: bool) -> Self {
        Self {
            id,
            requires_leader,
            watchers: BTreeMap::new(),
            id_next: 0,
            behind: BTreeSet::new(),
            progress_at: None,
            window,
            held: Room::default(),
            flowing: true,
        }
    }

    /// Whether it takes events. It stops when the window is full and begins again when half of it
    /// is free: history is then read for a good many messages at once.
    pub(super) fn is_flowing(&self) -> bool {
        self.flowing
    }

    /// A message was handed out.
    pub(super) fn hold(&mut self, bytes: usize) {
        self.held.messages += 1;
        self.held.bytes += bytes;
        if self.held.messages >= self.window.messages || self.held.bytes >= self.window.bytes {
            self.flowing = false;
        }
    }

    /// Some of what was handed out is gone.
    pub(super) fn let_go(&mut self, gone: Room) {
        self.held.messages = self.held.messages.saturating_sub(gone.messages);
        self.held.bytes = self.held.bytes.saturating_sub(gone.bytes);
        self.flowing |= self.held.messages <= self.window.messages / 2
            && self.held.bytes <= self.window.bytes / 2;
    }

    /// Picks the number for a new watcher: the `wanted` one, or an unused one for 0. Nothing when
    /// the wanted one is in use.
    pub(super) fn choose_id(&mut self, wanted: i64) -> Option<i64> {
        if wanted != 0 {
            return (!self.watchers.contains_key(&wanted)).then_some(wanted);
        }
        while self.watchers.contains_key(&self.id_next) {
            self.id_next += 1;
        }
        self.id_next += 1;
        Some(self.id_next - 1)
    }
}
