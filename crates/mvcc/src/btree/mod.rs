//! A copy-on-write B+tree: one writer changes it in place, any number of snapshots stay as they are.
//!
//! A snapshot is a clone of the tree: one reference to its root. The writer copies a node only
//! when a snapshot can still see it, which the reference count of the node tells; from then on the
//! copy belongs to the writer alone and is changed in place. A batch of writes between two
//! snapshots therefore copies each node it touches once, however many writes go through it. Copies lie where nodes lay
//! that no snapshot shows any more: see the module `spare`.
//!
//! Copying a node costs one reference count per child or value. The keys of a node lie in a list
//! ([`Keys`]) behind one reference, which is copied only when the set of keys changes: replacing a
//! value below a node with 32 keys does not touch the 32 keys. Keys of bytes are packed: see the
//! module `packed`. What stands between two children is the shortest key that sets them apart.
//!
//! Every inner node keeps, for each child, the number of entries below it and the sum of their
//! weights ([`Weigh`]), so a range of any size is counted by walking down twice.
//!
//! Invariants, checked by [`Tree::check_invariants`]:
//! - all leaves are at the same depth, and no node is empty or over its bound;
//! - keys ascend strictly, and lie between the separators above them;
//! - the sums kept in inner nodes equal what lies below them.
//!
//! Nodes may be less than half full: ascending inserts fill nodes to the brim, and removals join
//! a small node with a neighbour only where both fit in one.

mod iter;
mod keys;
mod load;
mod node;
mod packed;
mod spare;

use std::ops::{AddAssign, Bound, SubAssign};
use std::sync::Arc;

#[cfg(test)]
pub(crate) use iter::GIVEN_OUT;
pub(crate) use iter::Iter;
use keys::Cut;
pub(crate) use keys::Keys;
pub(crate) use load::Loader;
use node::Node;
pub use packed::KeyRef;
pub(crate) use packed::Packed;
use spare::Spare;

/// What an entry adds to the weight of a range. It may change only inside [`Tree::update`] and
/// [`Tree::insert`], which keep the sums.
pub(crate) trait Weigh {
    /// Whether entries come behind all others and are many, so that a leaf will be full soon: it has the room for
    /// that from the beginning, and no other leaf has any to spare.
    const COMES_IN_ORDER: bool = false;

    /// Whether the tree keeps memory of its nodes to use it again, which is only worth it in one that is always written.
    const REUSES_NODES: bool = true;

    /// The weight of one entry, in a unit the owner of the tree chooses; never negative.
    fn weight(&self) -> i64;
}

/// Entries and weight of a part of a tree. Differences of sums may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Number of entries.
    pub(crate) entries: i64,
    /// Sum of the weights.
    pub(crate) weight: i64,
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        self.entries += other.entries;
        self.weight += other.weight;
    }
}

impl SubAssign for Sum {
    fn sub_assign(&mut self, other: Sum) {
        self.entries -= other.entries;
        self.weight -= other.weight;
    }
}

/// An ordered map with cheap snapshots; see the module for how.
#[derive(Clone, Debug)]
pub(crate) struct Tree<Ks: Keys, V> {
    root: Option<Arc<Node<Ks, V>>>,
    sum: Sum,
    spare: Spare<Ks, V>,
}

impl<Ks: Keys, V> Default for Tree<Ks, V> {
    fn default() -> Self {
        Tree {
            root: None,
            sum: Sum::default(),
            spare: Spare::default(),
        }
    }
}

impl<Ks: Keys, V: Clone + Weigh> Tree<Ks, V> {
    /// Entries and weight of the whole tree.
    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    /// Whether there is no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The value at a key.
    pub(crate) fn get(&self, key: &Ks::Key) -> Option<&V> {
        self.root.as_deref()?.get(key)
    }

    /// The entry with the greatest key that is not above `key`.
    pub(crate) fn floor(&self, key: &Ks::Key) -> Option<(Ks::Ref<'_>, &V)> {
        self.root.as_deref()?.floor(key)
    }

    /// The entry with the greatest key.
    pub(crate) fn last(&self) -> Option<(Ks::Ref<'_>, &V)> {
        self.root.as_deref()?.last()
    }

    /// Sets the value at a key and returns the one that was there.
    pub(crate) fn insert(&mut self, key: &Ks::Key, value: V) -> Option<V> {
        let Some(root) = &mut self.root else {
            self.sum = Sum {
                entries: 1,
                weight: value.weight(),
            };
            self.root = Some(Arc::new(Node::first(key, value)));
            return None;
        };
        self.spare.reclaim_after_snapshot(root);
        let mut change = Sum::default();
        let (old, split) = Node::insert(root, key, value, &mut change, &mut self.spare);
        self.sum += change;
        if let Some(split) = split {
            let left = Arc::clone(root);
            self.root = Some(Arc::new(Node::above(left, self.sum, split)));
        }
        old
    }

    /// Changes the value at a key in place; `None` when there is none. Meant for keys that are
    /// there: the way to the key is copied from snapshots before the key is found.
    pub(crate) fn update<R>(
        &mut self,
        key: &Ks::Key,
        change_value: impl FnOnce(&mut V) -> R,
    ) -> Option<R> {
        let root = self.root.as_mut()?;
        self.spare.reclaim_after_snapshot(root);
        let mut change = Sum::default();
        let result = Node::update(root, key, change_value, &mut change, &mut self.spare);
        self.sum += change;
        result
    }

    /// Takes the entry at a key out; nothing is copied when there is none.
    pub(crate) fn remove(&mut self, key: &Ks::Key) -> Option<V> {
        self.get(key)?;
        let root = self.root.as_mut()?;
        self.spare.reclaim_after_snapshot(root);
        let mut change = Sum::default();
        let removed = Node::remove(root, key, &mut change, &mut self.spare);
        self.sum += change;
        if root.len() == 0 {
            self.root = None;
        } else {
            while let Some(child) = root.only_child() {
                *root = child;
            }
        }
        removed
    }

    /// Entries and weight of all keys before a bound: `Excluded(k)` leaves `k` out,
    /// `Included(k)` counts it, `Unbounded` counts everything.
    pub(crate) fn sum_before(&self, bound: Bound<&Ks::Key>) -> Sum {
        match (&self.root, bound) {
            (None, _) => Sum::default(),
            (Some(_), Bound::Unbounded) => self.sum,
            (Some(root), Bound::Included(key)) => root.sum_before(Cut::Behind(key)),
            (Some(root), Bound::Excluded(key)) => root.sum_before(Cut::Before(key)),
        }
    }

    /// Entries in ascending order from a lower bound on.
    pub(crate) fn ascend(&self, from: Bound<&Ks::Key>) -> Iter<'_, Ks, V> {
        let cut = match from {
            Bound::Unbounded => Cut::Start,
            Bound::Included(key) => Cut::Before(key),
            Bound::Excluded(key) => Cut::Behind(key),
        };
        Iter::start(self.root.as_deref(), true, cut)
    }

    /// Entries in descending order from an upper bound down.
    pub(crate) fn descend(&self, from: Bound<&Ks::Key>) -> Iter<'_, Ks, V> {
        let cut = match from {
            Bound::Unbounded => Cut::End,
            Bound::Included(key) => Cut::Behind(key),
            Bound::Excluded(key) => Cut::Before(key),
        };
        Iter::start(self.root.as_deref(), false, cut)
    }

    /// Panics when an invariant of the module does not hold. Walks the whole tree.
    pub(crate) fn check_invariants(&self) {
        let sum = self
            .root
            .as_deref()
            .map_or(Sum::default(), |root| root.check(None, None).1);
        assert_eq!(sum, self.sum, "the sum of the tree equals what is in it");
    }
}

#[cfg(test)]
mod tests;
