//! A store from the records of a database file of etcd.

use bytes::Bytes;
use kvorum_proto::ids::LeaseId;
use kvorum_proto::mvccpb::KeyValue;
use kvorum_storage::segment::Damage;
use prost::Message as _;
use thiserror::Error;

use crate::room::Room;
use crate::store::Store;
use crate::{Record, Revision};

/// Why a record of a database file cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportError {
    /// The records are not in the order of their revisions.
    #[error("record {found} comes after {last}")]
    OutOfOrder {
        /// The record.
        found: Revision,
        /// The one before.
        last: Revision,
    },
    /// The value is not a pair, or not the pair of its key in the file.
    #[error("record {at} is malformed: {reason}")]
    Malformed {
        /// The record.
        at: Revision,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What was imported and written before is damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

impl Store {
    /// Takes the next record of a database file: its revision key, and the stored pair. A put
    /// without a byte raises the revision and does nothing else (`snapshot restore --bump-revision`
    /// writes one); it counts in the hash. Seals as it goes, so jobs come up in between; call it while the store is not backlogged, and
    /// [`Store::finish_import`] at the end.
    ///
    /// # Errors
    ///
    /// [`ImportError`] when the record cannot stand there. The store is of no use then.
    pub fn import(
        &mut self,
        at: Revision,
        is_tombstone: bool,
        stored: &[u8],
    ) -> Result<(), ImportError> {
        if let Some(last) = self.view.log.last().filter(|last| *last >= at) {
            return Err(ImportError::OutOfOrder { found: at, last });
        }
        let malformed = |reason| ImportError::Malformed { at, reason };
        if at.main < 0 || !(0..=i64::from(u32::MAX)).contains(&at.sub) {
            return Err(malformed("a revision that no store makes"));
        }
        let pair = KeyValue::decode(stored).map_err(|_| malformed("not a pair"))?;
        let record = match is_tombstone {
            false if stored.is_empty() => Record::raising(at),
            _ if pair.key.is_empty() => return Err(malformed("no key")),
            true => Record::tombstone(&pair.key, at, &mut self.record_room),
            false if pair.mod_revision != at.main => return Err(malformed("another revision")),
            false if pair.version <= 0 => return Err(malformed("no version")),
            false => record_of(&pair, at, &mut self.record_room),
        };
        if at.main > self.view.current {
            self.seal_when_due();
            self.view.current = at.main;
        }
        let before = self.newest(record.key());
        self.take(record, before);
        Ok(())
    }

    /// Ends an import: the file was compacted at `compacted` (-1 for never), and its revision is at
    /// least `current`. What the file still held although it was compacted is forgotten.
    ///
    /// # Errors
    ///
    /// [`Damage`] when what was imported and written before is damaged.
    pub fn finish_import(&mut self, current: i64, compacted: i64) -> Result<(), Damage> {
        self.view.current = self.view.current.max(current).max(compacted);
        self.seal_when_due();
        if compacted >= 0 {
            self.forget_through(compacted)?;
            self.defragment();
        }
        Ok(())
    }
}

fn record_of(pair: &KeyValue, at: Revision, room: &mut Room) -> Record {
    let (key, value): (&Bytes, &Bytes) = (&pair.key, &pair.value);
    let (lease, create) = (LeaseId(pair.lease), pair.create_revision);
    Record::put(key, value, lease, create, at, pair.version, room)
}
