//! The I/O below one HTTP/2 connection.
//!
//! The HTTP/2 library flushes whenever its small buffer is full. Here its writes gather in an outbox instead, and
//! the connection's task flushes the outbox once at the end of each turn: all answers of a turn leave in one
//! system call. Frames are scanned on their way through, see [`super::frames`], and a guard makes requests whose
//! `:authority` the library would not take acceptable to it, see [`super::authority`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::authority::AuthorityGuard;
use super::frames::{self, FrameHeader, FrameScanner};
use super::pings::PingGuard;
use super::socket::Rewound;

/// Bytes that gather before a write must wait for the socket.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Capacity of the outbox kept between turns, so that idle connections stay small.
const OUTBOX_BYTES_KEPT: usize = 16 * 1024;

/// Bytes read at once for the guard of authorities.
const GUARD_READ_BYTES: usize = 8 * 1024;

/// Shared by the HTTP/2 library, which reads and writes, and the connection's task, which flushes. Both run in the
/// same task: the lock is never contended.
#[derive(Clone)]
pub(super) struct Wire {
    state: Arc<Mutex<State>>,
}

struct State {
    io: Rewound,
    /// Reads the first request of the connection, and the others if that one needed a change.
    guard: Option<Box<AuthorityGuard>>,
    outbox: Vec<u8>,
    /// Bytes at the start of the outbox that are written already.
    sent: usize,
    received: FrameScanner,
    written: FrameScanner,
    pings: PingGuard,
    news: News,
}

/// What passed by since the connection last asked.
#[derive(Default)]
pub(super) struct News {
    /// Streams that the client reset.
    pub(super) resets: Vec<u32>,
    /// The client pings too often and has been told to go away; the connection is to be closed.
    pub(super) too_many_pings: bool,
    /// Anything arrived at all.
    pub(super) heard: bool,
    calls_open: bool,
    last_stream: u32,
}

impl Wire {
    pub(super) fn new(
        socket: super::socket::Socket,
        first: Bytes,
        keepalive_min_time: Duration,
    ) -> Self {
        let state = State {
            io: Rewound { first, socket },
            guard: Some(Box::default()),
            outbox: Vec::new(),
            sent: 0,
            received: FrameScanner::new(frames::PREFACE.len()),
            written: FrameScanner::new(0),
            pings: PingGuard::new(keepalive_min_time),
            news: News::default(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the outbox to the socket.
    pub(super) fn poll_flush_turn(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_drain(cx)
    }

    /// Takes the news; `calls_open` says whether the client has reason to ping.
    pub(super) fn take_news(&self, calls_open: bool) -> News {
        let mut state = self.lock();
        let kept = News {
            calls_open,
            last_stream: state.news.last_stream,
            ..News::default()
        };
        std::mem::replace(&mut state.news, kept)
    }
}

impl State {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outbox.len() {
            let written = ready!(self.io.socket.poll_write(cx, &self.outbox[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.sent = 0;
        self.outbox.clear();
        self.outbox.shrink_to(OUTBOX_BYTES_KEPT);
        Poll::Ready(Ok(()))
    }

    /// Takes `bytes` whole or, while the outbox is full and the socket too, not at all.
    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.outbox.len() >= OUTBOX_BYTES_MAX {
            ready!(self.poll_drain(cx))?;
        }
        self.outbox.extend_from_slice(bytes);
        let pings = &mut self.pings;
        self.written.feed(bytes, |header| {
            if matches!(header.kind, frames::DATA | frames::HEADERS) {
                pings.forgive();
            }
        });
        Poll::Ready(Ok(bytes.len()))
    }

    /// Reads what the HTTP/2 library is to see.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(guard) = &mut self.guard {
            if guard.take(buffer) {
                return Poll::Ready(Ok(()));
            }
            if guard.is_done() {
                self.guard = None;
                break;
            }
            let mut piece = [0; GUARD_READ_BYTES];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() && !guard.finish() {
                return Poll::Ready(Ok(()));
            }
            guard.feed(piece.filled());
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }

    fn scan_received(&mut self, bytes: &[u8]) {
        let Self {
            received,
            pings,
            news,
            ..
        } = self;
        news.heard = true;
        let mut send_away = false;
        received.feed(
            bytes,
            |FrameHeader {
                 kind,
                 flags,
                 stream,
                 ..
             }| match kind {
                frames::HEADERS => {
                    news.last_stream = news.last_stream.max(stream);
                    news.calls_open = true;
                }
                frames::RST_STREAM => news.resets.push(stream),
                frames::PING if flags & frames::ACK == 0 => {
                    send_away |= pings.ping(Instant::now(), news.calls_open);
                }
                _ => {}
            },
        );
        if send_away && !self.news.too_many_pings {
            self.news.too_many_pings = true;
            // In the middle of another frame the text cannot be sent; the connection closes all the same.
            if self.written.at_boundary() {
                let frame = frames::too_many_pings(self.news.last_stream);
                self.outbox.extend_from_slice(&frame);
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let before = buffer.filled().len();
        ready!(state.poll_read(cx, buffer))?;
        state.scan_received(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lock().poll_take(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let mut taken = 0;
        for slice in slices {
            match state.poll_take(cx, slice) {
                Poll::Ready(Ok(count)) => taken += count,
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: the connection's task flushes at the end of its turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        ready!(state.poll_drain(cx))?;
        state.io.socket.poll_shutdown(cx)
    }
}
