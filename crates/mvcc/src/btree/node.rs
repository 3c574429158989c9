//! The nodes of the tree and the recursive steps of its changes.

use std::borrow::Borrow;
use std::sync::Arc;

use super::{Sum, Weigh};

/// Most values in a leaf. A write copies one leaf, so a small one is cheap to write and a large
/// one is cheap to list; 32 values of pointer size fill a few cache lines.
pub(super) const LEAF_ENTRIES_MAX: usize = 32;

/// Most children of an inner node.
pub(super) const CHILDREN_MAX: usize = 32;

/// A node with fewer parts than this is joined with a neighbour when both fit in one node.
const JOIN_BELOW: usize = 8;

/// How many places a full array of a node grows by: little slack, since most nodes never grow.
const GROWTH: usize = 4;

#[derive(Clone, Debug)]
pub(super) enum Node<K, V> {
    Leaf(Leaf<K, V>),
    Inner(Inner<K, V>),
}

#[derive(Clone, Debug)]
pub(super) struct Leaf<K, V> {
    pub(super) keys: Arc<Vec<K>>,
    pub(super) values: Vec<V>,
}

/// `separators[i]` is above every key of child `i` and not above any key of child `i + 1`.
#[derive(Clone, Debug)]
pub(super) struct Inner<K, V> {
    pub(super) separators: Arc<Vec<K>>,
    pub(super) children: Vec<Child<K, V>>,
}

#[derive(Clone, Debug)]
pub(super) struct Child<K, V> {
    pub(super) node: Arc<Node<K, V>>,
    pub(super) sum: Sum,
}

/// The right part of a node that had become too large, for its parent to take in.
pub(super) struct Split<K, V> {
    separator: K,
    right: Child<K, V>,
}

impl<K: Ord + Clone, V: Clone + Weigh> Node<K, V> {
    /// A leaf with one entry.
    pub(super) fn first(key: K, value: V) -> Self {
        Node::Leaf(Leaf {
            keys: Arc::new(vec![key]),
            values: vec![value],
        })
    }

    /// A new root over a split one. `sum` is that of both parts together.
    pub(super) fn above(left: Arc<Node<K, V>>, mut sum: Sum, split: Split<K, V>) -> Self {
        sum -= split.right.sum;
        Node::Inner(Inner {
            separators: Arc::new(vec![split.separator]),
            children: vec![Child { node: left, sum }, split.right],
        })
    }

    /// Number of values or children.
    pub(super) fn len(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.values.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }

    /// The child of an inner node that has no other.
    pub(super) fn only_child(&self) -> Option<Arc<Node<K, V>>> {
        match self {
            Node::Inner(inner) if inner.children.len() == 1 => {
                Some(Arc::clone(&inner.children[0].node))
            }
            _ => None,
        }
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = self;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)].node,
                Node::Leaf(leaf) => return leaf.search(key).ok().map(|at| &leaf.values[at]),
            }
        }
    }

    pub(super) fn floor<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        match self {
            Node::Leaf(leaf) => {
                let after = leaf.keys.partition_point(|other| other.borrow() <= key);
                let at = after.checked_sub(1)?;
                Some((&leaf.keys[at], &leaf.values[at]))
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

    pub(super) fn last(&self) -> Option<(&K, &V)> {
        match self {
            Node::Leaf(leaf) => leaf.keys.last().zip(leaf.values.last()),
            Node::Inner(inner) => inner.children.last()?.node.last(),
        }
    }

    /// Inserts below this node; `change` takes what that adds to the sums above.
    pub(super) fn insert(
        this: &mut Arc<Self>,
        key: K,
        value: V,
        change: &mut Sum,
    ) -> (Option<V>, Option<Split<K, V>>) {
        match Arc::make_mut(this) {
            Node::Leaf(leaf) => leaf.insert(key, value, change),
            Node::Inner(inner) => {
                let at = inner.child_of(&key);
                let child = &mut inner.children[at];
                let (old, split) = Node::insert(&mut child.node, key, value, change);
                child.sum += *change;
                (old, split.and_then(|split| inner.take_in(at, split)))
            }
        }
    }

    /// Changes the value at a key that is there.
    pub(super) fn update<Q: Ord + ?Sized, R>(
        this: &mut Arc<Self>,
        key: &Q,
        change_value: impl FnOnce(&mut V) -> R,
        change: &mut Sum,
    ) -> Option<R>
    where
        K: Borrow<Q>,
    {
        match Arc::make_mut(this) {
            Node::Leaf(leaf) => {
                let at = leaf.search(key).ok()?;
                let value = &mut leaf.values[at];
                change.weight -= value.weight();
                let result = change_value(value);
                change.weight += value.weight();
                Some(result)
            }
            Node::Inner(inner) => {
                let at = inner.child_of(key);
                let child = &mut inner.children[at];
                let result = Node::update(&mut child.node, key, change_value, change);
                child.sum += *change;
                result
            }
        }
    }

    /// Removes a key that is there. The node may be empty afterwards; its parent mends that.
    pub(super) fn remove<Q: Ord + ?Sized>(
        this: &mut Arc<Self>,
        key: &Q,
        change: &mut Sum,
    ) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match Arc::make_mut(this) {
            Node::Leaf(leaf) => {
                let at = leaf.search(key).ok()?;
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
                let removed = Node::remove(&mut child.node, key, change);
                child.sum += *change;
                inner.mend(at);
                removed
            }
        }
    }

    /// Sums the entries at the front whose keys satisfy `counted`, which holds for a prefix only.
    pub(super) fn sum_while<Q: ?Sized>(&self, counted: impl Fn(&Q) -> bool) -> Sum
    where
        K: Borrow<Q>,
    {
        let mut sum = Sum::default();
        let mut node = self;
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner
                        .separators
                        .partition_point(|key| counted(key.borrow()));
                    for child in &inner.children[..at] {
                        sum += child.sum;
                    }
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    let end = leaf.keys.partition_point(|key| counted(key.borrow()));
                    sum += sum_of(&leaf.values[..end]);
                    return sum;
                }
            }
        }
    }

    /// Appends a right neighbour of the same height.
    fn append(&mut self, separator: K, right: Node<K, V>) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                Arc::make_mut(&mut left.keys).extend(Arc::unwrap_or_clone(right.keys));
                left.values.extend(right.values);
            }
            (Node::Inner(left), Node::Inner(right)) => {
                let separators = Arc::make_mut(&mut left.separators);
                separators.push(separator);
                separators.extend(Arc::unwrap_or_clone(right.separators));
                left.children.extend(right.children);
            }
            _ => unreachable!("neighbours have the same height"),
        }
    }

    /// Checks the node between two separators; returns its height and its sum.
    pub(super) fn check(&self, low: Option<&K>, high: Option<&K>) -> (usize, Sum) {
        let inside =
            |key: &K| low.is_none_or(|low| low <= key) && high.is_none_or(|high| key < high);
        match self {
            Node::Leaf(leaf) => {
                assert_eq!(
                    leaf.keys.len(),
                    leaf.values.len(),
                    "each key of a leaf has a value"
                );
                assert!(
                    (1..=LEAF_ENTRIES_MAX).contains(&leaf.values.len()),
                    "a leaf is in bounds"
                );
                assert!(leaf.keys.is_sorted_by(|a, b| a < b), "keys ascend");
                assert!(
                    leaf.keys.iter().all(inside),
                    "keys lie between their separators"
                );
                (0, sum_of(&leaf.values))
            }
            Node::Inner(inner) => {
                let count = inner.children.len();
                assert_eq!(
                    inner.separators.len() + 1,
                    count,
                    "a separator between two children"
                );
                assert!(
                    (1..=CHILDREN_MAX).contains(&count),
                    "an inner node is in bounds"
                );
                assert!(
                    inner.separators.is_sorted_by(|a, b| a < b),
                    "separators ascend"
                );
                assert!(inner.separators.iter().all(inside), "separators nest");
                let (mut heights, mut total) = (Vec::new(), Sum::default());
                for (at, child) in inner.children.iter().enumerate() {
                    let low = at
                        .checked_sub(1)
                        .map_or(low, |left| Some(&inner.separators[left]));
                    let high = inner.separators.get(at).or(high);
                    let (height, sum) = child.node.check(low, high);
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
        }
    }
}

impl<K: Ord + Clone, V: Clone + Weigh> Leaf<K, V> {
    fn search<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.keys.binary_search_by(|other| other.borrow().cmp(key))
    }

    fn insert(&mut self, key: K, value: V, change: &mut Sum) -> (Option<V>, Option<Split<K, V>>) {
        match self.search(&key) {
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
                insert_at(Arc::make_mut(&mut self.keys), at, key);
                insert_at(&mut self.values, at, value);
                (None, self.split_when_full(at))
            }
        }
    }

    fn split_when_full(&mut self, inserted: usize) -> Option<Split<K, V>> {
        let length = self.values.len();
        if length <= LEAF_ENTRIES_MAX {
            return None;
        }
        let at = split_point(length, inserted);
        let left = Arc::make_mut(&mut self.keys);
        let keys = left.split_off(at);
        let values = self.values.split_off(at);
        // Half of all leaves would keep the room of the half that they gave away.
        left.shrink_to(at + GROWTH);
        self.values.shrink_to(at + GROWTH);
        let sum = sum_of(&values);
        let separator = keys[0].clone();
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

impl<K: Ord + Clone, V: Clone + Weigh> Inner<K, V> {
    /// The child under which a key belongs.
    fn child_of<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.separators
            .partition_point(|separator| separator.borrow() <= key)
    }

    /// Takes in the right part of child `at`, and splits in turn when full.
    fn take_in(&mut self, at: usize, split: Split<K, V>) -> Option<Split<K, V>> {
        self.children[at].sum -= split.right.sum;
        insert_at(Arc::make_mut(&mut self.separators), at, split.separator);
        insert_at(&mut self.children, at + 1, split.right);
        let length = self.children.len();
        if length <= CHILDREN_MAX {
            return None;
        }
        let middle = split_point(length, at + 1);
        let children = self.children.split_off(middle);
        let separators = Arc::make_mut(&mut self.separators);
        let right_separators = separators.split_off(middle);
        let separator = separators.pop()?;
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
    fn mend(&mut self, at: usize) {
        let length = self.children[at].node.len();
        if length == 0 {
            self.children.remove(at);
            if !self.separators.is_empty() {
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
        let separator = Arc::make_mut(&mut self.separators).remove(left);
        let child = &mut self.children[left];
        Arc::make_mut(&mut child.node).append(separator, Arc::unwrap_or_clone(right.node));
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

fn insert_at<T>(items: &mut Vec<T>, at: usize, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact(GROWTH);
    }
    items.insert(at, item);
}

pub(super) fn sum_of<V: Weigh>(values: &[V]) -> Sum {
    let weight = values.iter().map(Weigh::weight).sum();
    Sum {
        entries: values.len() as i64,
        weight,
    }
}
