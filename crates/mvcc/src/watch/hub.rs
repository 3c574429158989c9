//! The machine: streams and watchers come and go, messages are made.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kvorum_proto::etcdserverpb::watch_create_request::FilterType;
use kvorum_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use kvorum_proto::ids::{Moment, Term};
use kvorum_storage::segment::Damage;
use prost::Message as _;

use crate::{Interval, View};

use super::door::{Config, Counts, Input, Message, MessageKind, Output};
use super::encode::{self, Body, Encoded, Piece};
use super::page::{Page, Selection};
use super::progress::Leader;
use super::slots::{Slot, Slots};
use super::stream::{Position, Room, Stream, StreamId, Watcher};
use super::targets::{Targets, watched};

/// What a server lets a message have above the largest request before it is split, in bytes.
///
/// Source: etcd v3.7.1, `server/config/config.go` (`grpcOverheadBytes`).
pub const FRAGMENT_OVERHEAD_BYTES: usize = 512 * 1024;

/// The `watch_id` of messages about no watcher or about the whole stream.
pub(super) const NO_WATCHER: i64 = -1;

/// Why a watcher is not created.
mod refusal {
    pub(super) const NEGATIVE_START: &str =
        "etcdserver: mvcc: required revision has been compacted";
    pub(super) const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
    pub(super) const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
}

/// All watchers of a member. See the module for how it works and what always holds.
///
/// [`WatchHub::step`] takes an input, [`WatchHub::poll`] does a bounded part of what is left to do,
/// [`WatchHub::take_output`] gives what came of it, and [`WatchHub::next_deadline`] says when a
/// [`Input::Tick`] is due.
#[derive(Debug)]
pub struct WatchHub {
    pub(super) config: Config,
    pub(super) term: Term,
    pub(super) leader: Leader,
    pub(super) now: Moment,
    /// The newest state of the store the hub was given.
    pub(super) view: View,
    /// The newest revision shown to synced watchers; at most that of `view`.
    pub(super) live: i64,
    pub(super) streams: Slots<Stream>,
    pub(super) names: BTreeMap<StreamId, Slot<Stream>>,
    pub(super) watchers: Slots<Watcher>,
    pub(super) targets: Targets,
    /// The streams that have room and a watcher behind.
    pub(super) turn: BTreeSet<Slot<Stream>>,
    /// The last stream that had its turn.
    pub(super) turn_last: Slot<Stream>,
    /// The history read last, for the next stream at the same place.
    pub(super) page: Option<Page>,
    /// When the idle watchers of a stream are notified.
    pub(super) timers: BTreeSet<(Moment, Slot<Stream>)>,
    /// How often chance was asked.
    pub(super) draws: u64,
    pub(super) outputs: VecDeque<Output>,
    pub(super) counts: Counts,
    /// The history could not be read: nothing is done any more.
    pub(super) stopped: bool,
}

impl WatchHub {
    /// A hub without watchers over a store at `view`, on a member that knows no leader yet.
    pub fn new(config: Config, view: View) -> Self {
        Self {
            config,
            term: Term(0),
            leader: Leader::Missing { deadline: None },
            now: Moment::default(),
            live: view.current_revision(),
            view,
            streams: Slots::new(),
            names: BTreeMap::new(),
            watchers: Slots::new(),
            targets: Targets::new(),
            turn: BTreeSet::new(),
            turn_last: Slot::MIN,
            page: None,
            timers: BTreeSet::new(),
            draws: 0,
            outputs: VecDeque::new(),
            counts: Counts::default(),
            stopped: false,
        }
    }

    /// Takes an input at `now`, which never goes back. Inputs about an unknown stream are ignored:
    /// it may have ended while they were on their way.
    pub fn step(&mut self, now: Moment, input: Input) {
        self.now = self.now.max(now);
        if self.stopped {
            return;
        }
        match input {
            Input::StreamOpened {
                stream,
                window,
                requires_leader,
            } => {
                self.open(stream, window, requires_leader);
            }
            Input::StreamClosed { stream } => self.close(stream),
            Input::Create {
                stream,
                request,
                view,
                denied,
            } => {
                self.create(stream, request, &view, denied);
            }
            Input::Cancel { stream, watch_id } => self.cancel(stream, watch_id),
            Input::Progress { stream } => self.progress_requested(stream),
            Input::Room { stream, gone } => self.room(stream, gone),
            Input::Events { batches, view } => self.events(&batches, view),
            Input::Compacted { view } => self.adopt(view),
            Input::Leadership { term, has_leader } => self.leadership(term, has_leader),
            Input::Tick => self.tick(),
        }
    }

    /// The next effect, in order.
    pub fn take_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if let Some(Output::Message(message)) = &output {
            self.counts.pending_events -= message.events;
        }
        output
    }

    /// The hub in numbers.
    pub fn counts(&self) -> Counts {
        Counts {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            ..self.counts
        }
    }

    fn open(&mut self, id: StreamId, window: Room, requires_leader: bool) {
        if requires_leader && self.leader != Leader::Known {
            self.outputs.push_back(Output::NoLeader { stream: id });
            return;
        }
        let stream = self
            .streams
            .insert(Stream::new(id, window, requires_leader));
        let before = self.names.insert(id, stream);
        assert!(before.is_none(), "the name of a stream is never used twice");
    }

    /// Forgets a stream and its watchers.
    pub(super) fn close(&mut self, id: StreamId) {
        let Some(slot) = self.names.remove(&id) else {
            return;
        };
        let watchers: Vec<_> = self.streams[slot].watchers.values().copied().collect();
        for watcher in watchers {
            self.remove_watcher(watcher);
        }
        let stream = self.streams.remove(slot);
        self.turn.remove(&slot);
        if let Some(at) = stream.progress_at {
            self.timers.remove(&(at, slot));
        }
    }

    fn create(
        &mut self,
        stream: StreamId,
        request: WatchCreateRequest,
        view: &View,
        denied: Option<String>,
    ) {
        let Some(slot) = self.names.get(&stream).copied() else {
            return;
        };
        let current = view.current_revision();
        let mut answer = self.head(current, NO_WATCHER);
        answer.created = true;
        match self.checked(slot, &request, denied) {
            Ok((id, interval)) => {
                answer.watch_id = id;
                self.send(slot, MessageKind::Control, &answer, None);
                self.add_watcher(slot, id, interval, &request, current);
            }
            Err(reason) => {
                answer.canceled = true;
                answer.cancel_reason = reason;
                self.send(slot, MessageKind::Control, &answer, None);
            }
        }
    }

    /// The number and the keys of the watcher that a request asks for, or why there can be none.
    /// The checks stand in etcd's order.
    fn checked(
        &mut self,
        stream: Slot<Stream>,
        request: &WatchCreateRequest,
        denied: Option<String>,
    ) -> Result<(i64, Interval), String> {
        if request.start_revision < 0 {
            return Err(refusal::NEGATIVE_START.to_owned());
        }
        if let Some(reason) = denied {
            return Err(reason);
        }
        let interval = watched(&request.key, &request.range_end)
            .ok_or_else(|| refusal::EMPTY_RANGE.to_owned())?;
        let id = (self.streams[stream].choose_id(request.watch_id))
            .ok_or_else(|| refusal::DUPLICATE_ID.to_owned())?;
        Ok((id, interval))
    }

    fn add_watcher(
        &mut self,
        stream: Slot<Stream>,
        id: i64,
        interval: Interval,
        request: &WatchCreateRequest,
        current: i64,
    ) {
        let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        let (start, promise_from) = match request.start_revision {
            0 => (current + 1, current),
            asked => (asked, asked),
        };
        let target = self.targets.acquire(interval);
        let watcher = self.watchers.insert(Watcher {
            stream,
            id,
            target,
            selection: Selection {
                puts: !filtered(FilterType::Noput),
                deletes: !filtered(FilterType::Nodelete),
                previous: request.prev_kv,
            },
            position: Position::Synced,
            start,
            promise_from,
            fragment: request.fragment,
            notify: request.progress_notify,
            idle: true,
        });
        self.streams[stream].watchers.insert(id, watcher);
        self.targets[target].synced.insert(watcher);
        self.place(watcher, start);
        if request.progress_notify {
            self.start_timer(stream);
        }
    }

    fn cancel(&mut self, stream: StreamId, watch_id: i64) {
        let Some(slot) = self.names.get(&stream).copied() else {
            return;
        };
        let Some(watcher) = self.streams[slot].watchers.get(&watch_id).copied() else {
            return;
        };
        self.remove_watcher(watcher);
        let mut answer = self.head(self.view.current_revision(), watch_id);
        answer.canceled = true;
        self.send(slot, MessageKind::Control, &answer, None);
    }

    /// Forgets a watcher.
    pub(super) fn remove_watcher(&mut self, slot: Slot<Watcher>) {
        // Whatever stands above the live revision is not behind: its stream lets go of it.
        self.place(slot, i64::MAX);
        let watcher = self.watchers.remove(slot);
        self.targets[watcher.target].synced.remove(&slot);
        self.targets.release(watcher.target);
        self.streams[watcher.stream].watchers.remove(&watcher.id);
    }

    /// Moves the cursor of a watcher: with `next` at or below the live revision it is behind, else
    /// synced. The one place where positions change.
    pub(super) fn place(&mut self, slot: Slot<Watcher>, next: i64) {
        let watcher = &mut self.watchers[slot];
        let stream = &mut self.streams[watcher.stream];
        match watcher.position {
            Position::Synced => self.targets[watcher.target].synced.remove(&slot),
            Position::Behind(before) => stream.behind.remove(&(before, slot)),
        };
        self.counts.slow_watchers -= usize::from(watcher.position != Position::Synced);
        if next > self.live {
            watcher.position = Position::Synced;
            self.targets[watcher.target].synced.insert(slot);
        } else {
            watcher.position = Position::Behind(next);
            stream.behind.insert((next, slot));
            self.counts.slow_watchers += 1;
        }
        let stream = watcher.stream;
        self.take_turn_or_leave(stream);
    }

    /// Keeps the turn to the streams that have something to read and room for it.
    fn take_turn_or_leave(&mut self, slot: Slot<Stream>) {
        let stream = &self.streams[slot];
        if stream.is_flowing() && !stream.behind.is_empty() {
            self.turn.insert(slot);
        } else {
            self.turn.remove(&slot);
        }
    }

    fn room(&mut self, stream: StreamId, gone: Room) {
        let Some(slot) = self.names.get(&stream).copied() else {
            return;
        };
        self.streams[slot].let_go(gone);
        self.take_turn_or_leave(slot);
    }

    /// Takes over a newer state of the store; an older one is of no use.
    pub(super) fn adopt(&mut self, view: View) {
        let newer = view.current_revision() >= self.view.current_revision()
            && view.compact_revision() >= self.view.compact_revision();
        if newer {
            if view.compact_revision() != self.view.compact_revision() {
                self.page = None;
            }
            self.view = view;
            if self.watchers.len() == 0 {
                // Nobody is to be shown what happened: no history is read for it.
                self.live = self.view.current_revision();
            }
        }
    }

    /// Ends the hub: a watcher must not be shown a history with a hole. Returns the cost of that.
    pub(super) fn stop(&mut self, damage: Damage) -> usize {
        if !self.stopped {
            self.stopped = true;
            self.outputs.push_back(Output::Damaged(damage));
        }
        1
    }

    /// The same where there is damage.
    pub(super) fn stop_if_damaged(&mut self, result: Result<(), Damage>) {
        if let Err(damage) = result {
            self.stop(damage);
        }
    }

    /// The fields that every message has.
    pub(super) fn head(&self, revision: i64, watch_id: i64) -> WatchResponse {
        let header = ResponseHeader {
            cluster_id: self.config.cluster.0,
            member_id: self.config.member.0,
            revision,
            raft_term: self.term.0,
        };
        WatchResponse {
            header: Some(header),
            watch_id,
            ..WatchResponse::default()
        }
    }

    /// Hands out the events of a watcher, in pieces where it allows that and they are many.
    pub(super) fn send_events(&mut self, slot: Slot<Watcher>, body: &mut Body) {
        self.watchers[slot].idle = false;
        let Watcher {
            stream,
            id,
            fragment,
            ..
        } = self.watchers[slot];
        let mut head = self.head(self.live, id);
        if !fragment {
            let message = body.message(&head);
            self.hand_out(stream, MessageKind::Events, body.events(), message);
            return;
        }
        let limit = self.config.message_bytes_max;
        for piece in body.fragments(head.encoded_len(), limit) {
            head.fragment = piece.fragment;
            self.send(stream, MessageKind::Events, &head, Some(piece));
        }
    }

    /// Hands out a message and takes the room it needs from its stream.
    pub(super) fn send(
        &mut self,
        slot: Slot<Stream>,
        kind: MessageKind,
        head: &WatchResponse,
        piece: Option<Piece>,
    ) {
        let (events, bytes) = piece.map_or((0, Bytes::new()), |piece| (piece.events, piece.bytes));
        self.hand_out(slot, kind, events, encode::head_and_body(head, bytes));
    }

    fn hand_out(
        &mut self,
        slot: Slot<Stream>,
        kind: MessageKind,
        events: usize,
        (head, body): Encoded,
    ) {
        let message = Message {
            stream: self.streams[slot].id,
            kind,
            head,
            body,
            events,
        };
        self.counts.pending_events += events;
        self.counts.events_total += events as u64;
        self.streams[slot].hold(message.bytes());
        if !self.streams[slot].is_flowing() {
            self.turn.remove(&slot);
        }
        self.outputs.push_back(Output::Message(message));
    }
}
