//! From bytes of the client to events.

use std::sync::Arc;

use super::super::frames::{
    self, ACK, END_HEADERS, END_STREAM, ErrorCode, FrameHeader, HEADER_BYTES, PAYLOAD_BYTES_MAX,
};
use super::super::head::{self, Head};
use super::super::routes::Routes;
use super::{
    BLOCK_BYTES_MAX, Block, Broken, EMPTY_FRAMES_MAX, ERROR_RESETS_MAX, Event, Going, HEADS_KEPT,
    Http2, KnownHead, SHUTDOWN_PING, WINDOW_MAX,
};

/// Bytes of a priority before a header block.
const PRIORITY_BYTES: usize = 5;

/// Bytes of a GOAWAY without its debug text.
const GOAWAY_BYTES_MIN: usize = 8;

/// Bytes of a parameter in a SETTINGS frame.
const PARAMETER_BYTES: usize = 6;

/// A frame may set the largest payload to values in this range. Source: RFC 9113, section 6.5.2.
const MAX_FRAME_SIZE_RANGE: std::ops::RangeInclusive<u32> = 16_384..=16_777_215;

const PROTOCOL: Broken = Broken(ErrorCode::Protocol);
const FRAME_SIZE: Broken = Broken(ErrorCode::FrameSize);
const FLOW_CONTROL: Broken = Broken(ErrorCode::FlowControl);
const CALM: Broken = Broken(ErrorCode::EnhanceYourCalm);

impl<C> Http2<C> {
    /// Takes whole frames from the front of `input` until one of them is news. `None`: more bytes are needed; what
    /// is left of `input` is the beginning of the next frame.
    ///
    /// # Errors
    /// The client breaks the rules: the connection is over.
    pub(in crate::transport) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        routes: &Routes,
    ) -> Result<Option<Event<'a, C>>, Broken> {
        while let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() {
            let header = FrameHeader::parse(*header);
            if header.length > PAYLOAD_BYTES_MAX {
                return Err(FRAME_SIZE);
            }
            let Some((payload, rest)) = rest.split_at_checked(header.length) else {
                return Ok(None);
            };
            *input = rest;
            if let Some(event) = self.frame(header, payload, routes)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn frame<'a>(
        &mut self,
        header: FrameHeader,
        payload: &'a [u8],
        routes: &Routes,
    ) -> Result<Option<Event<'a, C>>, Broken> {
        if !self.opened && header.kind != frames::SETTINGS {
            return Err(PROTOCOL);
        }
        let in_block = self
            .block
            .as_ref()
            .is_some_and(|block| block.stream == header.stream);
        if (header.kind == frames::CONTINUATION) != self.block.is_some()
            || (self.block.is_some() && !in_block)
        {
            return Err(PROTOCOL);
        }
        match header.kind {
            frames::DATA => self.data(header, payload),
            frames::HEADERS => self.headers(header, payload, routes),
            frames::CONTINUATION => self.continuation(header, payload, routes),
            frames::RST_STREAM => self.reset_by_client(header, payload),
            frames::SETTINGS => self.settings(header, payload).map(|()| None),
            frames::PING => self.pinged(header, payload),
            frames::WINDOW_UPDATE => self.window_update(header, payload),
            // Neither concerns the server: priorities are not looked at, and clients close their sockets themselves.
            frames::GOAWAY if payload.len() < GOAWAY_BYTES_MIN => Err(FRAME_SIZE),
            frames::PRIORITY_FRAME if payload.len() != PRIORITY_BYTES => Err(FRAME_SIZE),
            frames::GOAWAY if header.stream != 0 => Err(PROTOCOL),
            frames::PRIORITY_FRAME if header.stream == 0 => Err(PROTOCOL),
            frames::PUSH_PROMISE => Err(PROTOCOL),
            // Frames of extensions.
            _ => Ok(None),
        }
    }

    fn data<'a>(
        &mut self,
        header: FrameHeader,
        payload: &'a [u8],
    ) -> Result<Option<Event<'a, C>>, Broken> {
        let (stream, bytes) = (header.stream, payload.len() as u32);
        if stream == 0 || stream > self.last_stream {
            return Err(PROTOCOL);
        }
        if !self.receive.take(bytes) {
            return Err(FLOW_CONTROL);
        }
        let data = frames::unpadded(header, payload).ok_or(PROTOCOL)?;
        let ended = header.has(END_STREAM);
        self.count_empty(data.is_empty() && !ended)?;
        let Some(state) = self.streams.get_mut(stream) else {
            // The call is over on this side, and the client may not know yet.
            self.release_connection(bytes);
            return Ok(None);
        };
        if state.remote_ended {
            return Err(Broken(ErrorCode::StreamClosed));
        }
        if !state.receive.take(bytes) {
            return Err(FLOW_CONTROL);
        }
        state.remote_ended = ended;
        let padding = payload.len() - data.len();
        if padding > 0 {
            self.release(stream, padding);
        }
        Ok(Some(Event::Data {
            stream,
            data,
            ended,
        }))
    }

    fn count_empty(&mut self, empty: bool) -> Result<(), Broken> {
        self.empty_frames = if empty { self.empty_frames + 1 } else { 0 };
        if self.empty_frames > EMPTY_FRAMES_MAX {
            return Err(CALM);
        }
        Ok(())
    }

    fn headers<'a>(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        routes: &Routes,
    ) -> Result<Option<Event<'a, C>>, Broken> {
        // Streams of clients have odd numbers.
        if header.stream.is_multiple_of(2) {
            return Err(PROTOCOL);
        }
        let mut fragment = frames::unpadded(header, payload).ok_or(PROTOCOL)?;
        if header.has(frames::PRIORITY) {
            fragment = fragment.get(PRIORITY_BYTES..).ok_or(FRAME_SIZE)?;
        }
        let (stream, ended) = (header.stream, header.has(END_STREAM));
        if header.has(END_HEADERS) {
            return self.end_block(stream, ended, fragment, routes);
        }
        self.block = Some(Block {
            stream,
            ended,
            bytes: fragment.to_vec(),
            cost: HEADER_BYTES + fragment.len(),
        });
        Ok(None)
    }

    fn continuation<'a>(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        routes: &Routes,
    ) -> Result<Option<Event<'a, C>>, Broken> {
        let Some(mut block) = self.block.take() else {
            return Err(PROTOCOL);
        };
        block.cost += HEADER_BYTES + payload.len();
        if block.cost > BLOCK_BYTES_MAX {
            return Err(CALM);
        }
        block.bytes.extend_from_slice(payload);
        if header.has(END_HEADERS) {
            return self.end_block(block.stream, block.ended, &block.bytes, routes);
        }
        self.block = Some(block);
        Ok(None)
    }

    /// A header block is whole. It is always read, since it may change the table.
    fn end_block<'a>(
        &mut self,
        stream: u32,
        ended: bool,
        block: &[u8],
        routes: &Routes,
    ) -> Result<Option<Event<'a, C>>, Broken> {
        let head = self.read_head(block, routes)?;
        if stream <= self.last_stream {
            return self.trailers(stream, ended);
        }
        if self.going == Going::Closed {
            return Ok(None);
        }
        self.last_stream = stream;
        if self.streams.len() >= self.streams_max {
            self.outbox.reset(stream, ErrorCode::RefusedStream);
            return self.count_error_reset().map(|()| None);
        }
        match &*head {
            Head::Malformed => {
                self.outbox.reset(stream, ErrorCode::Protocol);
                self.count_error_reset()?;
                Ok(None)
            }
            Head::TooLarge => {
                self.refuse_too_large(stream, ended);
                Ok(None)
            }
            Head::Refused(refusal) => {
                self.refuse(stream, ended, refusal);
                Ok(None)
            }
            Head::Call(_) => Ok(Some(Event::Call {
                stream,
                head,
                ended,
            })),
        }
    }

    /// What a block says: mostly the same as one before.
    fn read_head(&mut self, block: &[u8], routes: &Routes) -> Result<Arc<Head>, Broken> {
        let changes = self.decoder.changes();
        let is_known = |known: &&KnownHead| known.changes == changes && known.block == block;
        if let Some(known) = self.heads.iter().find(is_known) {
            return Ok(Arc::clone(&known.head));
        }
        let fields = self.decoder.decode(block);
        let fields = fields.map_err(|_| Broken(ErrorCode::Compression))?;
        let head = Arc::new(head::read(fields, routes));
        if self.decoder.changes() == changes && matches!(*head, Head::Call(_)) {
            self.heads.retain(|known| known.changes == changes);
            self.heads.truncate(HEADS_KEPT - 1);
            self.heads.push_front(KnownHead {
                changes,
                block: block.to_vec(),
                head: Arc::clone(&head),
            });
        }
        Ok(head)
    }

    /// Headers on a stream that there is already: they end it.
    fn trailers<'a>(&mut self, stream: u32, ended: bool) -> Result<Option<Event<'a, C>>, Broken> {
        let Some(state) = self.streams.get_mut(stream) else {
            // The call is over on this side, and the client may not know yet.
            return Ok(None);
        };
        if state.remote_ended {
            return Err(Broken(ErrorCode::StreamClosed));
        }
        if !ended {
            return Err(PROTOCOL);
        }
        state.remote_ended = true;
        Ok(Some(Event::Data {
            stream,
            data: &[],
            ended,
        }))
    }

    fn reset_by_client<'a>(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'a, C>>, Broken> {
        if payload.len() != 4 {
            return Err(FRAME_SIZE);
        }
        if header.stream == 0 || header.stream > self.last_stream {
            return Err(PROTOCOL);
        }
        Ok(self.remove(header.stream).map(Event::Reset))
    }

    fn settings(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Broken> {
        if header.stream != 0 {
            return Err(PROTOCOL);
        }
        if header.has(ACK) {
            return if payload.is_empty() && self.opened {
                Ok(())
            } else {
                Err(FRAME_SIZE)
            };
        }
        if !payload.len().is_multiple_of(PARAMETER_BYTES) {
            return Err(FRAME_SIZE);
        }
        for parameter in payload.as_chunks::<PARAMETER_BYTES>().0 {
            let [n0, n1, v0, v1, v2, v3] = *parameter;
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            self.setting(u16::from_be_bytes([n0, n1]), value)?;
        }
        self.opened = true;
        self.outbox
            .write(|out| frames::write(out, frames::SETTINGS, ACK, 0, &[]));
        Ok(())
    }

    fn setting(&mut self, name: u16, value: u32) -> Result<(), Broken> {
        match name {
            frames::HEADER_TABLE_SIZE => self.encoder.limit_table(value as usize),
            frames::ENABLE_PUSH if value > 1 => return Err(PROTOCOL),
            // Frames are never larger than what every client takes.
            frames::MAX_FRAME_SIZE if !MAX_FRAME_SIZE_RANGE.contains(&value) => {
                return Err(PROTOCOL);
            }
            frames::INITIAL_WINDOW_SIZE => {
                if i64::from(value) > WINDOW_MAX {
                    return Err(FLOW_CONTROL);
                }
                let change = i64::from(value) - self.initial_window;
                self.initial_window = i64::from(value);
                for (stream, state) in self.streams.iter_mut() {
                    state.send_window += change;
                    if state.send_window > WINDOW_MAX {
                        return Err(FLOW_CONTROL);
                    }
                    if state.joins_the_row() {
                        self.row.push_back(stream);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn pinged<'a>(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'a, C>>, Broken> {
        let payload: [u8; 8] = payload.try_into().map_err(|_| FRAME_SIZE)?;
        if header.stream != 0 {
            return Err(PROTOCOL);
        }
        if !header.has(ACK) {
            self.outbox.ping(true, payload);
            return Ok(Some(Event::Ping));
        }
        if payload == SHUTDOWN_PING && self.going == Going::Asked {
            // Whatever the client opened before it was asked not to has arrived.
            self.going = Going::Closed;
            self.give_up(ErrorCode::None, b"");
        }
        Ok(None)
    }

    fn window_update<'a>(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<Option<Event<'a, C>>, Broken> {
        let payload: [u8; 4] = payload.try_into().map_err(|_| FRAME_SIZE)?;
        let bytes = i64::from(u32::from_be_bytes(payload) & 0x7fff_ffff);
        if header.stream > self.last_stream {
            return Err(PROTOCOL);
        }
        if header.stream == 0 {
            self.send_window += bytes;
            return match bytes {
                0 => Err(PROTOCOL),
                _ if self.send_window > WINDOW_MAX => Err(FLOW_CONTROL),
                _ => Ok(None),
            };
        }
        let Some(state) = self.streams.get_mut(header.stream) else {
            return Ok(None);
        };
        state.send_window += bytes;
        let error = match bytes {
            0 => ErrorCode::Protocol,
            _ if state.send_window > WINDOW_MAX => ErrorCode::FlowControl,
            _ => {
                if state.joins_the_row() {
                    self.row.push_back(header.stream);
                }
                return Ok(None);
            }
        };
        self.outbox.reset(header.stream, error);
        self.count_error_reset()?;
        Ok(self.remove(header.stream).map(Event::Reset))
    }

    fn count_error_reset(&mut self) -> Result<(), Broken> {
        self.error_resets += 1;
        if self.error_resets > ERROR_RESETS_MAX {
            return Err(CALM);
        }
        Ok(())
    }

    /// Lets the client send so many bytes more on a stream, and on the connection.
    pub(in crate::transport) fn release(&mut self, stream: u32, bytes: usize) {
        // What is released was received before, so it fits.
        let bytes = bytes as u32;
        if let Some(state) = self.streams.get_mut(stream)
            && !state.remote_ended
            && let Some(told) = state.receive.release(bytes)
        {
            self.outbox.window_update(stream, told);
        }
        self.release_connection(bytes);
    }

    fn release_connection(&mut self, bytes: u32) {
        if let Some(told) = self.receive.release(bytes) {
            self.outbox.window_update(0, told);
        }
    }
}
