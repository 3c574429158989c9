//! JSON as Go's `encoding/json` writes it: one line, and nothing for what is zero.

use crate::go::json_string;

/// A list that is `null` when nothing was ever put into it.
pub fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    if items.len() == 0 {
        "null".to_owned()
    } else {
        array(items)
    }
}

/// A list of items that are JSON.
pub fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// An object that is being written.
#[derive(Debug)]
pub struct Object {
    text: String,
}

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

impl Object {
    /// An object without fields.
    pub fn new() -> Self {
        Self {
            text: "{".to_owned(),
        }
    }

    /// A field whatever its value, which must be JSON.
    #[must_use]
    pub fn always(mut self, name: &str, json: impl std::fmt::Display) -> Self {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text += &format!("\"{name}\":{json}");
        self
    }

    /// A field, JSON, that is left out if it is empty.
    #[must_use]
    pub fn unless(self, empty: bool, name: &str, json: impl std::fmt::Display) -> Self {
        if empty { self } else { self.always(name, json) }
    }

    /// A number that is left out if it is zero.
    #[must_use]
    pub fn number<N: Default + PartialEq + std::fmt::Display>(self, name: &str, number: N) -> Self {
        self.unless(number == N::default(), name, number)
    }

    /// A truth that is left out if it is none.
    #[must_use]
    pub fn flag(self, name: &str, flag: bool) -> Self {
        self.unless(!flag, name, flag)
    }

    /// A text that is left out if it is empty.
    #[must_use]
    pub fn string(self, name: &str, text: &str) -> Self {
        self.unless(text.is_empty(), name, json_string(text))
    }

    /// Bytes in base64 that are left out if there are none.
    #[must_use]
    pub fn bytes(self, name: &str, bytes: &[u8]) -> Self {
        self.unless(bytes.is_empty(), name, base64(bytes))
    }

    /// A list, of JSON, that is left out if it is empty.
    #[must_use]
    pub fn list(self, name: &str, items: Vec<String>) -> Self {
        self.unless(items.is_empty(), name, array(items.into_iter()))
    }

    /// A list of texts that is left out if it is empty.
    #[must_use]
    pub fn strings(self, name: &str, texts: &[String]) -> Self {
        self.list(name, texts.iter().map(|text| json_string(text)).collect())
    }

    /// The whole object.
    pub fn end(self) -> String {
        self.text + "}"
    }
}

/// A JSON string of bytes in base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from('"');
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            // A chunk of n bytes fills n + 1 letters.
            let sextet = bits >> (18 - 6 * letter) & 63;
            text.push(if letter <= chunk.len() {
                char::from(LETTERS[sextet as usize])
            } else {
                '='
            });
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_padded_base64() {
        for (bytes, text) in [
            (&b""[..], r#""""#),
            (b"f", r#""Zg==""#),
            (b"fo", r#""Zm8=""#),
            (b"foo", r#""Zm9v""#),
            (b"foob", r#""Zm9vYg==""#),
            (b"\xff\xfe\xfd", r#""//79""#),
        ] {
            assert_eq!(base64(bytes), text);
        }
    }
}
