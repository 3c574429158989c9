//! gRPC messages inside HTTP/2 data: one flag byte, four bytes of length, the message.

use bytes::{Buf, Bytes, BytesMut};

use super::body::PREFIX_BYTES;
use super::{Code, Status};
use crate::arena;

/// Room is made for so many times the bytes of a message that are there, so that a large one is not moved at every
/// doubling, and a prefix that claims much costs no more than a fixed share of what was sent.
const ROOM_FACTOR: usize = 16;

/// Cuts the data of one call into messages. Data may arrive in any pieces.
#[derive(Debug)]
pub(super) struct MessageDecoder {
    /// Largest message accepted, in bytes.
    message_bytes_max: usize,
    /// The data not yet cut. Its length is what really arrived, whatever the prefix claims.
    gathered: BytesMut,
}

impl MessageDecoder {
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            gathered: BytesMut::new(),
        }
    }

    /// The message in data that is all there is of a call, and one whole message. `None`: it is anything else, and
    /// goes the ordinary way.
    pub(super) fn only_message(data: &[u8], message_bytes_max: usize) -> Option<Bytes> {
        let (prefix, message) = data.split_first_chunk::<PREFIX_BYTES>()?;
        let length = check_prefix(*prefix, message_bytes_max).ok()?;
        (length == message.len()).then(|| arena::copy(message))
    }

    /// Takes the next piece of data.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.gathered.extend_from_slice(data);
    }

    /// Takes the next whole message. `None`: more data is needed.
    ///
    /// # Errors
    /// The message is too large, compressed or not gRPC. The call is over then.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let data = &self.gathered;
        let Some((prefix, _)) = data.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = check_prefix(*prefix, self.message_bytes_max)?;
        if data.len() - PREFIX_BYTES < length {
            let whole = PREFIX_BYTES + length;
            if self.gathered.capacity() < whole {
                let held = self.gathered.len();
                let wanted = whole.min(held.saturating_mul(ROOM_FACTOR));
                self.gathered.reserve(wanted.saturating_sub(held));
            }
            return Ok(None);
        }
        self.gathered.advance(PREFIX_BYTES);
        Ok(Some(self.gathered.split_to(length).freeze()))
    }

    /// Whether a message has begun and is not whole. An incomplete prefix does not count: official servers read it
    /// as the end of the data. Source: grpc-go v1.82.1 `rpc_util.go`, `recvMsg`.
    pub(super) fn is_torn(&self) -> bool {
        self.gathered.len() >= PREFIX_BYTES
    }
}

/// Checks a prefix and returns the length of the message behind it.
/// Source: grpc-go `rpc_util.go`, `recvMsg` and `checkRecvPayload`.
fn check_prefix(prefix: [u8; PREFIX_BYTES], message_bytes_max: usize) -> Result<usize, Status> {
    let [flag, length @ ..] = prefix;
    let length = u32::from_be_bytes(length) as usize;
    if length > message_bytes_max {
        let text =
            format!("grpc: received message larger than max ({length} vs. {message_bytes_max})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    match flag {
        0 => Ok(length),
        // An encoding was named is refused with the headers, so none was.
        1 => Err(Status::new(
            Code::Internal,
            "grpc: compressed flag set with identity or empty encoding",
        )),
        other => Err(Status::new(
            Code::Internal,
            format!("grpc: received unexpected payload format {other}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::MessageDecoder;

    /// Feeds `data` in pieces of every size; the messages and the end must not depend on it.
    fn check(data: &[u8], expected: &[&str], end: Result<bool, &str>) {
        for size in 1..=data.len() {
            let mut decoder = MessageDecoder::new(10);
            let mut messages = Vec::new();
            let mut failure = None;
            for piece in data.chunks(size) {
                decoder.push(piece);
                loop {
                    match decoder.next() {
                        Ok(Some(message)) => messages.push(message),
                        Ok(None) => break,
                        Err(status) => {
                            failure = Some(status.message().to_owned());
                            break;
                        }
                    }
                }
                if failure.is_some() {
                    break;
                }
            }
            assert_eq!(messages, expected, "pieces of {size}");
            match end {
                Ok(torn) => assert_eq!(
                    (failure, decoder.is_torn()),
                    (None, torn),
                    "pieces of {size}"
                ),
                Err(text) => assert_eq!(failure.as_deref(), Some(text), "pieces of {size}"),
            }
        }
    }

    #[test]
    fn messages_come_out_whole_however_the_data_is_cut() {
        check(b"\0\0\0\0\x03foo", &["foo"], Ok(false));
        check(b"\0\0\0\0\0\0\0\0\0\0", &["", ""], Ok(false));
        check(
            b"\0\0\0\0\x0a0123456789\0\0\0\0\x01x",
            &["0123456789", "x"],
            Ok(false),
        );
        check(b"\0\0\0\0\x03foo\0\0\0", &["foo"], Ok(false));
        check(b"\0\0\0\0", &[], Ok(false));
        check(b"\0\0\0\0\x01", &[], Ok(true));
        check(b"\0\0\0\0\x05fo", &[], Ok(true));
    }

    #[test]
    fn a_call_of_one_message_is_read_at_once() {
        let cases: &[(&[u8], Option<&[u8]>)] = &[
            (b"\0\0\0\0\x03foo", Some(b"foo")),
            (b"\0\0\0\0\0", Some(b"")),
            (b"\0\0\0\0\x03fo", None),
            (b"\0\0\0\0\x03fooo", None),
            (b"\x01\0\0\0\x03foo", None),
            (b"\0\0\0\0\x0b0123456789a", None),
            (b"\0\0", None),
        ];
        for (data, expected) in cases {
            assert_eq!(MessageDecoder::only_message(data, 10).as_deref(), *expected);
        }
    }

    #[test]
    fn bad_prefixes_are_refused_before_their_message() {
        let cases: &[(&[u8], &str)] = &[
            (
                b"\0\0\0\0\x0b",
                "grpc: received message larger than max (11 vs. 10)",
            ),
            (
                b"\0\xff\xff\xff\xff",
                "grpc: received message larger than max (4294967295 vs. 10)",
            ),
            (
                b"\x01\0\0\0\x01x",
                "grpc: compressed flag set with identity or empty encoding",
            ),
            (
                b"\x02\0\0\0\x01x",
                "grpc: received unexpected payload format 2",
            ),
        ];
        for (data, text) in cases {
            check(data, &[], Err(text));
        }
    }
}
