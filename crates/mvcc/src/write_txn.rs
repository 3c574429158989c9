//! Applying one request.

use kvorum_proto::etcdserverpb::RangeRequest;
use kvorum_proto::ids::LeaseId;

use crate::index::{History, KeyIndex};
use crate::range::{self, RangeReply, Reader};
use crate::size::record_bytes;
use crate::store::Store;
use crate::{Event, EventBatch, Interval, ReadError, Record, Revision, View};

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
        WriteTxn {
            store,
            events: Vec::new(),
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

    /// The pair at a key.
    pub fn get(&self, key: &[u8]) -> Option<&Record> {
        self.store.view.get(key)
    }

    /// Writes a pair; `lease` 0 hangs it on none. Returns the new pair.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Record {
        let at = self.next_revision();
        let history = self.store.view.index.history(key);
        let before = history
            .map(History::newest)
            .filter(|newest| !newest.is_tombstone());
        let (create, version, replaced) = match before {
            Some(before) => (
                before.create_revision(),
                before.version() + 1,
                record_bytes(before),
            ),
            None => (at.main, 1, 0),
        };
        let place = if history.is_some() {
            KeyIndex::push
        } else {
            KeyIndex::insert
        };
        let record = Record::put(key, value, lease, create, at, version);
        self.operations += 1;
        self.store.counts.puts += 1;
        self.store.counts.put_bytes += (key.len() + value.len()) as u64;
        place(&mut self.store.view.index, record.clone());
        self.log(record.clone(), replaced);
        record
    }

    /// Deletes the pairs of an interval, keys ascending. Returns them as they were; deleting nothing
    /// is no change.
    pub fn delete_range(&mut self, interval: &Interval) -> Vec<Record> {
        self.operations += 1;
        self.store.counts.deletes += 1;
        let deleted: Vec<Record> = self.store.view.live(interval).cloned().collect();
        for before in &deleted {
            let tombstone = Record::tombstone(before.key(), self.next_revision());
            let frees_bytes = record_bytes(before) + record_bytes(&tombstone);
            self.store.view.index.push(tombstone.clone());
            self.log(tombstone, frees_bytes);
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
        let events = std::mem::take(&mut self.events);
        let revision = self.store.view.current;
        (!events.is_empty()).then(|| EventBatch {
            revision,
            events: events.into(),
        })
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

    /// Takes an indexed change into the log. `frees_bytes`: what dies when a compaction passes it,
    /// which is the pair it replaced, and itself if it is a tombstone.
    fn log(&mut self, record: Record, frees_bytes: u64) {
        let view = &mut self.store.view;
        view.sizes.grow(record_bytes(&record));
        view.log.append(record.clone(), frees_bytes);
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
