//! What a new connection speaks, told from its first bytes.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::frames::{PREFACE, SETTINGS};
use super::socket::Socket;

/// Bytes read to find out.
const SNIFF_BYTES: usize = 1024;

/// Where a frame header holds the type of the frame.
const FRAME_KIND_OFFSET: usize = 3;

/// Longest method name of an HTTP/1 request.
const METHOD_BYTES_MAX: usize = 32;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/2 with prior knowledge: gRPC.
    Http2,
    /// HTTP/1.
    Http1,
    /// A TLS handshake on a port without TLS.
    Tls,
    /// Nothing known.
    Unknown,
}

/// Judges the first bytes of a connection. `None`: more are needed.
pub(super) fn judge(bytes: &[u8]) -> Option<Protocol> {
    let known = bytes.len().min(PREFACE.len());
    if bytes[..known] == PREFACE[..known] {
        // A client's preface includes its first SETTINGS frame; one that stops before it is not let in.
        let settings = bytes.get(PREFACE.len() + FRAME_KIND_OFFSET)?;
        let valid = *settings == SETTINGS;
        return Some(if valid {
            Protocol::Http2
        } else {
            Protocol::Unknown
        });
    }
    if bytes.first() == Some(&0x16) {
        return Some(Protocol::Tls);
    }
    let method = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase())
        .count();
    match bytes.get(method) {
        Some(b' ') if method > 0 => Some(Protocol::Http1),
        None if method <= METHOD_BYTES_MAX => None,
        _ => Some(Protocol::Unknown),
    }
}

/// Reads until the protocol shows. Returns it with the bytes read; `None` if the client leaves before.
///
/// # Errors
/// Those of the socket.
pub(super) async fn sniff(socket: &mut Socket) -> io::Result<Option<(Protocol, Bytes)>> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; SNIFF_BYTES];
        let mut buffer = ReadBuf::new(&mut piece);
        poll_fn(|cx| socket.poll_read(cx, &mut buffer)).await?;
        if buffer.filled().is_empty() {
            return Ok(None);
        }
        bytes.extend_from_slice(buffer.filled());
        if let Some(protocol) = judge(&bytes) {
            return Ok(Some((protocol, bytes.into())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Protocol::{Http1, Http2, Tls, Unknown};
    use super::judge;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let cases: &[(&[u8], Option<super::Protocol>)] = &[
            (b"", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Some(Http2)),
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x08\x06",
                Some(Unknown),
            ),
            (b"PRI * HTTP/1.1\r\n", Some(Http1)),
            (b"G", None),
            (b"GET ", Some(Http1)),
            (b"GET /health HTTP/1.1\r\n", Some(Http1)),
            (b"OPTIONS * HTTP/1.1\r\n", Some(Http1)),
            (b" GET /", Some(Unknown)),
            (b"get /", Some(Unknown)),
            (b"\x16\x03\x01", Some(Tls)),
            (b"\0\0\0\0", Some(Unknown)),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", Some(Unknown)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(judge(bytes), *expected, "{}", bytes.escape_ascii());
        }
    }
}
