//! The state of the store at each revision, replayed from the published changes.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::history::{Change, History, Keys, Pair};

/// Pairs at one revision, moved forward in order.
pub(super) struct State<'a> {
    history: &'a History,
    revision: i64,
    pairs: BTreeMap<Bytes, Pair>,
}

impl<'a> State<'a> {
    /// The empty store at revision 1.
    pub(super) fn new(history: &'a History) -> Self {
        Self {
            history,
            revision: 1,
            pairs: BTreeMap::new(),
        }
    }

    /// Goes to a later revision; an earlier one starts over.
    pub(super) fn go_to(&mut self, revision: i64) {
        if revision < self.revision {
            *self = Self::new(self.history);
        }
        let passed = (Bound::Excluded(self.revision), Bound::Included(revision));
        for (_, (_, changes)) in self.history.published.range(passed) {
            for change in changes {
                match change {
                    Change::Put(pair) => {
                        self.pairs.insert(pair.key.clone(), pair.clone());
                    }
                    Change::Delete(key) => {
                        self.pairs.remove(key);
                    }
                }
            }
        }
        self.revision = revision;
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Pair> {
        self.pairs.get(key)
    }

    pub(super) fn all(&self) -> Vec<Pair> {
        self.pairs.values().cloned().collect()
    }

    pub(super) fn select(&self, keys: &Keys) -> Vec<Pair> {
        self.pairs
            .values()
            .filter(|pair| keys.contains(&pair.key))
            .cloned()
            .collect()
    }
}
