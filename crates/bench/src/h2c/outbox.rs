//! What goes to the server.

use super::frame::{self, Header};
use super::hpack;

/// How much the server may send before we say more: as much as the protocol allows.
const RECEIVE_WINDOW_BYTES: i64 = frame::WINDOW_BYTES_MAX;

/// Bytes received after which the window is opened again.
const WINDOW_UPDATE_BYTES: i64 = RECEIVE_WINDOW_BYTES / 2;

/// Bytes before a gRPC message: a flag and the length.
const PREFIX_BYTES: usize = 5;

/// Calls and messages that wait to be written, with what the server allows to be sent.
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    first_block: Option<Vec<u8>>,
    later_block: Vec<u8>,
    next_stream: u32,
    open_streams: usize,
    streams_max: usize,
    connection_window: i64,
    /// What a new stream may send at once.
    initial_window: i64,
    /// The one stream that stays open, and what it may still send.
    long: Option<(u32, i64)>,
    received_bytes: i64,
    long_received_bytes: i64,
}

impl Outbox {
    pub(super) fn new(path: &str, authority: &str) -> Self {
        let (first_block, later_block) = hpack::call_blocks(path, authority);
        let mut outbox = Self {
            bytes: frame::PREFACE.to_vec(),
            sent: 0,
            first_block: Some(first_block),
            later_block,
            next_stream: 1,
            open_streams: 0,
            streams_max: usize::MAX,
            connection_window: frame::WINDOW_BYTES,
            initial_window: frame::WINDOW_BYTES,
            long: None,
            received_bytes: 0,
            long_received_bytes: 0,
        };
        outbox.settings(&[
            (frame::SETTING_ENABLE_PUSH, 0),
            (
                frame::SETTING_INITIAL_WINDOW_SIZE,
                RECEIVE_WINDOW_BYTES as u32,
            ),
        ]);
        outbox.window_update(0, RECEIVE_WINDOW_BYTES - frame::WINDOW_BYTES);
        outbox
    }

    /// Makes a unary call. Returns its stream.
    pub(crate) fn call(&mut self, message: &[u8]) -> u32 {
        let stream = self.headers();
        self.data(stream, message, frame::END_STREAM);
        stream
    }

    /// Begins the streaming call of this connection; there is one at most. Returns its stream.
    pub(crate) fn begin_long_call(&mut self) -> u32 {
        let stream = self.headers();
        self.long = Some((stream, self.initial_window));
        stream
    }

    /// Sends a message on the streaming call.
    pub(crate) fn send_long(&mut self, message: &[u8]) {
        if let Some((stream, window)) = &mut self.long {
            let stream = *stream;
            *window -= (message.len() + PREFIX_BYTES) as i64;
            self.data(stream, message, 0);
        }
    }

    /// Whether the server takes another message of this size now: as a call of its own, or on the streaming call.
    pub(crate) fn has_room(&self, message_bytes: usize) -> bool {
        let bytes = (message_bytes + PREFIX_BYTES) as i64;
        let stream_window = match self.long {
            Some((_, window)) => window,
            None => self.initial_window,
        };
        bytes <= self.connection_window
            && bytes <= stream_window
            && (self.long.is_some() || self.open_streams < self.streams_max)
    }

    /// The largest message that [`Outbox::has_room`] can ever be true for, in bytes.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.initial_window.min(frame::WINDOW_BYTES) as usize - PREFIX_BYTES
    }

    /// What is not written yet.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So much of it is written.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }

    fn headers(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.open_streams += 1;
        let first = self.first_block.take();
        let block = first.as_deref().unwrap_or(&self.later_block);
        let header = Header {
            payload_bytes: block.len(),
            kind: frame::HEADERS,
            flags: frame::END_HEADERS,
            stream,
        };
        header.write(&mut self.bytes);
        self.bytes.extend_from_slice(block);
        stream
    }

    /// A gRPC message in as many frames as its length needs.
    fn data(&mut self, stream: u32, message: &[u8], last_flags: u8) {
        let whole = message.len() + PREFIX_BYTES;
        self.connection_window -= whole as i64;
        let first = message.len().min(frame::PAYLOAD_BYTES_MAX - PREFIX_BYTES);
        let (head, mut rest) = message.split_at(first);
        let flags = |rest: &[u8]| if rest.is_empty() { last_flags } else { 0 };
        let header = |payload_bytes, flags| Header {
            payload_bytes,
            kind: frame::DATA,
            flags,
            stream,
        };
        header(first + PREFIX_BYTES, flags(rest)).write(&mut self.bytes);
        self.bytes.push(0);
        self.bytes
            .extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.bytes.extend_from_slice(head);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.len().min(frame::PAYLOAD_BYTES_MAX));
            rest = after;
            header(part.len(), flags(rest)).write(&mut self.bytes);
            self.bytes.extend_from_slice(part);
        }
    }

    fn settings(&mut self, settings: &[(u16, u32)]) {
        let header = Header {
            payload_bytes: settings.len() * 6,
            kind: frame::SETTINGS,
            flags: 0,
            stream: 0,
        };
        header.write(&mut self.bytes);
        for (name, value) in settings {
            self.bytes.extend_from_slice(&name.to_be_bytes());
            self.bytes.extend_from_slice(&value.to_be_bytes());
        }
    }

    fn window_update(&mut self, stream: u32, bytes: i64) {
        let header = Header {
            payload_bytes: 4,
            kind: frame::WINDOW_UPDATE,
            flags: 0,
            stream,
        };
        header.write(&mut self.bytes);
        self.bytes.extend_from_slice(&(bytes as u32).to_be_bytes());
    }

    /// Answers a frame that wants an acknowledgement with the same payload, or with none for settings.
    pub(super) fn acknowledge(&mut self, kind: u8, payload: &[u8]) {
        let header = Header {
            payload_bytes: payload.len(),
            kind,
            flags: frame::ACK,
            stream: 0,
        };
        header.write(&mut self.bytes);
        self.bytes.extend_from_slice(payload);
    }

    /// A call is over.
    pub(super) fn ended(&mut self, stream: u32) {
        self.open_streams = self.open_streams.saturating_sub(1);
        if self.long.is_some_and(|(long, _)| long == stream) {
            self.long = None;
        }
    }

    /// The server lets us send more.
    pub(super) fn window_opened(&mut self, stream: u32, bytes: u32) {
        if stream == 0 {
            self.connection_window += i64::from(bytes);
        } else if let Some((long, window)) = &mut self.long
            && *long == stream
        {
            *window += i64::from(bytes);
        }
    }

    /// The server's limits. All streams that are open get the difference of the windows.
    pub(super) fn set_initial_window(&mut self, bytes: u32) {
        let difference = i64::from(bytes) - self.initial_window;
        self.initial_window = i64::from(bytes);
        if let Some((_, window)) = &mut self.long {
            *window += difference;
        }
    }

    pub(super) fn set_streams_max(&mut self, streams: u32) {
        self.streams_max = streams as usize;
    }

    /// So many bytes of data came: lets the server send more in time.
    pub(super) fn received(&mut self, stream: u32, bytes: usize) {
        self.received_bytes += bytes as i64;
        if self.received_bytes >= WINDOW_UPDATE_BYTES {
            let bytes = std::mem::take(&mut self.received_bytes);
            self.window_update(0, bytes);
        }
        if self.long.is_some_and(|(long, _)| long == stream) {
            self.long_received_bytes += bytes as i64;
            if self.long_received_bytes >= WINDOW_UPDATE_BYTES {
                let bytes = std::mem::take(&mut self.long_received_bytes);
                self.window_update(stream, bytes);
            }
        }
    }
}
