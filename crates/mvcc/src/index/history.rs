//! The changes of one key.
//!
//! etcd calls the stretch from the first put of a key to its delete a *generation*. Here the
//! changes of all generations lie in one ordered list: a tombstone ends a generation, the put after
//! it begins the next, and each record carries its create revision and version. What the key was at
//! revision R is the newest change at or below R; a tombstone there means that it did not exist.
//!
//! Example: `put@2 put@5 delete@7 put@9` are the generations `{2, 5, 7t}` and `{9}`. At 6 the key
//! is what 5 wrote, at 8 it is absent. A compaction at 7 leaves `{7t}` and `{9}`, at 8 only `{9}`.
//!
//! Most keys have one change: it is held inline. A few older ones lie in a short list, many in a
//! tree, so that a key written a million times between two compactions costs no more per write
//! than any other.

use std::ops::Bound;
use std::sync::Arc;

use crate::btree::{Tree, Weigh};
use crate::{Record, Revision};

/// Older changes beyond this number move from a list to a tree.
const LIST_MAX: usize = 16;

/// All kept changes of one key; never empty.
#[derive(Clone, Debug)]
pub(crate) struct History {
    newest: Record,
    older: Older,
}

/// The changes before the newest, ascending.
#[derive(Clone, Debug)]
enum Older {
    None,
    List(Arc<Vec<Record>>),
    Tree(Arc<Tree<Revision, Record>>),
}

impl Weigh for Record {
    fn weight(&self) -> i64 {
        0
    }
}

impl History {
    /// A key with one change.
    pub(crate) fn new(record: Record) -> Self {
        History {
            newest: record,
            older: Older::None,
        }
    }

    /// The newest change, maybe a tombstone.
    pub(crate) fn newest(&self) -> &Record {
        &self.newest
    }

    /// The newest change at or below a place in history, maybe a tombstone.
    pub(crate) fn floor(&self, at: Revision) -> Option<&Record> {
        if self.newest.mod_revision() <= at {
            return Some(&self.newest);
        }
        match &self.older {
            Older::None => None,
            Older::List(list) => {
                let after = list.partition_point(|record| record.mod_revision() <= at);
                after.checked_sub(1).map(|place| &list[place])
            }
            Older::Tree(tree) => tree.floor(&at).map(|(_, record)| record),
        }
    }

    /// The pair a read sees at a store revision.
    pub(crate) fn live_at(&self, revision: i64) -> Option<&Record> {
        self.floor(Revision::end_of(revision))
            .filter(|record| !record.is_tombstone())
    }

    /// Whether a change of this key still exists in a store compacted at `compacted`.
    ///
    /// Source: etcd v3.7.1, `server/storage/mvcc/key_index.go` (`compact`).
    pub(crate) fn keeps(&self, change: &Record, compacted: i64) -> bool {
        let revision = change.mod_revision();
        if revision.main > compacted {
            return true;
        }
        let newest = self.floor(Revision::end_of(compacted));
        newest.is_some_and(|newest| newest.mod_revision() == revision)
            && (!change.is_tombstone() || revision.main == compacted)
    }

    /// Adds a change after all others.
    pub(crate) fn push(&mut self, record: Record) {
        assert!(
            record.mod_revision() > self.newest.mod_revision(),
            "history grows at its end"
        );
        let old = std::mem::replace(&mut self.newest, record);
        match &mut self.older {
            Older::None => self.older = Older::List(Arc::new(vec![old])),
            Older::List(list) if list.len() < LIST_MAX => Arc::make_mut(list).push(old),
            Older::List(list) => {
                let mut tree = Tree::default();
                for record in list.iter().chain([&old]) {
                    tree.insert(record.mod_revision(), record.clone());
                }
                self.older = Older::Tree(Arc::new(tree));
            }
            Older::Tree(tree) => {
                Arc::make_mut(tree).insert(old.mod_revision(), old);
            }
        }
    }

    /// Forgets one change. Returns whether another is left; if not, the history still holds the
    /// change and the key must go with it.
    pub(crate) fn remove(&mut self, revision: Revision) -> bool {
        if self.newest.mod_revision() == revision {
            assert!(
                matches!(self.older, Older::None),
                "older changes are forgotten first"
            );
            return false;
        }
        let emptied = match &mut self.older {
            Older::None => return true,
            Older::List(list) => {
                let list = Arc::make_mut(list);
                list.retain(|record| record.mod_revision() != revision);
                list.is_empty()
            }
            Older::Tree(tree) => {
                let tree = Arc::make_mut(tree);
                tree.remove(&revision);
                tree.is_empty()
            }
        };
        if emptied {
            self.older = Older::None;
        }
        true
    }

    /// All kept changes, ascending.
    pub(crate) fn changes(&self) -> Vec<&Record> {
        let mut changes: Vec<&Record> = match &self.older {
            Older::None => Vec::new(),
            Older::List(list) => list.iter().collect(),
            Older::Tree(tree) => tree
                .ascend(Bound::<&Revision>::Unbounded)
                .map(|(_, record)| record)
                .collect(),
        };
        changes.push(&self.newest);
        changes
    }
}
