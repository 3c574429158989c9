//! The query of a URL.

/// Pairs of a query such as `a=1&b&c=%20`, decoded as forms are; a name without a value has an empty one.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    pieces.map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        (decode(name), decode(value))
    })
}

/// Values of one name that are not empty.
pub(super) fn values(query: &str, name: &str) -> Vec<String> {
    let found = pairs(query).filter(|(key, value)| key == name && !value.is_empty());
    found.map(|(_, value)| value).collect()
}

/// Decodes `+` and `%XX`. What is not an escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while let Some(byte) = bytes.get(place) {
        let escape = bytes.get(place + 1..place + 3).filter(|_| *byte == b'%');
        let escape = escape.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(value) = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            decoded.push(value);
            place += 3;
        } else {
            decoded.push(if *byte == b'+' { b' ' } else { *byte });
            place += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn queries_are_decoded() {
        let pairs: Vec<_> = super::pairs("a=1&b&&c=%2Bx+y&d=%zz&%61=2&e=%").collect();
        let expected = [
            ("a", "1"),
            ("b", ""),
            ("c", "+x y"),
            ("d", "%zz"),
            ("a", "2"),
            ("e", "%"),
        ];
        assert_eq!(
            pairs,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(super::values("x=&x=1&x=2&y=3", "x"), ["1", "2"]);
    }
}
