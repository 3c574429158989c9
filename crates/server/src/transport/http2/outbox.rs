//! What is to be written to the socket.
//!
//! What a turn of a connection has written is mostly taken by the socket at the end of that turn. So the memory is the
//! thread's, which has one turn at a time, and an outbox keeps it only as long as something in it waits for the socket.

use std::cell::Cell;

use crate::transport::frames::{self, ErrorCode, FrameHeader, HEADER_BYTES, PAYLOAD_BYTES_MAX};

/// Bytes that gather before answers wait and the client is not read any more.
pub(in crate::transport) const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Room that a thread keeps between turns; what has grown beyond it is freed.
const OUTBOX_BYTES_KEPT: usize = 4 * OUTBOX_BYTES_MAX;

thread_local! {
    /// Empty, with the room of the outbox that was written last.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Whole frames in the order in which they leave.
#[derive(Debug, Default)]
pub(in crate::transport) struct Outbox {
    bytes: Vec<u8>,
    /// Bytes at the start that are written already.
    sent: usize,
    /// The frame at the end, if it is data that may be added to: its stream and its place.
    open_data: Option<(u32, usize)>,
    /// Headers or data were written since this was asked.
    answered: bool,
}

impl Outbox {
    /// What the socket has not taken yet.
    pub(in crate::transport) fn unwritten(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Whether there is room for more.
    pub(in crate::transport) fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < OUTBOX_BYTES_MAX
    }

    /// The socket took some of what was unwritten.
    pub(in crate::transport) fn written(&mut self, bytes: usize) {
        self.sent += bytes;
        self.open_data = None;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            self.give_room_back();
        }
    }

    fn take_room(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = ROOM.take();
        }
    }

    fn give_room_back(&mut self) {
        let mut room = std::mem::take(&mut self.bytes);
        room.clear();
        if room.capacity() <= OUTBOX_BYTES_KEPT {
            ROOM.set(room);
        }
    }

    /// Whether headers or data were written since the last time.
    pub(in crate::transport) fn take_answered(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }

    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.open_data = None;
        self.take_room();
        write(&mut self.bytes);
    }

    /// Writes a header block that fits one frame.
    pub(super) fn headers(&mut self, stream: u32, ends: bool, block: &[u8]) {
        self.answered = true;
        let end = if ends { frames::END_STREAM } else { 0 };
        let mut pieces = block.chunks(PAYLOAD_BYTES_MAX).peekable();
        let (mut kind, mut flags) = (frames::HEADERS, end);
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                flags |= frames::END_HEADERS;
            }
            self.write(|out| frames::write(out, kind, flags, stream, piece));
            (kind, flags) = (frames::CONTINUATION, 0);
        }
    }

    /// Writes data of a stream, as few frames as it takes.
    pub(super) fn data(&mut self, stream: u32, mut data: &[u8]) {
        self.answered = true;
        self.take_room();
        // Many large pieces come together: at once the room for all of them, instead of twice as much again and again.
        if data.len() >= PAYLOAD_BYTES_MAX && self.bytes.capacity() < OUTBOX_BYTES_MAX {
            self.bytes.reserve(OUTBOX_BYTES_MAX);
        }
        while !data.is_empty() {
            let begun = match self.open_data {
                Some((open, place)) if open == stream => place,
                _ => self.begin_data(stream),
            };
            let held = self.bytes.len() - begun - HEADER_BYTES;
            let (piece, rest) = data.split_at(data.len().min(PAYLOAD_BYTES_MAX - held));
            self.bytes.extend_from_slice(piece);
            let [_, length @ ..] = ((held + piece.len()) as u32).to_be_bytes();
            self.bytes[begun..begun + length.len()].copy_from_slice(&length);
            data = rest;
            let full = held + piece.len() == PAYLOAD_BYTES_MAX;
            self.open_data = (!full).then_some((stream, begun));
        }
    }

    fn begin_data(&mut self, stream: u32) -> usize {
        let begun = self.bytes.len();
        let header = FrameHeader {
            length: 0,
            kind: frames::DATA,
            flags: 0,
            stream,
        };
        self.bytes.extend_from_slice(&header.to_bytes());
        begun
    }

    pub(super) fn window_update(&mut self, stream: u32, bytes: u32) {
        let payload = bytes.to_be_bytes();
        self.write(|out| frames::write(out, frames::WINDOW_UPDATE, 0, stream, &payload));
    }

    pub(super) fn reset(&mut self, stream: u32, code: ErrorCode) {
        let payload = (code as u32).to_be_bytes();
        self.write(|out| frames::write(out, frames::RST_STREAM, 0, stream, &payload));
    }

    pub(super) fn ping(&mut self, answers: bool, payload: [u8; 8]) {
        let flags = if answers { frames::ACK } else { 0 };
        self.write(|out| frames::write(out, frames::PING, flags, 0, &payload));
    }
}
