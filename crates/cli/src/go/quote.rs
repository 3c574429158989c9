//! Quoted strings.

/// The verb `%q`: double quotes, with escapes for what cannot be printed.
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::from('"');
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_escaped(&mut text, character);
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

fn push_escaped(text: &mut String, character: char) {
    let escape = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\u{7}' => "\\a",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{b}' => "\\v",
        _ if is_printable(character) => return text.push(character),
        _ => {
            let number = u32::from(character);
            *text += &match number {
                ..=0x7f => format!("\\x{number:02x}"),
                0x80..=0xffff => format!("\\u{number:04x}"),
                _ => format!("\\U{number:08x}"),
            };
            return;
        }
    };
    text.push_str(escape);
}

/// Rust escapes in debug form what Go calls not printable. It also escapes combining marks, but
/// only at the beginning of a string; hence the letter before.
fn is_printable(character: char) -> bool {
    let shown: String = format!("a{character}").escape_debug().collect();
    character == '\'' || shown.chars().count() == 2
}

/// Reads a string in double quotes or backquotes at the beginning of `text`: its bytes and what
/// follows. None if there is none.
pub fn scan_quoted(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(rest) = text.strip_prefix('`') {
        let end = rest.find('`')?;
        return Some((rest.as_bytes()[..end].to_vec(), &rest[end + 1..]));
    }
    let mut rest = text.strip_prefix('"')?.chars();
    let mut bytes = Vec::new();
    let push = |bytes: &mut Vec<u8>, character: char| bytes.extend(character.to_string().bytes());
    loop {
        match rest.next()? {
            '"' => return Some((bytes, rest.as_str())),
            '\n' => return None,
            '\\' => match rest.next()? {
                'a' => bytes.push(7),
                'b' => bytes.push(8),
                'f' => bytes.push(12),
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'v' => bytes.push(11),
                '\\' => bytes.push(b'\\'),
                '"' => bytes.push(b'"'),
                'x' => bytes.push(u8::try_from(digits(&mut rest, 2, 16)?).ok()?),
                'u' => push(&mut bytes, char::from_u32(digits(&mut rest, 4, 16)?)?),
                'U' => push(&mut bytes, char::from_u32(digits(&mut rest, 8, 16)?)?),
                first @ '0'..='7' => {
                    let high = first.to_digit(8)?;
                    bytes.push(u8::try_from(high * 64 + digits(&mut rest, 2, 8)?).ok()?);
                }
                _ => return None,
            },
            character => push(&mut bytes, character),
        }
    }
}

fn digits(rest: &mut std::str::Chars<'_>, count: u32, base: u32) -> Option<u32> {
    (0..count).try_fold(0, |value: u32, _| {
        value
            .checked_mul(base)?
            .checked_add(rest.next()?.to_digit(base)?)
    })
}

/// A string as `encoding/json` writes it, which also escapes what has a meaning in HTML.
pub fn json_string(text: &str) -> String {
    let mut json = String::from('"');
    for character in text.chars() {
        match character {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '<' | '>' | '&' | '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => {
                json += &format!("\\u{:04x}", u32::from(character));
            }
            _ => json.push(character),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_printed_is_escaped() {
        for (bytes, text) in [
            (&b"plain 'text'"[..], r#""plain 'text'""#),
            ("ключ e\u{301}".as_bytes(), "\"ключ e\u{301}\""),
            (b"\x00\x7f\xff\"\\\n", r#""\x00\x7f\xff\"\\\n""#),
            ("\u{a0}\u{1d173}".as_bytes(), r#""\u00a0\U0001d173""#),
        ] {
            assert_eq!(quote(bytes), text);
            let (scanned, rest) = scan_quoted(text).expect("what was quoted can be read");
            assert_eq!((scanned.as_slice(), rest), (bytes, ""));
        }
    }

    #[test]
    fn a_quoted_string_ends_at_its_quote_or_is_none() {
        let (bytes, rest) = scan_quoted(r#""a\x62\143\u0064") = "1""#).expect("a string");
        assert_eq!((bytes.as_slice(), rest), (&b"abcd"[..], r#") = "1""#));
        for text in ["", "a", "\"a", r#""\q""#, r#""\x1""#, r#""\777""#] {
            assert_eq!(scan_quoted(text), None, "{text}");
        }
    }
}
