//! Base64 of `-bin` metadata: the standard alphabet, with or without padding.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Decodes base64. `None` for a character outside the alphabet, an impossible length or wrong padding.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits = match text {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] if text.len().is_multiple_of(4) => digits,
        _ => text,
    };
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut decoded = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            bits = (bits << 6) | value_of(*digit)?;
        }
        bits <<= 6 * (4 - group.len());
        let bytes = bits.to_be_bytes();
        decoded.extend_from_slice(&bytes[1..group.len()]);
    }
    Some(decoded)
}

fn value_of(digit: u8) -> Option<u32> {
    ALPHABET
        .iter()
        .position(|candidate| *candidate == digit)
        .map(|position| position as u32)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn base64_takes_padded_and_bare_text_and_refuses_the_rest() {
        let cases: &[(&str, Option<&[u8]>)] = &[
            ("", Some(b"")),
            ("AA==", Some(&[0])),
            ("AA", Some(&[0])),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYg", Some(b"foob")),
            ("Zm9vYmE=", Some(b"fooba")),
            ("/+8=", Some(&[0xff, 0xef])),
            ("A", None),
            ("Zm9v=", None),
            ("Zm 9v", None),
            ("Zm-v", None),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(text.as_bytes()).as_deref(), *expected, "{text}");
        }
    }
}
