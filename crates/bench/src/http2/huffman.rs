//! The Huffman code of header strings (RFC 7541, appendix B), for the characters that headers have.
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their characters, and the first
//! of a longer length continues where the shorter ones ended. So the lengths alone tell the code.

/// The printable characters by the length of their code in bits, each list in order. Lengths above 15 belong to bytes
/// that no header of a gRPC answer contains but one: the backslash, which is missing here.
const BY_LENGTH: &[(u32, &[u8])] = &[
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
];

/// Decodes `bytes`. `None`: a character outside the table, or padding that is not all ones.
pub(super) fn decode(bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(bytes.len() * 2);
    let mut bits: u64 = 0;
    let mut held = 0;
    let mut rest = bytes.iter();
    loop {
        while held <= 48
            && let Some(byte) = rest.next()
        {
            bits = (bits << 8) | u64::from(*byte);
            held += 8;
        }
        let Some((length, character)) = first_character(bits, held) else {
            // What is left may only be padding: fewer than eight ones.
            let padding = (1_u64 << held.min(63)) - 1;
            return (held < 8 && bits & padding == padding).then_some(text);
        };
        text.push(char::from(character));
        held -= length;
        bits &= (1 << held) - 1;
    }
}

/// The character that the highest of the `held` bits spell.
fn first_character(bits: u64, held: u32) -> Option<(u32, u8)> {
    let mut first_code: u64 = 0;
    let mut length_before = 0;
    for (length, characters) in BY_LENGTH {
        if *length > held {
            return None;
        }
        first_code <<= length - length_before;
        length_before = *length;
        let code = bits >> (held - length);
        if let Some(character) = code
            .checked_sub(first_code)
            .and_then(|place| characters.get(place as usize))
        {
            return Some((*length, *character));
        }
        first_code += characters.len() as u64;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn examples_of_the_rfc_decode() {
        for (bytes, text) in [
            (
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (
                &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f],
                "custom-key",
            ),
            (
                &[
                    0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04,
                    0x0b, 0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
                ],
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (&[], ""),
        ] {
            assert_eq!(decode(bytes).as_deref(), Some(text));
        }
    }

    #[test]
    fn padding_must_be_ones_and_short() {
        assert_eq!(decode(&[0b0000_0111]).as_deref(), Some("0"));
        assert_eq!(decode(&[0b0000_0101]), None);
        assert_eq!(decode(&[0b0000_0111, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
