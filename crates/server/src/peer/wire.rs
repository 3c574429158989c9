//! The two framings of raft messages on a stream.
//!
//! *Messages*: 8 bytes of length, big-endian, then a `raftpb.Message`. A message of type MsgHeartbeat with sender and
//! receiver 0 is no message: it says that the link lives.
//!
//! *Appends* (msgapp v2): one byte says what follows.
//!
//! | byte | what follows |
//! |---|---|
//! | 0 | nothing: the link lives |
//! | 1 | the number of entries, each entry with its length, the commit index; all numbers 8 bytes, big-endian |
//! | 2 | a length of 8 bytes and a whole `raftpb.Message` |
//!
//! Form 1 leaves out what the reader knows: the append goes on where the one before ended, in the same term. Writer
//! and reader keep that place each for itself, so a stream begins with form 2.
//!
//! Source: etcd v3.7.1 `server/etcdserver/api/rafthttp/message_codec.go`, `msgappv2_codec.go`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvorum_proto::raftpb;
use prost::Message as _;

/// Longest message or entry that is taken, in bytes.
/// Source: etcd v3.7.1 `rafthttp/message_codec.go`, `readBytesLimit`.
pub(super) const MESSAGE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Most entries that one append may announce. An entry takes at least its length, so more than this could not be
/// meant.
const ENTRIES_MAX: u64 = 1024 * 1024;

const LENGTH_BYTES: usize = 8;

const LINK_HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const WHOLE: u8 = 2;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamKind {
    /// Appends of the leader, in their short form.
    Appends,
    /// Everything.
    Messages,
}

impl StreamKind {
    pub(super) const ALL: [Self; 2] = [Self::Appends, Self::Messages];

    /// Where the stream is asked for, without the member's id.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Appends => "/raft/stream/msgapp",
            Self::Messages => "/raft/stream/message",
        }
    }

    /// As etcd's log names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Appends => "stream MsgApp v2",
            Self::Messages => "stream Message",
        }
    }

    /// Whether messages of this type may travel on it.
    pub(super) fn carries(self, message: &raftpb::Message) -> bool {
        match self {
            Self::Appends => is(message, raftpb::MessageType::MsgApp),
            Self::Messages => true,
        }
    }
}

pub(super) fn is(message: &raftpb::Message, kind: raftpb::MessageType) -> bool {
    message.r#type.unwrap_or_default() == kind as i32
}

/// Where the last append ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    index: u64,
    term: u64,
}

impl Place {
    fn follow(&mut self, message: &raftpb::Message) {
        self.term = message.term();
        self.index = message
            .entries
            .last()
            .map_or(message.index(), raftpb::Entry::index);
    }
}

/// Writes one stream.
#[derive(Debug)]
pub(super) struct Encoder {
    kind: StreamKind,
    place: Place,
}

impl Encoder {
    pub(super) fn new(kind: StreamKind) -> Self {
        Self {
            kind,
            place: Place::default(),
        }
    }

    /// Appends a message that the stream carries.
    pub(super) fn message(&mut self, message: &raftpb::Message, out: &mut BytesMut) {
        if self.kind == StreamKind::Messages {
            return whole(message, out);
        }
        let continues = self.place.index == message.index()
            && self.place.term == message.log_term()
            && message.log_term() == message.term();
        if !continues {
            out.put_u8(WHOLE);
            whole(message, out);
            return self.place.follow(message);
        }
        out.put_u8(ENTRIES);
        out.put_u64(message.entries.len() as u64);
        for entry in &message.entries {
            out.put_u64(entry.encoded_len() as u64);
            entry.encode_raw(out);
        }
        out.put_u64(message.commit());
        self.place.index += message.entries.len() as u64;
    }

    /// Appends the sign that the link lives.
    pub(super) fn heartbeat(&self, out: &mut BytesMut) {
        match self.kind {
            StreamKind::Appends => out.put_u8(LINK_HEARTBEAT),
            StreamKind::Messages => whole(
                &raftpb::Message {
                    r#type: Some(raftpb::MessageType::MsgHeartbeat as i32),
                    ..raftpb::Message::default()
                },
                out,
            ),
        }
    }
}

fn whole(message: &raftpb::Message, out: &mut BytesMut) {
    let length = message.encoded_len();
    out.reserve(LENGTH_BYTES + length);
    out.put_u64(length as u64);
    message.encode_raw(out);
}

/// Why a stream cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// A length is beyond what is taken.
    #[error("frame of {0} bytes is longer than {MESSAGE_BYTES_MAX}")]
    TooLong(u64),
    /// An append announces more entries than there can be.
    #[error("append of {0} entries is longer than {ENTRIES_MAX}")]
    TooMany(u64),
    /// The first byte of a frame has no meaning.
    #[error("unknown kind {0} of frame")]
    Kind(u8),
    /// The bytes are no message.
    #[error("frame does not decode: {0}")]
    Malformed(String),
}

impl From<prost::DecodeError> for WireError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// What a frame holds.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// The link lives.
    Heartbeat,
    /// A message.
    Message(Box<raftpb::Message>),
}

/// Reads one stream: bytes go into [`Decoder::buffer`], frames come out.
#[derive(Debug)]
pub(super) struct Decoder {
    kind: StreamKind,
    place: Place,
    /// The two ends of the stream, for the short form of an append.
    from: u64,
    to: u64,
    buffer: BytesMut,
}

impl Decoder {
    pub(super) fn new(kind: StreamKind, from: u64, to: u64) -> Self {
        Self {
            kind,
            place: Place::default(),
            from,
            to,
            buffer: BytesMut::new(),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` while it is not all there.
    ///
    /// # Errors
    /// See [`WireError`]; the stream cannot be read on.
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, WireError> {
        match self.kind {
            StreamKind::Messages => self.message(0),
            StreamKind::Appends => match self.buffer.first() {
                None => Ok(None),
                Some(&LINK_HEARTBEAT) => {
                    self.buffer.advance(1);
                    Ok(Some(Frame::Heartbeat))
                }
                Some(&WHOLE) => {
                    let frame = self.message(1)?;
                    if let Some(Frame::Message(message)) = &frame {
                        self.place.follow(message);
                    }
                    Ok(frame)
                }
                Some(&ENTRIES) => self.append(),
                Some(&kind) => Err(WireError::Kind(kind)),
            },
        }
    }

    /// A length and a message, behind `skip` bytes.
    fn message(&mut self, skip: usize) -> Result<Option<Frame>, WireError> {
        let Some(end) = block_end(&self.buffer, skip)? else {
            return Ok(None);
        };
        let mut block = self.buffer.split_to(end).freeze();
        block.advance(skip + LENGTH_BYTES);
        let message = raftpb::Message::decode(block)?;
        let is_heartbeat = is(&message, raftpb::MessageType::MsgHeartbeat)
            && message.from() == 0
            && message.to() == 0;
        let frame = if is_heartbeat {
            Frame::Heartbeat
        } else {
            Frame::Message(Box::new(message))
        };
        Ok(Some(frame))
    }

    fn append(&mut self) -> Result<Option<Frame>, WireError> {
        let Some(count) = number(&self.buffer, 1) else {
            return Ok(None);
        };
        if count > ENTRIES_MAX {
            return Err(WireError::TooMany(count));
        }
        let mut ends = Vec::new();
        let mut end = 1 + LENGTH_BYTES;
        for _ in 0..count {
            let Some(next) = block_end(&self.buffer, end)? else {
                return Ok(None);
            };
            ends.push((end + LENGTH_BYTES, next));
            end = next;
        }
        let Some(commit) = number(&self.buffer, end) else {
            return Ok(None);
        };
        let frame: Bytes = self.buffer.split_to(end + LENGTH_BYTES).freeze();
        let entries = ends
            .into_iter()
            .map(|(start, end)| raftpb::Entry::decode(frame.slice(start..end)))
            .collect::<Result<Vec<_>, _>>()?;
        let message = raftpb::Message {
            r#type: Some(raftpb::MessageType::MsgApp as i32),
            from: Some(self.from),
            to: Some(self.to),
            term: Some(self.place.term),
            log_term: Some(self.place.term),
            index: Some(self.place.index),
            commit: Some(commit),
            entries,
            ..raftpb::Message::default()
        };
        self.place.index = self.place.index.saturating_add(count);
        Ok(Some(Frame::Message(Box::new(message))))
    }
}

/// Where a block with its length in front ends; `None` while it is not all there.
fn block_end(buffer: &[u8], start: usize) -> Result<Option<usize>, WireError> {
    let Some(length) = number(buffer, start) else {
        return Ok(None);
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLong(length));
    }
    let end = start + LENGTH_BYTES + length as usize;
    Ok((end <= buffer.len()).then_some(end))
}

fn number(buffer: &[u8], start: usize) -> Option<u64> {
    let bytes = buffer.get(start..start + LENGTH_BYTES)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kvorum_proto::raftpb;

    use super::{Decoder, Encoder, Frame, StreamKind, WireError};

    fn entry(index: u64, term: u64, data: &'static [u8]) -> raftpb::Entry {
        raftpb::Entry {
            r#type: Some(0),
            term: Some(term),
            index: Some(index),
            data: Some(data.into()),
        }
    }

    fn append(index: u64, log_term: u64, entries: Vec<raftpb::Entry>) -> raftpb::Message {
        raftpb::Message {
            r#type: Some(raftpb::MessageType::MsgApp as i32),
            from: Some(1),
            to: Some(2),
            term: Some(5),
            log_term: Some(log_term),
            index: Some(index),
            commit: Some(index),
            entries,
            ..raftpb::Message::default()
        }
    }

    /// Sends messages through a stream in pieces of one byte and returns what arrives.
    fn through(kind: StreamKind, messages: &[raftpb::Message]) -> (Vec<raftpb::Message>, usize) {
        let (mut encoder, mut decoder) = (Encoder::new(kind), Decoder::new(kind, 1, 2));
        let mut bytes = BytesMut::new();
        for message in messages {
            encoder.heartbeat(&mut bytes);
            encoder.message(message, &mut bytes);
        }
        let mut arrived = Vec::new();
        for byte in &bytes {
            decoder.push(&[*byte]);
            while let Some(frame) = decoder.frame().expect("a sound stream") {
                if let Frame::Message(message) = frame {
                    arrived.push(*message);
                }
            }
        }
        (arrived, bytes.len())
    }

    #[test]
    fn messages_arrive_as_they_left() {
        let vote = raftpb::Message {
            r#type: Some(raftpb::MessageType::MsgVote as i32),
            from: Some(1),
            to: Some(2),
            ..raftpb::Message::default()
        };
        let messages = [vote, append(3, 4, vec![entry(4, 5, b"a")])];
        assert_eq!(through(StreamKind::Messages, &messages).0, messages);
    }

    #[test]
    fn appends_that_go_on_are_shortened() {
        let messages = [
            append(3, 4, vec![entry(4, 5, b"a"), entry(5, 5, b"b")]),
            append(5, 5, vec![entry(6, 5, b"c")]),
            append(6, 5, vec![]),
            append(6, 5, vec![entry(7, 5, b"d")]),
            append(3, 4, vec![]),
        ];
        for count in 1..=messages.len() {
            let (arrived, _) = through(StreamKind::Appends, &messages[..count]);
            let expected: Vec<_> = messages[..count]
                .iter()
                .map(|message| raftpb::Message {
                    reject: None,
                    ..message.clone()
                })
                .collect();
            assert_eq!(arrived, expected);
        }
        let (_, first) = through(StreamKind::Appends, &messages[..1]);
        let (_, both) = through(StreamKind::Appends, &messages[..2]);
        assert!(both - first < first, "the second is shorter");
    }

    #[test]
    fn what_cannot_be_meant_ends_the_stream() {
        let cases: [(StreamKind, &[u8], WireError); 4] = [
            (
                StreamKind::Messages,
                &[0xff; 8],
                WireError::TooLong(u64::MAX),
            ),
            (StreamKind::Appends, &[7], WireError::Kind(7)),
            (
                StreamKind::Appends,
                &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                WireError::TooMany(u64::MAX),
            ),
            (
                StreamKind::Appends,
                &[2, 0xff, 0, 0, 0, 0, 0, 0, 0],
                WireError::TooLong(0xff << 56),
            ),
        ];
        for (kind, bytes, error) in cases {
            let mut decoder = Decoder::new(kind, 1, 2);
            decoder.push(bytes);
            assert_eq!(decoder.frame().unwrap_err(), error);
        }
        let mut decoder = Decoder::new(StreamKind::Messages, 1, 2);
        decoder.push(&[0, 0, 0, 0, 0, 0, 0, 2, 0xff, 0xff]);
        assert!(matches!(decoder.frame(), Err(WireError::Malformed(_))));
    }
}
