//! The key-value pairs a client sends beside its message.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::base64;

/// Metadata of one call. Keys are lower case; a key that ends in `-bin` carries base64 on the wire and bytes here.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    headers: HeaderMap<HeaderValue>,
}

/// A `-bin` header whose value is not base64.
#[derive(Debug)]
pub(super) struct MalformedBinary<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a HeaderValue,
    /// Where in the value the first wrong byte is.
    pub(super) position: usize,
}

impl Metadata {
    /// Wraps the headers of a request whose `-bin` values were found well-formed.
    pub(super) fn new(headers: HeaderMap<HeaderValue>) -> Self {
        Self { headers }
    }

    /// Metadata made of pairs, for calls that start inside the server and for tests. Pairs whose key or value
    /// HTTP cannot carry are left out.
    #[must_use]
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        let mut headers = HeaderMap::new();
        for (key, value) in pairs {
            let key = http::HeaderName::from_bytes(key.as_bytes());
            if let (Ok(key), Ok(value)) = (key, HeaderValue::from_str(value)) {
                headers.append(key, value);
            }
        }
        Self { headers }
    }

    /// The first value of `key` as bytes, as sent. `None` if the key is absent.
    #[must_use]
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        self.headers.get(key).map(HeaderValue::as_bytes)
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

    /// The first `-bin` header whose value is not base64.
    pub(super) fn malformed_binary(
        headers: &HeaderMap<HeaderValue>,
    ) -> Option<MalformedBinary<'_>> {
        headers
            .iter()
            .filter(|(name, _)| name.as_str().ends_with("-bin"))
            .find_map(|(name, value)| {
                let position = base64::decode(value.as_bytes()).err()?;
                Some(MalformedBinary {
                    name: name.as_str(),
                    value,
                    position,
                })
            })
    }
}
