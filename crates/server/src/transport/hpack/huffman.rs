//! The Huffman code of strings. Source: RFC 7541, appendix B.

/// Bits of the shortest and of the longest code.
const CODE_BITS_MIN: usize = 5;
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

static CODE: Code = Code::new();

struct Code {
    /// All bytes in the order of their codes.
    bytes: [u8; 256],
    /// For each length: the first code with it, and the place of its byte in `bytes`.
    first: [(u32, usize); CODE_BITS_MAX + 1],
    /// For each length: the end of its codes, moved to the left end of 32 bits. Longer codes are at or above it.
    end: [u64; CODE_BITS_MAX + 1],
}

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            bytes: [0; 256],
            first: [(0, 0); CODE_BITS_MAX + 1],
            end: [0; CODE_BITS_MAX + 1],
        };
        let mut place = 0;
        let mut next = 0;
        let mut bits = 1;
        while bits <= CODE_BITS_MAX {
            code.first[bits] = (next, place);
            let mut byte = 0;
            while byte < 256 {
                if CODE_BITS[byte] as usize == bits {
                    code.bytes[place] = byte as u8;
                    place += 1;
                    next += 1;
                }
                byte += 1;
            }
            code.end[bits] = (next as u64) << (32 - bits);
            next <<= 1;
            bits += 1;
        }
        assert!(place == 256, "every byte has a code");
        code
    }
}

/// Decodes a string; `None` when it is none.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(coded.len() * 8 / CODE_BITS_MIN);
    let mut rest = coded.iter();
    // Bits not decoded yet, at the right end of `held`.
    let (mut held, mut bits) = (0_u64, 0_usize);
    loop {
        while bits <= 32 {
            let Some(byte) = rest.next() else { break };
            held = held << 8 | u64::from(*byte);
            bits += 8;
        }
        // The next 32 bits; behind the end of the string there are ones.
        let window = if bits >= 32 {
            held >> (bits - 32)
        } else {
            held << (32 - bits) | ((1 << (32 - bits)) - 1)
        } & u64::from(u32::MAX);
        let length = (CODE_BITS_MIN..=CODE_BITS_MAX).find(|length| window < CODE.end[*length]);
        match length {
            Some(length) if length <= bits => {
                let (first, place) = CODE.first[length];
                let code = (window >> (32 - length)) as u32;
                decoded.push(CODE.bytes[place + (code - first) as usize]);
                bits -= length;
                held &= (1 << bits) - 1;
            }
            // What is left is padding: at most seven bits, all of them set.
            _ => return (bits < 8 && held + 1 == 1 << bits).then_some(decoded),
        }
    }
}

/// Encodes, for tests.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let (mut held, mut bits) = (0_u64, 0);
    for byte in text {
        let length = usize::from(CODE_BITS[usize::from(*byte)]);
        let (first, place) = CODE.first[length];
        let among = CODE.bytes[place..].iter().position(|other| other == byte);
        let code = first + among.expect("every byte has a code") as u32;
        held = held << length | u64::from(code);
        bits += length;
        while bits >= 8 {
            bits -= 8;
            coded.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        let padding = 8 - bits;
        coded.push((held << padding) as u8 | ((1 << padding) - 1) as u8);
    }
    coded
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn codes_of_the_standard() {
        // Source: RFC 7541, appendix C.
        let cases: &[(&str, &[u8])] = &[
            (
                "www.example.com",
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ],
            ),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("", &[]),
        ];
        for (text, coded) in cases {
            assert_eq!(encode(text.as_bytes()), *coded);
            assert_eq!(decode(coded).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn every_byte_is_decoded_to_itself() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
        for byte in 0..=u8::MAX {
            for count in 1..12 {
                let text = vec![byte; count];
                assert_eq!(decode(&encode(&text)), Some(text));
            }
        }
    }

    #[test]
    fn bad_padding_is_refused() {
        // A whole byte of padding, padding that is not all ones, and the code that ends a string.
        for coded in [&[0x1f, 0xff][..], &[0x18], &[0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(decode(coded), None, "{coded:x?}");
        }
    }
}
