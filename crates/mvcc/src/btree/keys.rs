//! What a node asks of the list of its keys.

use std::borrow::Borrow;
use std::fmt::Debug;

/// A list of keys that ascend strictly.
pub(crate) trait Keys: Clone + Debug + Default {
    /// What keys are looked up by.
    type Key: Ord + ?Sized;
    /// A key as the list gives it out.
    type Ref<'a>: Copy + Debug
    where
        Self: 'a;
    /// A key on its own.
    type Owned: Borrow<Self::Key>;

    /// Number of keys.
    fn len(&self) -> usize;

    /// The key at a place that there is.
    fn at(&self, at: usize) -> Self::Ref<'_>;

    /// The place of a key; where it belongs when it is not there.
    fn search(&self, key: &Self::Key) -> Result<usize, usize>;

    /// Puts a key where it belongs.
    fn insert(&mut self, at: usize, key: &Self::Key);

    /// Takes a key out.
    fn remove(&mut self, at: usize);

    /// Takes the keys from a place on out, into a list with room for so many in all; either part may be empty. Neither
    /// keeps the room of the other.
    fn split_off(&mut self, at: usize, places: usize) -> Self;

    /// Adds keys that are above all.
    fn append(&mut self, right: &Self);

    /// Adds a key above all to a list of which [`Keys::take_fitted`] makes others.
    fn push(&mut self, key: &Self::Key);

    /// Takes all keys out, into a list that has no more room than they need. The room stays here.
    fn take_fitted(&mut self) -> Self;

    /// The same keys, with room for so many in all.
    fn with_room(&self, places: usize) -> Self;

    /// Whether so many keys of such length are more than a leaf should have.
    fn is_heavy(&self) -> bool;

    /// The key at a place, on its own.
    fn owned(&self, at: usize) -> Self::Owned;

    /// A key above all of these and not above any of `right`. Neither list is empty.
    fn separator(&self, right: &Self) -> Self::Owned;

    /// How many keys lie before a cut.
    fn count_before(&self, cut: Cut<'_, Self::Key>) -> usize {
        match cut {
            Cut::Start => 0,
            Cut::Before(key) => self.search(key).unwrap_or_else(|at| at),
            Cut::Behind(key) => self.search(key).map_or_else(|at| at, |at| at + 1),
            Cut::End => self.len(),
        }
    }
}

/// A place between keys.
#[derive(Debug)]
pub(crate) enum Cut<'a, K: ?Sized> {
    Start,
    Before(&'a K),
    Behind(&'a K),
    End,
}

impl<K: ?Sized> Clone for Cut<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: ?Sized> Copy for Cut<'_, K> {}

/// How many places a full array of a node grows by: little slack, since most nodes never grow.
pub(super) const GROWTH: usize = 4;

/// Keys of one size, as they are.
impl<K: Ord + Copy + Debug> Keys for Vec<K> {
    type Key = K;
    type Ref<'a>
        = &'a K
    where
        K: 'a;
    type Owned = K;

    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn at(&self, at: usize) -> &K {
        &self[at]
    }

    fn search(&self, key: &K) -> Result<usize, usize> {
        self.binary_search(key)
    }

    fn insert(&mut self, at: usize, key: &K) {
        insert_at(self, at, *key);
    }

    fn remove(&mut self, at: usize) {
        Vec::remove(self, at);
    }

    fn split_off(&mut self, at: usize, places: usize) -> Self {
        split_with_room(self, at, places)
    }

    fn append(&mut self, right: &Self) {
        self.extend_from_slice(right);
    }

    fn push(&mut self, key: &K) {
        Vec::push(self, *key);
    }

    fn take_fitted(&mut self) -> Self {
        let fitted = self.as_slice().to_vec();
        self.clear();
        fitted
    }

    fn with_room(&self, places: usize) -> Self {
        cloned_with_room(self, places)
    }

    fn is_heavy(&self) -> bool {
        false
    }

    fn owned(&self, at: usize) -> K {
        self[at]
    }

    fn separator(&self, right: &Self) -> K {
        right[0]
    }
}

/// A copy of some items, with room for so many in all.
pub(super) fn cloned_with_room<T: Clone>(items: &[T], places: usize) -> Vec<T> {
    let mut copy = Vec::with_capacity(places.max(items.len()));
    copy.extend_from_slice(items);
    copy
}

/// Takes the items from a place on out, into a list with room for so many in all. Half of all nodes would keep the room
/// of the half that they gave away.
pub(super) fn split_with_room<T>(items: &mut Vec<T>, at: usize, places: usize) -> Vec<T> {
    let mut right = Vec::with_capacity(places.max(items.len() - at));
    right.extend(items.drain(at..));
    items.shrink_to(at + GROWTH);
    right
}

pub(super) fn insert_at<T>(items: &mut Vec<T>, at: usize, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact(GROWTH);
    }
    items.insert(at, item);
}
