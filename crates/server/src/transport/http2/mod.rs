//! The server's side of HTTP/2 on one connection, as far as gRPC uses it, without a socket.
//!
//! [`Http2`] is a plain machine. [`Http2::next`] takes bytes of the client and tells what a user of the connection
//! has to know; frames that concern the connection alone are answered here. Answers are given with
//! [`Http2::answer`] and its neighbours, and everything that is to be written gathers in the [`Outbox`], which the
//! owner of the socket empties once per turn.
//!
//! # What keeps a client from using up the server
//!
//! - Frames have 16 KiB at most, header blocks [`HEADER_BYTES_MAX`] when read and twice that on the wire, and what
//!   a frame costs counts too, so that endless empty ones are no way around it.
//! - Whatever makes the server write (settings, pings, resets) ends in the outbox, and nothing is read while that
//!   is full: a client that does not read its answers is not read either.
//! - Streams that the server has to reset for errors of the client are counted and limited, streams that the client
//!   resets while a service works on them too (by the connection, which knows the services).
//! - Data of a stream is bounded by the window that the connection releases as it works it off. Data for streams
//!   that are over is counted against the connection's window and dropped.
//!
//! # Invariants
//!
//! - `unsent` is the sum of what waits in the streams.
//! - A stream with waiting data stands in `row` exactly once, unless its window is used up.
//! - Nothing stands between the frames of a header block, in either direction.
//!
//! Source: RFC 9113.

mod outbox;
mod receive;
mod send;
mod stream;
mod streams;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;
use std::sync::Arc;

use super::frames::{self, ErrorCode};
use super::head::Head;
use super::hpack::{Decoder, Encoder};

pub(super) use outbox::{OUTBOX_BYTES_MAX, Outbox};
use stream::Stream;
use streams::Streams;
use window::ReceiveWindow;

/// Receive window of a connection and of a stream, in bytes.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const STREAM_WINDOW: u32 = 1024 * 1024;

/// The windows that both sides begin with. Source: RFC 9113, section 6.9.2.
const INITIAL_WINDOW: u32 = 65_535;

/// The largest window there may be.
const WINDOW_MAX: i64 = (1 << 31) - 1;

/// Largest sum of the headers of a request, in bytes. Larger ones are answered with HTTP status 431.
pub(super) const HEADER_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a header block on the wire, with the headers of its frames. A larger one ends the connection.
const BLOCK_BYTES_MAX: usize = 2 * HEADER_BYTES_MAX;

/// Streams that the server may have to reset for errors of the client before it ends the connection.
const ERROR_RESETS_MAX: u32 = 1024;

/// Empty DATA frames in a row that end nothing. More end the connection.
const EMPTY_FRAMES_MAX: u32 = 1024;

/// Header blocks remembered with what they say.
const HEADS_KEPT: usize = 4;

/// What the ping that asks a client to stop opening streams carries.
const SHUTDOWN_PING: [u8; 8] = *b"shutdown";

/// What the pings that ask whether a client lives carry.
const KEEPALIVE_PING: [u8; 8] = [0; 8];

/// What happened on the connection.
#[derive(Debug)]
pub(super) enum Event<'a, C> {
    /// A call began; it is to be taken in with [`Http2::open`] or answered with [`Http2::refuse`].
    Call {
        stream: u32,
        head: Arc<Head>,
        /// The client has sent everything.
        ended: bool,
    },
    /// Data of an open stream, to be released when it is worked off.
    Data {
        stream: u32,
        data: &'a [u8],
        ended: bool,
    },
    /// The stream is over: reset by the client, or for an error of the client.
    Reset(C),
    /// The client asks whether the server lives. It is answered already.
    Ping,
}

/// Why the connection must end; told to the client as far as it still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) ErrorCode);

/// How far the connection is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    /// It takes streams.
    No,
    /// The client was asked to open no more; those on their way are taken.
    Asked,
    /// Later streams than the last one are not looked at.
    Closed,
}

/// A header block that is not whole.
#[derive(Debug)]
struct Block {
    stream: u32,
    ended: bool,
    bytes: Vec<u8>,
    /// Its bytes with all frame headers.
    cost: usize,
}

/// A header block that changes no table, and what it says while the table is the same.
#[derive(Debug)]
struct KnownHead {
    changes: u64,
    block: Vec<u8>,
    head: Arc<Head>,
}

/// One connection; see the module.
#[derive(Debug)]
pub(super) struct Http2<C> {
    pub(super) outbox: Outbox,
    decoder: Decoder,
    encoder: Encoder,
    streams_max: usize,
    streams: Streams<C>,
    /// The greatest stream that the client opened.
    last_stream: u32,
    block: Option<Block>,
    heads: VecDeque<KnownHead>,
    receive: ReceiveWindow,
    send_window: i64,
    /// Send window of a new stream.
    initial_window: i64,
    /// Streams that have data and may send it, those who waited longest first.
    row: VecDeque<u32>,
    /// Streams all of whose data has gone out since they were asked about.
    drained: Vec<u32>,
    unsent: usize,
    /// The client's SETTINGS have come.
    opened: bool,
    going: Going,
    error_resets: u32,
    empty_frames: u32,
    /// A header block in the making, kept for its room.
    scratch: Vec<u8>,
}

impl<C> Http2<C> {
    /// A connection whose client has sent its preface.
    pub(super) fn new(max_concurrent_streams: u32) -> Self {
        let mut outbox = Outbox::default();
        let mut settings = vec![
            (frames::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (frames::MAX_HEADER_LIST_SIZE, HEADER_BYTES_MAX as u32),
        ];
        if max_concurrent_streams < u32::MAX {
            settings.push((frames::MAX_CONCURRENT_STREAMS, max_concurrent_streams));
        }
        outbox.write(|out| frames::write_settings(out, &settings));
        outbox.window_update(0, CONNECTION_WINDOW - INITIAL_WINDOW);
        Self {
            outbox,
            decoder: Decoder::new(HEADER_BYTES_MAX),
            encoder: Encoder::default(),
            streams_max: max_concurrent_streams as usize,
            streams: Streams::default(),
            last_stream: 0,
            block: None,
            heads: VecDeque::new(),
            receive: ReceiveWindow::new(CONNECTION_WINDOW),
            send_window: i64::from(INITIAL_WINDOW),
            initial_window: i64::from(INITIAL_WINDOW),
            row: VecDeque::new(),
            drained: Vec::new(),
            unsent: 0,
            opened: false,
            going: Going::No,
            error_resets: 0,
            empty_frames: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes in a call that [`Event::Call`] told of.
    pub(super) fn open(&mut self, stream: u32, ended: bool, call: C) {
        let state = Stream {
            call,
            send_window: self.initial_window,
            receive: ReceiveWindow::new(STREAM_WINDOW),
            remote_ended: ended,
            answered: false,
            waiting: None,
        };
        self.streams.open(stream, state);
    }

    /// What is kept with an open stream.
    pub(super) fn call(&mut self, stream: u32) -> Option<&mut C> {
        self.streams.get_mut(stream).map(|state| &mut state.call)
    }

    /// What is kept with all open streams, in the order in which they were opened.
    pub(super) fn calls(&self) -> impl Iterator<Item = (u32, &C)> {
        self.streams
            .iter()
            .map(|(stream, state)| (stream, &state.call))
    }

    /// Forgets all streams.
    pub(super) fn take_calls(&mut self) -> impl Iterator<Item = C> + use<C> {
        self.unsent = 0;
        self.row.clear();
        let streams = std::mem::take(&mut self.streams);
        streams.into_streams().map(|state| state.call)
    }

    /// Whether any stream is open.
    pub(super) fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Bytes of answers that wait for the client, beside what is in the outbox.
    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Whether the client has opened the connection with its settings.
    pub(super) fn is_opened(&self) -> bool {
        self.opened
    }

    /// Asks whether the client lives.
    pub(super) fn ping(&mut self) {
        self.outbox.ping(false, KEEPALIVE_PING);
    }

    /// Asks the client to open no more streams.
    pub(super) fn start_shutdown(&mut self) {
        if self.going == Going::No {
            self.going = Going::Asked;
            self.outbox.write(|out| {
                frames::write_goaway(out, WINDOW_MAX as u32, ErrorCode::None, b"");
            });
            self.outbox.ping(false, SHUTDOWN_PING);
        }
    }

    /// Whether the client knows that the connection ends, and all calls have.
    pub(super) fn is_finished(&self) -> bool {
        self.going == Going::Closed && self.streams.is_empty()
    }

    /// Tells the client why the connection ends. Nothing may be written after it.
    pub(super) fn give_up(&mut self, code: ErrorCode, debug: &[u8]) {
        let last = self.last_stream;
        self.outbox
            .write(|out| frames::write_goaway(out, last, code, debug));
    }

    /// Panics with the rule that broke. For tests.
    #[cfg(test)]
    fn check_invariants(&self) {
        let waiting: usize = self
            .streams
            .iter()
            .map(|(_, state)| state.waiting_bytes())
            .sum();
        assert_eq!(self.unsent, waiting, "what waits is counted");
        for (stream, state) in self.streams.iter() {
            let places = self.row.iter().filter(|other| **other == stream).count();
            let queued = state.waiting.as_ref().is_some_and(|waiting| waiting.queued);
            assert_eq!(
                places,
                usize::from(queued),
                "{stream} stands in the row once"
            );
            assert!(
                queued || state.waiting_bytes() == 0 || state.send_window <= 0,
                "{stream} has data, a window and no place in the row"
            );
        }
    }
}
