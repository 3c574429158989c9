//! Building a tree from entries in order, from the leaves up.

use std::borrow::Borrow;
use std::sync::Arc;

use super::keys::Keys;
use super::node::{CHILDREN_MAX, Child, Inner, LEAF_ENTRIES_MAX, Leaf, Node, sum_of};
use super::spare::Spare;
use super::{Sum, Tree, Weigh};

/// A node with what sets it apart from the one before it; `None` for the first of all.
struct Part<Ks: Keys, V> {
    separator: Option<Ks::Owned>,
    child: Child<Ks, V>,
}

/// Takes entries that ascend strictly and makes a tree of them, every node but the last of its
/// level full.
pub(crate) struct Loader<Ks: Keys, V> {
    leaves: Vec<Part<Ks, V>>,
    /// The keys of the last leaf.
    before: Option<Arc<Ks>>,
    /// The leaf that is being filled.
    keys: Ks,
    values: Vec<V>,
}

impl<Ks: Keys, V> Default for Loader<Ks, V> {
    fn default() -> Self {
        Loader {
            leaves: Vec::new(),
            before: None,
            keys: Ks::default(),
            values: Vec::new(),
        }
    }
}

impl<Ks: Keys, V: Clone + Weigh> Loader<Ks, V> {
    /// Takes the next entry.
    pub(crate) fn push(&mut self, key: &Ks::Key, value: V) {
        if self.values.is_empty() {
            self.values.reserve_exact(LEAF_ENTRIES_MAX);
        }
        self.keys.push(key);
        self.values.push(value);
        if self.values.len() == LEAF_ENTRIES_MAX || self.keys.is_heavy() {
            self.end_leaf();
        }
    }

    /// The tree of all that was pushed.
    pub(crate) fn finish(mut self) -> Tree<Ks, V> {
        if !self.values.is_empty() {
            self.end_leaf();
        }
        let mut level = self.leaves;
        while level.len() > 1 {
            let mut parts = level.into_iter().peekable();
            let mut above = Vec::new();
            while parts.peek().is_some() {
                above.push(inner(parts.by_ref().take(CHILDREN_MAX)));
            }
            level = above;
        }
        match level.pop() {
            Some(Part { child, .. }) => Tree {
                root: Some(child.node),
                sum: child.sum,
                spare: Spare::default(),
            },
            None => Tree::default(),
        }
    }

    fn end_leaf(&mut self) {
        let keys = Arc::new(self.keys.take_fitted());
        let mut values = std::mem::take(&mut self.values);
        values.shrink_to_fit();
        let before = self.before.replace(Arc::clone(&keys));
        let separator = before.map(|before| before.separator(&keys));
        let sum = sum_of(&values);
        let node = Node::Leaf(Leaf { keys, values });
        self.leaves.push(part(separator, node, sum));
    }
}

/// A node above neighbours.
fn inner<Ks: Keys, V>(parts: impl Iterator<Item = Part<Ks, V>>) -> Part<Ks, V> {
    let (mut separators, mut children) = (Ks::default(), Vec::new());
    let (mut sum, mut first) = (Sum::default(), None);
    for part in parts {
        sum += part.child.sum;
        match part.separator {
            separator if children.is_empty() => first = separator,
            Some(separator) => separators.push(separator.borrow()),
            None => unreachable!("only the first leaf of all has nothing before it"),
        }
        children.push(part.child);
    }
    children.shrink_to_fit();
    let node = Node::Inner(Inner {
        separators: Arc::new(separators.take_fitted()),
        children,
    });
    part(first, node, sum)
}

fn part<Ks: Keys, V>(separator: Option<Ks::Owned>, node: Node<Ks, V>, sum: Sum) -> Part<Ks, V> {
    let node = Arc::new(node);
    let child = Child { node, sum };
    Part { separator, child }
}
