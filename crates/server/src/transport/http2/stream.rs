//! What the connection knows of one stream.

use std::collections::VecDeque;

use bytes::Bytes;

use super::window::ReceiveWindow;
use crate::transport::Status;
use crate::transport::body::Rest;

/// An open stream. `C` is what the user of the connection keeps with it.
#[derive(Debug)]
pub(super) struct Stream<C> {
    pub(super) call: C,
    /// What the client still takes; below 0 after it has made its windows smaller.
    pub(super) send_window: i64,
    pub(super) receive: ReceiveWindow,
    /// The client has sent everything.
    pub(super) remote_ended: bool,
    /// The headers of the answer are written.
    pub(super) answered: bool,
    /// What waits for flow control.
    pub(super) waiting: Option<Box<Waiting>>,
}

/// Data that flow control has not let out yet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pieces: VecDeque<Piece>,
    /// Bytes in `pieces`, made or not.
    pub(super) bytes: usize,
    /// How the stream ends after them.
    pub(super) end: Option<Result<(), Status>>,
    /// The stream stands in the row of those that may send.
    pub(super) queued: bool,
}

/// A part of what waits.
#[derive(Debug)]
enum Piece {
    Made(Bytes),
    /// It is made when there is room for it.
    Unmade(Rest),
}

impl Waiting {
    /// Takes the next bytes, at most `room`; `None` when nothing waits.
    pub(super) fn take(&mut self, room: usize) -> Option<Bytes> {
        loop {
            match self.pieces.front_mut()? {
                Piece::Made(piece) => {
                    let data = piece.split_to(piece.len().min(room));
                    if piece.is_empty() {
                        self.pieces.pop_front();
                    }
                    self.bytes -= data.len();
                    return Some(data);
                }
                Piece::Unmade(rest) => match rest.next() {
                    Some(piece) => self.pieces.push_front(Piece::Made(piece)),
                    None => _ = self.pieces.pop_front(),
                },
            }
        }
    }
}

impl<C> Stream<C> {
    /// Bytes that wait to be sent.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// Adds a piece to what waits. Empty ones are left out.
    pub(super) fn wait(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            let waiting = self.waiting.get_or_insert_default();
            waiting.bytes += piece.len();
            waiting.pieces.push_back(Piece::Made(piece));
        }
    }

    /// Adds what is made when there is room for it.
    pub(super) fn wait_to_be_made(&mut self, rest: Rest) {
        if rest.bytes() > 0 {
            let waiting = self.waiting.get_or_insert_default();
            waiting.bytes += rest.bytes();
            waiting.pieces.push_back(Piece::Unmade(rest));
        }
    }

    /// Whether the stream should stand in the row of those that may send and does not yet.
    pub(super) fn joins_the_row(&mut self) -> bool {
        let may_send = self.send_window > 0;
        match &mut self.waiting {
            Some(waiting) if waiting.bytes > 0 && may_send => {
                !std::mem::replace(&mut waiting.queued, true)
            }
            _ => false,
        }
    }
}
