//! Which keys a request means.

use std::ops::Bound;

use bytes::Bytes;

/// `range_end` on the wire for "every key from the first on".
const WIRE_UNBOUNDED: &[u8] = &[0];

/// Where an [`Interval`] ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The interval is the start key alone.
    Single,
    /// Every key from the start on.
    Unbounded,
    /// Keys before this one. At or below the start, the interval is empty.
    Before(Bytes),
}

/// A key or a half-open range of keys, in byte order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// First key.
    pub start: Bytes,
    /// Where it ends.
    pub end: End,
}

impl Interval {
    /// One key.
    pub fn single(key: Bytes) -> Self {
        Interval {
            start: key,
            end: End::Single,
        }
    }

    /// Every key there can be.
    pub fn all() -> Self {
        Interval {
            start: Bytes::new(),
            end: End::Unbounded,
        }
    }

    /// Reads the pair of fields that all requests share: no `range_end` means the single key, one
    /// zero byte means no upper bound.
    ///
    /// Source: etcd v3.7.1, `server/etcdserver/txn/range.go` (`mkGteRange`).
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => End::Single,
            WIRE_UNBOUNDED => End::Unbounded,
            _ => End::Before(range_end),
        };
        Interval { start: key, end }
    }

    /// Whether a key lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start.as_ref(),
            End::Unbounded => key >= self.start.as_ref(),
            End::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
        }
    }

    /// Whether no key can lie inside.
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    /// The upper end as a bound on keys.
    pub(crate) fn upper(&self) -> Bound<&[u8]> {
        match &self.end {
            End::Single => Bound::Included(self.start.as_ref()),
            End::Unbounded => Bound::Unbounded,
            End::Before(end) => Bound::Excluded(end.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_fields_select_the_documented_keys() {
        check(b"b", b"", &[b"b"]);
        check(b"b", b"c", &[b"b", b"ba"]);
        check(b"b", b"\0", &[b"b", b"ba", b"c"]);
        check(b"\0", b"\0", &[b"a", b"b", b"ba", b"c"]);
        check(b"c", b"b", &[]);
        check(b"b", b"b", &[]);
    }

    fn check(key: &'static [u8], end: &'static [u8], selected: &[&[u8]]) {
        let interval = Interval::from_wire(Bytes::from_static(key), Bytes::from_static(end));
        let keys: [&[u8]; 4] = [b"a", b"b", b"ba", b"c"];
        let inside: Vec<_> = keys
            .into_iter()
            .filter(|key| interval.contains(key))
            .collect();
        assert_eq!(inside, selected, "{interval:?}");
        assert_eq!(interval.is_empty(), selected.is_empty(), "{interval:?}");
    }
}
