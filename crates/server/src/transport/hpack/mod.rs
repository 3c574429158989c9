//! The compression of headers: what clients write is read in full, what the server writes uses little of it.
//!
//! A block is a row of representations: a reference to a table, a change of the table's size, or a literal, which
//! has a name (a reference again, or a string) and a value, and may enter the table. Each direction of a connection
//! has a table of its own, which both ends keep alike.
//!
//! Source: RFC 7541.

mod decoder;
mod encoder;
mod huffman;
mod table;

pub(super) use decoder::{Decoder, Fields};
pub(super) use encoder::Encoder;

/// Bits of the first byte of a string that hold its length, or begin to; the bit before them tells that the string
/// is Huffman coded.
const STRING_PREFIX_BITS: u32 = 7;

/// Bytes of an entry of the dynamic table beside its name and value.
const ENTRY_BYTES: usize = 32;

/// Size of the dynamic table that each side may use while the other says nothing else, in bytes.
pub(super) const TABLE_BYTES_MAX: usize = 4096;

/// Writes an integer whose first byte shares its upper bits with `mark`.
fn write_integer(mark: u8, prefix_bits: u32, value: usize, block: &mut Vec<u8>) {
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

/// Writes a string as it is, without a Huffman code.
pub(super) fn write_string(text: &[u8], block: &mut Vec<u8>) {
    write_integer(0, STRING_PREFIX_BITS, text.len(), block);
    block.extend_from_slice(text);
}

/// Writes a Huffman coded string, for tests.
#[cfg(test)]
pub(super) fn write_huffman(text: &[u8], block: &mut Vec<u8>) {
    let coded = huffman::encode(text);
    write_integer(
        1 << STRING_PREFIX_BITS,
        STRING_PREFIX_BITS,
        coded.len(),
        block,
    );
    block.extend_from_slice(&coded);
}
