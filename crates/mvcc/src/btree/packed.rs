//! Keys of bytes, many in one piece of memory.
//!
//! What all keys of a list begin with is held once, and what follows it key by key behind it:
//!
//! ```text
//! keys    pods/default/a  pods/default/bc  pods/kube/a
//! bytes   pods/  default/a  default/bc  kube/a
//! ends                    ^           ^       ^
//! ```
//!
//! Neighbours in the index of a store have most of their bytes in common, so a key takes a few bytes
//! where it would take an allocation of its own; a search compares the common part once.
//!
//! Invariants:
//! - `ends` ascend (a key may be the common part itself), and the last is the length of `bytes`;
//! - every key begins with the first `common` bytes. That need not be all that they have in common:
//!   it is found out anew when a list is divided.

use std::borrow::Cow;
use std::cmp::Ordering;

use bytes::Bytes;

use super::keys::{GROWTH, Keys, insert_at};

/// A leaf with more bytes of keys than this is divided, though it has few keys.
const KEY_BYTES_MAX: usize = 8 * 1024;

/// A key as it lies in a packed list: in two parts.
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    common: &'a [u8],
    rest: &'a [u8],
}

impl<'a> KeyRef<'a> {
    /// A key in one part.
    pub fn whole(key: &'a [u8]) -> Self {
        KeyRef {
            common: &[],
            rest: key,
        }
    }

    /// The two parts, one behind the other; each may be empty.
    pub fn parts(&self) -> [&'a [u8]; 2] {
        [self.common, self.rest]
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no key in the store is empty")]
    pub fn len(&self) -> usize {
        self.common.len() + self.rest.len()
    }

    /// The key in one piece, copied if it has to be.
    pub fn to_slice(&self) -> Cow<'a, [u8]> {
        if self.common.is_empty() {
            return Cow::Borrowed(self.rest);
        }
        Cow::Owned(self.parts().concat())
    }

    /// The key on its own.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(self.parts().concat())
    }
}

/// Keys of bytes, ascending strictly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    common: u32,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Packed {
    /// Keys in order, each in two parts, that begin with so many bytes in common.
    fn of<'a>(common: usize, keys: impl Iterator<Item = KeyRef<'a>> + Clone) -> Self {
        let mut first = None;
        let (mut count, mut length) = (0, common);
        for key in keys.clone() {
            first.get_or_insert(key);
            count += 1;
            length += key.len() - common;
        }
        let mut packed = Packed {
            common: offset(common),
            ends: Vec::with_capacity(count),
            bytes: Vec::with_capacity(length),
        };
        if let Some(first) = first {
            packed.extend_from(first, 0..common);
        }
        for key in keys {
            packed.extend_from(key, common..key.len());
            packed.ends.push(offset(packed.bytes.len()));
        }
        packed
    }

    /// Adds some bytes of a key behind all others.
    fn extend_from(&mut self, key: KeyRef<'_>, range: std::ops::Range<usize>) {
        let middle = key.common.len();
        let front = range.start.min(middle)..range.end.min(middle);
        let back = range.start.max(middle) - middle..range.end.max(middle) - middle;
        self.bytes.extend_from_slice(&key.common[front]);
        self.bytes.extend_from_slice(&key.rest[back]);
    }

    fn common(&self) -> &[u8] {
        &self.bytes[..self.common as usize]
    }

    /// Where the rest of a key begins; for the place behind the last, where it would.
    fn start(&self, at: usize) -> usize {
        let before = at.checked_sub(1).map(|before| self.ends[before]);
        before.unwrap_or(self.common) as usize
    }

    fn rest(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    fn keys(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = KeyRef<'_>> + Clone {
        range.map(|at| self.at(at))
    }

    /// Some neighbours, with all they have in common found out.
    fn part(&self, range: std::ops::Range<usize>) -> Self {
        if range.is_empty() {
            return Packed::default();
        }
        let (first, last) = (self.rest(range.start), self.rest(range.end - 1));
        // Keys between two others begin with what these have in common.
        let common = self.common as usize + common_length(first, last);
        Packed::of(common, self.keys(range))
    }
}

impl Keys for Packed {
    type Key = [u8];
    type Ref<'a> = KeyRef<'a>;
    type Owned = Vec<u8>;

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn at(&self, at: usize) -> KeyRef<'_> {
        KeyRef {
            common: self.common(),
            rest: self.rest(at),
        }
    }

    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let common = self.common();
        let Some(rest) = key.strip_prefix(common) else {
            return Err(if key < common { 0 } else { self.len() });
        };
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.rest(middle).cmp(rest) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn insert(&mut self, at: usize, key: &[u8]) {
        if self.ends.is_empty() {
            *self = Packed::of(key.len(), [KeyRef::whole(key)].into_iter());
            return;
        }
        if !key.starts_with(self.common()) {
            let common = common_length(self.common(), key);
            *self = Packed::of(common, self.keys(0..self.len()));
        }
        let rest = &key[self.common as usize..];
        if self.bytes.capacity() - self.bytes.len() < rest.len() {
            self.bytes.reserve_exact(rest.len() * GROWTH);
        }
        let (start, end) = (self.start(at), self.bytes.len());
        self.bytes.extend_from_slice(rest);
        if start < end {
            self.bytes.copy_within(start..end, start + rest.len());
            self.bytes[start..start + rest.len()].copy_from_slice(rest);
        }
        insert_at(&mut self.ends, at, offset(start));
        for end in &mut self.ends[at..] {
            *end += offset(rest.len());
        }
    }

    fn remove(&mut self, at: usize) {
        let rest = self.start(at)..self.ends[at] as usize;
        let length = offset(rest.len());
        self.bytes.drain(rest);
        self.ends.remove(at);
        for end in &mut self.ends[at..] {
            *end -= length;
        }
    }

    fn split_off(&mut self, at: usize, _: usize) -> Self {
        let right = self.part(at..self.len());
        *self = self.part(0..at);
        right
    }

    fn append(&mut self, right: &Self) {
        for at in 0..right.len() {
            self.insert(self.len(), &right.at(at).to_slice());
        }
    }

    fn push(&mut self, key: &[u8]) {
        if self.ends.is_empty() {
            // What they have in common is found out once, when all are there.
            self.common = 0;
            self.bytes.clear();
        }
        assert_eq!(self.common, 0, "nothing was divided or put in between");
        self.bytes.extend_from_slice(key);
        self.ends.push(offset(self.bytes.len()));
    }

    fn take_fitted(&mut self) -> Self {
        let fitted = self.part(0..self.len());
        self.ends.clear();
        self.bytes.clear();
        self.common = 0;
        fitted
    }

    fn with_room(&self, _: usize) -> Self {
        // How long those are that are to come nobody knows.
        self.clone()
    }

    fn is_heavy(&self) -> bool {
        self.bytes.len() > KEY_BYTES_MAX
    }

    fn owned(&self, at: usize) -> Vec<u8> {
        self.at(at).parts().concat()
    }

    fn separator(&self, right: &Self) -> Vec<u8> {
        let (last, mut first) = (self.owned(self.len() - 1), right.owned(0));
        // One byte more than both have in common sets them apart.
        first.truncate(common_length(&last, &first) + 1);
        first
    }
}

fn common_length(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 16;
    // Whole steps are compared at once.
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP));
    let begun = STEP * steps.take_while(|(a, b)| a == b).count();
    let rests = a[begun..].iter().zip(&b[begun..]);
    begun + rests.take_while(|(a, b)| a == b).count()
}

/// A place in the bytes of a list: some kilobytes, and a key more.
fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a key comes from a message, whose length is far below a u32's end")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let front = prop_oneof![Just(""), Just("pods/"), Just("pods/default/"), Just("z")];
        (front, prop::collection::vec(0..3u8, 0..5)).prop_map(|(front, rest)| {
            let mut key = front.as_bytes().to_vec();
            key.extend(rest);
            key
        })
    }

    fn check(packed: &Packed, model: &[Vec<u8>], asked: &[u8]) {
        assert_eq!(packed.len(), model.len());
        for (at, key) in model.iter().enumerate() {
            let held = packed.at(at);
            assert_eq!(
                (held.to_bytes(), held.len()),
                (Bytes::from(key.clone()), key.len())
            );
            assert_eq!(&*held.to_slice(), key.as_slice());
        }
        let found = model.binary_search_by(|key| key.as_slice().cmp(asked));
        assert_eq!(packed.search(asked), found);
    }

    proptest! {
        #[test]
        fn a_packed_list_is_a_list(keys in prop::collection::vec((key(), any::<bool>()), 1..60), at in any::<prop::sample::Index>()) {
            let (mut packed, mut model) = (Packed::default(), Vec::new());
            for (key, removes) in keys {
                match model.binary_search(&key) {
                    Ok(at) if removes => {
                        packed.remove(at);
                        model.remove(at);
                    }
                    Ok(_) => {}
                    Err(at) => {
                        packed.insert(at, &key);
                        model.insert(at, key.clone());
                    }
                }
                check(&packed, &model, &key);
            }
            prop_assume!(model.len() > 1);
            let at = 1 + at.index(model.len() - 1);
            let right = packed.split_off(at, 0);
            let above = model.split_off(at);
            check(&packed, &model, &above[0]);
            check(&right, &above, &model[0]);
            let separator = packed.separator(&right);
            prop_assert!(model.last() < Some(&separator) && separator <= above[0]);
            packed.append(&right);
            let mut scratch = Packed::default();
            model.extend(above);
            check(&packed, &model, &separator);
            for _ in 0..2 {
                model.iter().for_each(|key| scratch.push(key));
                check(&scratch, &model, &separator);
                check(&scratch.take_fitted(), &model, &separator);
            }
        }
    }
}
