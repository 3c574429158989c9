//! From answers to bytes.

use super::super::frames::{ErrorCode, PAYLOAD_BYTES_MAX};
use super::super::head::{Refusal, percent_encode};
use super::super::hpack::Encoder;
use super::super::{Body, Status};
use super::{Http2, Outbox};

/// Status of an answer to headers that are too large.
const TOO_LARGE: u16 = 431;

impl<C> Http2<C> {
    /// Answers a unary call. `None`: flow control holds back a part of it, and the stream stays until that is sent.
    pub(in crate::transport) fn answer(&mut self, stream: u32, body: Body) -> Option<C> {
        let fits = self.fits(stream, body.written_bytes());
        self.begin_answer(stream);
        if fits {
            self.send_whole(stream, body);
            return self.end(stream, &Ok(()));
        }
        self.push(stream, body);
        self.finish(stream, Ok(()))
    }

    /// Refuses a call that was not taken in.
    pub(in crate::transport) fn refuse(&mut self, stream: u32, ended: bool, refusal: &Refusal) {
        let Refusal {
            http_status,
            status,
        } = refusal;
        self.headers_with(stream, true, |encoder, block| {
            let message = percent_encode(status.message());
            encoder.failure(*http_status, status.code().number(), &message, block);
        });
        self.stop_client(stream, ended);
    }

    pub(super) fn refuse_too_large(&mut self, stream: u32, ended: bool) {
        self.headers_with(stream, true, |encoder, block| {
            encoder.bare(TOO_LARGE, block);
        });
        self.stop_client(stream, ended);
    }

    /// Writes the headers of an answer, once.
    pub(in crate::transport) fn begin_answer(&mut self, stream: u32) {
        let state = self.streams.get_mut(stream);
        if state.is_some_and(|state| !std::mem::replace(&mut state.answered, true)) {
            self.headers_with(stream, false, Encoder::answer);
        }
    }

    /// Sends a message of a stream whose answer has begun, as flow control lets it.
    pub(in crate::transport) fn push(&mut self, stream: u32, body: Body) {
        if self.fits(stream, body.written_bytes()) {
            return self.send_whole(stream, body);
        }
        let Some(state) = self.streams.get_mut(stream) else {
            return;
        };
        self.unsent += body.written_bytes();
        let (head, tail, rest) = body.into_own().into_pieces();
        state.wait(head);
        state.wait(tail);
        if let Some(rest) = rest {
            state.wait_to_be_made(rest);
        }
        if state.joins_the_row() {
            self.row.push_back(stream);
        }
    }

    /// Whether nothing of a stream waits for flow control.
    pub(in crate::transport) fn is_drained(&self, stream: u32) -> bool {
        let state = self.streams.get(stream);
        state.is_none_or(|state| state.waiting_bytes() == 0)
    }

    /// Ends a stream after what waits. `None`: something does.
    pub(in crate::transport) fn finish(
        &mut self,
        stream: u32,
        result: Result<(), Status>,
    ) -> Option<C> {
        let state = self.streams.get_mut(stream)?;
        if let Some(waiting) = &mut state.waiting
            && waiting.bytes > 0
        {
            waiting.end = Some(result);
            return None;
        }
        self.end(stream, &result)
    }

    /// Moves what waits into the outbox as far as windows and room go.
    pub(in crate::transport) fn pump(&mut self) {
        while self.send_window > 0
            && self.outbox.has_room()
            && let Some(stream) = self.row.pop_front()
        {
            self.pump_stream(stream);
        }
    }

    /// The streams all of whose data has gone out since the last time, and which were not ended.
    pub(in crate::transport) fn take_drained(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.drained)
    }

    fn pump_stream(&mut self, stream: u32) {
        let Some(state) = self.streams.get_mut(stream) else {
            return;
        };
        let Some(waiting) = &mut state.waiting else {
            return;
        };
        waiting.queued = false;
        let window = self.send_window.min(state.send_window).max(0) as usize;
        let mut room = window.min(PAYLOAD_BYTES_MAX);
        while room > 0
            && let Some(data) = waiting.take(room)
        {
            self.outbox.data(stream, &data);
            room -= data.len();
            state.send_window -= data.len() as i64;
            self.send_window -= data.len() as i64;
            self.unsent -= data.len();
        }
        if waiting.bytes > 0 {
            if state.joins_the_row() {
                self.row.push_back(stream);
            }
            return;
        }
        match state.waiting.take().and_then(|waiting| waiting.end) {
            Some(result) => drop(self.end(stream, &result)),
            None => self.drained.push(stream),
        }
    }

    /// Whether so many bytes may go out on a stream at once. Who has waited longer goes first.
    fn fits(&self, stream: u32, bytes: usize) -> bool {
        let window = self.streams.get(stream).map_or(0, |state| {
            if state.waiting_bytes() > 0 {
                0
            } else {
                state.send_window
            }
        });
        self.row.is_empty()
            && self.outbox.has_room()
            && window.min(self.send_window) >= bytes as i64
            && bytes <= super::OUTBOX_BYTES_MAX
    }

    /// Sends what fits.
    fn send_whole(&mut self, stream: u32, body: Body) {
        let bytes = body.written_bytes() as i64;
        self.send_window -= bytes;
        if let Some(state) = self.streams.get_mut(stream) {
            state.send_window -= bytes;
        }
        let (head, tail, rest) = body.into_pieces();
        for piece in [head, tail].into_iter().chain(rest.into_iter().flatten()) {
            self.outbox.data(stream, &piece);
        }
    }

    /// Writes the end of a stream and forgets it.
    fn end(&mut self, stream: u32, result: &Result<(), Status>) -> Option<C> {
        let state = self.streams.remove(stream)?;
        self.headers_with(stream, true, |encoder, block| match result {
            Ok(()) => {
                if !state.answered {
                    encoder.answer(block);
                }
                encoder.ok(block);
            }
            Err(status) => {
                let (code, message) = (status.code().number(), percent_encode(status.message()));
                if state.answered {
                    encoder.failed(code, &message, block);
                } else {
                    let Refusal { http_status, .. } = Refusal::of_call(status.clone());
                    encoder.failure(http_status, code, &message, block);
                }
            }
        });
        self.stop_client(stream, state.remote_ended);
        Some(state.call)
    }

    /// Forgets a stream that is reset.
    pub(super) fn remove(&mut self, stream: u32) -> Option<C> {
        let state = self.streams.remove(stream)?;
        self.unsent -= state.waiting_bytes();
        if state.waiting.is_some_and(|waiting| waiting.queued) {
            self.row.retain(|other| *other != stream);
        }
        Some(state.call)
    }

    /// Tells a client that has not sent everything on a stream that nobody reads it any more.
    fn stop_client(&mut self, stream: u32, remote_ended: bool) {
        if !remote_ended {
            self.outbox.reset(stream, ErrorCode::None);
        }
    }

    fn headers_with(
        &mut self,
        stream: u32,
        ends: bool,
        write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
    ) {
        self.scratch.clear();
        write(&mut self.encoder, &mut self.scratch);
        Outbox::headers(&mut self.outbox, stream, ends, &self.scratch);
    }
}
