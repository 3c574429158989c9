//! Where the writer leaves the newest view and readers pick it up.
//!
//! This is the one place of the crate with a lock: everything else is changed by its owner alone.
//! It is held for the copy of a few references, never while a view is read or freed.

use std::sync::{Arc, PoisonError, RwLock};

use crate::View;

/// Holds the newest published view. Clones share it.
#[derive(Clone, Debug)]
#[allow(clippy::disallowed_types)] // The one lock, see the module.
pub struct ViewCell(Arc<RwLock<View>>);

#[allow(clippy::disallowed_types)] // The one lock, see the module.
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
