//! Random histories and clients against a plain model of what each watcher must see.
//!
//! The model knows all changes ever made. A client remembers what its watchers were sent, and
//! checks each message as it comes: the events are exactly the next ones the watcher selects, of
//! whole revisions, with the right pairs before them; what a progress notification promises has
//! been sent; an end by compaction is due. At last all streams read everything, and nothing may
//! be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_proto::ids::Term;
use kvorum_proto::mvccpb::{Event, KeyValue};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, proptest};

use super::super::{Input, MessageKind, Room, StreamId};
use super::steps::{STREAMS, Step, step};
use super::world::{Change, Seen, World};
use crate::Interval;

/// A watcher as its client knows it.
struct Client {
    request: WatchCreateRequest,
    interval: Interval,
    /// The next revision it may be sent.
    next: i64,
    /// The events of that revision sent so far, while the last message was a fragment.
    fragments: usize,
}

/// A stream as its client knows it.
#[derive(Default)]
struct Connection {
    watchers: BTreeMap<i64, Client>,
    /// Requests to create that were not answered yet, which happens at once.
    asked: Option<WatchCreateRequest>,
    window: usize,
    held: Room,
}

/// The world and the model beside it.
struct Run {
    world: World,
    /// All events by revision; `prev_kv` is set wherever there was a pair.
    history: BTreeMap<i64, Vec<Event>>,
    pairs: BTreeMap<Bytes, KeyValue>,
    connections: BTreeMap<u64, Connection>,
    /// The revisions the hub was told of.
    told_revision: i64,
    told_compacted: i64,
    /// The name for the next stream in each of the few places for one.
    names: [u64; STREAMS as usize],
}

impl Run {
    fn new() -> Self {
        Self {
            world: World::new(),
            history: BTreeMap::new(),
            pairs: BTreeMap::new(),
            connections: BTreeMap::new(),
            told_revision: 1,
            told_compacted: -1,
            names: std::array::from_fn(|place| place as u64),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open {
                stream,
                window,
                requires_leader,
            } => {
                let name = self.names[stream as usize];
                if self.connections.contains_key(&name) {
                    return;
                }
                let connection = Connection {
                    window,
                    ..Connection::default()
                };
                self.connections.insert(name, connection);
                let window = Room {
                    messages: window,
                    bytes: usize::MAX,
                };
                let stream = StreamId(name);
                self.world.step(Input::StreamOpened {
                    stream,
                    window,
                    requires_leader,
                });
            }
            Step::Close { stream } => {
                let stream = self.names[stream as usize];
                self.world.step(Input::StreamClosed {
                    stream: StreamId(stream),
                });
                self.forget(stream);
            }
            Step::Create {
                stream,
                request,
                start_back,
            } => {
                self.create(self.names[stream as usize], request, start_back);
            }
            Step::Cancel { stream, watch_id } => {
                let stream = StreamId(self.names[stream as usize]);
                self.world.step(Input::Cancel { stream, watch_id });
            }
            Step::Progress { stream } => {
                let stream = StreamId(self.names[stream as usize]);
                self.world.step(Input::Progress { stream });
            }
            Step::Read { stream, messages } => self.read(self.names[stream as usize], messages),
            Step::Change { changes, heard } => self.change(&changes, heard),
            Step::Compact { back } => {
                let revision = self.world.store.current_revision() - back;
                if self.world.store.compact(revision).is_ok() {
                    self.told_compacted = revision;
                    self.told_revision = self.world.store.current_revision();
                    self.world.step(Input::Compacted {
                        view: self.world.store.view(),
                    });
                }
            }
            Step::Poll { budget } => {
                self.world.hub.poll(budget);
            }
            Step::Time { seconds } => {
                self.world.now = self.world.now + Duration::from_secs(seconds);
                self.world.step(Input::Tick);
            }
            Step::Leader { has_leader } => {
                self.world.step(Input::Leadership {
                    term: Term(5),
                    has_leader,
                });
            }
        }
        self.settle();
    }

    /// Checks the hub and all it said; returns whether it said anything.
    fn settle(&mut self) -> bool {
        self.world.hub.check_invariants();
        let seen = self.world.drain();
        let said = !seen.is_empty();
        for seen in seen {
            match seen {
                Seen::NoLeader { stream } => self.forget(stream),
                Seen::Response {
                    stream,
                    bytes,
                    kind,
                    response,
                } => {
                    self.receive(stream, bytes, kind, &response);
                }
            }
        }
        let unanswered = self
            .connections
            .values()
            .any(|connection| connection.asked.is_some());
        assert!(!unanswered, "a request to create is answered at once");
        said
    }

    fn forget(&mut self, stream: u64) {
        if self.connections.remove(&stream).is_some() {
            self.names[(stream % STREAMS) as usize] += STREAMS;
        }
    }

    fn create(&mut self, stream: u64, mut request: WatchCreateRequest, start_back: i64) {
        let Some(connection) = self.connections.get_mut(&stream) else {
            return;
        };
        let current = self.world.store.current_revision();
        // A third of the watchers start now, the others somewhere around it.
        request.start_revision = if start_back > 8 {
            0
        } else {
            (current - start_back).max(1)
        };
        connection.asked = Some(request.clone());
        self.world.create(stream, request);
    }

    fn read(&mut self, stream: u64, messages: usize) {
        let Some(connection) = self.connections.get_mut(&stream) else {
            return;
        };
        let gone = Room {
            messages: messages.min(connection.held.messages),
            bytes: 0,
        };
        connection.held.messages -= gone.messages;
        self.world.step(Input::Room {
            stream: StreamId(stream),
            gone,
        });
    }

    fn change(&mut self, changes: &[Change], heard: bool) {
        // A key is changed once in a transaction: the API refuses anything else.
        let mut keys = BTreeSet::new();
        let changes: Vec<_> = (changes.iter())
            .filter(|change| match change {
                Change::Put(key, _) | Change::Delete(key) => keys.insert(key.clone()),
            })
            .cloned()
            .collect();
        let revision = self.world.store.current_revision() + 1;
        let events: Vec<_> = changes
            .iter()
            .filter_map(|change| self.model_change(change, revision))
            .collect();
        let Some(batch) = self.world.change(&changes) else {
            assert!(events.is_empty());
            return;
        };
        assert_eq!(batch.revision, revision);
        self.history.insert(revision, events);
        if heard {
            self.told_revision = revision;
            let view = self.world.store.view();
            self.world.step(Input::Events {
                batches: vec![batch],
                view,
            });
        }
    }

    /// What a change does to the pairs, and the event it is.
    fn model_change(&mut self, change: &Change, revision: i64) -> Option<Event> {
        match change {
            Change::Put(key, value) => {
                let key = Bytes::copy_from_slice(key.as_bytes());
                let before = self.pairs.get(&key).cloned();
                let kv = KeyValue {
                    key: key.clone(),
                    value: Bytes::copy_from_slice(value.as_bytes()),
                    mod_revision: revision,
                    create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
                    version: before.as_ref().map_or(0, |kv| kv.version) + 1,
                    lease: 0,
                };
                self.pairs.insert(key, kv.clone());
                Some(Event {
                    r#type: 0,
                    kv: Some(kv),
                    prev_kv: before,
                })
            }
            Change::Delete(key) => {
                let before = self.pairs.remove(key.as_bytes())?;
                let key = before.key.clone();
                let kv = KeyValue {
                    key,
                    mod_revision: revision,
                    ..KeyValue::default()
                };
                Some(Event {
                    r#type: 1,
                    kv: Some(kv),
                    prev_kv: Some(before),
                })
            }
        }
    }

    fn receive(&mut self, stream: u64, bytes: usize, kind: MessageKind, response: &WatchResponse) {
        let Some(mut connection) = self.connections.remove(&stream) else {
            return;
        };
        if kind == MessageKind::Events && connection.held.messages >= connection.window {
            let watcher = &connection.watchers[&response.watch_id];
            assert!(
                watcher.fragments > 0,
                "a full stream gets the rest of a delivery at most"
            );
        }
        connection.held.messages += 1;
        connection.held.bytes += bytes;
        match kind {
            MessageKind::Control if response.created => self.created(&mut connection, response),
            MessageKind::Control => {
                assert!(response.canceled && response.events.is_empty());
                connection
                    .watchers
                    .remove(&response.watch_id)
                    .expect("only what is there ends");
            }
            MessageKind::Events => {
                let watcher = connection.watchers.get_mut(&response.watch_id);
                self.events(watcher.expect("events come after the answer"), response);
            }
            MessageKind::Compacted => {
                let watcher = connection.watchers.remove(&response.watch_id).unwrap();
                assert!(response.canceled);
                assert_eq!(response.compact_revision, self.told_compacted);
                assert_eq!(response.header.unwrap().revision, 0);
                assert!(
                    watcher.next < response.compact_revision,
                    "it ends only where it must"
                );
            }
            MessageKind::Progress => self.progress(&connection, response),
        }
        self.connections.insert(stream, connection);
    }

    fn created(&self, connection: &mut Connection, response: &WatchResponse) {
        let request = connection.asked.take().expect("an answer has a request");
        let revision = response.header.unwrap().revision;
        assert_eq!(revision, self.world.store.current_revision());
        let interval = Interval::from_wire(request.key.clone(), request.range_end.clone());
        let in_use = request.watch_id != 0 && connection.watchers.contains_key(&request.watch_id);
        assert_eq!(response.canceled, in_use || interval.is_empty());
        if response.canceled {
            assert_eq!(response.watch_id, -1);
            return;
        }
        let next = if request.start_revision == 0 {
            revision + 1
        } else {
            request.start_revision
        };
        let client = Client {
            request,
            interval,
            next,
            fragments: 0,
        };
        let before = connection.watchers.insert(response.watch_id, client);
        assert!(before.is_none(), "a number is used once at a time");
    }

    /// The events are the next ones, and complete.
    fn events(&self, watcher: &mut Client, response: &WatchResponse) {
        assert!(!response.events.is_empty() && !response.canceled && !response.created);
        assert!(watcher.request.fragment || !response.fragment);
        let last = response
            .events
            .last()
            .unwrap()
            .kv
            .as_ref()
            .unwrap()
            .mod_revision;
        assert!(last <= response.header.unwrap().revision);
        let wanted: Vec<_> = self
            .selected(watcher, last)
            .skip(watcher.fragments)
            .collect();
        let got = response.events.len();
        for (got, wanted) in response.events.iter().zip(&wanted) {
            assert_eq!(got, wanted);
        }
        if response.fragment {
            assert!(got < wanted.len() || self.selected(watcher, i64::MAX).count() > got);
            watcher.fragments += got;
        } else {
            assert_eq!(got, wanted.len(), "a revision is sent as a whole");
            watcher.fragments = 0;
            watcher.next = last + 1;
        }
    }

    /// The events that a watcher still has to see, up to a revision.
    fn selected<'a>(&'a self, watcher: &'a Client, last: i64) -> impl Iterator<Item = Event> + 'a {
        let revisions = self.history.range(watcher.next..=last.max(watcher.next));
        let events = revisions.flat_map(|(_, events)| events);
        let events = events.filter(|event| {
            watcher.interval.contains(&event.kv.as_ref().unwrap().key)
                && !watcher.request.filters.contains(&event.r#type)
        });
        events.map(|event| {
            let mut event = event.clone();
            let before = event.kv.as_ref().unwrap().mod_revision - 1;
            if !watcher.request.prev_kv || before < self.told_compacted {
                event.prev_kv = None;
            }
            event
        })
    }

    /// All that a notification speaks for has been sent.
    fn progress(&self, connection: &Connection, response: &WatchResponse) {
        assert!(response.events.is_empty() && !response.canceled && !response.created);
        let revision = response.header.unwrap().revision;
        assert!(revision <= self.told_revision);
        let whole_stream = response.watch_id == -1;
        let mut spoken_for = 0;
        for (id, watcher) in &connection.watchers {
            if whole_stream || *id == response.watch_id {
                spoken_for += 1;
                let asked = watcher.request.start_revision;
                assert!(asked <= revision, "none waits for the future");
                assert!(whole_stream || watcher.request.progress_notify);
                assert_eq!(watcher.fragments, 0);
                let missing =
                    (watcher.next <= revision).then(|| self.selected(watcher, revision).count());
                assert_eq!(missing.unwrap_or(0), 0, "what was promised was sent");
            }
        }
        assert!(spoken_for > 0, "a notification speaks for somebody");
    }

    /// Lets everybody read everything.
    fn finish(mut self) {
        self.told_revision = self.world.store.current_revision();
        self.world.step(Input::Compacted {
            view: self.world.store.view(),
        });
        loop {
            for stream in self.connections.keys().copied().collect::<Vec<_>>() {
                self.read(stream, usize::MAX);
            }
            self.world.hub.poll(3);
            if !self.settle() && !self.world.hub.has_work() {
                break;
            }
        }
        assert_eq!(self.world.hub.counts().slow_watchers, 0);
        for connection in self.connections.values() {
            for watcher in connection.watchers.values() {
                assert_eq!(watcher.fragments, 0);
                let missing = self.selected(watcher, i64::MAX).count();
                assert_eq!(missing, 0, "everybody saw everything");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_sees_its_history_in_order_once_and_whole(steps in vec(step(), 1..120)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        run.finish();
    }
}
