//! Authorities that only Go servers understand.
//!
//! Every gRPC request names an `:authority`. Official servers take any text there and look at it no further, and
//! clients make use of that: etcdctl 3.4 sends `http://127.0.0.1:2379`, clients of 3.5.0 `#initially=[...]`, clients
//! of unix sockets send paths. The HTTP/2 library refuses a request whose authority is none by the rules of URIs.
//!
//! So a guard below the library reads the first request of each connection. Mostly its authority is a valid one, and
//! the guard retires: clients do not change it in the life of a connection. Otherwise it stays, and in every header
//! block replaces a bad authority by a stand-in. Nothing above looks at the authority.
//!
//! The stand-in is as long as what it replaces. That is all it takes to keep the compression of headers intact: an
//! entry of the dynamic table has the size of its name and value, so the same entries fit, leave and are referred to
//! by the same numbers on both sides, and the guard needs no table of its own.
//!
//! Invariants:
//! - What comes out is what went in, byte for byte, but for header blocks with a bad authority.
//! - At most [`HELD_BYTES_MAX`] bytes are held back, only of a torn frame header or an unfinished header block.
//! - What the guard does not understand, it passes on for the library to judge.

use http::uri;
use tokio::io::ReadBuf;

use super::frames::{
    CONTINUATION, END_HEADERS, FrameHeader, HEADER_BYTES, HEADERS, PADDED, PREFACE, PRIORITY,
};
use super::hpack::{self, Authority};
use super::server::HEADER_BYTES_MAX;

/// Bytes of a header block that are held back until it is whole. The library refuses the headers of a larger one.
const HELD_BYTES_MAX: usize = HEADER_BYTES_MAX as usize;

/// Largest payload of a frame that the server takes. Source: RFC 9113, `SETTINGS_MAX_FRAME_SIZE`, initial value.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a priority before a header block.
const PRIORITY_BYTES: usize = 5;

/// Capacity of the buffers kept between reads.
const BUFFER_BYTES_KEPT: usize = 16 * 1024;

/// Which requests the guard reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    First,
    Every,
    None,
}

/// Reads what a client sends before the HTTP/2 library does.
#[derive(Debug)]
pub(super) struct AuthorityGuard {
    /// Bytes for the library, from `taken` on.
    ready: Vec<u8>,
    taken: usize,
    /// Bytes held back: the frames of a header block, the last of them incomplete.
    held: Vec<u8>,
    /// Where in `held` the last frame begins.
    frame: usize,
    /// Bytes to pass on before the next frame header.
    pass: usize,
    watch: Watch,
}

impl Default for AuthorityGuard {
    fn default() -> Self {
        Self {
            ready: Vec::new(),
            taken: 0,
            held: Vec::new(),
            frame: 0,
            pass: PREFACE.len(),
            watch: Watch::First,
        }
    }
}

impl AuthorityGuard {
    /// Takes the next bytes of the client.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.watch != Watch::None {
            if self.pass > 0 {
                let passed = self.pass.min(bytes.len());
                self.ready.extend_from_slice(&bytes[..passed]);
                self.pass -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let missing = self.missing();
            let held = missing.min(bytes.len());
            self.held.extend_from_slice(&bytes[..held]);
            bytes = &bytes[held..];
            if held == missing {
                self.judge();
            }
        }
        self.ready.extend_from_slice(bytes);
    }

    /// Passes on what is held back, since the client sends no more. Returns whether there was something.
    pub(super) fn finish(&mut self) -> bool {
        let held = !self.held.is_empty();
        self.let_go();
        held
    }

    /// Moves bytes for the library into `buffer`. Returns whether there were any.
    pub(super) fn take(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let left = &self.ready[self.taken..];
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..count]);
        self.taken += count;
        if self.taken == self.ready.len() {
            self.taken = 0;
            self.ready.clear();
            self.ready.shrink_to(BUFFER_BYTES_KEPT);
        }
        count > 0
    }

    /// Whether no further request needs the guard and everything is passed on.
    pub(super) fn is_done(&self) -> bool {
        self.watch == Watch::None && self.ready.is_empty()
    }

    /// The header of the last frame held back, once it is whole.
    fn header(&self) -> Option<FrameHeader> {
        let bytes = self.held[self.frame..].first_chunk::<HEADER_BYTES>()?;
        Some(FrameHeader::parse(*bytes))
    }

    /// Bytes until the last frame held back has its header, or until it is whole.
    fn missing(&self) -> usize {
        let length = self.header().map_or(0, |header| header.length);
        self.frame + HEADER_BYTES + length - self.held.len()
    }

    /// Decides about the last frame, when its header is whole and when all of it is.
    fn judge(&mut self) {
        let Some(header) = self.header() else {
            return;
        };
        let begins = self.held.len() == self.frame + HEADER_BYTES;
        if begins && !self.may_hold(header) {
            self.let_go();
            self.pass = header.length;
        } else if self.missing() == 0 {
            if header.flags & END_HEADERS == 0 {
                self.frame = self.held.len();
            } else {
                self.end_block();
            }
        }
    }

    /// Whether a frame belongs to a header block that the guard reads.
    fn may_hold(&self, header: FrameHeader) -> bool {
        let first = self.held.first_chunk().copied().map(FrameHeader::parse);
        let belongs = match first {
            Some(first) if self.frame > 0 => {
                header.kind == CONTINUATION && header.stream == first.stream
            }
            _ => header.kind == HEADERS,
        };
        belongs
            && header.length <= PAYLOAD_BYTES_MAX
            && self.held.len() + header.length <= HELD_BYTES_MAX
    }

    /// Passes on what is held back, as it is.
    fn let_go(&mut self) {
        self.ready.append(&mut self.held);
        self.held.shrink_to(BUFFER_BYTES_KEPT);
        self.frame = 0;
    }

    /// Passes on a whole header block, with a stand-in for a bad authority.
    fn end_block(&mut self) {
        let block = HeaderBlock::parse(&self.held);
        let Some((mut block, authorities)) = block.and_then(|block| {
            let authorities = hpack::authorities(&block.fields)?;
            Some((block, authorities))
        }) else {
            return self.let_go();
        };
        if authorities
            .iter()
            .all(|authority| is_valid(&authority.value))
        {
            if self.watch == Watch::First {
                self.watch = Watch::None;
            }
            return self.let_go();
        }
        self.watch = Watch::Every;
        block.fields = replace(&block.fields, &authorities);
        block.write(&mut self.ready);
        self.held.clear();
        self.let_go();
    }
}

/// Whether the HTTP/2 library takes this authority.
fn is_valid(authority: &[u8]) -> bool {
    uri::Authority::try_from(authority).is_ok()
}

/// A valid authority of the same length: what is no letter, digit or dot becomes a hyphen. There is none for an
/// empty one.
fn stand_in(authority: &[u8]) -> Vec<u8> {
    let replace = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' => *byte,
        _ => b'-',
    };
    authority.iter().map(replace).collect()
}

/// The same fields with stand-ins for bad authorities.
fn replace(fields: &[u8], authorities: &[Authority]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(fields.len() * 2);
    let mut copied = 0;
    for authority in authorities {
        if !is_valid(&authority.value) {
            replaced.extend_from_slice(&fields[copied..authority.place.start]);
            hpack::write_string(&stand_in(&authority.value), &mut replaced);
            copied = authority.place.end;
        }
    }
    replaced.extend_from_slice(&fields[copied..]);
    replaced
}

/// A HEADERS frame and its continuations as one.
struct HeaderBlock {
    /// The header of the first frame.
    first: FrameHeader,
    /// The priority, if there is one.
    priority: Vec<u8>,
    /// The compressed fields.
    fields: Vec<u8>,
}

impl HeaderBlock {
    /// Joins whole frames. `None`: their padding or priority does not fit.
    fn parse(mut frames: &[u8]) -> Option<Self> {
        let mut joined: Option<Self> = None;
        while let Some((header, rest)) = frames.split_first_chunk::<HEADER_BYTES>() {
            let header = FrameHeader::parse(*header);
            let (mut payload, rest) = rest.split_at_checked(header.length)?;
            frames = rest;
            let Some(block) = &mut joined else {
                if header.flags & PADDED != 0 {
                    let (padding, padded) = payload.split_first()?;
                    let length = padded.len().checked_sub(usize::from(*padding))?;
                    payload = &padded[..length];
                }
                let has_priority = header.flags & PRIORITY != 0;
                let priority_bytes = if has_priority { PRIORITY_BYTES } else { 0 };
                let (priority, fields) = payload.split_at_checked(priority_bytes)?;
                joined = Some(Self {
                    first: header,
                    priority: priority.to_vec(),
                    fields: fields.to_vec(),
                });
                continue;
            };
            block.fields.extend_from_slice(payload);
        }
        joined
    }

    /// Writes the block as few frames as it takes, without padding.
    fn write(&self, bytes: &mut Vec<u8>) {
        let first_bytes = self
            .fields
            .len()
            .min(PAYLOAD_BYTES_MAX - self.priority.len());
        let (first, rest) = self.fields.split_at(first_bytes);
        let end = |more: bool| if more { 0 } else { END_HEADERS };
        let header = FrameHeader {
            length: self.priority.len() + first.len(),
            flags: self.first.flags & !(PADDED | END_HEADERS) | end(!rest.is_empty()),
            ..self.first
        };
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(&self.priority);
        bytes.extend_from_slice(first);
        let mut pieces = rest.chunks(PAYLOAD_BYTES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let header = FrameHeader {
                length: piece.len(),
                kind: CONTINUATION,
                flags: end(pieces.peek().is_some()),
                stream: self.first.stream,
            };
            bytes.extend_from_slice(&header.to_bytes());
            bytes.extend_from_slice(piece);
        }
    }
}
