//! Frame headers and the numbers of RFC 9113.

/// Bytes of a frame header.
pub(super) const HEADER_BYTES: usize = 9;
/// Largest payload that a receiver takes unless it says otherwise; neither side here does.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16_384;
/// What a client sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Window of a stream and of a connection before anybody changes it, in bytes.
pub(super) const WINDOW_BYTES: i64 = 65_535;
/// The largest window there may be, in bytes.
pub(super) const WINDOW_BYTES_MAX: i64 = (1 << 31) - 1;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;

/// The code of a reset without a reason.
pub(super) const NO_ERROR: u32 = 0;

/// On SETTINGS and PING.
pub(super) const ACK: u8 = 1;
/// On DATA and HEADERS.
pub(super) const END_STREAM: u8 = 1;
/// On HEADERS: no CONTINUATION follows.
pub(super) const END_HEADERS: u8 = 4;
/// On DATA and HEADERS.
pub(super) const PADDED: u8 = 8;
/// On HEADERS.
pub(super) const PRIORITY: u8 = 32;

pub(super) const SETTING_HEADER_TABLE_SIZE: u16 = 1;
pub(super) const SETTING_ENABLE_PUSH: u16 = 2;
pub(super) const SETTING_MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const SETTING_INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes that follow.
    pub(super) payload_bytes: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0: the connection itself.
    pub(super) stream: u32,
}

impl Header {
    /// The header at the start of `bytes`, if it is all there.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        let [a, b, c, kind, flags, stream @ ..] = *header;
        Some(Self {
            payload_bytes: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            // The highest bit is reserved.
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        })
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        let [_, length @ ..] = (self.payload_bytes as u32).to_be_bytes();
        out.extend_from_slice(&length);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{DATA, END_STREAM, Header};

    #[test]
    fn header_reads_as_written() {
        let header = Header {
            payload_bytes: 0x01_0203,
            kind: DATA,
            flags: END_STREAM,
            stream: 0x7fff_fffd,
        };
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        assert_eq!(bytes, [1, 2, 3, 0, 1, 0x7f, 0xff, 0xff, 0xfd]);
        assert_eq!(Header::read(&bytes), Some(header));
        assert_eq!(Header::read(&bytes[..8]), None);
    }
}
