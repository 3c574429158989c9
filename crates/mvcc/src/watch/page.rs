//! A run of events, each encoded at most once in each of its two forms.

use bytes::Bytes;
use kvorum_storage::segment::Damage;

use crate::{Event, EventBatch, View};

use super::encode::{self, Body};

/// Which events a watcher wants, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selection {
    /// PUT events are wanted.
    pub(super) puts: bool,
    /// DELETE events are wanted.
    pub(super) deletes: bool,
    /// Events carry the pair they changed.
    pub(super) previous: bool,
}

impl Selection {
    fn wants(self, event: &Event) -> bool {
        if event.is_delete() {
            self.deletes
        } else {
            self.puts
        }
    }
}

#[derive(Debug)]
struct Entry {
    revision: i64,
    event: Event,
    plain: Option<Bytes>,
    with_previous: Option<Bytes>,
}

/// The events of the revisions from `from` up to, but not including, `next`, in order.
///
/// A page lives as long as it is useful: an event that just happened is one for all watchers, and
/// a page of history serves every stream that is as far behind.
#[derive(Debug)]
pub(super) struct Page {
    from: i64,
    next: i64,
    entries: Vec<Entry>,
}

impl Page {
    /// Puts whole revisions, all of them in `from..next`, into a page.
    pub(super) fn new(from: i64, next: i64, batches: &[EventBatch]) -> Self {
        let mut entries = Vec::with_capacity(batches.iter().map(|batch| batch.events.len()).sum());
        for batch in batches {
            assert!(
                (from..next).contains(&batch.revision),
                "history answers with what was asked"
            );
            entries.extend(batch.events.iter().map(|event| Entry {
                revision: batch.revision,
                event: event.clone(),
                plain: None,
                with_previous: None,
            }));
        }
        Self {
            from,
            next,
            entries,
        }
    }

    /// Whether a watcher that waits for `revision` finds it here.
    pub(super) fn covers(&self, revision: i64) -> bool {
        (self.from..self.next).contains(&revision)
    }

    /// The revision that follows the page.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// How many events there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The key of each event, in order; its place is its number in this list.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| entry.event.record.key())
    }

    /// The revision of the event at `place`.
    pub(super) fn revision(&self, place: usize) -> i64 {
        self.entries[place].revision
    }

    /// The events at `places` that `selection` wants, joined; nothing when it wants none of them.
    ///
    /// # Errors
    ///
    /// [`Damage`] when a previous pair lies in a file that is damaged.
    pub(super) fn body(
        &mut self,
        places: &[usize],
        selection: Selection,
        view: &View,
    ) -> Result<Option<Body>, Damage> {
        let mut events = Vec::with_capacity(places.len());
        for place in places {
            let entry = &mut self.entries[*place];
            if selection.wants(&entry.event) {
                events.push(entry.encoded(selection.previous, view)?);
            }
        }
        Ok(Body::join(&events))
    }
}

impl Entry {
    fn encoded(&mut self, previous: bool, view: &View) -> Result<Bytes, Damage> {
        let event = &self.event;
        // The first put of a key has no pair before it: its two forms are one.
        if !previous || event.is_create() {
            let plain = self
                .plain
                .get_or_insert_with(|| encode::event_field(event, None));
            return Ok(plain.clone());
        }
        if let Some(encoded) = &self.with_previous {
            return Ok(encoded.clone());
        }
        let encoded = encode::event_field(event, view.previous(event)?.as_ref());
        self.with_previous = Some(encoded.clone());
        Ok(encoded)
    }
}
