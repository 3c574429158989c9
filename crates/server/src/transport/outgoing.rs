//! Data on its way out of one stream, as flow control lets it.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;

use super::Body;

/// The stream is gone: reset by the client or lost with the connection.
#[derive(Debug)]
pub(super) struct Gone;

/// The writing half of a stream whose headers are sent.
pub(super) struct Outgoing {
    send: SendStream<Bytes>,
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    left: usize,
}

impl Outgoing {
    pub(super) fn new(send: SendStream<Bytes>) -> Self {
        Self {
            send,
            pieces: VecDeque::new(),
            left: 0,
        }
    }

    /// Queues a message.
    pub(super) fn push(&mut self, body: Body) {
        self.left += body.written_bytes();
        let (head, tail) = body.into_pieces();
        self.pieces.push_back(head);
        if !tail.is_empty() {
            self.pieces.push_back(tail);
        }
    }

    /// Bytes that flow control has not let out yet.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Hands on what flow control allows. Ready: nothing is left.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while let Some(piece) = self.pieces.front_mut() {
            self.send.reserve_capacity(piece.len());
            let mut room = self.send.capacity();
            if room == 0 {
                room = match self.send.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(room))) => room,
                    Poll::Ready(_) => return Poll::Ready(Err(Gone)),
                    Poll::Pending => return Poll::Pending,
                };
            }
            let chunk = piece.split_to(room.min(piece.len()));
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            self.left -= chunk.len();
            if !chunk.is_empty() {
                self.send.send_data(chunk, false).map_err(|_| Gone)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the stream.
    pub(super) fn finish(&mut self, trailers: HeaderMap) {
        // A stream that is gone needs no end.
        let _ = self.send.send_trailers(trailers);
    }

    /// Ready once the client has reset the stream or the connection is lost.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.send.poll_reset(cx).map(|_| ())
    }
}
