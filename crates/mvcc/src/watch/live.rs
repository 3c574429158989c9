//! The live revision moves on, and the watchers that keep up are shown what happened.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kvorum_storage::segment::Damage;

use crate::{EventBatch, HistoryBounds, ReadError, View};

use super::hub::WatchHub;
use super::page::Page;
use super::slots::Slot;
use super::stream::{Position, Watcher};
use super::targets::Target;

/// Revisions in one page of history. etcd sends at most this many in one message.
pub(super) const PAGE_REVISIONS_MAX: usize = 1000;

/// Bytes of records in one page, passed by one revision at most. It bounds what is sent to a
/// watcher in one message, and what one step reads.
pub(super) const PAGE_BYTES_MAX: usize = 1 << 20;

/// Events and messages after which a step that fills a gap shows no further revision.
const GAP_STEP_MAX: usize = 10_000;

/// The bounds above, as the store takes them.
pub(super) const PAGE_BOUNDS: HistoryBounds = HistoryBounds {
    revisions_max: PAGE_REVISIONS_MAX,
    bytes_max: PAGE_BYTES_MAX,
};

impl WatchHub {
    /// Revisions were applied. One that does not follow the live one is a repetition, or follows a
    /// gap: then [`WatchHub::poll`] reads the gap and it from the history.
    pub(super) fn events(&mut self, batches: &[EventBatch], view: View) {
        self.adopt(view);
        for batch in batches {
            if batch.revision == self.live + 1 && batch.revision <= self.view.current_revision() {
                let shown = self.show(batch);
                self.stop_if_damaged(shown);
            }
        }
    }

    /// Whether the store has moved on without the hub being told.
    pub(super) fn has_gap(&self) -> bool {
        self.live < self.view.current_revision()
    }

    /// Reads a page of the revisions the hub was not told; returns what it cost in events
    /// and messages.
    pub(super) fn fill_gap(&mut self) -> usize {
        let history = match self.view.history(self.live + 1, PAGE_BOUNDS) {
            Ok(history) => history,
            Err(ReadError::Damaged(damage)) => return self.stop(damage),
            Err(_) => return self.lose_compacted_history(),
        };
        let outputs_before = self.outputs.len();
        let mut events = 0;
        for batch in &history.batches {
            if let Err(damage) = self.show(batch) {
                return self.stop(damage);
            }
            events += batch.events.len();
            let cost = events + self.outputs.len() - outputs_before;
            if cost >= GAP_STEP_MAX {
                return cost;
            }
        }
        self.live = history.next_revision - 1;
        events + self.outputs.len() - outputs_before
    }

    /// The revisions after the live one were compacted before the hub saw them. Watchers that had
    /// to see one of them are left behind there, and are told so when it is their turn.
    fn lose_compacted_history(&mut self) -> usize {
        let compacted = self.view.compact_revision();
        let first_lost = self.live + 1;
        self.live = compacted - 1;
        let losers: Vec<_> = (self.watchers.iter())
            .filter(|(_, watcher)| watcher.position == Position::Synced)
            .map(|(slot, watcher)| (slot, watcher.start.max(first_lost)))
            .filter(|(_, next)| *next < compacted)
            .collect();
        for (slot, next) in &losers {
            self.place(*slot, *next);
        }
        losers.len()
    }

    /// Shows one revision to all synced watchers that match it.
    fn show(&mut self, batch: &EventBatch) -> Result<(), Damage> {
        self.live = batch.revision;
        let mut matches: Vec<(Slot<Target>, usize)> = Vec::new();
        for (place, event) in batch.events.iter().enumerate() {
            self.targets
                .matching(event.record.key(), |target| matches.push((target, place)));
        }
        if matches.is_empty() {
            return Ok(());
        }
        matches.sort_unstable();
        let mut page = Page::new(
            batch.revision,
            batch.revision + 1,
            std::slice::from_ref(batch),
        );
        let mut places = Vec::new();
        let mut left_behind = Vec::new();
        for matched in matches.chunk_by(|one, other| one.0 == other.0) {
            places.clear();
            places.extend(matched.iter().map(|(_, place)| *place));
            self.show_target(matched[0].0, &mut page, &places, &mut left_behind)?;
        }
        for watcher in left_behind {
            self.place(watcher, batch.revision);
        }
        Ok(())
    }

    /// Shows the events at `places` to the synced watchers of a target; those whose stream has no
    /// room are listed.
    fn show_target(
        &mut self,
        target: Slot<Target>,
        page: &mut Page,
        places: &[usize],
        left_behind: &mut Vec<Slot<Watcher>>,
    ) -> Result<(), Damage> {
        let watchers: Vec<_> = self.targets[target].synced.iter().copied().collect();
        let mut bodies = BTreeMap::new();
        for slot in watchers {
            let Watcher {
                stream,
                start,
                selection,
                ..
            } = self.watchers[slot];
            if start > self.live {
                continue;
            }
            let body = match bodies.entry(selection) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(page.body(places, selection, &self.view)?),
            };
            let Some(body) = body else { continue };
            if self.streams[stream].is_flowing() {
                self.send_events(slot, body);
            } else {
                left_behind.push(slot);
            }
        }
        Ok(())
    }
}
