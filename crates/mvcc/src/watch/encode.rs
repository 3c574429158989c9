//! Bytes on the wire: an event once, a body once for all who get the same events, a head each.
//!
//! A `WatchResponse` is a head (header, watch id, marks) followed by its events, which are the last
//! field. Watchers differ in the head alone, so the events are encoded apart, as a [`Body`], and
//! shared; the record's own bytes are spliced into them.

use bytes::{BufMut, Bytes};
use kvorum_proto::etcdserverpb::WatchResponse;
use kvorum_proto::mvccpb::event::EventType;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::{Event, Record};

/// Field numbers.
mod field {
    /// `WatchResponse.events`
    pub(super) const EVENTS: u32 = 11;
    /// `Event.type`
    pub(super) const TYPE: u32 = 1;
    /// `Event.kv`
    pub(super) const KV: u32 = 2;
    /// `Event.prev_kv`
    pub(super) const PREV_KV: u32 = 3;
}

/// Bytes that the tag of each field above takes: all numbers are below 16.
const TAG_BYTES: usize = 1;

/// Bodies up to this many bytes are copied behind the head, so that the message is one buffer;
/// larger ones are shared, so that a large value is held once however many watch it.
pub(super) const SPLICE_BYTES_MAX: usize = 4096;

/// The `events` field of one event in a `WatchResponse`, tag and length included.
pub(super) fn event_field(event: &Event, previous: Option<&Record>) -> Bytes {
    let kv = event.record.encoded();
    let type_bytes = if event.is_delete() { TAG_BYTES + 1 } else { 0 };
    let event_bytes =
        type_bytes + bytes_field_len(kv) + previous.map_or(0, |p| bytes_field_len(p.encoded()));
    let mut out =
        Vec::with_capacity(TAG_BYTES + encoded_len_varint(event_bytes as u64) + event_bytes);
    encode_key(field::EVENTS, WireType::LengthDelimited, &mut out);
    encode_varint(event_bytes as u64, &mut out);
    if event.is_delete() {
        encode_key(field::TYPE, WireType::Varint, &mut out);
        encode_varint(EventType::Delete as u64, &mut out);
    }
    put_bytes_field(field::KV, kv, &mut out);
    if let Some(previous) = previous {
        put_bytes_field(field::PREV_KV, previous.encoded(), &mut out);
    }
    Bytes::from(out)
}

fn bytes_field_len(bytes: &[u8]) -> usize {
    TAG_BYTES + encoded_len_varint(bytes.len() as u64) + bytes.len()
}

fn put_bytes_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// The encoded events of one message, shared by all watchers that get the same.
#[derive(Clone, Debug)]
pub(super) struct Body {
    bytes: Bytes,
    /// Where each event ends in `bytes`; never empty.
    ends: Vec<usize>,
    /// The last message made of all events: watchers on many streams mostly have the same number, and so the same head.
    message: Option<(WatchResponse, Encoded)>,
}

/// A message in two parts of which the second may be empty.
pub(super) type Encoded = (Bytes, Bytes);

impl Body {
    /// Joins encoded events; nothing when there are none.
    pub(super) fn join(events: &[Bytes]) -> Option<Self> {
        let mut end = 0;
        let ends = (events.iter())
            .map(|event| {
                end += event.len();
                end
            })
            .collect();
        let bytes = match events {
            [] => return None,
            [only] => only.clone(),
            _ => Bytes::from(events.concat()),
        };
        Some(Self {
            bytes,
            ends,
            message: None,
        })
    }

    /// How many events there are.
    pub(super) fn events(&self) -> usize {
        self.ends.len()
    }

    /// All events behind a head.
    pub(super) fn message(&mut self, head: &WatchResponse) -> Encoded {
        if let Some((known, message)) = &self.message
            && known == head
        {
            return message.clone();
        }
        let message = head_and_body(head, self.bytes.clone());
        self.message = Some((head.clone(), message.clone()));
        message
    }

    /// All events.
    fn whole(&self) -> Piece {
        Piece {
            bytes: self.bytes.clone(),
            events: self.events(),
            fragment: false,
        }
    }

    /// Cuts the events into pieces of less than `limit` bytes together with a head of `head`
    /// bytes. A piece holds at least one event, so a single large one may pass the limit. All but
    /// the last are marked as fragments, and the mark counts as part of the head.
    ///
    /// Source: etcd v3.7.1, `server/etcdserver/api/v3rpc/watch.go` (`sendFragments`).
    pub(super) fn fragments(&self, head: usize, limit: usize) -> Vec<Piece> {
        if head + self.bytes.len() < limit || self.events() < 2 {
            return vec![self.whole()];
        }
        let room = limit.saturating_sub(head + FRAGMENT_MARK_BYTES);
        let mut pieces = Vec::new();
        let (mut first, mut start) = (0, 0);
        for next in 1..=self.events() {
            let fits = self.ends.get(next).is_some_and(|end| end - start < room);
            if !fits {
                let end = self.ends[next - 1];
                let fragment = next < self.events();
                pieces.push(Piece {
                    bytes: self.bytes.slice(start..end),
                    events: next - first,
                    fragment,
                });
                (first, start) = (next, end);
            }
        }
        pieces
    }
}

/// What `fragment` = true takes in a head: its tag and one byte.
const FRAGMENT_MARK_BYTES: usize = TAG_BYTES + 1;

/// The events of one message.
#[derive(Debug)]
pub(super) struct Piece {
    /// The encoded events.
    pub(super) bytes: Bytes,
    /// How many.
    pub(super) events: usize,
    /// Whether more pieces follow.
    pub(super) fragment: bool,
}

/// Encodes a head, and the events behind it when they are few bytes; else returns them apart.
pub(super) fn head_and_body(head: &WatchResponse, events: Bytes) -> Encoded {
    let splice = events.len() <= SPLICE_BYTES_MAX;
    let spliced_bytes = if splice { events.len() } else { 0 };
    let mut out = Vec::with_capacity(head.encoded_len() + spliced_bytes);
    head.encode(&mut out).expect("a vector grows as needed");
    if splice {
        out.put_slice(&events);
        return (Bytes::from(out), Bytes::new());
    }
    (Bytes::from(out), events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(lengths: &[usize]) -> Body {
        let events: Vec<_> = lengths
            .iter()
            .map(|length| Bytes::from(vec![0; *length]))
            .collect();
        Body::join(&events).unwrap()
    }

    fn check(lengths: &[usize], head: usize, limit: usize, wanted: &[usize]) {
        let pieces = body(lengths).fragments(head, limit);
        let events: Vec<_> = pieces.iter().map(|piece| piece.events).collect();
        assert_eq!(events, wanted, "{lengths:?} head {head} limit {limit}");
        let (last, before) = pieces.split_last().unwrap();
        assert!(!last.fragment && before.iter().all(|piece| piece.fragment));
        let bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
        assert_eq!(bytes, lengths.iter().sum::<usize>());
        for piece in before {
            let size = head + FRAGMENT_MARK_BYTES + piece.bytes.len();
            assert!(
                size < limit || piece.events == 1,
                "{lengths:?} head {head} limit {limit}"
            );
        }
    }

    #[test]
    fn a_body_is_cut_by_event_once_it_reaches_the_limit() {
        check(&[10, 10, 10], 5, 36, &[3]);
        check(&[10, 10, 10], 5, 35, &[2, 1]);
        check(&[10, 10, 10], 5, 28, &[2, 1]);
        check(&[10, 10, 10], 5, 27, &[1, 1, 1]);
        check(&[10, 10, 10], 5, 1, &[1, 1, 1]);
        check(&[100], 5, 1, &[1]);
        check(&[100, 1, 1], 5, 20, &[1, 2]);
        check(&[1, 100, 1, 1], 5, 20, &[1, 1, 2]);
    }
}
