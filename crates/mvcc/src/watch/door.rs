//! What goes into the hub and what comes out of it.

use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::WatchCreateRequest;
use kvorum_proto::ids::{ClusterId, MemberId, Term};
use kvorum_storage::segment::Damage;

use crate::{EventBatch, View};

use super::stream::{Room, StreamId};

/// The time between two progress notifications where nothing else is configured.
pub const PROGRESS_INTERVAL_DEFAULT: Duration = Duration::from_secs(600);

/// The shortest time between two progress notifications; a smaller one is raised to it.
pub const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What a hub is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster, for the headers.
    pub cluster: ClusterId,
    /// This member, for the headers.
    pub member: MemberId,
    /// A message for a watcher with `fragment` is split when it would have so many bytes: those of the
    /// largest request a client may send, and [`super::FRAGMENT_OVERHEAD_BYTES`] more.
    pub message_bytes_max: usize,
    /// The time after which an idle watcher is notified; up to a tenth is added by chance. Zero
    /// means [`PROGRESS_INTERVAL_DEFAULT`].
    pub progress_interval: Duration,
    /// How long a stream that requires a leader outlives it: three election timeouts in etcd.
    pub leaderless_max: Duration,
    /// Feeds the chance in the progress interval.
    pub seed: u64,
}

/// What the hub is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client opened a stream.
    StreamOpened {
        /// Its name from now on.
        stream: StreamId,
        /// How much it may hold. When either number is reached, passed by no more than one
        /// delivery, events wait in the history. Answers to requests do not wait: the shell reads
        /// no request of a stream that holds this much.
        window: Room,
        /// The client asked that the stream ends when there is no leader (`hasleader` metadata).
        requires_leader: bool,
    },
    /// The stream is gone. Messages for it that are still in the hub lead nowhere.
    StreamClosed {
        /// The stream.
        stream: StreamId,
    },
    /// A request to watch.
    Create {
        /// The stream.
        stream: StreamId,
        /// The request.
        request: WatchCreateRequest,
        /// The store at the request: a watch without a start sees all that comes after it.
        view: View,
        /// The text of the refusal when the user may not read these keys.
        denied: Option<String>,
    },
    /// A request to end a watch.
    Cancel {
        /// The stream.
        stream: StreamId,
        /// The number of the watcher; an unknown one is ignored.
        watch_id: i64,
    },
    /// A request for a progress notification. Answered when all watchers of the stream have seen
    /// everything and none waits for a start in the future; forgotten otherwise.
    Progress {
        /// The stream.
        stream: StreamId,
    },
    /// Messages of the stream have left the process.
    Room {
        /// The stream.
        stream: StreamId,
        /// How much has left since the last time.
        gone: Room,
    },
    /// Revisions were applied. Batches come in order; a lost one is read from the history. While
    /// no stream is open nothing needs to be told.
    Events {
        /// The changes, revisions ascending.
        batches: Vec<EventBatch>,
        /// The store after them, or later.
        view: View,
    },
    /// The store was compacted, or moved on without telling its events.
    Compacted {
        /// The store after it.
        view: View,
    },
    /// The member knows of a leader, or of none any more.
    Leadership {
        /// The term, for the headers.
        term: Term,
        /// Whether there is a leader.
        has_leader: bool,
    },
    /// Time passed.
    Tick,
}

/// What the hub wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A message for a stream. The order of messages for one stream is kept.
    Message(Message),
    /// The stream is over, and the hub has forgotten it: the call ends with
    /// `etcdserver: no leader`.
    NoLeader {
        /// The stream.
        stream: StreamId,
    },
    /// The history cannot be read. The hub does nothing any more, and the process must stop.
    Damaged(Damage),
}

/// An encoded `WatchResponse`: `head`, then `body`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes.
    pub stream: StreamId,
    /// What it is, for the metrics.
    pub kind: MessageKind,
    /// All of it, or all but the events.
    pub head: Bytes,
    /// The events when they are large: shared with the messages of other watchers. Else empty.
    pub body: Bytes,
    /// How many events it carries.
    pub events: usize,
}

impl Message {
    /// Its size on the wire without framing, in bytes: what [`Input::Room`] gives back.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// The answer to a request to create or cancel.
    Control,
    /// Events.
    Events,
    /// The end of a watcher whose history was compacted away.
    Compacted,
    /// A progress notification.
    Progress,
}

/// The hub in numbers, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open streams.
    pub streams: usize,
    /// Watchers.
    pub watchers: usize,
    /// Watchers that are behind.
    pub slow_watchers: usize,
    /// Events in messages that have not been taken from the hub yet.
    pub pending_events: usize,
    /// Events in messages so far; only grows.
    pub events_total: u64,
}
