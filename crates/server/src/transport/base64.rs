//! Base64 of `-bin` metadata: the standard alphabet, with or without padding.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Decodes base64. Text whose length is a multiple of four may be padded.
///
/// # Errors
/// The position of the first byte that cannot stand where it stands, as official servers count it.
/// Source: grpc-go v1.82.1 `internal/transport/http_util.go`, `decodeBinHeader`.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, usize> {
    let padded = text.len().is_multiple_of(4);
    let mut decoded = Vec::with_capacity(text.len() * 3 / 4);
    for (number, group) in text.chunks(4).enumerate() {
        let start = number * 4;
        let digits = match group {
            [digits @ .., b'=', b'='] if padded && digits.len() == 2 => digits,
            [digits @ .., b'='] if padded && digits.len() == 3 && !digits.ends_with(b"=") => digits,
            _ => group,
        };
        let mut bits = 0_u32;
        for (offset, digit) in digits.iter().enumerate() {
            bits = (bits << 6) | value_of(*digit).ok_or(start + offset)?;
        }
        if digits.len() == 1 {
            return Err(start);
        }
        let end = start + group.len();
        if digits.len() < group.len() && end < text.len() {
            // Padding ends the text.
            return Err(end);
        }
        bits <<= 6 * (4 - digits.len());
        let bytes = bits.to_be_bytes();
        decoded.extend_from_slice(&bytes[1..digits.len()]);
    }
    Ok(decoded)
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
        let cases: &[(&str, Result<&[u8], usize>)] = &[
            ("", Ok(b"")),
            ("AA==", Ok(&[0])),
            ("AA", Ok(&[0])),
            ("Zm9v", Ok(b"foo")),
            ("Zm9vYg", Ok(b"foob")),
            ("Zm9vYmE=", Ok(b"fooba")),
            ("/+8=", Ok(&[0xff, 0xef])),
            ("A", Err(0)),
            ("***", Err(0)),
            ("Zm9vA", Err(4)),
            ("Zm9v=", Err(4)),
            ("Zm 9v", Err(2)),
            ("Zm-v", Err(2)),
            ("AA=A", Err(2)),
            ("A===", Err(1)),
            ("====", Err(0)),
            ("AA==Zm9v", Err(4)),
            ("AAA=Zm9v", Err(4)),
        ];
        for (text, expected) in cases {
            let decoded = decode(text.as_bytes());
            assert_eq!(
                decoded.as_deref().map_err(|position| *position),
                *expected,
                "{text}"
            );
        }
    }
}
