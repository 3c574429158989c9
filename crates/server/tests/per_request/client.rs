//! A client that allocates nothing while it is counted: requests are encoded before, and only the numbers of their
//! streams change from batch to batch.

use std::io::{Read, Result, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::BATCH;
use super::load::Load;

/// What the test's thread is called; it is the client.
pub(crate) const THREAD: &str = "requests_take_f";

const FRAME_HEADER_BYTES: usize = 9;
/// No frame may have more until the other side says so.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
const WINDOW: u32 = i32::MAX as u32;
const INITIAL_WINDOW: u32 = 65_535;
/// Flag and length before a gRPC message.
const PREFIX_BYTES: usize = 5;
/// The server may hang, the test may not.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Requests as they are written.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where frame headers have the number of a stream, and which of the batch's it is.
    streams: Vec<(usize, u32)>,
    streams_taken: u32,
    requests: usize,
}

pub(crate) struct Client {
    socket: UnixStream,
    next_stream: u32,
    buffer: Vec<u8>,
    held: usize,
    /// Messages whose prefix was read, and streams that ended.
    messages: usize,
    ended: usize,
    /// What is missing of the message or prefix that was begun.
    message_left: usize,
    prefix: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let mut socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        let mut first = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut window = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        window.extend_from_slice(&WINDOW.to_be_bytes());
        frame(&mut first, SETTINGS, 0, 0, &window);
        frame(&mut first, SETTINGS, ACK, 0, &[]);
        let more = (WINDOW - INITIAL_WINDOW).to_be_bytes();
        frame(&mut first, WINDOW_UPDATE, 0, 0, &more);
        socket.write_all(&first)?;
        Ok(Self {
            socket,
            next_stream: 1,
            buffer: vec![0; 1 << 20],
            held: 0,
            messages: 0,
            ended: 0,
            message_left: 0,
            prefix: Vec::with_capacity(PREFIX_BYTES),
        })
    }

    /// Makes what the loads need.
    pub(crate) fn prepare(&mut self) {
        for load in [Load::grant(), Load::put()] {
            let mut batch = self.encode(&load, BATCH);
            self.exchange(&mut batch);
        }
    }

    /// So many requests of a load. The stream of a load that has one is opened here.
    pub(crate) fn encode(&mut self, load: &Load, requests: usize) -> Batch {
        let head = head(load.path);
        let mut batch = Batch {
            bytes: Vec::new(),
            streams: Vec::new(),
            streams_taken: if load.streams { 0 } else { requests as u32 },
            requests,
        };
        let stream = self.next_stream;
        if load.streams {
            let mut opening = Vec::new();
            frame(&mut opening, HEADERS, END_HEADERS, stream, &head);
            self.socket.write_all(&opening).unwrap();
            self.next_stream += 2;
        }
        for number in 0..requests {
            let message = (load.message)(number);
            let mut data = vec![0];
            data.extend_from_slice(&(message.len() as u32).to_be_bytes());
            data.extend_from_slice(&message);
            if load.streams {
                frame(&mut batch.bytes, DATA, 0, stream, &data);
                continue;
            }
            let mut add = |kind, flags, payload: &[u8]| {
                batch.streams.push((batch.bytes.len() + 5, number as u32));
                frame(&mut batch.bytes, kind, flags, 0, payload);
            };
            add(HEADERS, END_HEADERS, &head);
            let mut rest = &data[..];
            while rest.len() > PAYLOAD_BYTES_MAX {
                let (payload, behind) = rest.split_at(PAYLOAD_BYTES_MAX);
                add(DATA, 0, payload);
                rest = behind;
            }
            add(DATA, END_STREAM, rest);
        }
        batch
    }

    /// Writes a batch and reads all its answers.
    pub(crate) fn exchange(&mut self, batch: &mut Batch) {
        for (place, number) in &batch.streams {
            let stream = self.next_stream + 2 * number;
            batch.bytes[*place..*place + 4].copy_from_slice(&stream.to_be_bytes());
        }
        self.next_stream += 2 * batch.streams_taken;
        (self.messages, self.ended) = (0, 0);
        self.socket.write_all(&batch.bytes).unwrap();
        while self.messages < batch.requests || self.ended < batch.streams_taken as usize {
            let read = self.socket.read(&mut self.buffer[self.held..]).unwrap();
            assert!(read > 0, "the server has closed the connection");
            self.held += read;
            self.take_frames();
            assert!(
                self.ended <= self.messages,
                "a call ended without an answer"
            );
        }
        assert_eq!(self.messages, batch.requests, "one answer for each request");
    }

    fn take_frames(&mut self) {
        let mut at = 0;
        while let Some(header) = self.buffer[at..self.held].first_chunk::<FRAME_HEADER_BYTES>() {
            let [a, b, c, kind, flags, ..] = *header;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let begun = at + FRAME_HEADER_BYTES;
            if self.held < begun + length {
                break;
            }
            assert_ne!(kind, GOAWAY, "the server gives the connection up");
            if kind == DATA {
                self.take_data(begun, begun + length);
            }
            let may_end = kind == DATA || kind == HEADERS;
            self.ended += usize::from(may_end && flags & END_STREAM != 0);
            at = begun + length;
        }
        self.buffer.copy_within(at..self.held, 0);
        self.held -= at;
    }

    /// Counts the messages in some data.
    fn take_data(&mut self, mut at: usize, end: usize) {
        while at < end {
            let passed = self.message_left.min(end - at);
            self.message_left -= passed;
            at += passed;
            while at < end && self.message_left == 0 && self.prefix.len() < PREFIX_BYTES {
                self.prefix.push(self.buffer[at]);
                at += 1;
            }
            if let [_, length @ ..] = &self.prefix[..]
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.messages += 1;
                self.message_left = u32::from_be_bytes(length) as usize;
                self.prefix.clear();
            }
        }
    }
}

/// The header block of a call, each field spelled out.
fn head(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            // Shorter than what fits one byte of length.
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}
