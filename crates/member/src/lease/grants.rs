//! The replicated half: which leases exist and which keys hang on them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvorum_proto::ids::LeaseId;

use super::messages::{Input, Restored};

/// One lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The lifetime granted, in seconds.
    pub ttl_seconds: i64,
    /// The rest of the lifetime as the leader last wrote it down, in seconds; 0 means that
    /// nothing was written down and the lifetime is whole.
    pub remaining_seconds: i64,
    keys: BTreeSet<Bytes>,
}

impl Grant {
    /// The keys that hang on it, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter()
    }
}

/// All leases and attachments.
///
/// Invariant: `holders` holds `key -> lease` exactly when the lease exists and has the key, so a
/// key hangs on one lease at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    leases: BTreeMap<LeaseId, Grant>,
    holders: BTreeMap<Bytes, LeaseId>,
}

impl Grants {
    /// No lease.
    pub fn new() -> Self {
        Self::default()
    }

    /// The lease with this id.
    pub fn lease(&self, id: LeaseId) -> Option<&Grant> {
        self.leases.get(&id)
    }

    /// All leases by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseId, &Grant)> {
        self.leases.iter().map(|(id, grant)| (*id, grant))
    }

    /// All leases as the deadlines take them over from a snapshot.
    pub fn to_deadlines(&self) -> Input {
        let rest = |(id, grant): (LeaseId, &Grant)| Restored {
            id,
            ttl_seconds: grant.ttl_seconds,
            remaining_seconds: grant.remaining_seconds,
        };
        Input::Restored(self.iter().map(rest).collect())
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Makes a lease; false when the id is in use.
    pub fn grant(&mut self, id: LeaseId, ttl_seconds: i64) -> bool {
        if self.leases.contains_key(&id) {
            return false;
        }
        self.leases.insert(
            id,
            Grant {
                ttl_seconds,
                ..Grant::default()
            },
        );
        true
    }

    /// Writes down how much of a lifetime is left; false when the lease does not exist.
    pub fn checkpoint(&mut self, id: LeaseId, remaining_seconds: i64) -> bool {
        let grant = self.leases.get_mut(&id);
        grant
            .map(|grant| grant.remaining_seconds = remaining_seconds)
            .is_some()
    }

    /// Ends a lease. Its keys, ascending, are for the caller to delete.
    pub fn revoke(&mut self, id: LeaseId) -> Option<BTreeSet<Bytes>> {
        let keys = self.leases.remove(&id)?.keys;
        for key in &keys {
            self.holders.remove(key);
        }
        Some(keys)
    }

    /// A key was written with this lease (0: with none). It leaves the lease it hung on before.
    pub fn attach(&mut self, key: &[u8], id: LeaseId) {
        if self.holders.get(key) == Some(&id) {
            return;
        }
        self.detach(key);
        if let Some(grant) = self.leases.get_mut(&id) {
            // A slice of the entry would keep all of the entry, with its value.
            let key = Bytes::copy_from_slice(key);
            grant.keys.insert(key.clone());
            self.holders.insert(key, id);
        }
    }

    /// A key was deleted.
    pub fn detach(&mut self, key: &[u8]) {
        let grant = self
            .holders
            .remove(key)
            .and_then(|id| self.leases.get_mut(&id));
        if let Some(grant) = grant {
            grant.keys.remove(key);
        }
    }

    /// Panics when the invariant of this type is broken.
    pub fn check_invariants(&self) {
        let held = self
            .iter()
            .flat_map(|(id, grant)| grant.keys().map(move |key| (key, id)));
        let mut held: Vec<_> = held.collect();
        held.sort_unstable();
        let holders: Vec<_> = self.holders.iter().map(|(key, id)| (key, *id)).collect();
        assert_eq!(held, holders, "a key hangs on the lease that has it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_key_hangs_on_the_lease_of_its_last_write() {
        let mut grants = Grants::new();
        let (a, b, none) = (LeaseId(1), LeaseId(-2), LeaseId(0));
        assert!(grants.grant(a, 10) && grants.grant(b, 10) && !grants.grant(a, 20));
        for (lease, on_a, on_b) in [(a, 1, 0), (a, 1, 0), (b, 0, 1), (none, 0, 0), (b, 0, 1)] {
            grants.attach(&key("k"), lease);
            grants.check_invariants();
            let count = |id| grants.lease(id).unwrap().keys().count();
            assert_eq!((count(a), count(b)), (on_a, on_b));
        }
        grants.detach(&key("k"));
        grants.detach(&key("unknown"));
        grants.check_invariants();
        assert_eq!(grants.revoke(b), Some(BTreeSet::new()));
    }

    #[test]
    fn revoking_gives_the_keys_in_order_and_forgets_them() {
        let mut grants = Grants::new();
        grants.grant(LeaseId(7), 5);
        for text in ["b", "a", "c"] {
            grants.attach(&key(text), LeaseId(7));
        }
        let keys: Vec<_> = grants.revoke(LeaseId(7)).unwrap().into_iter().collect();
        assert_eq!(keys, [key("a"), key("b"), key("c")]);
        grants.check_invariants();
        assert_eq!(grants.revoke(LeaseId(7)), None);
        assert!(!grants.checkpoint(LeaseId(7), 1));
        assert!(grants.is_empty());
    }
}
