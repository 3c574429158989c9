//! Building a tree from entries in order, from the leaves up.

use std::sync::Arc;

use super::node::{CHILDREN_MAX, Child, Inner, LEAF_ENTRIES_MAX, Leaf, Node, sum_of};
use super::{Sum, Weigh};

/// A node with the first key below it.
struct Part<K, V> {
    first: K,
    child: Child<K, V>,
}

/// The root of a tree of entries whose keys ascend strictly, and its sum; `None` of no entries.
pub(super) fn tree<K: Ord + Clone, V: Clone + Weigh>(
    entries: impl Iterator<Item = (K, V)>,
) -> Option<(Arc<Node<K, V>>, Sum)> {
    let mut level = leaves(entries);
    while level.len() > 1 {
        let mut parts = level.into_iter().peekable();
        let mut above = Vec::new();
        while parts.peek().is_some() {
            let children = parts.by_ref().take(CHILDREN_MAX).collect();
            above.extend(inner(children));
        }
        level = above;
    }
    let Part { child, .. } = level.pop()?;
    Some((child.node, child.sum))
}

fn leaves<K: Ord + Clone, V: Clone + Weigh>(
    mut entries: impl Iterator<Item = (K, V)>,
) -> Vec<Part<K, V>> {
    let mut level: Vec<Part<K, V>> = Vec::new();
    loop {
        let mut keys = Vec::with_capacity(LEAF_ENTRIES_MAX);
        let mut values = Vec::with_capacity(LEAF_ENTRIES_MAX);
        for (key, value) in entries.by_ref().take(LEAF_ENTRIES_MAX) {
            keys.push(key);
            values.push(value);
        }
        let Some(first) = keys.first().cloned() else {
            return level;
        };
        let sum = sum_of(&values);
        let node = Node::Leaf(Leaf {
            keys: Arc::new(keys),
            values,
        });
        level.push(part(first, node, sum));
    }
}

/// A node above neighbours; `None` above none.
fn inner<K, V>(parts: Vec<Part<K, V>>) -> Option<Part<K, V>> {
    let mut separators = Vec::with_capacity(parts.len().saturating_sub(1));
    let mut children = Vec::with_capacity(parts.len());
    let (mut sum, mut first) = (Sum::default(), None);
    for part in parts {
        sum += part.child.sum;
        match first {
            None => first = Some(part.first),
            Some(_) => separators.push(part.first),
        }
        children.push(part.child);
    }
    let node = Node::Inner(Inner {
        separators: Arc::new(separators),
        children,
    });
    Some(part(first?, node, sum))
}

fn part<K, V>(first: K, node: Node<K, V>, sum: Sum) -> Part<K, V> {
    let node = Arc::new(node);
    let child = Child { node, sum };
    Part { first, child }
}
