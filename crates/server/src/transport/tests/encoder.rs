//! Requests as bytes, with all the freedom that clients have in writing them.

use std::collections::VecDeque;

use crate::transport::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, FrameHeader, HEADERS, PADDED, PRIORITY,
};
use crate::transport::hpack;

/// Bytes of an entry of the dynamic table beside its name and value.
const ENTRY_BYTES: usize = 32;

/// Size of the dynamic table while nobody says otherwise.
pub(super) const TABLE_BYTES: usize = 4096;

/// How a field is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// 0: literal that enters the table, 1: one that does not, 2: one that never may.
    pub(super) literal: usize,
    /// Whether a reference to the whole field is used where the table has one.
    pub(super) refer: bool,
    pub(super) huffman: bool,
    /// Whether a name of the static table is spelled out.
    pub(super) spell: bool,
}

/// How a request is cut into frames.
#[derive(Clone, Debug)]
pub(super) struct Framing {
    pub(super) fragment_bytes: usize,
    pub(super) padding: Option<u8>,
    pub(super) priority: bool,
    /// A new size of the dynamic table before the fields.
    pub(super) table_bytes: Option<usize>,
}

/// What a client asks for, and how it writes that down.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) authority: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) styles: Vec<Style>,
    pub(super) framing: Framing,
}

/// A client's compression of headers, as RFC 7541 describes it.
pub(super) struct Encoder {
    table: VecDeque<(String, String)>,
    table_bytes_max: usize,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            table_bytes_max: TABLE_BYTES,
        }
    }

    fn evict(&mut self) {
        let size = |(name, value): &(String, String)| name.len() + value.len() + ENTRY_BYTES;
        while self.table.iter().map(size).sum::<usize>() > self.table_bytes_max {
            self.table.pop_back();
        }
    }

    fn resize(&mut self, bytes: usize, block: &mut Vec<u8>) {
        self.table_bytes_max = bytes;
        self.evict();
        integer(0x20, 5, bytes, block);
    }

    fn field(&mut self, name: &str, value: &str, style: Style, block: &mut Vec<u8>) {
        const STATIC_ENTRIES: usize = 61;
        let known = self.table.iter().position(|(n, v)| n == name && v == value);
        if let Some(place) = known
            && style.refer
        {
            return integer(0x80, 7, STATIC_ENTRIES + 1 + place, block);
        }
        let index = match name {
            ":authority" => 1,
            ":method" => 2,
            ":path" => 4,
            ":scheme" => 6,
            _ => 0,
        };
        let index = if style.spell { 0 } else { index };
        let (mark, bits) = [(0x40, 6), (0x00, 4), (0x10, 4)][style.literal];
        integer(mark, bits, index, block);
        let write = if style.huffman {
            hpack::write_huffman
        } else {
            hpack::write_string
        };
        if index == 0 {
            write(name.as_bytes(), block);
        }
        write(value.as_bytes(), block);
        if style.literal == 0 {
            self.table.push_front((name.to_owned(), value.to_owned()));
            self.evict();
        }
    }

    /// The frames of a request without a body.
    pub(super) fn request(&mut self, request: &Request, stream: u32) -> Vec<u8> {
        let mut block = Vec::new();
        if let Some(bytes) = request.framing.table_bytes {
            self.resize(bytes, &mut block);
        }
        let mut styles = request.styles.iter().cycle();
        let pseudo = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/test.Echo/Echo"),
            (":authority", request.authority),
        ];
        let fields = request
            .fields
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        for (name, value) in pseudo.into_iter().chain(fields) {
            let style = styles.next().copied().unwrap();
            self.field(name, value, style, &mut block);
        }
        request.framing.cut(&block, stream)
    }
}

impl Framing {
    fn cut(&self, block: &[u8], stream: u32) -> Vec<u8> {
        let mut frames = Vec::new();
        let mut pieces = block.chunks(self.fragment_bytes).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let mut flags = if pieces.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            let mut payload = Vec::new();
            if kind == HEADERS {
                flags |= END_STREAM;
                if let Some(padding) = self.padding {
                    flags |= PADDED;
                    payload.push(padding);
                }
                if self.priority {
                    flags |= PRIORITY;
                    payload.extend_from_slice(&[0, 0, 0, 0, 16]);
                }
            }
            payload.extend_from_slice(piece);
            if kind == HEADERS {
                payload.resize(payload.len() + usize::from(self.padding.unwrap_or(0)), 0);
            }
            frames.extend_from_slice(&frame(kind, flags, stream, &payload));
            kind = CONTINUATION;
        }
        frames
    }
}

fn integer(mark: u8, prefix_bits: u32, value: usize, block: &mut Vec<u8>) {
    let prefix_max = (1 << prefix_bits) - 1;
    if value < prefix_max {
        return block.push(mark | value as u8);
    }
    block.push(mark | prefix_max as u8);
    let mut rest = value - prefix_max;
    while rest >= 0x80 {
        block.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    block.push(rest as u8);
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    [&header.to_bytes()[..], payload].concat()
}
