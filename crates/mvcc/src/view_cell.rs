//! Where the writer leaves the newest view and readers pick it up.
//!
//! This is the one place of the crate with a lock: everything else is changed by its owner alone.
//! It is held for the copy of a few references, never while a view is read or freed.

#![allow(clippy::disallowed_types)] // The one lock, as said above.

use std::sync::{Arc, PoisonError, RwLock};

use crate::View;

/// Holds the newest published view. Clones share it.
#[derive(Clone, Debug)]
pub struct ViewCell(Arc<RwLock<View>>);

impl ViewCell {
    /// A cell with a first view.
    pub fn new(view: View) -> Self {
        ViewCell(Arc::new(RwLock::new(view)))
    }

    /// Replaces the view. Whoever loads from now on sees this one or a later one; publish before
    /// the replies that rest on it go out.
    pub fn publish(&self, view: View) {
        // A poisoned lock still holds a whole view: the replacement is one assignment.
        let old = {
            let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *held, view)
        };
        // Freeing what only the old view held may take a while; readers do not wait for it.
        drop(old);
    }

    /// The newest published view.
    pub fn load(&self) -> View {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use kvorum_proto::ids::LeaseId;

    use super::*;
    use crate::Store;

    #[test]
    fn clones_load_what_was_published_last_and_loaded_views_stay() {
        let mut store = Store::new();
        let cell = ViewCell::new(store.view());
        let (reader, before) = (cell.clone(), cell.load());
        let mut txn = store.begin();
        txn.put(b"a", b"1", LeaseId(0));
        assert!(txn.finish().is_some());
        assert_eq!(
            reader.load().current_revision(),
            1,
            "nothing is seen before it is published"
        );
        cell.publish(store.view());
        assert_eq!(reader.load().current_revision(), 2);
        assert_eq!(before.change(b"a"), None);
    }

    #[test]
    fn views_and_their_cell_go_to_other_threads() {
        fn check<T: Clone + Send + Sync + 'static>() {}
        check::<View>();
        check::<ViewCell>();
    }
}
