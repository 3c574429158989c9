//! The store once more, as plainly as can be: a list of changes, searched from end to end.

use kvorum_proto::etcdserverpb::RangeRequest;

use crate::{HashKv, Interval};

/// One change; no value means a delete.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) main: i64,
    pub(super) sub: i64,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) lease: i64,
    pub(super) create: i64,
    pub(super) version: i64,
    /// The stored bytes; taken from the store, whose encoding has tests of its own.
    pub(super) stored: Vec<u8>,
}

impl Change {
    fn is_at(&self, other: &Change) -> bool {
        (self.main, self.sub) == (other.main, other.sub)
    }
}

/// All changes there ever were, and the rows that a database file of etcd would still hold.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) changes: Vec<Change>,
    pub(super) rows: Vec<Change>,
    pub(super) current: i64,
    pub(super) compacted: i64,
    pub(super) hashes: Vec<HashKv>,
}

/// What a range returns.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) pairs: Vec<Change>,
    pub(super) more: bool,
    pub(super) count: i64,
}

impl Model {
    pub(super) fn new() -> Self {
        Model {
            changes: vec![],
            rows: vec![],
            current: 1,
            compacted: -1,
            hashes: vec![],
        }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.current = change.main;
        self.changes.push(change.clone());
        self.rows.push(change);
    }

    /// The newest change of a key at a revision.
    fn newest(&self, key: &[u8], revision: i64) -> Option<&Change> {
        self.changes
            .iter()
            .rev()
            .find(|c| c.key == key && c.main <= revision)
    }

    pub(super) fn pair(&self, key: &[u8], revision: i64) -> Option<&Change> {
        self.newest(key, revision)
            .filter(|change| change.value.is_some())
    }

    pub(super) fn live(&self, interval: &Interval, revision: i64) -> Vec<Change> {
        let mut keys: Vec<_> = self.changes.iter().map(|change| &change.key).collect();
        keys.sort();
        keys.dedup();
        let inside = keys.into_iter().filter(|key| interval.contains(key));
        inside
            .filter_map(|key| self.pair(key, revision).cloned())
            .collect()
    }

    /// Rules 2 to 6 of a range, one after the other as they are written down.
    pub(super) fn range(&self, request: &RangeRequest, revision: i64) -> Answer {
        let interval = Interval::from_wire(request.key.clone(), request.range_end.clone());
        let mut pairs = self.live(&interval, revision);
        let count = pairs.len() as i64;
        if request.count_only {
            return Answer {
                pairs: vec![],
                more: false,
                count,
            };
        }
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let limit = if request.limit > 0 {
            request.limit as usize
        } else {
            usize::MAX
        };
        if request.sort_order == 0 && filters == [0; 4] {
            pairs.truncate(limit.saturating_add(1));
        }
        pairs.retain(|p| filters[0] == 0 || p.main >= filters[0]);
        pairs.retain(|p| filters[1] == 0 || p.main <= filters[1]);
        pairs.retain(|p| filters[2] == 0 || p.create >= filters[2]);
        pairs.retain(|p| filters[3] == 0 || p.create <= filters[3]);
        let by = |a: &Change, b: &Change| match request.sort_target {
            0 => a.key.cmp(&b.key),
            1 => a.version.cmp(&b.version),
            2 => a.create.cmp(&b.create),
            3 => a.main.cmp(&b.main),
            _ => a.value.cmp(&b.value),
        };
        if request.sort_order == 2 {
            pairs.sort_by(|a, b| by(b, a));
        } else {
            pairs.sort_by(by);
        }
        let more = pairs.len() > limit;
        pairs.truncate(limit);
        Answer { pairs, more, count }
    }

    /// The pair before a change: what a read one revision earlier sees.
    pub(super) fn previous(&self, change: &Change) -> Option<&Change> {
        let created = change.value.is_some() && change.create == change.main;
        if created || change.main - 1 < self.compacted {
            return None;
        }
        self.pair(&change.key, change.main - 1)
    }

    pub(super) fn compact(&mut self, revision: i64) {
        let keep: Vec<Change> = self
            .rows
            .iter()
            .filter(|row| {
                let newest = self
                    .newest(&row.key, revision)
                    .is_some_and(|n| n.is_at(row));
                newest && (row.value.is_some() || row.main == revision)
            })
            .cloned()
            .collect();
        self.hashes.push(self.hash_rows(revision, &keep));
        if self.hashes.len() > 10 {
            self.hashes.remove(0);
        }
        self.rows
            .retain(|row| row.main > revision || keep.iter().any(|kept| kept.is_at(row)));
        self.compacted = revision;
    }

    pub(super) fn hash_kv(&self, revision: i64) -> HashKv {
        if let Some(hash) = self.hashes.iter().find(|hash| hash.revision == revision) {
            return *hash;
        }
        self.hash_rows(revision, &self.live(&Interval::all(), revision))
    }

    fn hash_rows(&self, revision: i64, keep: &[Change]) -> HashKv {
        let mut bytes = b"key".to_vec();
        for row in self.rows.iter().filter(|row| row.main <= revision) {
            let old = row.main <= self.compacted;
            if old && !keep.is_empty() && !keep.iter().any(|kept| kept.is_at(row)) {
                continue;
            }
            if row.main == self.compacted && row.value.is_none() {
                continue;
            }
            bytes.extend(row.main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend(row.sub.to_be_bytes());
            bytes.extend(row.value.is_none().then_some(b't'));
            bytes.extend(&row.stored);
        }
        HashKv {
            hash: crc32c::crc32c(&bytes),
            revision,
            compact_revision: self.compacted,
        }
    }
}
