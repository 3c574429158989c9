//! The nodes of the tree and the recursive steps of its changes.

use std::borrow::Borrow;
use std::sync::Arc;

use super::keys::{Cut, GROWTH, Keys, cloned_with_room, insert_at, split_with_room};
use super::spare::Spare;
use super::{Sum, Weigh};

/// Most values in a leaf. A write copies one leaf, so a small one is cheap to write and a large
/// one is cheap to list; 32 values of pointer size fill a few cache lines.
pub(super) const LEAF_ENTRIES_MAX: usize = 32;

/// The same where they come in order, so that only the last leaf is ever copied.
const ORDERED_LEAF_ENTRIES_MAX: usize = 2 * LEAF_ENTRIES_MAX;

/// Room that a leaf has which will be full: it is divided when it has one value more than it may.
pub(super) const ORDERED_LEAF_ROOM: usize = ORDERED_LEAF_ENTRIES_MAX + 1;

/// Most children of an inner node.
pub(super) const CHILDREN_MAX: usize = 32;

/// A node with fewer parts than this is joined with a neighbour when both fit in one node.
const JOIN_BELOW: usize = 8;

#[derive(Debug)]
pub(super) enum Node<Ks: Keys, V> {
    Leaf(Leaf<Ks, V>),
    Inner(Inner<Ks, V>),
}

#[derive(Debug)]
pub(super) struct Leaf<Ks, V> {
    pub(super) keys: Arc<Ks>,
    pub(super) values: Vec<V>,
}

/// `separators[i]` is above every key of child `i` and not above any key of child `i + 1`.
#[derive(Debug)]
pub(super) struct Inner<Ks: Keys, V> {
    pub(super) separators: Arc<Ks>,
    pub(super) children: Vec<Child<Ks, V>>,
}

#[derive(Debug)]
pub(super) struct Child<Ks: Keys, V> {
    pub(super) node: Arc<Node<Ks, V>>,
    pub(super) sum: Sum,
}

/// The right part of a node that had become too large, for its parent to take in.
pub(super) struct Split<Ks: Keys, V> {
    separator: Ks::Owned,
    right: Child<Ks, V>,
}

impl<Ks: Keys, V> Clone for Child<Ks, V> {
    fn clone(&self) -> Self {
        Child {
            node: Arc::clone(&self.node),
            sum: self.sum,
        }
    }
}

/// The room that a new leaf has from the beginning.
fn room<V: Weigh>() -> usize {
    if V::COMES_IN_ORDER {
        ORDERED_LEAF_ROOM
    } else {
        0
    }
}

/// Most values in a leaf.
fn leaf_entries_max<V: Weigh>() -> usize {
    if V::COMES_IN_ORDER {
        ORDERED_LEAF_ENTRIES_MAX
    } else {
        LEAF_ENTRIES_MAX
    }
}

impl<Ks: Keys, V: Clone + Weigh> Node<Ks, V> {
    /// A leaf with one entry.
    pub(super) fn first(key: &Ks::Key, value: V) -> Self {
        Node::Leaf(Leaf {
            keys: Arc::new(only::<Ks>(key).with_room(room::<V>())),
            values: cloned_with_room(&[value], room::<V>()),
        })
    }

    /// A new root over a split one. `sum` is that of both parts together.
    pub(super) fn above(left: Arc<Node<Ks, V>>, mut sum: Sum, split: Split<Ks, V>) -> Self {
        sum -= split.right.sum;
        Node::Inner(Inner {
            separators: Arc::new(only(split.separator.borrow())),
            children: vec![Child { node: left, sum }, split.right],
        })
    }

    /// The same, with room for so many parts in all.
    pub(super) fn copy_with_room(&self, places: usize) -> Self {
        match self {
            Node::Leaf(leaf) => Node::Leaf(Leaf {
                keys: Arc::clone(&leaf.keys),
                values: cloned_with_room(&leaf.values, places),
            }),
            Node::Inner(inner) => Node::Inner(Inner {
                separators: Arc::clone(&inner.separators),
                children: cloned_with_room(&inner.children, places),
            }),
        }
    }

    /// How many parts a copy has that is to have room for some more.
    pub(super) fn parts_of_copy(&self, more: usize) -> usize {
        match self {
            Node::Leaf(leaf) => (leaf.values.len() + more).max(room::<V>()),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    /// How many parts fit without new memory.
    pub(super) fn places(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.values.capacity(),
            Node::Inner(inner) => inner.children.capacity(),
        }
    }

    /// Takes all parts out; only their memory stays.
    pub(super) fn clear(&mut self) {
        match self {
            Node::Leaf(leaf) => leaf.values.clear(),
            Node::Inner(inner) => inner.children.clear(),
        }
    }

    /// Makes a node without parts the same as another of its kind.
    pub(super) fn fill_with(&mut self, other: &Self) {
        match (self, other) {
            (Node::Leaf(leaf), Node::Leaf(other)) => {
                leaf.values.extend_from_slice(&other.values);
                match Arc::get_mut(&mut leaf.keys) {
                    // There is room for the key that comes next.
                    Some(keys) if V::COMES_IN_ORDER => keys.clone_from(&other.keys),
                    _ => leaf.keys = Arc::clone(&other.keys),
                }
            }
            (Node::Inner(inner), Node::Inner(other)) => {
                inner.separators = Arc::clone(&other.separators);
                inner.children.extend_from_slice(&other.children);
            }
            _ => unreachable!("free nodes are kept by their kind"),
        }
    }

    /// Number of values or children.
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.values.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    /// The child of an inner node that has no other.
    pub(super) fn only_child(&self) -> Option<Arc<Node<Ks, V>>> {
        match self {
            Node::Inner(inner) if inner.children.len() == 1 => {
                Some(Arc::clone(&inner.children[0].node))
            }
            _ => None,
        }
    }

    pub(super) fn get(&self, key: &Ks::Key) -> Option<&V> {
        let mut node = self;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)].node,
                Node::Leaf(leaf) => return leaf.keys.search(key).ok().map(|at| &leaf.values[at]),
            }
        }
    }

    pub(super) fn floor(&self, key: &Ks::Key) -> Option<(Ks::Ref<'_>, &V)> {
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.keys.count_before(Cut::Behind(key)).checked_sub(1)?;
                Some((leaf.keys.at(at), &leaf.values[at]))
            }
            Node::Inner(inner) => {
                // Removals may leave only greater keys in the child; then the one before it ends
                // with the floor.
                let at = inner.child_of(key);
                let before = at.checked_sub(1).map(|left| &inner.children[left].node);
                inner.children[at]
                    .node
                    .floor(key)
                    .or_else(|| before?.last())
            }
        }
    }

    pub(super) fn last(&self) -> Option<(Ks::Ref<'_>, &V)> {
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.values.len().checked_sub(1)?;
                Some((leaf.keys.at(at), &leaf.values[at]))
            }
            Node::Inner(inner) => inner.children.last()?.node.last(),
        }
    }

    /// Inserts below this node; `change` takes what that adds to the sums above.
    pub(super) fn insert(
        this: &mut Arc<Self>,
        key: &Ks::Key,
        value: V,
        change: &mut Sum,
        spare: &mut Spare<Ks, V>,
    ) -> (Option<V>, Option<Split<Ks, V>>) {
        match spare.make_mut(this, 1) {
            Node::Leaf(leaf) => leaf.insert(key, value, change),
            Node::Inner(inner) => {
                let at = inner.child_of(key);
                let child = &mut inner.children[at];
                let (old, split) = Node::insert(&mut child.node, key, value, change, spare);
                child.sum += *change;
                (old, split.and_then(|split| inner.take_in(at, split)))
            }
        }
    }

    /// Changes the value at a key that is there.
    pub(super) fn update<R>(
        this: &mut Arc<Self>,
        key: &Ks::Key,
        change_value: impl FnOnce(&mut V) -> R,
        change: &mut Sum,
        spare: &mut Spare<Ks, V>,
    ) -> Option<R> {
        match spare.make_mut(this, 0) {
            Node::Leaf(leaf) => {
                let at = leaf.keys.search(key).ok()?;
                let value = &mut leaf.values[at];
                change.weight -= value.weight();
                let result = change_value(value);
                change.weight += value.weight();
                Some(result)
            }
            Node::Inner(inner) => {
                let at = inner.child_of(key);
                let child = &mut inner.children[at];
                let result = Node::update(&mut child.node, key, change_value, change, spare);
                child.sum += *change;
                result
            }
        }
    }

    /// Removes a key that is there. The node may be empty afterwards; its parent mends that.
    pub(super) fn remove(
        this: &mut Arc<Self>,
        key: &Ks::Key,
        change: &mut Sum,
        spare: &mut Spare<Ks, V>,
    ) -> Option<V> {
        match spare.make_mut(this, 0) {
            Node::Leaf(leaf) => {
                let at = leaf.keys.search(key).ok()?;
                Arc::make_mut(&mut leaf.keys).remove(at);
                let value = leaf.values.remove(at);
                *change = Sum {
                    entries: -1,
                    weight: -value.weight(),
                };
                Some(value)
            }
            Node::Inner(inner) => {
                let at = inner.child_of(key);
                let child = &mut inner.children[at];
                let removed = Node::remove(&mut child.node, key, change, spare);
                child.sum += *change;
                inner.mend(at, spare);
                removed
            }
        }
    }

    /// Sums the entries before a cut.
    pub(super) fn sum_before(&self, cut: Cut<'_, Ks::Key>) -> Sum {
        let mut sum = Sum::default();
        let mut node = self;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner.separators.count_before(cut);
                    for child in &inner.children[..at] {
                        sum += child.sum;
                    }
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    sum += sum_of(&leaf.values[..leaf.keys.count_before(cut)]);
                    return sum;
                }
            }
        }
    }

    /// Appends a right neighbour of the same height.
    fn append(&mut self, separator: &Ks::Key, right: &Self) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                Arc::make_mut(&mut left.keys).append(&right.keys);
                left.values.extend_from_slice(&right.values);
            }
            (Node::Inner(left), Node::Inner(right)) => {
                let separators = Arc::make_mut(&mut left.separators);
                separators.insert(separators.len(), separator);
                separators.append(&right.separators);
                left.children.extend_from_slice(&right.children);
            }
            _ => unreachable!("neighbours have the same height"),
        }
    }

    /// Checks the node between two separators; returns its height and its sum.
    pub(super) fn check(&self, low: Option<&Ks::Key>, high: Option<&Ks::Key>) -> (usize, Sum) {
        match self {
            Node::Leaf(leaf) => {
                let count = leaf.values.len();
                assert_eq!(leaf.keys.len(), count, "each key of a leaf has a value");
                assert!(
                    (1..=leaf_entries_max::<V>()).contains(&count),
                    "a leaf is in bounds"
                );
                check_keys(leaf.keys.as_ref(), low, high);
                (0, sum_of(&leaf.values))
            }
            Node::Inner(inner) => inner.check(low, high),
        }
    }
}

/// Keys ascend, and lie between the separators above them.
fn check_keys<Ks: Keys>(keys: &Ks, low: Option<&Ks::Key>, high: Option<&Ks::Key>) {
    let owned: Vec<Ks::Owned> = (0..keys.len()).map(|at| keys.owned(at)).collect();
    let keys = || owned.iter().map(|key| key.borrow());
    assert!(keys().is_sorted_by(|a, b| a < b), "keys ascend");
    let inside =
        |key: &Ks::Key| low.is_none_or(|low| low <= key) && high.is_none_or(|high| key < high);
    assert!(keys().all(inside), "keys lie between their separators");
}

impl<Ks: Keys, V: Clone + Weigh> Leaf<Ks, V> {
    fn insert(
        &mut self,
        key: &Ks::Key,
        value: V,
        change: &mut Sum,
    ) -> (Option<V>, Option<Split<Ks, V>>) {
        match self.keys.search(key) {
            Ok(at) => {
                let old = std::mem::replace(&mut self.values[at], value);
                change.weight = self.values[at].weight() - old.weight();
                (Some(old), None)
            }
            Err(at) => {
                *change = Sum {
                    entries: 1,
                    weight: value.weight(),
                };
                if Arc::get_mut(&mut self.keys).is_none() {
                    self.keys = Arc::new(self.keys.with_room(room::<V>()));
                }
                Arc::make_mut(&mut self.keys).insert(at, key);
                insert_at(&mut self.values, at, value);
                (None, self.split_when_full(at))
            }
        }
    }

    fn split_when_full(&mut self, inserted: usize) -> Option<Split<Ks, V>> {
        let length = self.values.len();
        if length <= leaf_entries_max::<V>() && (length == 1 || !self.keys.is_heavy()) {
            return None;
        }
        let at = split_point(length, inserted);
        let left = Arc::make_mut(&mut self.keys);
        let keys = left.split_off(at, room::<V>());
        let values = split_with_room(&mut self.values, at, room::<V>());
        let sum = sum_of(&values);
        let separator = left.separator(&keys);
        let right = Node::Leaf(Leaf {
            keys: Arc::new(keys),
            values,
        });
        Some(Split {
            separator,
            right: Child {
                node: Arc::new(right),
                sum,
            },
        })
    }
}

impl<Ks: Keys, V: Clone + Weigh> Inner<Ks, V> {
    /// The child under which a key belongs.
    fn child_of(&self, key: &Ks::Key) -> usize {
        self.separators.count_before(Cut::Behind(key))
    }

    fn check(&self, low: Option<&Ks::Key>, high: Option<&Ks::Key>) -> (usize, Sum) {
        let (count, separators) = (self.children.len(), self.separators.len());
        assert_eq!(separators + 1, count, "a separator between two children");
        assert!(
            (1..=CHILDREN_MAX).contains(&count),
            "an inner node is in bounds"
        );
        check_keys(self.separators.as_ref(), low, high);
        let owned: Vec<Ks::Owned> = (0..separators)
            .map(|at| self.separators.owned(at))
            .collect();
        let (mut heights, mut total) = (Vec::new(), Sum::default());
        for (at, child) in self.children.iter().enumerate() {
            let left = at.checked_sub(1).map(|left| owned[left].borrow());
            let right = owned.get(at).map(|right| right.borrow());
            let (height, sum) = child.node.check(left.or(low), right.or(high));
            assert_eq!(sum, child.sum, "the sum of a child equals what is below it");
            heights.push(height);
            total += sum;
        }
        assert!(
            heights.iter().all(|h| *h == heights[0]),
            "leaves are at one depth"
        );
        (heights[0] + 1, total)
    }

    /// Takes in the right part of child `at`, and splits in turn when full.
    fn take_in(&mut self, at: usize, split: Split<Ks, V>) -> Option<Split<Ks, V>> {
        self.children[at].sum -= split.right.sum;
        if Arc::get_mut(&mut self.separators).is_none() {
            let places = self.separators.len() + GROWTH;
            self.separators = Arc::new(self.separators.with_room(places));
        }
        Arc::make_mut(&mut self.separators).insert(at, split.separator.borrow());
        insert_at(&mut self.children, at + 1, split.right);
        let length = self.children.len();
        if length <= CHILDREN_MAX {
            return None;
        }
        let middle = split_point(length, at + 1);
        let children = self.children.split_off(middle);
        let separators = Arc::make_mut(&mut self.separators);
        let right_separators = separators.split_off(middle, 0);
        let separator = separators.owned(middle - 1);
        separators.remove(middle - 1);
        let mut sum = Sum::default();
        for child in &children {
            sum += child.sum;
        }
        let right = Node::Inner(Inner {
            separators: Arc::new(right_separators),
            children,
        });
        Some(Split {
            separator,
            right: Child {
                node: Arc::new(right),
                sum,
            },
        })
    }

    /// Drops child `at` when it became empty, joins it with a neighbour when it became small.
    fn mend(&mut self, at: usize, spare: &mut Spare<Ks, V>) {
        let length = self.children[at].node.len();
        if length == 0 {
            self.children.remove(at);
            if self.separators.len() > 0 {
                Arc::make_mut(&mut self.separators).remove(at.saturating_sub(1));
            }
            return;
        }
        if length >= JOIN_BELOW || self.children.len() < 2 {
            return;
        }
        let left = at.saturating_sub(1);
        let both = self.children[left].node.len() + self.children[left + 1].node.len();
        if both > LEAF_ENTRIES_MAX.min(CHILDREN_MAX) {
            return;
        }
        let right = self.children.remove(left + 1);
        let separator = self.separators.owned(left);
        Arc::make_mut(&mut self.separators).remove(left);
        let child = &mut self.children[left];
        let left = spare.make_mut(&mut child.node, right.node.len());
        left.append(separator.borrow(), &right.node);
        child.sum += right.sum;
    }
}

/// Where a node of `length` parts splits after an insertion at `inserted`. Ascending inserts leave
/// full nodes behind, others halves.
fn split_point(length: usize, inserted: usize) -> usize {
    if inserted + 1 == length {
        length - 1
    } else {
        length / 2
    }
}

/// A list of one key.
fn only<Ks: Keys>(key: &Ks::Key) -> Ks {
    let mut keys = Ks::default();
    keys.insert(0, key);
    keys
}

pub(super) fn sum_of<V: Weigh>(values: &[V]) -> Sum {
    let weight = values.iter().map(Weigh::weight).sum();
    Sum {
        entries: values.len() as i64,
        weight,
    }
}
