//! A lease lives at least as long as was promised.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::ids::Moment;

use crate::history::{Change, History, Operation, Outcome, Reply, Request};

/// No key vanishes with its lease before the lifetime has passed that was promised last, counted from the moment the
/// promise was asked for; unless somebody asked for the deletion.
pub(super) fn never_early(history: &History) -> Result<(), String> {
    let mut attached: BTreeMap<Bytes, i64> = BTreeMap::new();
    for (revision, (at, changes)) in &history.published {
        for change in changes {
            match change {
                Change::Put(pair) => {
                    attached.insert(pair.key.clone(), pair.lease);
                }
                Change::Delete(key) => {
                    let lease = attached.remove(key).unwrap_or_default();
                    if lease == 0 || somebody_asked(history, key, lease, *at) {
                        continue;
                    }
                    if let Some((until, promise)) = promised(history, lease, *at)
                        && *at < until
                    {
                        return Err(format!(
                            "revision {revision} deleted {key:?} with lease {lease:x} at {at:?}, promised until {until:?} by {promise:?}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Whether a delete of the key or a revoke of the lease was sent before the deletion was published.
fn somebody_asked(history: &History, key: &[u8], lease: i64, at: Moment) -> bool {
    history.operations.iter().any(|operation| {
        let asked = match &operation.request {
            Request::Delete(keys) => keys.contains(key),
            Request::Revoke { lease: revoked } => *revoked == lease,
            _ => false,
        };
        asked && operation.invoked <= at && !matches!(operation.outcome, Outcome::Refused(_))
    })
}

/// The latest end of life that an answer promised before the deletion.
fn promised(history: &History, lease: i64, at: Moment) -> Option<(Moment, &Operation)> {
    let promises = history.operations.iter().filter_map(|operation| {
        let ttl_seconds = match (&operation.request, &operation.outcome) {
            (Request::Grant { lease: granted, .. }, Outcome::Replied(reply))
                if *granted == lease =>
            {
                match reply {
                    Reply::Done { ttl_seconds, .. } => *ttl_seconds,
                    _ => 0,
                }
            }
            (
                Request::KeepAlive { lease: kept },
                Outcome::Replied(Reply::KeptAlive { ttl_seconds }),
            ) if *kept == lease => *ttl_seconds,
            _ => 0,
        };
        let known = operation.returned.is_some_and(|returned| returned <= at);
        let ttl = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or_default());
        (ttl_seconds > 0 && known).then(|| (operation.invoked + ttl, operation))
    });
    promises.max_by_key(|(until, _)| *until)
}
