//! A look at HTTP/2 frames as they pass by.
//!
//! The HTTP/2 library answers pings and handles resets by itself and tells nobody. The scanner follows the frame
//! headers in a byte stream, whatever pieces it arrives in, so that the connection can police pings, learn at once
//! that a call was cancelled, and know whether a frame of its own may be put in between.

/// Length of a frame header.
pub(super) const HEADER_BYTES: usize = 9;

/// Length of the text that opens a client's half of a connection.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types the connection cares about. Source: RFC 9113, section 6.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

/// Flag of a PING that answers one.
pub(super) const ACK: u8 = 1;

/// Flags of the frames of a header block: it ends here, its fragment is padded, a priority stands before it.
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

/// Error code of a GOAWAY to a client that asks too much.
const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Bytes of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHeader {
    pub(super) fn parse(bytes: [u8; HEADER_BYTES]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s0, s1, s2, s3]
    }
}

/// Follows one direction of a connection.
pub(super) struct FrameScanner {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Bytes to pass over before the next header: the preface, then payloads.
    skip: usize,
}

impl FrameScanner {
    /// A scanner for a stream that begins with `skip` bytes that are no frame.
    pub(super) fn new(skip: usize) -> Self {
        Self {
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            skip,
        }
    }

    /// Whether the stream stands between two frames.
    pub(super) fn at_boundary(&self) -> bool {
        self.header_bytes == 0 && self.skip == 0
    }

    /// Takes the next bytes of the stream and tells each header that they complete.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut tell: impl FnMut(FrameHeader)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + taken]
                .copy_from_slice(&bytes[..taken]);
            self.header_bytes += taken;
            bytes = &bytes[taken..];
            if self.header_bytes < HEADER_BYTES {
                return;
            }
            self.header_bytes = 0;
            let header = FrameHeader::parse(self.header);
            self.skip = header.length;
            tell(header);
        }
    }
}

/// The GOAWAY that official servers send to a client that pings too often; clients know it by its debug text.
pub(super) fn too_many_pings(last_stream: u32) -> Vec<u8> {
    const DEBUG: &[u8] = b"too_many_pings";
    let length = (8 + DEBUG.len()) as u8;
    let mut frame = vec![0, 0, length, GOAWAY, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&last_stream.to_be_bytes());
    frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend_from_slice(DEBUG);
    frame
}

#[cfg(test)]
mod tests {
    use super::{FrameHeader, FrameScanner, PING, PREFACE, too_many_pings};

    #[test]
    fn scanner_finds_the_same_frames_however_the_bytes_are_cut() {
        let mut stream = PREFACE.to_vec();
        stream.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        stream.extend_from_slice(&[0, 0, 8, PING, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        stream.extend_from_slice(&[0, 0, 1, 0, 1, 0x80, 0, 0, 7, 42]);
        stream.extend_from_slice(&too_many_pings(7));
        let expected = [(0, 4, 0, 0), (8, PING, 1, 0), (1, 0, 1, 7), (22, 7, 0, 0)];
        for size in 1..stream.len() {
            let mut scanner = FrameScanner::new(PREFACE.len());
            let mut seen = Vec::new();
            for piece in stream.chunks(size) {
                scanner.feed(piece, |header| seen.push(header));
            }
            let expected = expected.map(|(length, kind, flags, stream)| FrameHeader {
                length,
                kind,
                flags,
                stream,
            });
            assert_eq!(seen, expected, "pieces of {size}");
            assert!(scanner.at_boundary());
        }
    }
}
