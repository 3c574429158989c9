//! What comes from the server.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use super::frame::{self, Header};
use super::hpack::{self, Decoder, Head};
use super::outbox::Outbox;

/// Bytes taken in one read. A frame with its header always fits.
const READ_BYTES: usize = 64 * 1024;

/// Bytes before a gRPC message: a flag and the length.
const PREFIX_BYTES: usize = 5;

/// The largest answer taken, in bytes; a guard against a wrong length.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Something about a call.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A message came.
    Message { stream: u32, message: &'a [u8] },
    /// The call is over; nothing more comes on its stream.
    End { stream: u32, end: CallEnd },
    /// The server takes no more calls on this connection; those on later streams were not looked at.
    Goodbye { last_stream: u32 },
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallEnd {
    /// The gRPC code; 0: it succeeded.
    pub(crate) code: u32,
    /// What the server says about a failure.
    pub(crate) text: String,
}

impl fmt::Display for CallEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ended with code {}: {}", self.code, self.text)
    }
}

/// Bytes read and not understood yet.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// The part of `bytes` that is filled and not parsed.
    start: usize,
    end: usize,
    decoder: Decoder,
    has_settings: bool,
    /// Messages of which a part has come, by stream, with their prefix.
    partial: BTreeMap<u32, Vec<u8>>,
}

impl Inbox {
    /// Where the next read goes.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.bytes.resize(READ_BYTES, 0);
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.bytes[self.end..]
    }

    /// So much was read there.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Whether the server has said how it wants to be spoken to.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Takes every frame that is whole.
    pub(super) fn parse(
        &mut self,
        outbox: &mut Outbox,
        mut on: impl FnMut(Event<'_>, &mut Outbox) -> Result<()>,
    ) -> Result<()> {
        // Taken out, so that messages can be handed on where they lie.
        let bytes = std::mem::take(&mut self.bytes);
        let result = self.parse_frames(&bytes, outbox, &mut on);
        self.bytes = bytes;
        result
    }

    fn parse_frames(
        &mut self,
        bytes: &[u8],
        outbox: &mut Outbox,
        on: &mut impl FnMut(Event<'_>, &mut Outbox) -> Result<()>,
    ) -> Result<()> {
        while let Some(header) = Header::read(&bytes[self.start..self.end]) {
            ensure!(
                header.payload_bytes <= frame::PAYLOAD_BYTES_MAX,
                "a frame of {} bytes, at most {}",
                header.payload_bytes,
                frame::PAYLOAD_BYTES_MAX
            );
            let payload = self.start + frame::HEADER_BYTES;
            let next = payload + header.payload_bytes;
            if next > self.end {
                break;
            }
            self.start = next;
            self.frame(header, &bytes[payload..next], outbox, on)?;
        }
        Ok(())
    }

    fn frame(
        &mut self,
        header: Header,
        payload: &[u8],
        outbox: &mut Outbox,
        on: &mut impl FnMut(Event<'_>, &mut Outbox) -> Result<()>,
    ) -> Result<()> {
        let stream = header.stream;
        let has = |flag| header.flags & flag != 0;
        match header.kind {
            frame::DATA => {
                ensure!(!has(frame::PADDED), "a padded frame");
                outbox.received(stream, payload.len());
                self.data(stream, payload, outbox, on)?;
                if has(frame::END_STREAM) {
                    bail!("a call that ends without a status");
                }
            }
            frame::HEADERS => {
                ensure!(
                    has(frame::END_HEADERS) && !has(frame::PADDED) && !has(frame::PRIORITY),
                    "headers in several frames, padded or with a priority"
                );
                let head = self.decoder.decode(payload)?;
                ensure!(!head.http_error, "an answer with an HTTP error");
                if has(frame::END_STREAM) {
                    self.end(stream, head, outbox, on)?;
                }
            }
            frame::RST_STREAM => {
                let code = number(payload)?;
                // Comes behind a whole answer: the server had it before it had seen that the request was over.
                if code == frame::NO_ERROR {
                    return Ok(());
                }
                let end = CallEnd {
                    code: 13,
                    text: format!("the server reset the stream with HTTP/2 code {code}"),
                };
                self.partial.remove(&stream);
                outbox.ended(stream);
                on(Event::End { stream, end }, outbox)?;
            }
            frame::SETTINGS if !has(frame::ACK) => self.settings(payload, outbox)?,
            frame::PING if !has(frame::ACK) => outbox.acknowledge(frame::PING, payload),
            frame::GOAWAY => {
                let last_stream = number(payload)?;
                on(Event::Goodbye { last_stream }, outbox)?;
            }
            frame::WINDOW_UPDATE => outbox.window_opened(stream, number(payload)?),
            _ => {}
        }
        Ok(())
    }

    fn data(
        &mut self,
        stream: u32,
        payload: &[u8],
        outbox: &mut Outbox,
        on: &mut impl FnMut(Event<'_>, &mut Outbox) -> Result<()>,
    ) -> Result<()> {
        let mut rest = payload;
        if let Some(mut partial) = self.partial.remove(&stream) {
            partial.extend_from_slice(rest);
            let whole = whole_messages(&partial, stream, outbox, on)?;
            partial.drain(..whole);
            if !partial.is_empty() {
                self.partial.insert(stream, partial);
            }
            return Ok(());
        }
        let whole = whole_messages(rest, stream, outbox, on)?;
        rest = &rest[whole..];
        if !rest.is_empty() {
            let mut partial = Vec::with_capacity(message_end(rest)?.unwrap_or(PREFIX_BYTES));
            partial.extend_from_slice(rest);
            self.partial.insert(stream, partial);
        }
        Ok(())
    }

    fn end(
        &mut self,
        stream: u32,
        head: Head,
        outbox: &mut Outbox,
        on: &mut impl FnMut(Event<'_>, &mut Outbox) -> Result<()>,
    ) -> Result<()> {
        ensure!(
            !self.partial.contains_key(&stream),
            "a call that ends in the middle of a message"
        );
        let code = head.grpc_status.context("trailers without grpc-status")?;
        let end = CallEnd {
            code,
            text: head.grpc_message,
        };
        outbox.ended(stream);
        on(Event::End { stream, end }, outbox)
    }

    fn settings(&mut self, payload: &[u8], outbox: &mut Outbox) -> Result<()> {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = number(&setting[2..])?;
            match name {
                frame::SETTING_HEADER_TABLE_SIZE => ensure!(
                    value as usize >= hpack::TABLE_BYTES,
                    "the server has a header table of {value} bytes; at least {} are needed",
                    hpack::TABLE_BYTES
                ),
                frame::SETTING_MAX_CONCURRENT_STREAMS => outbox.set_streams_max(value),
                frame::SETTING_INITIAL_WINDOW_SIZE => outbox.set_initial_window(value),
                _ => {}
            }
        }
        self.has_settings = true;
        outbox.acknowledge(frame::SETTINGS, &[]);
        Ok(())
    }
}

/// Hands on every message that is whole. Returns the bytes they took.
fn whole_messages(
    bytes: &[u8],
    stream: u32,
    outbox: &mut Outbox,
    on: &mut impl FnMut(Event<'_>, &mut Outbox) -> Result<()>,
) -> Result<usize> {
    let mut done = 0;
    while let Some(end) = message_end(&bytes[done..])?
        && let Some(message) = bytes.get(done + PREFIX_BYTES..done + end)
    {
        done += end;
        on(Event::Message { stream, message }, outbox)?;
    }
    Ok(done)
}

/// Bytes of the message that begins here, prefix included, as far as its prefix is there.
fn message_end(bytes: &[u8]) -> Result<Option<usize>> {
    let Some([compressed, length @ ..]) = bytes.first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    ensure!(*compressed == 0, "a compressed message");
    let length = u32::from_be_bytes(*length) as usize;
    ensure!(
        length <= MESSAGE_BYTES_MAX,
        "a message of {length} bytes, at most {MESSAGE_BYTES_MAX}"
    );
    Ok(Some(length + PREFIX_BYTES))
}

fn number(payload: &[u8]) -> Result<u32> {
    let bytes = payload.first_chunk().context("a frame that is too short")?;
    Ok(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::frame::{self, Header};
    use super::super::outbox::Outbox;
    use super::{Event, Inbox};

    fn put(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
        let header = Header {
            payload_bytes: payload.len(),
            kind,
            flags,
            stream,
        };
        header.write(out);
        out.extend_from_slice(payload);
    }

    /// What is understood of `bytes` when they come in pieces of `piece` bytes.
    fn events(bytes: &[u8], piece: usize) -> anyhow::Result<Vec<String>> {
        let mut inbox = Inbox::default();
        let mut outbox = Outbox::new(&["/p"], &SocketAddr::from(([127, 0, 0, 1], 1)).into());
        let mut seen = Vec::new();
        for part in bytes.chunks(piece) {
            inbox.space()[..part.len()].copy_from_slice(part);
            inbox.filled(part.len());
            inbox.parse(&mut outbox, |event, _| {
                seen.push(match event {
                    Event::Message { stream, message } => {
                        format!("{stream} {}", String::from_utf8_lossy(message))
                    }
                    Event::End { stream, end } => {
                        format!("{stream} code {} {}", end.code, end.text)
                    }
                    Event::Goodbye { last_stream } => format!("goodbye after {last_stream}"),
                });
                Ok(())
            })?;
        }
        Ok(seen)
    }

    fn trailers(status: u8) -> Vec<u8> {
        let mut block = vec![0x00, 11];
        block.extend_from_slice(b"grpc-status");
        block.extend_from_slice(&[1, status]);
        block
    }

    #[test]
    fn answers_are_found_however_the_bytes_come() {
        let mut bytes = Vec::new();
        put(frame::SETTINGS, 0, 0, &[], &mut bytes);
        put(frame::HEADERS, frame::END_HEADERS, 1, &[0x88], &mut bytes);
        put(frame::DATA, 0, 1, b"\0\0\0\0\x05he", &mut bytes);
        put(frame::HEADERS, frame::END_HEADERS, 3, &[0x88], &mut bytes);
        put(frame::DATA, 0, 3, b"\0\0\0\0\x01a\0\0\0\0\x02b", &mut bytes);
        put(frame::DATA, 0, 1, b"llo", &mut bytes);
        put(frame::DATA, 0, 3, b"c", &mut bytes);
        let ends = frame::END_HEADERS | frame::END_STREAM;
        put(frame::HEADERS, ends, 1, &trailers(b'0'), &mut bytes);
        put(frame::RST_STREAM, 0, 1, &[0; 4], &mut bytes);
        put(frame::HEADERS, ends, 3, &trailers(b'8'), &mut bytes);
        put(frame::RST_STREAM, 0, 5, &[0, 0, 0, 7], &mut bytes);
        let reset = "5 code 13 the server reset the stream with HTTP/2 code 7";
        let expected = ["3 a", "1 hello", "3 bc", "1 code 0 ", "3 code 8 ", reset];
        for piece in [1, 2, 7, 1000] {
            assert_eq!(
                events(&bytes, piece).unwrap(),
                expected,
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn what_no_server_should_send_is_an_error() {
        let ends = frame::END_HEADERS | frame::END_STREAM;
        for (kind, flags, payload) in [
            (frame::DATA, frame::END_STREAM, &b"\0\0\0\0\0"[..]),
            (frame::DATA, frame::PADDED, b"\0"),
            (frame::DATA, 0, b"\x01\0\0\0\0"),
            (frame::HEADERS, ends, &[0x88]),
            (frame::HEADERS, frame::END_HEADERS, &[0x8d]),
            (frame::GOAWAY, 0, &[0; 3]),
            (frame::SETTINGS, 0, &[0, 1, 0, 0, 0, 0]),
        ] {
            let mut bytes = Vec::new();
            put(kind, flags, 1, payload, &mut bytes);
            assert!(events(&bytes, 1000).is_err(), "{kind} {flags} {payload:?}");
        }
    }
}
