//! A lease takes with it what hangs on it: all of it, at once and for good.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::lease::Known;
use crate::history::{Change, History, Outcome, Reply, Request};

/// What hangs on which lease, moved forward in the order of revisions.
#[derive(Default)]
struct Attached<'a> {
    lease_of: BTreeMap<&'a Bytes, i64>,
    keys_of: BTreeMap<i64, BTreeSet<&'a Bytes>>,
    ended: BTreeSet<i64>,
}

/// When a lease ends its keys vanish in one revision; once its end is acknowledged none is left; and nothing is attached to it
/// afterwards. Ids of leases are used once.
pub(super) fn right(history: &History) -> Result<(), String> {
    let known = Known::new(history);
    let mut revokes = acknowledged_revokes(history);
    let mut attached = Attached::default();
    for (revision, (at, changes)) in &history.published {
        // What was revoked while the store stood at an earlier revision.
        let later = revokes.split_off(revision);
        attached.judge(std::mem::replace(&mut revokes, later))?;
        let mut ended = BTreeSet::new();
        for change in changes {
            let key = change.key();
            let before = attached.detach(key);
            match change {
                Change::Put(pair) if pair.lease != 0 => {
                    attached
                        .attach(key, pair.lease)
                        .map_err(|story| format!("revision {revision}: {story}"))?;
                }
                Change::Put(_) => {}
                Change::Delete(_) if known.somebody_deleted(key, *revision, *at) => {}
                Change::Delete(_) => ended.extend(before),
            }
        }
        for lease in ended {
            attached
                .end(lease)
                .map_err(|story| format!("revision {revision}: {story}"))?;
        }
    }
    attached.judge(revokes)
}

/// Leases by the revision at which their end was acknowledged.
fn acknowledged_revokes(history: &History) -> BTreeMap<i64, Vec<i64>> {
    let mut revokes: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for operation in &history.operations {
        if let (Request::Revoke { lease }, Outcome::Replied(Reply::Done { revision, .. })) =
            (&operation.request, &operation.outcome)
        {
            revokes.entry(*revision).or_default().push(*lease);
        }
    }
    revokes
}

impl<'a> Attached<'a> {
    fn attach(&mut self, key: &'a Bytes, lease: i64) -> Result<(), String> {
        self.lease_of.insert(key, lease);
        self.keys_of.entry(lease).or_default().insert(key);
        if self.ended.contains(&lease) {
            return Err(format!(
                "{key:?} is attached to lease {lease}, which has ended"
            ));
        }
        Ok(())
    }

    fn detach(&mut self, key: &Bytes) -> Option<i64> {
        let lease = self.lease_of.remove(key)?;
        if let Some(keys) = self.keys_of.get_mut(&lease) {
            keys.remove(key);
        }
        Some(lease)
    }

    fn end(&mut self, lease: i64) -> Result<(), String> {
        self.ended.insert(lease);
        match self.keys_of.remove(&lease) {
            Some(left) if !left.is_empty() => Err(format!(
                "lease {lease} has ended and {left:?} still hang on it"
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn judge(&mut self, revokes: BTreeMap<i64, Vec<i64>>) -> Result<(), String> {
        for (revision, leases) in revokes {
            for lease in leases {
                let ended = self.end(lease);
                ended.map_err(|story| format!("acknowledged at {revision}: {story}"))?;
            }
        }
        Ok(())
    }
}
