//! Memory of nodes that is used again.
//!
//! Each batch of writes copies the nodes on its way, since the newest view still shows the old ones; one batch later
//! that view is gone mostly, and the old ones with it. So they are kept when a copy takes their place, and when nobody
//! else holds them any more their memory serves for copies of the next batches: a steady load of writes takes no new
//! memory for nodes.
//!
//! A copy gets memory that it fills but for some places, so that no leaf is larger than it has to be.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Weigh;
use super::keys::{GROWTH, Keys};
use super::node::{CHILDREN_MAX, Node, ORDERED_LEAF_ROOM};

/// Replaced nodes that may wait for their views; those that have waited longest are left to these.
const REPLACED_MAX: usize = 1024;

/// Free nodes of one kind and size that may be kept: at most some 2 MB of an index.
const FREE_MAX: usize = 256;

/// Sizes of nodes: 1 place, 5 places and so on, up to what a full leaf has that was given room for one entry more.
const SIZES: usize = size_of_room(ORDERED_LEAF_ROOM + GROWTH) + 1;
const _: () = assert!(CHILDREN_MAX < ORDERED_LEAF_ROOM);

/// The places of a node of a size.
const fn places(size: usize) -> usize {
    1 + size * GROWTH
}

/// The largest size that has no more than so many places.
const fn size_of_room(places: usize) -> usize {
    places.saturating_sub(1) / GROWTH
}

/// The smallest size that has so many places.
const fn size_for(parts: usize) -> usize {
    parts.saturating_sub(1).div_ceil(GROWTH)
}

/// Nodes of a tree of which the memory can be used again.
#[derive(Debug)]
pub(super) struct Spare<Ks: Keys, V>(Option<Box<Nodes<Ks, V>>>);

#[derive(Debug)]
struct Nodes<Ks: Keys, V> {
    /// Replaced nodes that a view may still hold, each behind its parent.
    replaced: VecDeque<Arc<Node<Ks, V>>>,
    /// Empty nodes that nobody else holds, by their size.
    free_leaves: [Vec<Arc<Node<Ks, V>>>; SIZES],
    free_inner: [Vec<Arc<Node<Ks, V>>>; SIZES],
}

impl<Ks: Keys, V> Default for Spare<Ks, V> {
    fn default() -> Self {
        Spare(None)
    }
}

impl<Ks: Keys, V> Clone for Spare<Ks, V> {
    /// A clone of a tree is a snapshot that nobody writes: it has nothing to spare.
    fn clone(&self) -> Self {
        Spare(None)
    }
}

impl<Ks: Keys, V> Default for Nodes<Ks, V> {
    fn default() -> Self {
        Nodes {
            replaced: VecDeque::new(),
            free_leaves: [const { Vec::new() }; SIZES],
            free_inner: [const { Vec::new() }; SIZES],
        }
    }
}

impl<Ks: Keys, V: Clone + Weigh> Spare<Ks, V> {
    /// Empties replaced nodes that nobody else holds any more, when this is the first write since a snapshot: then
    /// snapshots before that have gone, and nodes will be replaced.
    pub(super) fn reclaim_after_snapshot(&mut self, root: &Arc<Node<Ks, V>>) {
        if let Some(nodes) = &mut self.0
            && Arc::strong_count(root) > 1
        {
            nodes.reclaim();
        }
    }

    /// The node, replaced by a copy with room for some parts more unless nobody else holds it.
    pub(super) fn make_mut<'a>(
        &mut self,
        node: &'a mut Arc<Node<Ks, V>>,
        more: usize,
    ) -> &'a mut Node<Ks, V> {
        if Arc::get_mut(node).is_none() {
            let copy = self.copy(node, more);
            let replaced = std::mem::replace(node, copy);
            if V::REUSES_NODES {
                self.0.get_or_insert_default().keep(replaced);
            }
        }
        Arc::get_mut(node).expect("a copy is not shared yet")
    }

    fn copy(&mut self, node: &Node<Ks, V>, more: usize) -> Arc<Node<Ks, V>> {
        let size = size_for(node.parts_of_copy(more));
        let free = self
            .0
            .as_mut()
            .and_then(|nodes| nodes.free(node, size).pop());
        let Some(mut free) = free else {
            return Arc::new(node.copy_with_room(places(size)));
        };
        let memory = Arc::get_mut(&mut free).expect("nobody else holds a free node");
        memory.fill_with(node);
        free
    }
}

impl<Ks: Keys, V: Clone + Weigh> Nodes<Ks, V> {
    fn keep(&mut self, replaced: Arc<Node<Ks, V>>) {
        if self.replaced.len() == REPLACED_MAX {
            self.replaced.pop_front();
        }
        self.replaced.push_back(replaced);
    }

    /// Empties replaced nodes up to the first that somebody holds: what is behind it was replaced later.
    fn reclaim(&mut self) {
        while let Some(front) = self.replaced.front_mut()
            && let Some(node) = Arc::get_mut(front)
        {
            // This also lets go of the children, which come behind it.
            node.clear();
            let size = size_of_room(node.places());
            let node = self.replaced.pop_front().expect("it has a front");
            let free = self.free(&node, size);
            if free.len() < FREE_MAX {
                free.push(node);
            }
        }
    }

    /// The free nodes of the kind of `node` and of a size.
    fn free(&mut self, node: &Node<Ks, V>, size: usize) -> &mut Vec<Arc<Node<Ks, V>>> {
        let free = match node {
            Node::Leaf(_) => &mut self.free_leaves,
            Node::Inner(_) => &mut self.free_inner,
        };
        &mut free[size.min(SIZES - 1)]
    }
}
