//! Ranges of keys, searched by a key that lies in them.
//!
//! A binary search tree by (start, end) in which every node also knows the largest end below it. A
//! search for a key leaves out each subtree that ends before the key, and everything that starts
//! behind it, so it costs O(log n) for each range found rather than O(n). It is kept in balance as
//! a treap: the parent has the larger priority, and priorities are the well-mixed numbers of a
//! counter, so that the shape is the same in every run and no choice of keys can spoil it.

use std::cmp::Ordering;

use bytes::Bytes;

use super::slots::{Slot, Slots};

/// Where a range ends, in the order of the keys: the derived one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Upper {
    /// Before this key.
    Before(Bytes),
    /// Nowhere: all keys from the start on.
    Unbounded,
}

impl Upper {
    fn is_behind(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => key < &end[..],
            Self::Unbounded => true,
        }
    }
}

type Link<T> = Option<Slot<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    start: Bytes,
    end: Upper,
    /// The largest `end` in the subtree of this node.
    end_max: Upper,
    /// At least that of both children.
    priority: u64,
    left: Link<T>,
    right: Link<T>,
    value: T,
}

/// Ranges with a value each; a range is there at most once.
#[derive(Debug)]
pub(super) struct IntervalTree<T> {
    nodes: Slots<Node<T>>,
    root: Link<T>,
    inserted: u64,
}

impl<T: Copy> IntervalTree<T> {
    /// No range yet.
    pub(super) const fn new() -> Self {
        Self {
            nodes: Slots::new(),
            root: None,
            inserted: 0,
        }
    }

    /// The value of exactly this range.
    pub(super) fn find(&self, start: &[u8], end: &Upper) -> Option<T> {
        let mut link = self.root;
        while let Some(at) = link {
            let node = &self.nodes[at];
            link = match order(start, end, node) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return Some(node.value),
            };
        }
        None
    }

    /// Adds a range that is not there yet.
    pub(super) fn insert(&mut self, start: Bytes, end: Upper, value: T) {
        self.inserted += 1;
        let priority = super::mix(self.inserted);
        let end_max = end.clone();
        let node = Node {
            start,
            end,
            end_max,
            priority,
            left: None,
            right: None,
            value,
        };
        let new = self.nodes.insert(node);
        self.root = Some(self.insert_below(self.root, new));
    }

    /// Takes a range out; returns its value if it was there.
    pub(super) fn remove(&mut self, start: &[u8], end: &Upper) -> Option<T> {
        let mut removed = None;
        self.root = self.remove_below(self.root, start, end, &mut removed);
        removed
    }

    /// Calls `found` with the value of every range that holds `key`.
    pub(super) fn stab(&self, key: &[u8], found: &mut impl FnMut(T)) {
        self.stab_below(self.root, key, found);
    }

    fn stab_below(&self, link: Link<T>, key: &[u8], found: &mut impl FnMut(T)) {
        let Some(at) = link else { return };
        let node = &self.nodes[at];
        if !node.end_max.is_behind(key) {
            return;
        }
        self.stab_below(node.left, key, found);
        if &node.start[..] <= key {
            if node.end.is_behind(key) {
                found(node.value);
            }
            self.stab_below(node.right, key, found);
        }
    }

    fn insert_below(&mut self, link: Link<T>, new: Slot<Node<T>>) -> Slot<Node<T>> {
        let Some(at) = link else { return new };
        if self.nodes[new].priority > self.nodes[at].priority {
            let (left, right) = self.split(link, new);
            self.nodes[new].left = left;
            self.nodes[new].right = right;
            self.refresh(new);
            return new;
        }
        if order(
            &self.nodes[new].start,
            &self.nodes[new].end,
            &self.nodes[at],
        )
        .is_lt()
        {
            self.nodes[at].left = Some(self.insert_below(self.nodes[at].left, new));
        } else {
            self.nodes[at].right = Some(self.insert_below(self.nodes[at].right, new));
        }
        self.refresh(at);
        at
    }

    /// Cuts a subtree into what comes before and what comes after the range at `cut`.
    fn split(&mut self, link: Link<T>, cut: Slot<Node<T>>) -> (Link<T>, Link<T>) {
        let Some(at) = link else { return (None, None) };
        let parts = if order(
            &self.nodes[cut].start,
            &self.nodes[cut].end,
            &self.nodes[at],
        )
        .is_lt()
        {
            let (before, after) = self.split(self.nodes[at].left, cut);
            self.nodes[at].left = after;
            (before, Some(at))
        } else {
            let (before, after) = self.split(self.nodes[at].right, cut);
            self.nodes[at].right = before;
            (Some(at), after)
        };
        self.refresh(at);
        parts
    }

    fn remove_below(
        &mut self,
        link: Link<T>,
        start: &[u8],
        end: &Upper,
        removed: &mut Option<T>,
    ) -> Link<T> {
        let at = link?;
        let (left, right) = (self.nodes[at].left, self.nodes[at].right);
        match order(start, end, &self.nodes[at]) {
            Ordering::Less => self.nodes[at].left = self.remove_below(left, start, end, removed),
            Ordering::Greater => {
                self.nodes[at].right = self.remove_below(right, start, end, removed);
            }
            Ordering::Equal => {
                *removed = Some(self.nodes.remove(at).value);
                return self.merge(left, right);
            }
        }
        self.refresh(at);
        Some(at)
    }

    /// Joins two subtrees, the first wholly before the second.
    fn merge(&mut self, left: Link<T>, right: Link<T>) -> Link<T> {
        let (Some(before), Some(after)) = (left, right) else {
            return left.or(right);
        };
        let top = if self.nodes[before].priority >= self.nodes[after].priority {
            self.nodes[before].right = self.merge(self.nodes[before].right, right);
            before
        } else {
            self.nodes[after].left = self.merge(left, self.nodes[after].left);
            after
        };
        self.refresh(top);
        Some(top)
    }

    fn refresh(&mut self, at: Slot<Node<T>>) {
        let end_max = self.largest_end(at).clone();
        self.nodes[at].end_max = end_max;
    }

    fn largest_end(&self, at: Slot<Node<T>>) -> &Upper {
        let node = &self.nodes[at];
        let below = [node.left, node.right].into_iter().flatten();
        below
            .map(|child| &self.nodes[child].end_max)
            .fold(&node.end, Ord::max)
    }

    /// Panics if order, balance or the ends do not hold; returns the number of ranges.
    pub(super) fn check_invariants(&self) -> usize {
        let mut seen = Vec::new();
        self.check_below(self.root, u64::MAX, &mut seen);
        assert!(
            seen.windows(2).all(|pair| pair[0] < pair[1]),
            "ranges in the tree are in order and each is there once"
        );
        assert_eq!(seen.len(), self.nodes.len(), "every node hangs in the tree");
        seen.len()
    }

    fn check_below<'a>(
        &'a self,
        link: Link<T>,
        priority_max: u64,
        seen: &mut Vec<(&'a Bytes, &'a Upper)>,
    ) {
        let Some(at) = link else { return };
        let node = &self.nodes[at];
        assert!(
            node.priority <= priority_max,
            "a parent has the larger priority"
        );
        assert_eq!(
            &node.end_max,
            self.largest_end(at),
            "a node knows the largest end below it"
        );
        self.check_below(node.left, node.priority, seen);
        seen.push((&node.start, &node.end));
        self.check_below(node.right, node.priority, seen);
    }
}

fn order<T>(start: &[u8], end: &Upper, node: &Node<T>) -> Ordering {
    start.cmp(&node.start[..]).then_with(|| end.cmp(&node.end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stab_finds_what_a_plain_scan_finds_while_ranges_come_and_go() {
        let mut tree = IntervalTree::new();
        let mut plain: Vec<(Bytes, Upper, usize)> = Vec::new();
        for step in 0..3000_u64 {
            let draw = super::super::mix(step);
            let start = Bytes::from(vec![(draw % 23) as u8, (draw >> 8) as u8 % 5]);
            let end = match (draw >> 16) % 8 {
                0 => Upper::Unbounded,
                length => Upper::Before(Bytes::from(vec![(draw % 23 + length) as u8])),
            };
            let held = plain.iter().position(|(s, e, _)| (s, e) == (&start, &end));
            assert_eq!(tree.find(&start, &end), held.map(|at| plain[at].2));
            match held {
                Some(at) => {
                    assert_eq!(tree.remove(&start, &end), Some(plain.swap_remove(at).2));
                    assert_eq!(tree.remove(&start, &end), None);
                }
                None => {
                    tree.insert(start.clone(), end.clone(), step as usize);
                    plain.push((start, end, step as usize));
                }
            }
            assert_eq!(tree.check_invariants(), plain.len());
            let key = [(draw >> 32) as u8 % 32];
            let mut found = Vec::new();
            tree.stab(&key, &mut |value| found.push(value));
            let mut wanted: Vec<_> = (plain.iter())
                .filter(|(start, end, _)| start[..] <= key[..] && end.is_behind(&key))
                .map(|(_, _, value)| *value)
                .collect();
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted);
        }
    }
}
