//! Writing responses as protobuf bytes with stored bytes spliced in.
//!
//! A response is written by one function that serves twice: into a [`Length`], which counts, and
//! into [`Bytes`], which copies. So length and bytes cannot differ, and a nested message is
//! preceded by its length without being built first.

use bytes::BufMut;
use prost::encoding::{WireType, encode_varint, encoded_len_varint};

/// Takes protobuf fields.
pub(super) trait Out {
    /// Bytes as they stand.
    fn raw(&mut self, bytes: &[u8]);

    /// A variable-length number.
    fn varint(&mut self, number: u64);
}

/// Counts what is written.
#[derive(Default)]
pub(super) struct Length(pub(super) usize);

impl Out for Length {
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn varint(&mut self, number: u64) {
        self.0 += encoded_len_varint(number);
    }
}

/// Copies what is written into a buffer.
pub(super) struct Bytes<'a, B>(pub(super) &'a mut B);

impl<B: BufMut> Out for Bytes<'_, B> {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }

    fn varint(&mut self, number: u64) {
        encode_varint(number, self.0);
    }
}

impl dyn Out + '_ {
    /// A number; left out when it is zero.
    pub(super) fn number(&mut self, field: u32, number: i64) {
        if number != 0 {
            self.key(field, WireType::Varint);
            self.varint(number as u64);
        }
    }

    /// Bytes or an encoded message, written even when empty.
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, WireType::LengthDelimited);
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// A message, written even when empty.
    pub(super) fn message(&mut self, field: u32, write: &dyn Fn(&mut dyn Out)) {
        let mut length = Length::default();
        write(&mut length);
        self.key(field, WireType::LengthDelimited);
        self.varint(length.0 as u64);
        write(self);
    }

    fn key(&mut self, field: u32, kind: WireType) {
        self.varint(u64::from(field) << 3 | kind as u64);
    }
}
