//! The key-value pairs a client sends beside its message.

use std::sync::Arc;

use bytes::Bytes;

use super::base64;

/// Metadata of one call. Keys are lower case; a key that ends in `-bin` carries base64 on the wire and bytes here.
/// Clones share the pairs.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    fields: Arc<[(Bytes, Bytes)]>,
}

/// A `-bin` header whose value is not base64.
#[derive(Debug)]
pub(super) struct MalformedBinary<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// Where in the value the first wrong byte is.
    pub(super) position: usize,
}

impl Metadata {
    /// Wraps the headers of a request, whose names and values were checked.
    pub(super) fn new(fields: impl Iterator<Item = (Bytes, Bytes)>) -> Self {
        Self {
            fields: fields.collect(),
        }
    }

    /// Metadata made of pairs, for calls that start inside the server and for tests. Pairs whose key or value
    /// HTTP cannot carry are left out.
    #[must_use]
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        let valid = pairs
            .iter()
            .filter(|(key, value)| is_name(key.as_bytes()) && is_value(value.as_bytes()));
        let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Self::new(valid.map(|(key, value)| (copy(key), copy(value))))
    }

    /// The first value of `key` as bytes, as sent. `None` if the key is absent.
    #[must_use]
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        let found = self.fields.iter().find(|(name, _)| name == key.as_bytes());
        found.map(|(_, value)| &value[..])
    }

    /// The first value of `key` as text. `None` if the key is absent or its value is not UTF-8.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.bytes(key)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first value of a `-bin` key, decoded. `None` if the key is absent.
    #[must_use]
    pub fn binary(&self, key: &str) -> Option<Bytes> {
        let value = self.bytes(key)?;
        base64::decode(value).ok().map(Bytes::from)
    }

    /// All pairs, in the order in which they were sent.
    #[cfg(test)]
    pub(super) fn to_pairs(&self) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let pairs = self.fields.iter();
        pairs
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    /// The first `-bin` header whose value is not base64.
    pub(super) fn malformed_binary(&self) -> Option<MalformedBinary<'_>> {
        let binary = self
            .fields
            .iter()
            .filter(|(name, _)| name.ends_with(b"-bin"));
        binary
            .map(|(name, value)| (name, value, base64::decode(value)))
            .find_map(|(name, value, decoded)| {
                Some(MalformedBinary {
                    name,
                    value,
                    position: decoded.err()?,
                })
            })
    }
}

/// Whether HTTP/2 allows this as the name of a header: a token in lower case. Source: RFC 9110, section 5.6.2.
pub(super) fn is_name(name: &[u8]) -> bool {
    let token = |byte: &u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' => true,
        other => b"!#$%&'*+-.^_`|~".contains(other),
    };
    !name.is_empty() && name.iter().all(token)
}

/// Whether HTTP allows this as the value of a header: no control character but the tab.
pub(super) fn is_value(value: &[u8]) -> bool {
    let allowed = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    value.iter().all(allowed)
}
