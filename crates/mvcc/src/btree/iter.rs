//! Walking a tree in order, either way, from any bound.

use super::keys::{Cut, Keys};
use super::node::{Child, Leaf, Node};

/// Depth that covers any tree that fits in memory, so that the path is allocated once.
const DEPTH_USUAL: usize = 8;

/// Entries of a tree in ascending or descending order.
#[derive(Clone, Debug)]
pub(crate) struct Iter<'a, Ks: Keys, V> {
    /// The inner nodes above the leaf, each with the place of the child that is being walked.
    path: Vec<(&'a [Child<Ks, V>], usize)>,
    leaf: Option<&'a Leaf<Ks, V>>,
    /// Ascending: the place of the next entry. Descending: one past it.
    at: usize,
    ascending: bool,
}

impl<'a, Ks: Keys, V> Iter<'a, Ks, V> {
    /// The entries behind a cut, ascending, or those before it, descending.
    pub(super) fn start(
        root: Option<&'a Node<Ks, V>>,
        ascending: bool,
        cut: Cut<'_, Ks::Key>,
    ) -> Self {
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
                    let at = inner.separators.count_before(cut);
                    iter.path.push((&inner.children, at));
                    node = &inner.children[at].node;
                }
                Node::Leaf(leaf) => {
                    iter.leaf = Some(leaf);
                    iter.at = leaf.keys.count_before(cut);
                    return iter;
                }
            }
        }
    }

    /// Moves to the neighbouring leaf; `None` at the end of the tree.
    fn turn_leaf(&mut self) -> Option<&'a Leaf<Ks, V>> {
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

    fn descend_to_edge(&mut self, mut node: &'a Node<Ks, V>) -> &'a Leaf<Ks, V> {
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

#[cfg(test)]
thread_local! {
    /// Entries that iterators have given out on this thread: the work of a read, for tests.
    pub(crate) static GIVEN_OUT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl<'a, Ks: Keys, V> Iterator for Iter<'a, Ks, V> {
    type Item = (Ks::Ref<'a>, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        #[cfg(test)]
        GIVEN_OUT.with(|given| given.set(given.get() + 1));
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
        Some((leaf.keys.at(at), &leaf.values[at]))
    }
}
