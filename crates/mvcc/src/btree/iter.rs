//! Walking a tree in order, either way, from any bound.

use std::borrow::Borrow;

use super::node::{Leaf, Node};

/// Depth that covers any tree that fits in memory, so that the path is allocated once.
const DEPTH_USUAL: usize = 8;

/// Entries of a tree in ascending or descending order.
#[derive(Clone, Debug)]
pub(crate) struct Iter<'a, K, V> {
    /// The inner nodes above the leaf, each with the place of the child that is being walked.
    path: Vec<(&'a [super::node::Child<K, V>], usize)>,
    leaf: Option<&'a Leaf<K, V>>,
    /// Ascending: the place of the next entry. Descending: one past it.
    at: usize,
    ascending: bool,
}

impl<'a, K, V> Iter<'a, K, V> {
    /// Starts at the first entry for which `before` does not hold; it holds for a prefix of the
    /// keys.
    pub(super) fn ascending<Q: ?Sized>(
        root: Option<&'a Node<K, V>>,
        before: impl Fn(&Q) -> bool,
    ) -> Self
    where
        K: Borrow<Q>,
    {
        Iter::start(root, true, before)
    }

    /// Starts at the last entry for which `kept` holds; it holds for a prefix of the keys.
    pub(super) fn descending<Q: ?Sized>(
        root: Option<&'a Node<K, V>>,
        kept: impl Fn(&Q) -> bool,
    ) -> Self
    where
        K: Borrow<Q>,
    {
        Iter::start(root, false, kept)
    }

    fn start<Q: ?Sized>(
        root: Option<&'a Node<K, V>>,
        ascending: bool,
        in_prefix: impl Fn(&Q) -> bool,
    ) -> Self
    where
        K: Borrow<Q>,
    {
        let mut iter = Iter {
            path: Vec::with_capacity(DEPTH_USUAL),
            leaf: None,
            at: 0,
            ascending,
        };
        let Some(mut node) = root else { return iter };
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = inner
                        .separators
                        .partition_point(|key| in_prefix(key.borrow()));
                    iter.path.push((&inner.children, at));
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    iter.leaf = Some(leaf);
                    iter.at = leaf.keys.partition_point(|key| in_prefix(key.borrow()));
                    return iter;
                }
            }
        }
    }

    /// Moves to the neighbouring leaf; `None` at the end of the tree.
    fn turn_leaf(&mut self) -> Option<&'a Leaf<K, V>> {
        self.leaf = None;
        loop {
            let (children, at) = self.path.pop()?;
            let next = if self.ascending {
                at + 1
            } else {
                at.wrapping_sub(1)
            };
            if let Some(child) = children.get(next) {
                self.path.push((children, next));
                return Some(self.descend_to_edge(&child.node));
            }
        }
    }

    fn descend_to_edge(&mut self, mut node: &'a Node<K, V>) -> &'a Leaf<K, V> {
        loop {
            match node {
                Node::Inner(inner) => {
                    let at = if self.ascending {
                        0
                    } else {
                        inner.children.len() - 1
                    };
                    self.path.push((&inner.children, at));
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    self.at = if self.ascending { 0 } else { leaf.values.len() };
                    self.leaf = Some(leaf);
                    return leaf;
                }
            }
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let mut leaf = self.leaf?;
        let at = if self.ascending {
            if self.at == leaf.values.len() {
                leaf = self.turn_leaf()?;
            }
            self.at += 1;
            self.at - 1
        } else {
            if self.at == 0 {
                leaf = self.turn_leaf()?;
            }
            self.at -= 1;
            self.at
        };
        Some((&leaf.keys[at], &leaf.values[at]))
    }
}
