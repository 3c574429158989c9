//! What a write tells the watchers.

use crate::{Few, Record};

/// One change of one key: a put, or a delete when the record is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The change; [`Record::encoded`] is the `kv` field of the event on the wire.
    pub record: Record,
}

impl Event {
    /// Whether the key was deleted.
    pub fn is_delete(&self) -> bool {
        self.record.is_tombstone()
    }

    /// Whether the key did not exist just before: the first put of an incarnation.
    pub fn is_create(&self) -> bool {
        !self.is_delete() && self.record.create_revision() == self.record.mod_revision().main
    }
}

/// All changes of one store revision, in the order they were made. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// The store revision that the changes share.
    pub revision: i64,
    /// The changes, sub revisions ascending.
    pub events: Few<Event>,
}
