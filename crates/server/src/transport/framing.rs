//! gRPC messages inside HTTP/2 data: one flag byte, four bytes of length, the message.

use bytes::{Buf, Bytes, BytesMut};

use super::body::PREFIX_BYTES;
use super::{Code, Status};

/// Room reserved for a message that arrives in pieces, before more than its first piece is there.
const GATHER_BYTES_FIRST: usize = 16 * 1024;

/// Cuts the data of one call into messages. Data may arrive in any pieces.
#[derive(Debug)]
pub(super) struct MessageDecoder {
    /// Largest message accepted, in bytes.
    message_bytes_max: usize,
    /// The data not yet cut, if it arrived as one piece: the ordinary case, without a copy.
    whole: Bytes,
    /// The data not yet cut otherwise. At most one of the two holds something.
    gathered: BytesMut,
}

impl MessageDecoder {
    pub(super) fn new(message_bytes_max: usize) -> Self {
        Self {
            message_bytes_max,
            whole: Bytes::new(),
            gathered: BytesMut::new(),
        }
    }

    /// Takes the next piece of data.
    pub(super) fn push(&mut self, data: Bytes) {
        if self.whole.is_empty() && self.gathered.is_empty() {
            self.whole = data;
            return;
        }
        let whole = std::mem::take(&mut self.whole);
        self.gathered.extend_from_slice(&whole);
        self.gathered.extend_from_slice(&data);
    }

    /// Takes the next whole message. `None`: more data is needed.
    ///
    /// # Errors
    /// The message is too large, compressed or not gRPC. The call is over then.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let data: &[u8] = if self.gathered.is_empty() {
            &self.whole
        } else {
            &self.gathered
        };
        let Some((prefix, _)) = data.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = check_prefix(*prefix, self.message_bytes_max)?;
        if data.len() - PREFIX_BYTES < length {
            if self.gathered.is_empty() && !self.whole.is_empty() {
                // The first piece of a longer message. The length is a claim: memory follows what really arrives.
                self.gathered
                    .reserve((PREFIX_BYTES + length).min(GATHER_BYTES_FIRST));
                let whole = std::mem::take(&mut self.whole);
                self.gathered.extend_from_slice(&whole);
            }
            return Ok(None);
        }
        if self.gathered.is_empty() {
            self.whole.advance(PREFIX_BYTES);
            return Ok(Some(self.whole.split_to(length)));
        }
        self.gathered.advance(PREFIX_BYTES);
        Ok(Some(self.gathered.split_to(length).freeze()))
    }

    /// Whether a message has begun and is not whole. An incomplete prefix does not count: official servers read it
    /// as the end of the data. Source: grpc-go v1.82.1 `rpc_util.go`, `recvMsg`.
    pub(super) fn is_torn(&self) -> bool {
        self.whole.len().max(self.gathered.len()) >= PREFIX_BYTES
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
    use bytes::Bytes;

    use super::MessageDecoder;

    /// Feeds `data` in pieces of every size; the messages and the end must not depend on it.
    fn check(data: &[u8], expected: &[&str], end: Result<bool, &str>) {
        for size in 1..=data.len() {
            let mut decoder = MessageDecoder::new(10);
            let mut messages = Vec::new();
            let mut failure = None;
            for piece in data.chunks(size) {
                decoder.push(Bytes::copy_from_slice(piece));
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
