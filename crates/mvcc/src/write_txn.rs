//! Applying one request.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::RangeRequest;
use kvorum_proto::ids::LeaseId;

use crate::range::{self, RangeReply, Reader};
use crate::store::Store;
use crate::{Change, Event, EventBatch, Interval, ReadError, Record, Revision, View};

/// Room for so many events is kept from one transaction to the next.
const EVENTS_KEPT_ROOM: usize = 128;

/// The changes of one request: one store revision, sub revisions from 0 in the order of the calls.
/// Reads see the changes made so far.
///
/// A transaction cannot be taken back, and must end with [`WriteTxn::finish`].
#[derive(Debug)]
#[must_use = "a transaction ends with finish, which returns its events"]
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    events: Vec<Event>,
    operations: u64,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(store: &'a mut Store) -> Self {
        let events = std::mem::take(&mut store.event_room);
        WriteTxn {
            store,
            events,
            operations: 0,
        }
    }

    /// The state with the changes made so far. A clone of it taken in the middle of a transaction
    /// shows half a request and must not be published.
    pub fn view(&self) -> &View {
        &self.store.view
    }

    /// The store revision: that of this transaction once it changed something, else the one before.
    pub fn revision(&self) -> i64 {
        self.store.view.current
    }

    /// Writes a pair; `lease` 0 hangs it on none. Returns the new pair.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Record {
        let at = self.next_revision();
        let before = self.store.newest(key);
        let (create, version) = match &before {
            Some(before) if !before.is_tombstone() => {
                (before.create_revision(), before.version() + 1)
            }
            _ => (at.main, 1),
        };
        let record = Record::put(
            key,
            value,
            lease,
            create,
            at,
            version,
            &mut self.store.record_room,
        );
        self.operations += 1;
        self.store.counts.puts += 1;
        self.store.counts.put_bytes += (key.len() + value.len()) as u64;
        self.take(record.clone(), before);
        record
    }

    /// Deletes the pairs of an interval, keys ascending. Returns what the index knew of them;
    /// deleting nothing is no change. Who wants the pairs themselves reads them before.
    pub fn delete_range(&mut self, interval: &Interval) -> Vec<(Bytes, Change)> {
        self.operations += 1;
        self.store.counts.deletes += 1;
        let deleted = self.store.view.live_changes(interval);
        let deleted: Vec<_> = deleted
            .map(|(key, change)| (key.to_bytes(), change))
            .collect();
        for (key, before) in &deleted {
            let at = self.next_revision();
            let tombstone = Record::tombstone(key, at, &mut self.store.record_room);
            self.take(tombstone, Some(*before));
        }
        deleted
    }

    /// Answers a range at the state of the transaction, and counts it.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the asked revision cannot be read. To fail a whole transaction before it
    /// writes, check with [`View::check_txn_revision`] first.
    pub fn range(&mut self, request: &RangeRequest) -> Result<RangeReply, ReadError> {
        self.operations += 1;
        self.store.counts.ranges += 1;
        range::execute(self, request)
    }

    /// Ends the transaction. `None` when it changed nothing; the store revision is then as before.
    pub fn finish(mut self) -> Option<EventBatch> {
        if self.operations > 1 {
            self.store.counts.txns += 1;
        }
        let mut events = std::mem::take(&mut self.events);
        let revision = self.store.view.current;
        self.store.seal_when_due();
        let batch = (!events.is_empty()).then(|| EventBatch {
            revision,
            events: events.drain(..).collect(),
        });
        events.shrink_to(EVENTS_KEPT_ROOM);
        self.store.event_room = events;
        batch
    }

    /// Where the next change lies. The first change of the transaction moves the store revision.
    fn next_revision(&mut self) -> Revision {
        if self.events.is_empty() {
            self.store.view.current += 1;
        }
        Revision {
            main: self.store.view.current,
            sub: self.events.len() as i64,
        }
    }

    fn take(&mut self, record: Record, before: Option<Change>) {
        self.store.take(record.clone(), before);
        self.events.push(Event { record });
    }
}

impl Reader for WriteTxn<'_> {
    fn view(&self) -> &View {
        &self.store.view
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        // Events that nobody takes would be a gap for every watcher.
        assert!(
            self.events.is_empty() || std::thread::panicking(),
            "a transaction that wrote ends with finish"
        );
    }
}
