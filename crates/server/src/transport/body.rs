//! An encoded reply message, ready to be written.

use bytes::{BufMut, Bytes, BytesMut};

use super::config::REPLY_BYTES_MAX;
use super::{Code, Status};
use crate::arena;

/// Length of the prefix before each gRPC message: one flag byte, four bytes of big-endian length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Messages up to this size are copied behind their prefix, so that they leave as one piece; larger ones are
/// sent as they are, after a piece that holds only the prefix.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// One reply message with its gRPC prefix.
#[derive(Debug)]
pub struct Body {
    /// The prefix, and the message too unless the others hold it.
    head: Bytes,
    tail: Bytes,
    rest: Option<Rest>,
    /// The head lies in memory that it shares with other answers.
    has_neighbours: bool,
}

/// Bytes that are made piece by piece while the reply is sent.
pub(super) struct Rest {
    /// Length of what was not made yet.
    bytes: usize,
    pieces: Box<dyn Iterator<Item = Bytes> + Send>,
}

impl Rest {
    /// Length of what was not made yet.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Iterator for Rest {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.pieces.next();
        let made = piece.as_ref().map_or(0, Bytes::len);
        let is_right = made <= self.bytes && (piece.is_some() || self.bytes == 0);
        assert!(is_right, "a reply is as long as its prefix says");
        self.bytes -= made;
        piece
    }
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes to be made", self.bytes)
    }
}

impl Body {
    /// A reply written by `write` into a buffer with room for `size_hint` bytes. This is the way without a copy.
    #[must_use]
    pub fn encode(size_hint: usize, write: impl FnOnce(&mut BytesMut)) -> Self {
        let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + size_hint);
        with_prefix(&mut buffer, write);
        Self {
            head: buffer.freeze(),
            tail: Bytes::new(),
            rest: None,
            has_neighbours: false,
        }
    }

    /// Like [`Body::encode`] for the answer to a unary call: a small one shares memory with its neighbours, which are
    /// written at the same time. `write` makes no other answer.
    #[must_use]
    pub fn answer(size_hint: usize, write: impl FnOnce(&mut BytesMut)) -> Self {
        Self {
            head: arena::bytes(PREFIX_BYTES + size_hint, |buffer| {
                with_prefix(buffer, write);
            }),
            tail: Bytes::new(),
            rest: None,
            has_neighbours: true,
        }
    }

    /// A reply whose `bytes` bytes are made while it is sent: as long as the client takes nothing, it costs what the
    /// iterator holds. The pieces must be as long together as announced.
    #[must_use]
    pub fn in_pieces(bytes: usize, pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Self {
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
        prefix.put_u8(0);
        // A reply whose length does not fit is never sent.
        prefix.put_u32(bytes as u32);
        Self {
            head: prefix.freeze(),
            tail: Bytes::new(),
            rest: Some(Rest {
                bytes,
                pieces: Box::new(pieces),
            }),
            has_neighbours: false,
        }
    }

    /// The same of a protobuf message.
    #[must_use]
    pub fn answer_of(message: &impl prost::Message) -> Self {
        Self::answer(message.encoded_len(), |buffer| {
            // A `BytesMut` grows as needed, so it cannot run out of room.
            let _ = message.encode(buffer);
        })
    }

    /// A reply made of a protobuf message.
    #[must_use]
    pub fn from_message(message: &impl prost::Message) -> Self {
        Self::encode(message.encoded_len(), |buffer| {
            // A `BytesMut` grows as needed, so it cannot run out of room.
            let _ = message.encode(buffer);
        })
    }

    /// A reply whose front is written by `write`, with room for `size_hint` bytes, and whose end lies in a buffer already.
    #[must_use]
    pub fn encode_before(size_hint: usize, write: impl FnOnce(&mut BytesMut), tail: Bytes) -> Self {
        let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + size_hint);
        buffer.put_bytes(0, PREFIX_BYTES);
        write(&mut buffer);
        let length = (buffer.len() - PREFIX_BYTES + tail.len()) as u32;
        buffer[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        Self {
            head: buffer.freeze(),
            tail,
            rest: None,
            has_neighbours: false,
        }
    }

    /// A reply made of bytes that are encoded already and may be shared between many calls.
    #[must_use]
    pub fn from_encoded(message: Bytes) -> Self {
        if message.len() <= COPIED_BYTES_MAX {
            return Self::encode(message.len(), |buffer| buffer.put_slice(&message));
        }
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
        prefix.put_u8(0);
        prefix.put_u32(message.len() as u32);
        Self {
            head: prefix.freeze(),
            tail: message,
            rest: None,
            has_neighbours: false,
        }
    }

    /// Refuses a reply that is too large to send.
    pub(super) fn check_size(&self) -> Result<(), Status> {
        let length = self.written_bytes() - PREFIX_BYTES;
        if length <= REPLY_BYTES_MAX {
            return Ok(());
        }
        Err(Self::too_large(length))
    }

    /// What is said instead of a reply of so many bytes.
    #[must_use]
    pub fn too_large(length: usize) -> Status {
        let text =
            format!("trying to send message larger than max ({length} vs. {REPLY_BYTES_MAX})");
        Status::new(Code::ResourceExhausted, text)
    }

    /// Length in bytes as written, prefix included.
    #[must_use]
    pub fn written_bytes(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, Rest::bytes);
        self.head.len() + self.tail.len() + rest
    }

    /// The message without its prefix.
    #[must_use]
    pub fn into_message(mut self) -> Bytes {
        let front = self.head.split_off(PREFIX_BYTES);
        if let Some(rest) = self.rest {
            let pieces = [front, self.tail].into_iter().chain(rest);
            return Bytes::from(pieces.collect::<Vec<_>>().concat());
        }
        if self.tail.is_empty() {
            return front;
        }
        if front.is_empty() {
            return self.tail;
        }
        Bytes::from([front, self.tail].concat())
    }

    /// The same reply once more, of shared bytes; none of one that is made while it is sent.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        self.rest.is_none().then(|| Self {
            head: self.head.clone(),
            tail: self.tail.clone(),
            rest: None,
            has_neighbours: self.has_neighbours,
        })
    }

    /// The same in memory of its own: for what waits longer than its neighbours.
    pub(super) fn into_own(mut self) -> Self {
        if self.has_neighbours && self.head.len() <= arena::SMALL_BYTES_MAX {
            self.has_neighbours = false;
            self.head = Bytes::copy_from_slice(&self.head);
        }
        self
    }

    /// The pieces to write, in order; the second may be empty, and the third is there for large replies alone.
    pub(super) fn into_pieces(self) -> (Bytes, Bytes, Option<Rest>) {
        (self.head, self.tail, self.rest)
    }
}

/// Writes a message behind its prefix into an empty buffer.
fn with_prefix(buffer: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    buffer.put_bytes(0, PREFIX_BYTES);
    write(buffer);
    let length = (buffer.len() - PREFIX_BYTES) as u32;
    buffer[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}
