//! Watchers that are behind are brought to the live revision, a bounded step at a time.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use kvorum_storage::segment::Damage;

use crate::ReadError;

use super::door::MessageKind;
use super::hub::WatchHub;
use super::live::PAGE_BOUNDS;
use super::page::Page;
use super::slots::Slot;
use super::stream::{Stream, Watcher};
use super::targets::{Index, Target};

/// Watchers of one stream that are served from one page in one step.
const GROUP_WATCHERS_MAX: usize = 512;

/// The watchers of a step by their target.
type Group = BTreeMap<Slot<Target>, Vec<Slot<Watcher>>>;

impl WatchHub {
    /// Whether [`WatchHub::poll`] has anything to do.
    pub fn has_work(&self) -> bool {
        !self.stopped && (self.has_gap() || !self.turn.is_empty())
    }

    /// Reads history for those that are behind, until there is nothing to do or about `budget`
    /// events were looked at; one step is always done. Returns whether there is more to do.
    ///
    /// A step reads one page (1000 revisions, 1 MiB) for up to 512 watchers of one stream; streams
    /// take turns, so one with many watchers far behind delays the others by a step each.
    pub fn poll(&mut self, budget: usize) -> bool {
        let mut spent = 0;
        while self.has_work() {
            // A step that finds no event still costs something.
            spent += 1 + if self.has_gap() {
                self.fill_gap()
            } else {
                self.serve_next_stream()
            };
            if spent >= budget {
                break;
            }
        }
        if self.turn.is_empty() {
            self.page = None;
        }
        self.has_work()
    }

    /// Does a step for the stream whose turn it is; returns its cost in events.
    fn serve_next_stream(&mut self) -> usize {
        let after = (Bound::Excluded(self.turn_last), Bound::Unbounded);
        let next = self.turn.range(after).next().or_else(|| self.turn.first());
        let Some(stream) = next.copied() else {
            return 0;
        };
        self.turn_last = stream;
        let first = self.streams[stream].behind.first();
        let (first, _) = *first.expect("a stream in the turn has a watcher behind");
        let mut page = match self.page.take().filter(|page| page.covers(first)) {
            Some(page) => page,
            None => match self.read_page(first) {
                Ok(page) => page,
                Err(ReadError::Damaged(damage)) => return self.stop(damage),
                Err(_) => return self.end_compacted(stream),
            },
        };
        let group = self.group(stream, page.next());
        let cost = page.len() + group.len();
        let served = self.serve(stream, &group, &mut page);
        self.page = Some(page);
        self.stop_if_damaged(served);
        cost
    }

    /// Ends watchers whose next revision is gone, while the stream has room for the news.
    ///
    /// Source: etcd v3.7.1, `server/storage/mvcc/watcher_group.go` (`chooseAll`); the revision of
    /// the header is 0 there too.
    fn end_compacted(&mut self, stream: Slot<Stream>) -> usize {
        let compacted = self.view.compact_revision();
        let lost = self.streams[stream].behind.range(..(compacted, Slot::MIN));
        let lost: Vec<_> = lost
            .take(GROUP_WATCHERS_MAX)
            .map(|(_, slot)| *slot)
            .collect();
        for slot in &lost {
            if !self.streams[stream].is_flowing() {
                break;
            }
            let mut end = self.head(0, self.watchers[*slot].id);
            end.canceled = true;
            end.compact_revision = compacted;
            self.remove_watcher(*slot);
            self.send(stream, MessageKind::Compacted, &end, None);
        }
        lost.len()
    }

    /// Reads history. Refused only where it is compacted or damaged.
    fn read_page(&self, from: i64) -> Result<Page, ReadError> {
        assert!(
            !self.has_gap(),
            "gaps are filled first: a page ends at the live revision"
        );
        let history = self.view.history(from, PAGE_BOUNDS)?;
        Ok(Page::new(from, history.next_revision, &history.batches))
    }

    /// The watchers of a stream that are furthest behind, and wait for something before `next`.
    fn group(&self, stream: Slot<Stream>, next: i64) -> Group {
        let mut group = Group::new();
        let behind = self.streams[stream].behind.range(..(next, Slot::MIN));
        for (_, slot) in behind.take(GROUP_WATCHERS_MAX) {
            group
                .entry(self.watchers[*slot].target)
                .or_default()
                .push(*slot);
        }
        group
    }

    /// Gives each watcher of a group its events of a page and moves it behind the page, while the
    /// stream has room; the others stay where they are.
    fn serve(
        &mut self,
        stream: Slot<Stream>,
        group: &Group,
        page: &mut Page,
    ) -> Result<(), Damage> {
        // Matched against an index of the group alone, so that what others watch costs nothing.
        let mut index = Index::new();
        for (number, target) in group.keys().enumerate() {
            index.insert(&self.targets[*target].interval, number);
        }
        let mut matched: Vec<Vec<usize>> = vec![Vec::new(); group.len()];
        for (place, key) in page.keys().enumerate() {
            index.matching(key, |number| matched[number].push(place));
        }
        for (watchers, places) in group.values().zip(&matched) {
            let mut bodies = BTreeMap::new();
            for slot in watchers {
                if !self.streams[stream].is_flowing() {
                    return Ok(());
                }
                let watcher = &self.watchers[*slot];
                let cursor = watcher.cursor(self.live);
                let seen = places.partition_point(|place| page.revision(*place) < cursor);
                let selection = watcher.selection;
                let body = match bodies.entry((seen, selection)) {
                    Entry::Occupied(entry) => entry.into_mut(),
                    Entry::Vacant(entry) => {
                        entry.insert(page.body(&places[seen..], selection, &self.view)?)
                    }
                };
                if let Some(body) = body {
                    self.send_events(*slot, body);
                }
                self.place(*slot, page.next());
            }
        }
        Ok(())
    }
}
