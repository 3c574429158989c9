//! The changes of one key.
//!
//! etcd calls the stretch from the first put of a key to its delete a *generation*. Here the
//! changes of all generations lie in one ordered list: a tombstone ends a generation, the put after
//! it begins the next, and each change carries its create revision and version. What the key was at
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
use crate::{Change, Revision};

/// Older changes beyond this number move from a list to a tree.
const LIST_MAX: usize = 16;

/// All kept changes of one key; never empty.
#[derive(Clone, Debug)]
pub(crate) struct History {
    newest: Change,
    older: Option<Arc<Older>>,
}

/// The changes before the newest, ascending; never empty.
#[derive(Clone, Debug)]
enum Older {
    List(Vec<Change>),
    Tree(Tree<Revision, Change>),
}

impl Weigh for Change {
    fn weight(&self) -> i64 {
        0
    }
}

impl History {
    /// A key with one change.
    pub(crate) fn new(change: Change) -> Self {
        History {
            newest: change,
            older: None,
        }
    }

    /// The newest change, maybe a tombstone.
    pub(crate) fn newest(&self) -> &Change {
        &self.newest
    }

    /// The newest change at or below a place in history, maybe a tombstone.
    pub(crate) fn floor(&self, at: Revision) -> Option<&Change> {
        if self.newest.mod_revision() <= at {
            return Some(&self.newest);
        }
        match self.older.as_deref()? {
            Older::List(list) => {
                let after = list.partition_point(|change| change.mod_revision() <= at);
                after.checked_sub(1).map(|place| &list[place])
            }
            Older::Tree(tree) => tree.floor(&at).map(|(_, change)| change),
        }
    }

    /// Whether the change at a place is held.
    pub(crate) fn contains(&self, at: Revision) -> bool {
        self.floor(at)
            .is_some_and(|change| change.mod_revision() == at)
    }

    /// The pair a read sees at a store revision.
    pub(crate) fn live_at(&self, revision: i64) -> Option<&Change> {
        self.floor(Revision::end_of(revision))
            .filter(|change| !change.is_tombstone())
    }

    /// Whether a change of this key still exists in a store compacted at `compacted`.
    ///
    /// Source: etcd v3.7.1, `server/storage/mvcc/key_index.go` (`compact`).
    pub(crate) fn keeps(&self, at: Revision, is_tombstone: bool, compacted: i64) -> bool {
        if at.main > compacted {
            return true;
        }
        let newest = self.floor(Revision::end_of(compacted));
        newest.is_some_and(|newest| newest.mod_revision() == at)
            && (!is_tombstone || at.main == compacted)
    }

    /// Adds a change after all others.
    pub(crate) fn push(&mut self, change: Change) {
        assert!(
            change.mod_revision() > self.newest.mod_revision(),
            "history grows at its end"
        );
        let old = std::mem::replace(&mut self.newest, change);
        let Some(older) = &mut self.older else {
            self.older = Some(Arc::new(Older::List(vec![old])));
            return;
        };
        let older = Arc::make_mut(older);
        match older {
            Older::List(list) if list.len() < LIST_MAX => list.push(old),
            Older::List(list) => {
                let mut tree = Tree::default();
                for change in list.iter().chain([&old]) {
                    tree.insert(change.mod_revision(), *change);
                }
                *older = Older::Tree(tree);
            }
            Older::Tree(tree) => {
                tree.insert(old.mod_revision(), old);
            }
        }
    }

    /// Forgets every change before a place, and with `itself` the one there too; calls `forgotten`
    /// with each. Returns whether another is left; if not, the key must go.
    pub(crate) fn forget(
        &mut self,
        at: Revision,
        itself: bool,
        mut forgotten: impl FnMut(&Change),
    ) -> bool {
        let dies = |change: &Change| {
            let place = change.mod_revision();
            place < at || (itself && place == at)
        };
        if let Some(older) = &mut self.older {
            let emptied = match Arc::make_mut(older) {
                Older::List(list) => {
                    let kept = list.partition_point(dies);
                    list.drain(..kept).for_each(|change| forgotten(&change));
                    list.is_empty()
                }
                Older::Tree(tree) => {
                    forget_in_tree(tree, dies, &mut forgotten);
                    tree.is_empty()
                }
            };
            if emptied {
                self.older = None;
            }
        }
        if dies(&self.newest) {
            assert!(self.older.is_none(), "older changes are forgotten first");
            forgotten(&self.newest);
            return false;
        }
        true
    }

    /// All kept changes, ascending.
    pub(crate) fn changes(&self) -> Vec<&Change> {
        let mut changes: Vec<&Change> = match self.older.as_deref() {
            None => Vec::new(),
            Some(Older::List(list)) => list.iter().collect(),
            Some(Older::Tree(tree)) => tree
                .ascend(Bound::<&Revision>::Unbounded)
                .map(|(_, change)| change)
                .collect(),
        };
        changes.push(&self.newest);
        changes
    }
}

fn forget_in_tree(
    tree: &mut Tree<Revision, Change>,
    dies: impl Fn(&Change) -> bool,
    forgotten: &mut impl FnMut(&Change),
) {
    let first = |tree: &Tree<Revision, Change>| {
        let mut all = tree.ascend(Bound::<&Revision>::Unbounded);
        all.next().map(|(_, change)| *change)
    };
    while let Some(change) = first(tree).filter(&dies) {
        tree.remove(&change.mod_revision());
        forgotten(&change);
    }
}
