//! What the index knows of one change.

use kvorum_proto::ids::LeaseId;
use kvorum_storage::segment::KeyRow;

use crate::size::RECORD_OVERHEAD_BYTES;
use crate::{Record, Revision};

/// One change of one key, without the key and the value: all that an answer needs which does not
/// show values, and enough to find the [`Record`] by.
///
/// Where the record lies follows from its revision alone, so nothing here changes when records move.
/// The index holds the only change of a key in a shorter form and gives these out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    main: i64,
    create_revision: i64,
    /// 0 marks a tombstone.
    version: i64,
    lease: LeaseId,
    sub: u32,
    stored_bytes: u32,
}

impl Change {
    /// A change from its parts. `create_revision`, `version` and `lease` are 0 for a tombstone.
    pub(crate) fn new(
        mod_revision: Revision,
        create_revision: i64,
        version: i64,
        lease: LeaseId,
        stored_bytes: u32,
    ) -> Self {
        let sub = u32::try_from(mod_revision.sub)
            .expect("the changes of one request are fewer than the keys in memory");
        Change {
            main: mod_revision.main,
            create_revision,
            version,
            lease,
            sub,
            stored_bytes,
        }
    }

    /// The change that a row of a segment's key table is of.
    pub(crate) fn of_row(row: &KeyRow) -> Self {
        let (create, lease) = (row.create_revision, LeaseId(row.lease));
        Change::new(
            row.place.into(),
            create,
            row.version,
            lease,
            row.stored_bytes,
        )
    }

    /// The change that a record is of.
    pub(crate) fn of(record: &Record) -> Self {
        record.change()
    }

    /// Where in the history the change was made. Its `main` is `mod_revision` on the wire.
    pub fn mod_revision(&self) -> Revision {
        Revision {
            main: self.main,
            sub: i64::from(self.sub),
        }
    }

    /// Store revision of the first write of this incarnation of the key; 0 for a tombstone.
    pub fn create_revision(&self) -> i64 {
        self.create_revision
    }

    /// Writes of this incarnation so far, from 1; 0 for a tombstone.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The lease the key hangs on; 0 for none.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Whether the change is a delete.
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    /// Bytes of the pair as etcd stores it; of the key alone for a tombstone.
    pub(crate) fn stored_bytes(&self) -> u64 {
        u64::from(self.stored_bytes)
    }

    /// What the change counts for, in bytes.
    pub(crate) fn counted_bytes(&self) -> u64 {
        u64::from(self.stored_bytes) + RECORD_OVERHEAD_BYTES
    }
}
