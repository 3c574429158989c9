//! Header compression (RFC 7541): the blocks we send, and the gRPC status of what comes back.
//!
//! Both dynamic tables are in use, as with any ordinary client: without them a server would spell out every trailer.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};

use super::huffman;
use crate::endpoint::Endpoint;

/// Size of a dynamic table unless the other side lowers it, in bytes.
pub(super) const TABLE_BYTES: usize = 4096;

/// What an entry costs beside its name and value.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// Who calls, for the server's metrics.
const USER_AGENT: &str = concat!("kvorum-bench/", env!("CARGO_PKG_VERSION"));

/// The names of the static table, from index 1.
const STATIC_NAMES: &[&str] = &[
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// `:status: 200`.
const STATIC_STATUS_OK: usize = 8;
/// The indexes of all `:status` entries.
const STATIC_STATUS: std::ops::RangeInclusive<usize> = 8..=14;

/// The header blocks of the calls of one connection.
///
/// The first call of all fills the server's table, the first of each other method adds its path; all later blocks only
/// point there. The table has, newest first: the paths but the oldest in reverse order, the headers that all calls
/// share, and the oldest path.
pub(super) struct CallBlocks {
    paths: Vec<String>,
    /// A static index that says the scheme.
    scheme: u8,
    /// What all calls share, beside method and scheme.
    shared: Vec<Header>,
    /// The places of `paths` in the order in which they entered the table.
    added: Vec<usize>,
    /// By path: the block once it is in the table.
    blocks: Vec<Option<Vec<u8>>>,
}

/// The newest entry of a dynamic table.
const NEWEST: usize = STATIC_NAMES.len() + 1;
const METHOD_POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;
const SCHEME_HTTPS: u8 = 0x87;
/// A header with a name of the static table, or with one that is spelled out (0), that enters the dynamic table.
const ADD_WITH_NAME: u8 = 0x40;
const NAME_PATH: u8 = 4;

/// A header that calls share.
struct Header {
    name: HeaderName,
    value: String,
}

enum HeaderName {
    /// Index in the static table.
    Static(u8),
    Spelled(&'static str),
}

impl CallBlocks {
    /// For calls to these methods.
    pub(super) fn new(paths: &[&str], endpoint: &Endpoint) -> Self {
        use HeaderName::{Spelled, Static};
        const NAME_AUTHORITY: u8 = 1;
        const NAME_CONTENT_TYPE: u8 = 31;
        const NAME_USER_AGENT: u8 = 58;
        let mut shared = vec![
            (Static(NAME_AUTHORITY), endpoint.authority.as_str()),
            (Static(NAME_CONTENT_TYPE), "application/grpc"),
            (Static(NAME_USER_AGENT), USER_AGENT),
            (Spelled("te"), "trailers"),
        ];
        shared.extend(
            endpoint
                .token
                .as_deref()
                .map(|token| (Spelled("token"), token)),
        );
        let header = |(name, value): (HeaderName, &str)| Header {
            name,
            value: value.to_owned(),
        };
        Self {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            scheme: if endpoint.is_secure() {
                SCHEME_HTTPS
            } else {
                SCHEME_HTTP
            },
            shared: shared.into_iter().map(header).collect(),
            added: Vec::new(),
            blocks: vec![None; paths.len()],
        }
    }

    /// Appends the block of the next call to the method at this place. Every block must be sent, and in this order.
    pub(super) fn write(&mut self, path: usize, out: &mut Vec<u8>) {
        if let Some(block) = &self.blocks[path] {
            out.extend_from_slice(block);
            return;
        }
        out.extend_from_slice(&[METHOD_POST, self.scheme, ADD_WITH_NAME | NAME_PATH]);
        plain_string(&self.paths[path], out);
        let is_first = self.added.is_empty();
        self.added.push(path);
        if is_first {
            self.add_shared(out);
        } else {
            out.extend(self.shared());
        }
        for place in 0..self.added.len() {
            self.blocks[self.added[place]] = Some(self.later_block(place));
        }
    }

    fn add_shared(&self, out: &mut Vec<u8>) {
        for header in &self.shared {
            match header.name {
                HeaderName::Static(index) => out.push(ADD_WITH_NAME | index),
                HeaderName::Spelled(name) => {
                    out.push(ADD_WITH_NAME);
                    plain_string(name, out);
                }
            }
            plain_string(&header.value, out);
        }
    }

    /// Pointers to the shared headers, oldest first.
    fn shared(&self) -> impl Iterator<Item = u8> {
        let newest = NEWEST + self.added.len() - 1;
        (newest..newest + self.shared.len()).rev().map(pointer)
    }

    /// The block of the path that entered the table as number `place`.
    fn later_block(&self, place: usize) -> Vec<u8> {
        let newer = self.added.len() - 1 - place;
        let path = match place {
            0 => NEWEST + newer + self.shared.len(),
            _ => NEWEST + newer,
        };
        let mut block = vec![METHOD_POST, self.scheme, pointer(path)];
        block.extend(self.shared());
        block
    }
}

/// A header that is in a table at this index.
fn pointer(index: usize) -> u8 {
    const INDEXED: u8 = 0x80;
    assert!(index < 127, "a connection has a handful of methods");
    INDEXED | index as u8
}

/// A string without Huffman's code, behind its length.
fn plain_string(text: &str, out: &mut Vec<u8>) {
    const PREFIX_MAX: usize = 127;
    if text.len() < PREFIX_MAX {
        out.push(text.len() as u8);
    } else {
        out.push(PREFIX_MAX as u8);
        let mut rest = text.len() - PREFIX_MAX;
        while rest >= 128 {
            out.push(rest as u8 | 128);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text.as_bytes());
}

/// What a header block says about a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The answer is an HTTP error, which no gRPC server sends.
    pub(super) http_error: bool,
    /// `grpc-status`, if there.
    pub(super) grpc_status: Option<u32>,
    /// `grpc-message`, percent-encoded as it came.
    pub(super) grpc_message: String,
}

impl Head {
    fn take(&mut self, name: Name, value: &str) -> Result<()> {
        match name {
            Name::HttpStatus => self.http_error = value != "200",
            Name::GrpcStatus => {
                self.grpc_status = Some(value.parse().context("grpc-status is not a number")?);
            }
            Name::GrpcMessage => value.clone_into(&mut self.grpc_message),
            Name::Other => {}
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Name {
    HttpStatus,
    GrpcStatus,
    GrpcMessage,
    Other,
}

impl Name {
    fn of(text: &str) -> Self {
        match text {
            ":status" => Self::HttpStatus,
            "grpc-status" => Self::GrpcStatus,
            "grpc-message" => Self::GrpcMessage,
            _ => Self::Other,
        }
    }
}

struct Entry {
    name: Name,
    name_bytes: usize,
    value: String,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.name_bytes + self.value.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// Reads the header blocks of one connection, in order: each may change the table for the next.
pub(super) struct Decoder {
    /// Newest first.
    table: VecDeque<Entry>,
    table_bytes: usize,
    table_bytes_max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: TABLE_BYTES,
        }
    }
}

impl Decoder {
    /// Reads one block.
    pub(super) fn decode(&mut self, block: &[u8]) -> Result<Head> {
        let mut head = Head::default();
        let mut rest = block;
        while let Some(first) = rest.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                self.indexed(index, &mut head)?;
            } else if first & 0x40 != 0 {
                let entry = self.literal(&mut rest, 6)?;
                head.take(entry.name, &entry.value)?;
                self.add(entry);
            } else if first & 0x20 != 0 {
                let size = integer(&mut rest, 5)?;
                ensure!(
                    size <= TABLE_BYTES,
                    "header table of {size} bytes, at most {TABLE_BYTES}"
                );
                self.table_bytes_max = size;
                self.evict();
            } else {
                let entry = self.literal(&mut rest, 4)?;
                head.take(entry.name, &entry.value)?;
            }
        }
        Ok(head)
    }

    fn indexed(&self, index: usize, head: &mut Head) -> Result<()> {
        if let Some(place) = index.checked_sub(STATIC_NAMES.len() + 1) {
            let entry = self
                .table
                .get(place)
                .context("header index past the table")?;
            return head.take(entry.name, &entry.value);
        }
        ensure!(index > 0, "header index 0");
        if STATIC_STATUS.contains(&index) {
            head.http_error = index != STATIC_STATUS_OK;
        }
        Ok(())
    }

    fn literal(&self, rest: &mut &[u8], prefix_bits: u32) -> Result<Entry> {
        let index = integer(rest, prefix_bits)?;
        let (name, name_bytes) = if index == 0 {
            let name = string(rest)?;
            (Name::of(&name), name.len())
        } else if let Some(place) = index.checked_sub(STATIC_NAMES.len() + 1) {
            let entry = self
                .table
                .get(place)
                .context("header index past the table")?;
            (entry.name, entry.name_bytes)
        } else {
            let name = STATIC_NAMES[index - 1];
            (Name::of(name), name.len())
        };
        let value = string(rest)?;
        Ok(Entry {
            name,
            name_bytes,
            value,
        })
    }

    fn add(&mut self, entry: Entry) {
        self.table_bytes += entry.bytes();
        self.table.push_front(entry);
        self.evict();
    }

    fn evict(&mut self) {
        while self.table_bytes > self.table_bytes_max
            && let Some(oldest) = self.table.pop_back()
        {
            self.table_bytes -= oldest.bytes();
        }
    }
}

/// A number whose first part is in the low `prefix_bits` of the next byte.
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize> {
    /// More would be numbers that no block here needs.
    const CONTINUATION_BYTES_MAX: u32 = 4;
    let cut = "header block ends in a number";
    let (first, after) = rest.split_first().context(cut)?;
    *rest = after;
    let prefix_max = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(*first) & prefix_max;
    if value < prefix_max {
        return Ok(value);
    }
    for place in 0..CONTINUATION_BYTES_MAX {
        let (byte, after) = rest.split_first().context(cut)?;
        *rest = after;
        value += usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    anyhow::bail!("header block with an overlong number")
}

fn string(rest: &mut &[u8]) -> Result<String> {
    let is_huffman = rest.first().is_some_and(|byte| byte & 0x80 != 0);
    let bytes = integer(rest, 7)?;
    let (text, after) = rest
        .split_at_checked(bytes)
        .context("header block ends in a string")?;
    *rest = after;
    if is_huffman {
        huffman::decode(text).context("header string that is not printable")
    } else {
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{CallBlocks, Decoder, Endpoint, Head, NEWEST, USER_AGENT};

    #[test]
    fn status_is_found_in_literals_and_later_in_the_table() {
        let mut decoder = Decoder::default();
        // grpc-status: 0, added to the table, in plain letters.
        let mut block = vec![0x88, 0x40, 11];
        block.extend_from_slice(b"grpc-status");
        block.extend_from_slice(&[1, b'0']);
        let ok = Head {
            grpc_status: Some(0),
            ..Head::default()
        };
        assert_eq!(decoder.decode(&block).unwrap(), ok);
        assert_eq!(decoder.decode(&[0xbe]).unwrap(), ok);
        // The same name from the table, another value, not added.
        let refused = decoder.decode(&[0x0f, 47, 1, b'8']).unwrap();
        assert_eq!(refused.grpc_status, Some(8));
        assert_eq!(decoder.decode(&[0xbe]).unwrap(), ok);
    }

    #[test]
    fn http_error_is_seen() {
        assert!(Decoder::default().decode(&[0x8d]).unwrap().http_error);
        assert!(!Decoder::default().decode(&[0x88]).unwrap().http_error);
    }

    #[test]
    fn shrinking_the_table_forgets() {
        let mut decoder = Decoder::default();
        decoder.decode(&[0x40, 1, b'a', 1, b'b']).unwrap();
        decoder.decode(&[0xbe]).unwrap();
        decoder.decode(&[0x20]).unwrap();
        assert!(decoder.decode(&[0xbe]).is_err());
    }

    #[test]
    fn torn_blocks_are_errors() {
        let whole = [0x40, 1, b'a', 1, b'b'];
        for end in 1..whole.len() {
            assert!(
                Decoder::default().decode(&whole[..end]).is_err(),
                "{end} bytes"
            );
        }
    }

    #[test]
    fn later_calls_point_to_what_the_first_added() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut endpoint = Endpoint::from(address);
        later_calls_point(
            &endpoint,
            &["127.0.0.1:1", "application/grpc", USER_AGENT, "trailers"],
        );
        // Tokens may be longer than a length of one byte tells.
        let token = "t".repeat(700);
        endpoint.token = Some(token.clone());
        let shared = [
            "127.0.0.1:1",
            "application/grpc",
            USER_AGENT,
            "trailers",
            &token,
        ];
        later_calls_point(&endpoint, &shared);
    }

    fn later_calls_point(endpoint: &Endpoint, shared: &[&str]) {
        let mut blocks = CallBlocks::new(&["/p", "/q", "/r"], endpoint);
        let mut decoder = Decoder::default();
        let mut lengths = Vec::new();
        for (path, name) in [
            (1, "/q"),
            (1, "/q"),
            (0, "/p"),
            (1, "/q"),
            (2, "/r"),
            (0, "/p"),
        ] {
            let mut block = Vec::new();
            blocks.write(path, &mut block);
            decoder.decode(&block).unwrap();
            lengths.push(block.len());
            // Whatever points to the table points to a path and to what all share.
            let values = block.iter().filter(|byte| **byte >= 0xbe);
            let values: Vec<_> = values
                .map(|byte| {
                    decoder.table[usize::from(*byte & 0x7f) - NEWEST]
                        .value
                        .as_str()
                })
                .collect();
            match values.as_slice() {
                [] => {}
                rest if rest.len() == shared.len() => assert_eq!(rest, shared),
                [path, rest @ ..] => assert_eq!((*path, rest), (name, shared)),
            }
        }
        let pointers = 3 + shared.len();
        assert_eq!(lengths[1], pointers);
        assert_eq!(lengths[2], pointers + 3);
        assert_eq!((lengths[3], lengths[5]), (pointers, pointers));
        assert_eq!(decoder.table.len(), 3 + shared.len());
    }
}
