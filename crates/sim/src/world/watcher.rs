//! A client that watches: one stream with a few watchers, resumed after every loss.

use bytes::Bytes;
use kvorum_mvcc::watch::StreamId;
use kvorum_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_proto::ids::Moment;
use kvorum_proto::mvccpb::Event;
use prost::Message as _;

use super::wire;
use crate::history::{History, Keys, WatchMessage, Watched, Without};
use crate::random::Random;
use crate::workload::some_keys;

/// The `watch_id` of a message for all watchers of a stream.
const WHOLE_STREAM: i64 = -1;

/// So many watchers a storm has on one stream.
const STORM: (u64, u64) = (12, 30);

/// One client with its stream.
pub(super) struct WatchClient {
    /// Whether it has many watchers and comes and goes all the time.
    pub(super) storms: bool,
    /// Whether its streams are to end when there is no leader.
    pub(super) requires_leader: bool,
    pub(super) stream: Option<Stream>,
    pub(super) watchers: Vec<Watcher>,
    /// Messages that came in pieces.
    pub(super) assembled: u64,
}

/// An open stream.
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// The life of the member that it leads to.
    pub(super) boot: u64,
    /// When the last message each way arrives: none overtakes another.
    pub(super) to_member: Moment,
    pub(super) to_client: Moment,
}

/// What one watcher wants and where it stands.
pub(super) struct Watcher {
    /// Its number on every stream.
    id: i64,
    /// Its place in the history.
    place: usize,
    keys: Keys,
    notify: bool,
    without: Without,
    /// Whether events tell what stood there before.
    before: bool,
    /// Whether messages may come in pieces.
    fragment: bool,
    /// The events of pieces whose last one has not come.
    pieces: Vec<Event>,
    /// The next revision to see; `None` until the first stream has said where it starts.
    next: Option<i64>,
    /// Whether the current stream has confirmed it.
    created: bool,
}

impl WatchClient {
    /// Draws what is watched: by half from the beginning, by half from when the stream is there.
    pub(super) fn draw(storms: bool, random: &mut Random, history: &mut History) -> Self {
        let (low, high) = if storms { STORM } else { (1, 3) };
        let watchers: Vec<_> = (1..=random.between(low, high) as i64)
            .map(|id| {
                let keys = keys(random);
                let next = random.chance(1, 2).then_some(1);
                let place = history.watchers.len();
                let without = match random.below(8) {
                    0 => Without::Puts,
                    1 => Without::Deletes,
                    _ => Without::Nothing,
                };
                history.watchers.push(Watched {
                    keys: Some(keys.clone()),
                    start_revision: next.unwrap_or_default(),
                    without,
                    messages: Vec::new(),
                });
                Watcher {
                    id,
                    place,
                    keys,
                    notify: random.chance(1, 3),
                    without,
                    before: random.chance(1, 3),
                    fragment: random.chance(1, 2),
                    pieces: Vec::new(),
                    next,
                    created: false,
                }
            })
            .collect();
        Self {
            storms,
            requires_leader: random.chance(1, 3),
            stream: None,
            watchers,
            assembled: 0,
        }
    }

    /// The requests with which a new stream begins.
    pub(super) fn begin(&mut self) -> Vec<WatchCreateRequest> {
        self.watchers.iter_mut().map(Watcher::request).collect()
    }

    /// Takes a message; returns what is to be asked for again because history was compacted under it.
    ///
    /// # Errors
    ///
    /// A message that must not come.
    pub(super) fn take(
        &mut self,
        bytes: &Bytes,
        history: &mut History,
    ) -> Result<Option<WatchCreateRequest>, String> {
        let message = WatchResponse::decode(bytes.clone()).map_err(|error| error.to_string())?;
        let revision = message.header.map_or(0, |header| header.revision);
        let is_news = !message.created && !message.canceled && message.events.is_empty();
        if message.watch_id == WHOLE_STREAM && is_news {
            for watcher in self.watchers.iter_mut().filter(|watcher| watcher.created) {
                watcher.progress(revision, history);
            }
            return Ok(None);
        }
        let id = message.watch_id;
        let Some(watcher) = self.watchers.iter_mut().find(|watcher| watcher.id == id) else {
            return Err(format!(
                "a message for watcher {id}, which nobody asked for: {message:?}"
            ));
        };
        if !message.fragment && message.events.is_empty() && !watcher.pieces.is_empty() {
            return Err(format!("between the pieces of a message: {message:?}"));
        }
        if message.created == watcher.created {
            return Err(format!("created twice, or events before it: {message:?}"));
        }
        if message.created {
            return watcher
                .confirmed(&message, revision, history)
                .map(|()| None);
        }
        if message.canceled {
            return watcher.compacted(&message, history).map(Some);
        }
        if is_news {
            watcher.progress(revision, history);
            return Ok(None);
        }
        if !message.fragment && !watcher.pieces.is_empty() {
            self.assembled += 1;
        }
        if let Some(events) = watcher.assemble(message)? {
            watcher.see(events, history);
        }
        Ok(None)
    }
}

/// Everything, what begins with a letter, all from a letter on, or some registers.
fn keys(random: &mut Random) -> Keys {
    let letter = random.between(u64::from(b'a'), u64::from(b's')) as u8;
    let end = match random.below(4) {
        0 => return Keys::all(),
        1 => return some_keys(random),
        2 => 0,
        _ => letter + 1,
    };
    Keys {
        start: vec![letter].into(),
        end: vec![end].into(),
    }
}

impl Watcher {
    fn request(&mut self) -> WatchCreateRequest {
        self.created = false;
        // What began on a stream that is lost comes again.
        self.pieces.clear();
        WatchCreateRequest {
            key: self.keys.start.clone(),
            range_end: self.keys.end.clone(),
            start_revision: self.next.unwrap_or_default(),
            progress_notify: self.notify,
            watch_id: self.id,
            filters: wire::filters(self.without),
            prev_kv: self.before,
            fragment: self.fragment,
        }
    }

    /// Takes a message with events, or a piece of one; the events of a whole message.
    fn assemble(&mut self, message: WatchResponse) -> Result<Option<Vec<Event>>, String> {
        if message.fragment && !self.fragment {
            return Err(format!("a piece for who did not ask for it: {message:?}"));
        }
        self.pieces.extend(message.events);
        Ok((!message.fragment).then(|| std::mem::take(&mut self.pieces)))
    }

    /// Writes down the events of a message.
    fn see(&mut self, message: Vec<Event>, history: &mut History) {
        let mut before = Vec::new();
        let mut events = Vec::new();
        for mut event in message {
            let stood_there = event.prev_kv.take();
            let (revision, change) = wire::watched(event);
            let stood_there = stood_there.map(|pair| wire::pair(&pair));
            before.push((revision, change.key().clone(), stood_there));
            events.push((revision, change));
        }
        self.next = events.last().map(|(last, _)| last + 1);
        let messages = &mut history.watchers[self.place].messages;
        messages.push(WatchMessage::Events(events));
        if self.before {
            messages.push(WatchMessage::Before(before));
        }
    }

    fn confirmed(
        &mut self,
        message: &WatchResponse,
        revision: i64,
        history: &mut History,
    ) -> Result<(), String> {
        if message.canceled {
            return Err(format!("refused: {message:?}"));
        }
        self.created = true;
        if self.next.is_none() {
            self.next = Some(revision + 1);
            history.watchers[self.place].start_revision = revision + 1;
        }
        Ok(())
    }

    fn compacted(
        &mut self,
        message: &WatchResponse,
        history: &mut History,
    ) -> Result<WatchCreateRequest, String> {
        let oldest = message.compact_revision;
        if self.next.is_none_or(|next| oldest <= next) {
            return Err(format!(
                "ended although {:?} is not compacted: {message:?}",
                self.next
            ));
        }
        self.next = Some(oldest);
        history.watchers[self.place]
            .messages
            .push(WatchMessage::Compacted(oldest));
        Ok(self.request())
    }

    fn progress(&mut self, revision: i64, history: &mut History) {
        self.next = self.next.max(Some(revision + 1));
        history.watchers[self.place]
            .messages
            .push(WatchMessage::Progress(revision));
    }
}
