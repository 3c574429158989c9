//! As much of HPACK as it takes to find the authority in a header block.
//!
//! A block is a row of representations: a reference to a table, a change of the table's size, or a literal, which
//! has a name (a reference again, or a string) and a value. They can be told apart without the tables, and every
//! encoder in use names `:authority` by its place in the static table or by its letters. So there is no table here.
//! An authority whose name is a reference into the dynamic table is not found.
//!
//! Source: RFC 7541.

use std::ops::Range;

const AUTHORITY: &[u8] = b":authority";

/// The place of `:authority` in the static table.
const AUTHORITY_INDEX: usize = 1;

/// Bits of the first byte of a string that hold its length, or begin to; the bit before them tells that the string
/// is Huffman coded.
const STRING_PREFIX_BITS: u32 = 7;

/// Bytes of an integer after its prefix. More would not fit the 32 bits that any length or index needs at most.
const INTEGER_BYTES_MAX: u32 = 4;

/// An `:authority` that stands in a block as a literal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    /// Where its value stands in the block, the length of the value included.
    pub(super) place: Range<usize>,
    /// The value, decoded.
    pub(super) value: Vec<u8>,
}

/// Finds the authorities of a block, in order. `None`: the block is malformed.
pub(super) fn authorities(block: &[u8]) -> Option<Vec<Authority>> {
    let mut found = Vec::new();
    let mut reader = Reader { block, position: 0 };
    while let Some(first) = block.get(reader.position) {
        let name_bits = match first.leading_zeros() {
            // A reference to name and value.
            0 => {
                reader.integer(7)?;
                continue;
            }
            // A new size of the table.
            2 => {
                reader.integer(5)?;
                continue;
            }
            // A literal that enters the table.
            1 => 6,
            // One that does not.
            _ => 4,
        };
        let is_authority = match reader.integer(name_bits)? {
            0 => reader.string()?.is(AUTHORITY),
            index => index == AUTHORITY_INDEX,
        };
        let start = reader.position;
        let value = reader.string()?;
        if is_authority {
            found.push(Authority {
                place: start..reader.position,
                value: value.decode()?,
            });
        }
    }
    Some(found)
}

/// Writes a string as it is, without a Huffman code.
pub(super) fn write_string(text: &[u8], block: &mut Vec<u8>) {
    let prefix_max = (1 << STRING_PREFIX_BITS) - 1;
    if text.len() < prefix_max {
        block.push(text.len() as u8);
    } else {
        block.push(prefix_max as u8);
        let mut rest = text.len() - prefix_max;
        while rest >= 0x80 {
            block.push(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
        block.push(rest as u8);
    }
    block.extend_from_slice(text);
}

struct Reader<'a> {
    block: &'a [u8],
    position: usize,
}

/// A string as it stands in a block.
struct Text<'a> {
    huffman: bool,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    /// Reads an integer that begins in the last `prefix_bits` of the next byte.
    fn integer(&mut self, prefix_bits: u32) -> Option<usize> {
        let prefix_max = (1 << prefix_bits) - 1;
        let mut value = usize::from(self.byte()?) & prefix_max;
        if value < prefix_max {
            return Some(value);
        }
        for place in 0..INTEGER_BYTES_MAX {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Text<'a>> {
        let huffman = self.block.get(self.position)? & 1 << STRING_PREFIX_BITS != 0;
        let length = self.integer(STRING_PREFIX_BITS)?;
        let bytes = self.block.get(self.position..)?.get(..length)?;
        self.position += length;
        Some(Text { huffman, bytes })
    }
}

impl Text<'_> {
    fn decode(&self) -> Option<Vec<u8>> {
        if self.huffman {
            HUFFMAN.decode(self.bytes)
        } else {
            Some(self.bytes.to_vec())
        }
    }

    /// Whether this is `text`, whose code is no longer than itself.
    fn is(&self, text: &[u8]) -> bool {
        self.bytes.len() <= text.len() && self.decode().is_some_and(|decoded| decoded == text)
    }
}

/// Bits of the longest code.
const CODE_BITS_MAX: usize = 30;

/// Bits of the code of each byte. The code is canonical: sorted by length and then by byte, codes count upwards, so
/// the lengths say all. The end of a string has the last code, which never stands in a valid one.
#[rustfmt::skip]
const CODE_BITS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

static HUFFMAN: Huffman = Huffman::new();

struct Huffman {
    /// All bytes in the order of their codes.
    bytes: [u8; 256],
    /// How many codes have each length.
    counts: [u32; CODE_BITS_MAX + 1],
}

impl Huffman {
    const fn new() -> Self {
        let mut bytes = [0; 256];
        let mut counts = [0; CODE_BITS_MAX + 1];
        let mut sorted = 0;
        let mut bits = 1;
        while bits <= CODE_BITS_MAX {
            let mut byte = 0;
            while byte < 256 {
                if CODE_BITS[byte] as usize == bits {
                    bytes[sorted] = byte as u8;
                    sorted += 1;
                    counts[bits] += 1;
                }
                byte += 1;
            }
            bits += 1;
        }
        assert!(sorted == 256, "every byte has a code");
        Self { bytes, counts }
    }

    /// Decodes bit by bit, which is enough for one short string per connection.
    fn decode(&self, coded: &[u8]) -> Option<Vec<u8>> {
        let mut decoded = Vec::with_capacity(coded.len() * 8 / 5);
        let mut code = 0_u32;
        let mut bits = 0;
        // The first code with this many bits, and how many codes are shorter.
        let mut first = 0;
        let mut shorter = 0;
        for place in 0..coded.len() * 8 {
            code = code << 1 | u32::from(coded[place / 8] >> (7 - place % 8) & 1);
            bits += 1;
            let count = *self.counts.get(bits)?;
            if code - first < count {
                decoded.push(self.bytes[(shorter + code - first) as usize]);
                (code, bits, first, shorter) = (0, 0, 0, 0);
            } else {
                shorter += count;
                first = (first + count) << 1;
            }
        }
        // What is left is padding: at most seven bits, all of them set.
        (bits < 8 && code + 1 == 1 << bits).then_some(decoded)
    }

    /// Encodes, for tests.
    #[cfg(test)]
    fn encode(&self, text: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        let mut pending = 0_u64;
        let mut pending_bits = 0;
        for byte in text {
            let bits = usize::from(CODE_BITS[usize::from(*byte)]);
            let mut first = 0;
            let mut shorter = 0;
            for count in &self.counts[1..bits] {
                shorter += *count as usize;
                first = (first + count) << 1;
            }
            let among = self.bytes[shorter..].iter().position(|other| other == byte);
            let code = first + among.expect("every byte has a code") as u32;
            pending = pending << bits | u64::from(code);
            pending_bits += bits;
            while pending_bits >= 8 {
                pending_bits -= 8;
                coded.push((pending >> pending_bits) as u8);
            }
        }
        if pending_bits > 0 {
            let padding = 8 - pending_bits;
            coded.push((pending << padding) as u8 | ((1 << padding) - 1) as u8);
        }
        coded
    }
}

/// Writes a Huffman coded string, for tests.
#[cfg(test)]
pub(super) fn write_huffman(text: &[u8], block: &mut Vec<u8>) {
    let start = block.len();
    write_string(&HUFFMAN.encode(text), block);
    block[start] |= 1 << STRING_PREFIX_BITS;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Authority, HUFFMAN, Reader, authorities, write_string};

    #[test]
    fn codes_are_those_of_the_specification() {
        // Source: RFC 7541, appendix C.4 and C.6.
        let cases: &[(&[u8], &str)] = &[
            (
                b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                "www.example.com",
            ),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (b"", ""),
        ];
        for (coded, text) in cases {
            assert_eq!(HUFFMAN.decode(coded).as_deref(), Some(text.as_bytes()));
            assert_eq!(HUFFMAN.encode(text.as_bytes()), *coded);
        }
        // Eight bits of padding, padding with a zero, the code for the end of a string.
        for coded in [
            &b"\xff"[..],
            b"\x1e",
            b"\xff\xff\xff\xff",
            b"\xff\xff\xff\xfc",
        ] {
            assert_eq!(HUFFMAN.decode(coded), None, "{}", coded.escape_ascii());
        }
    }

    #[test]
    fn authority_is_found_in_every_form() {
        let found = |start: usize, end, value: &str| {
            Some(vec![Authority {
                place: start..end,
                value: value.into(),
            }])
        };
        let cases: &[(&[u8], Option<Vec<Authority>>)] = &[
            (b"", Some(vec![])),
            // Post, a size of the table, then the four literals by place and by letters.
            (b"\x83\x3f\xe1\x1f\x41\x03a:b", found(5, 9, "a:b")),
            (b"\x01\x03a:b", found(1, 5, "a:b")),
            (b"\x11\x03a:b", found(1, 5, "a:b")),
            (b"\x40\x0a:authority\x01a", found(12, 14, "a")),
            (
                b"\x00\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x81\x1f",
                found(10, 12, "a"),
            ),
            (
                b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
                found(1, 14, "www.example.com"),
            ),
            // Other names, and a reference to an authority from before.
            (
                b"\x44\x01/\x40\x01x\x01y\xbe\x7f\x80\x01\x01z",
                Some(vec![]),
            ),
            // Cut short, a length without an end, a value with wrong padding.
            (b"\x41", None),
            (b"\x41\x03a:", None),
            (b"\x41\x7f\xff\xff\xff\xff\xff\xff", None),
            (b"\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x41\x81\xff", None),
        ];
        for (block, expected) in cases {
            assert_eq!(authorities(block), *expected, "{}", block.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn strings_are_read_as_written(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut block = Vec::new();
            write_string(&text, &mut block);
            super::write_huffman(&text, &mut block);
            let mut reader = Reader { block: &block, position: 0 };
            for _ in 0..2 {
                assert_eq!(reader.string().unwrap().decode().unwrap(), text);
            }
            assert_eq!(reader.position, block.len());
        }

        #[test]
        fn rubbish_is_read_without_a_panic(block in proptest::collection::vec(any::<u8>(), 0..200)) {
            for authority in authorities(&block).unwrap_or_default() {
                assert!(authority.place.end <= block.len());
            }
        }
    }
}
