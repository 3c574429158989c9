//! Protocol buffers without types: the fields of a message one after the other, where they lie.
//!
//! Checking an answer needs a few numbers of it. Decoding it into a type would cost the generator more than sending
//! the request.

use anyhow::{Context, Result, bail};

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A varint, or a fixed number of 4 or 8 bytes.
    Number(u64),
    /// Bytes, a string or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; 0 if it is none.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }

    /// The bytes; empty if it is a number.
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The fields of a message in order.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field with its number; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        const VARINT: u64 = 0;
        const FIXED_64: u64 = 1;
        const BYTES: u64 = 2;
        const FIXED_32: u64 = 5;
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            VARINT => Value::Number(self.varint()?),
            BYTES => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length)?)?)
            }
            FIXED_64 => Value::Number(little_endian(self.take(8)?)),
            FIXED_32 => Value::Number(little_endian(self.take(4)?)),
            kind => bail!("a field of wire type {kind}"),
        };
        Ok(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for (place, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                self.0 = &self.0[place + 1..];
                return Ok(value);
            }
        }
        bail!("an answer that ends in a number")
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(bytes)
            .context("an answer that ends in a field")?;
        self.0 = rest;
        Ok(taken)
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// The revision in the header of an answer, which is field 1 of all of them.
pub(crate) fn header_revision(header: Value<'_>) -> Result<u64> {
    let mut fields = Fields(header.bytes());
    while let Some((number, value)) = fields.next()? {
        if number == 3 {
            return Ok(value.number());
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use kvorum_proto::etcdserverpb::{RangeResponse, ResponseHeader};
    use kvorum_proto::mvccpb::KeyValue;
    use prost::Message;

    use super::{Fields, header_revision};

    #[test]
    fn fields_of_a_message_are_found() {
        let answer = RangeResponse {
            header: Some(ResponseHeader {
                revision: 300,
                ..ResponseHeader::default()
            }),
            kvs: vec![KeyValue::default(), KeyValue::default()],
            more: true,
            count: 7,
        };
        let bytes = answer.encode_to_vec();
        let mut fields = Fields(&bytes);
        let (number, header) = fields.next().unwrap().unwrap();
        assert_eq!((number, header_revision(header).unwrap()), (1, 300));
        let mut numbers = Vec::new();
        while let Some((number, value)) = fields.next().unwrap() {
            numbers.push((number, value.number()));
        }
        assert_eq!(numbers, [(2, 0), (2, 0), (3, 1), (4, 7)]);
    }

    #[test]
    fn torn_messages_are_errors() {
        for bytes in [
            &[0x08][..],
            &[0x08, 0x80],
            &[0x0a, 2, 0],
            &[0x0d, 0],
            &[0x0b],
        ] {
            assert!(Fields(bytes).next().is_err(), "{bytes:?}");
        }
    }
}
