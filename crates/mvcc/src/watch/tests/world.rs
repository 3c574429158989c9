//! A store, a hub and what the hub said, decoded.

use std::fmt;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use kvorum_proto::ids::{ClusterId, LeaseId, MemberId, Moment, Term};
use kvorum_proto::mvccpb::{Event, KeyValue};
use prost::Message as _;

use super::super::{
    Config, FRAGMENT_OVERHEAD_BYTES, Input, MessageKind, Output, Room, StreamId, WatchHub,
};
use crate::{EventBatch, Interval, Store, WriteTxn};

/// A request of the largest size, in bytes: small, so that messages are split early.
pub(super) const REQUEST_BYTES_MAX: usize = 1024;

pub(super) struct World {
    pub(super) store: Store,
    pub(super) hub: WatchHub,
    pub(super) now: Moment,
}

/// One change in a transaction.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(String, String),
    Delete(String),
}

/// An output as a client sees it.
pub(super) enum Seen {
    Response {
        stream: u64,
        bytes: usize,
        kind: MessageKind,
        response: WatchResponse,
    },
    NoLeader {
        stream: u64,
    },
}

impl World {
    pub(super) fn new() -> Self {
        let config = Config {
            cluster: ClusterId(1),
            member: MemberId(2),
            message_bytes_max: REQUEST_BYTES_MAX + FRAGMENT_OVERHEAD_BYTES,
            progress_interval: std::time::Duration::from_secs(100),
            leaderless_max: std::time::Duration::from_secs(3),
            seed: 7,
        };
        let store = Store::new();
        let hub = WatchHub::new(config, store.view());
        let mut world = Self {
            store,
            hub,
            now: Moment::default(),
        };
        world.step(Input::Leadership {
            term: Term(5),
            has_leader: true,
        });
        world
    }

    pub(super) fn step(&mut self, input: Input) {
        self.hub.step(self.now, input);
    }

    pub(super) fn open(&mut self, stream: u64, messages: usize, bytes: usize) {
        let window = Room { messages, bytes };
        self.step(Input::StreamOpened {
            stream: StreamId(stream),
            window,
            requires_leader: false,
        });
    }

    pub(super) fn create(&mut self, stream: u64, request: WatchCreateRequest) {
        let view = self.store.view();
        self.step(Input::Create {
            stream: StreamId(stream),
            request,
            view,
            denied: None,
        });
    }

    /// Makes changes at one revision, unheard by the hub.
    pub(super) fn change(&mut self, changes: &[Change]) -> Option<EventBatch> {
        let mut txn = self.store.begin();
        changes.iter().for_each(|change| change.apply(&mut txn));
        txn.finish()
    }

    /// Makes changes at one revision and tells the hub.
    pub(super) fn publish(&mut self, changes: &[Change]) {
        if let Some(batch) = self.change(changes) {
            let view = self.store.view();
            self.step(Input::Events {
                batches: vec![batch],
                view,
            });
        }
    }

    pub(super) fn put(&mut self, key: &str, value: &str) {
        self.publish(&[Change::Put(key.to_owned(), value.to_owned())]);
    }

    pub(super) fn give_room(&mut self, stream: u64, messages: usize, bytes: usize) {
        let gone = Room { messages, bytes };
        self.step(Input::Room {
            stream: StreamId(stream),
            gone,
        });
    }

    /// Takes everything the hub has to say.
    pub(super) fn drain(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.hub.take_output())
            .map(Seen::decode)
            .collect()
    }
}

impl Change {
    fn apply(&self, txn: &mut WriteTxn<'_>) {
        match self {
            Self::Put(key, value) => {
                txn.put(key.as_bytes(), value.as_bytes(), LeaseId(0));
            }
            Self::Delete(key) => {
                txn.delete_range(&Interval::single(Bytes::copy_from_slice(key.as_bytes())));
            }
        }
    }
}

impl Seen {
    fn decode(output: Output) -> Self {
        match output {
            Output::NoLeader { stream } => Self::NoLeader { stream: stream.0 },
            Output::Damaged(damage) => panic!("{damage}"),
            Output::Message(message) => {
                let bytes = [&message.head[..], &message.body[..]].concat();
                let response = WatchResponse::decode(&bytes[..]).unwrap();
                assert_eq!(response.events.len(), message.events);
                assert_eq!(
                    response.encode_to_vec(),
                    bytes,
                    "the encoding is the canonical one"
                );
                let header = response.header.unwrap();
                assert_eq!((header.cluster_id, header.member_id), (1, 2));
                let kind = message.kind;
                Self::Response {
                    stream: message.stream.0,
                    bytes: bytes.len(),
                    kind,
                    response,
                }
            }
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stream, response) = match self {
            Self::NoLeader { stream } => return write!(f, "{stream}: no leader"),
            Self::Response {
                stream, response, ..
            } => (stream, response),
        };
        let header = response.header.unwrap();
        write!(f, "{stream}/{} rev={}", response.watch_id, header.revision)?;
        for (name, set) in [
            ("created", response.created),
            ("canceled", response.canceled),
            ("fragment", response.fragment),
        ] {
            if set {
                write!(f, " {name}")?;
            }
        }
        if header.raft_term != 5 {
            write!(f, " term={}", header.raft_term)?;
        }
        if response.compact_revision != 0 {
            write!(f, " compact={}", response.compact_revision)?;
        }
        if !response.cancel_reason.is_empty() {
            write!(f, " reason={:?}", response.cancel_reason)?;
        }
        response
            .events
            .iter()
            .try_for_each(|event| write!(f, " [{}]", show_event(event)))
    }
}

fn show_event(event: &Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    let previous = event
        .prev_kv
        .as_ref()
        .map_or(String::new(), |kv| format!(" was {}", show(kv)));
    if event.r#type == 0 {
        return format!("{}{previous}", show(kv));
    }
    let bare = KeyValue {
        key: kv.key.clone(),
        mod_revision: kv.mod_revision,
        ..KeyValue::default()
    };
    assert_eq!(*kv, bare, "a DELETE has key and revision only");
    format!(
        "delete {}@{}{previous}",
        String::from_utf8_lossy(&kv.key),
        kv.mod_revision
    )
}

fn show(kv: &KeyValue) -> String {
    let key = String::from_utf8_lossy(&kv.key);
    let value = match kv.value.len() {
        0..=8 => String::from_utf8_lossy(&kv.value).into_owned(),
        bytes => format!("<{bytes}>"),
    };
    format!("{key}={value}@{}", kv.mod_revision)
}
