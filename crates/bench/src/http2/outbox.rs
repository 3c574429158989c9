//! What goes to the server.

use std::collections::VecDeque;

use super::frame::{self, Header};
use super::hpack::CallBlocks;
use crate::endpoint::Endpoint;

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
    blocks: CallBlocks,
    next_stream: u32,
    open_streams: usize,
    streams_max: usize,
    connection_window: i64,
    /// What a new stream may send at once.
    initial_window: i64,
    /// The one stream that stays open, and what it may still send.
    long: Option<(u32, i64)>,
    /// Calls whose messages the server's windows do not take at once.
    pending: VecDeque<Pending>,
    received_bytes: i64,
    long_received_bytes: i64,
}

/// A message of which a part is sent.
struct Pending {
    stream: u32,
    /// What the stream may still send.
    window: i64,
    /// With its prefix.
    message: Vec<u8>,
    sent: usize,
}

/// Calls per connection that wait for a window. A server gives each stream a window of its own, so one that is stuck
/// does not stop the others.
const PENDING_MAX: usize = 64;

impl Outbox {
    pub(super) fn new(paths: &[&str], endpoint: &Endpoint) -> Self {
        let mut outbox = Self {
            bytes: frame::PREFACE.to_vec(),
            sent: 0,
            blocks: CallBlocks::new(paths, endpoint),
            next_stream: 1,
            open_streams: 0,
            streams_max: usize::MAX,
            connection_window: frame::WINDOW_BYTES,
            initial_window: frame::WINDOW_BYTES,
            long: None,
            pending: VecDeque::new(),
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

    /// Makes a unary call to the method at place `path`. Returns its stream. A message larger than the server's
    /// windows goes out in pieces, as they open.
    pub(crate) fn call(&mut self, path: usize, message: &[u8]) -> u32 {
        let stream = self.headers(path);
        if self.pending.is_empty() && self.fits(message.len(), self.initial_window) {
            self.data(stream, message, frame::END_STREAM);
            return stream;
        }
        let mut prefixed = Vec::with_capacity(message.len() + PREFIX_BYTES);
        prefix(message.len(), &mut prefixed);
        prefixed.extend_from_slice(message);
        self.pending.push_back(Pending {
            stream,
            window: self.initial_window,
            message: prefixed,
            sent: 0,
        });
        self.send_pending();
        stream
    }

    /// Begins the streaming call of this connection; there is one at most. Returns its stream.
    pub(crate) fn begin_long_call(&mut self) -> u32 {
        let stream = self.headers(0);
        self.long = Some((stream, self.initial_window));
        stream
    }

    /// Makes a unary call whose answer is a stream of messages that may be larger than the connection's windows.
    pub(crate) fn begin_long_answer(&mut self, message: &[u8]) {
        let stream = self.begin_long_call();
        self.data(stream, message, frame::END_STREAM);
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
        match self.long {
            Some((_, window)) => self.fits(message_bytes, window),
            None => self.open_streams < self.streams_max && self.pending.len() < PENDING_MAX,
        }
    }

    fn fits(&self, message_bytes: usize, window: i64) -> bool {
        (message_bytes + PREFIX_BYTES) as i64 <= self.connection_window.min(window)
    }

    /// Sends what the windows allow of the messages that wait, the oldest first.
    fn send_pending(&mut self) {
        let mut pending = std::mem::take(&mut self.pending);
        for message in &mut pending {
            while !message.is_sent() {
                let allowed = message.window.min(self.connection_window);
                let allowed = usize::try_from(allowed).unwrap_or(0);
                let rest = &message.message[message.sent..];
                let part = &rest[..rest.len().min(allowed).min(frame::PAYLOAD_BYTES_MAX)];
                if part.is_empty() {
                    break;
                }
                let is_last = part.len() == rest.len();
                let header = Header {
                    payload_bytes: part.len(),
                    kind: frame::DATA,
                    flags: if is_last { frame::END_STREAM } else { 0 },
                    stream: message.stream,
                };
                header.write(&mut self.bytes);
                self.bytes.extend_from_slice(part);
                let bytes = part.len();
                message.sent += bytes;
                message.window -= bytes as i64;
                self.connection_window -= bytes as i64;
            }
        }
        pending.retain(|message| !message.is_sent());
        self.pending = pending;
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

    fn headers(&mut self, path: usize) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        self.open_streams += 1;
        let start = self.bytes.len();
        let mut header = Header {
            payload_bytes: 0,
            kind: frame::HEADERS,
            flags: frame::END_HEADERS,
            stream,
        };
        header.write(&mut self.bytes);
        self.blocks.write(path, &mut self.bytes);
        // The length is known when the block is written.
        header.payload_bytes = self.bytes.len() - start - frame::HEADER_BYTES;
        let mut written = Vec::with_capacity(frame::HEADER_BYTES);
        header.write(&mut written);
        self.bytes[start..start + frame::HEADER_BYTES].copy_from_slice(&written);
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
        prefix(message.len(), &mut self.bytes);
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
        if !self.pending.is_empty() {
            self.pending.retain(|message| message.stream != stream);
        }
    }

    /// The server lets us send more.
    pub(super) fn window_opened(&mut self, stream: u32, bytes: u32) {
        let bytes = i64::from(bytes);
        if stream == 0 {
            self.connection_window += bytes;
        } else if let Some((long, window)) = &mut self.long
            && *long == stream
        {
            *window += bytes;
        } else if let Some(message) = self.pending.iter_mut().find(|one| one.stream == stream) {
            message.window += bytes;
        }
        self.send_pending();
    }

    /// The server's limits. All streams that are open get the difference of the windows.
    pub(super) fn set_initial_window(&mut self, bytes: u32) {
        let difference = i64::from(bytes) - self.initial_window;
        self.initial_window = i64::from(bytes);
        if let Some((_, window)) = &mut self.long {
            *window += difference;
        }
        for message in &mut self.pending {
            message.window += difference;
        }
        self.send_pending();
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

impl Pending {
    fn is_sent(&self) -> bool {
        self.sent == self.message.len()
    }
}

/// What stands before a gRPC message.
fn prefix(message_bytes: usize, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&(message_bytes as u32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::Outbox;
    use crate::http2::frame::{self, Header};

    /// The data of each stream in what waits to be written, and the streams that ended; then it is gone.
    fn sent(outbox: &mut Outbox) -> (Vec<(u32, usize)>, Vec<u32>) {
        let (mut data, mut ended) = (Vec::new(), Vec::new());
        let bytes = outbox.unsent().to_vec();
        let mut rest = &bytes[..];
        while let Some(header) = Header::read(rest) {
            rest = &rest[frame::HEADER_BYTES + header.payload_bytes..];
            if header.kind == frame::DATA {
                data.push((header.stream, header.payload_bytes));
                if header.flags & frame::END_STREAM != 0 {
                    ended.push(header.stream);
                }
            }
        }
        outbox.sent(bytes.len());
        (data, ended)
    }

    fn total(data: &[(u32, usize)], stream: u32) -> usize {
        let of_stream = data.iter().filter(|(one, _)| *one == stream);
        of_stream.map(|(_, bytes)| bytes).sum()
    }

    #[test]
    fn large_messages_follow_the_windows() {
        let mut outbox = Outbox::new(&["/p"], &SocketAddr::from(([127, 0, 0, 1], 1)).into());
        outbox.sent(outbox.unsent().len());
        let message = vec![7; 100_000];
        let first = outbox.call(0, &message);
        let second = outbox.call(0, &message);
        let (data, ended) = sent(&mut outbox);
        assert_eq!((total(&data, first), total(&data, second)), (65_535, 0));
        assert!(ended.is_empty());
        // The first is stuck in its own window; the second is not.
        outbox.window_opened(0, 200_000);
        let (data, ended) = sent(&mut outbox);
        assert_eq!((total(&data, first), total(&data, second)), (0, 65_535));
        assert!(ended.is_empty());
        outbox.window_opened(first, 1 << 20);
        outbox.window_opened(second, 1 << 20);
        let (data, ended) = sent(&mut outbox);
        let prefixed = message.len() + super::PREFIX_BYTES;
        assert_eq!(total(&data, first), prefixed - 65_535);
        assert_eq!(total(&data, second), prefixed - 65_535);
        assert_eq!(ended, [first, second]);
        assert!(outbox.pending.is_empty());
    }

    #[test]
    fn a_call_that_ends_early_sends_nothing_more() {
        let mut outbox = Outbox::new(&["/p"], &SocketAddr::from(([127, 0, 0, 1], 1)).into());
        let stream = outbox.call(0, &vec![7; 100_000]);
        outbox.sent(outbox.unsent().len());
        outbox.ended(stream);
        outbox.window_opened(0, 1 << 20);
        assert!(sent(&mut outbox).0.is_empty());
    }
}
