//! A lease lives at least as long as was promised.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::ids::Moment;

use crate::history::{Change, History, Operation, Outcome, Refusal, Reply, Request, Write};

/// A lifetime is counted by a member's clock, which may be off by so many millionths.
const CLOCK_DRIFT_MAX_PPM: u64 = 2_000;

/// What the history says about leases and deletions, arranged so that a question costs little.
pub(super) struct Known<'a> {
    history: &'a History,
    /// Acknowledged deletes by their revision.
    deletes: BTreeMap<i64, &'a Operation>,
    /// Deletes of which nobody knows when or whether they happened.
    open_deletes: Vec<&'a Operation>,
    /// When the revoke of a lease was first asked for.
    revokes: BTreeMap<i64, Moment>,
    /// Answers that promised a lifetime: when they were known, and until when they hold.
    promises: BTreeMap<i64, Vec<Promise<'a>>>,
}

pub(super) struct Promise<'a> {
    known: Moment,
    until: Moment,
    operation: &'a Operation,
}

impl Promise<'_> {
    /// Until when the lease lives for sure: clocks that were put ahead since have taken from it.
    pub(super) fn holds_until(&self, history: &History) -> Moment {
        let jumps = history.clock_jumps.iter();
        let jumps = jumps.filter(|(at, _)| self.operation.invoked <= *at && *at <= self.until);
        let ahead: Duration = jumps.map(|(_, jump)| *jump).sum();
        Moment(self.until.0.saturating_sub(ahead))
    }
}

impl<'a> Known<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        let mut known = Self {
            history,
            deletes: BTreeMap::new(),
            open_deletes: Vec::new(),
            revokes: BTreeMap::new(),
            promises: BTreeMap::new(),
        };
        for operation in &history.operations {
            known.learn(operation);
        }
        known
    }

    fn learn(&mut self, operation: &'a Operation) {
        match (&operation.request, &operation.outcome) {
            (_, Outcome::Refused(_)) => {}
            (
                Request::Delete(_),
                Outcome::Replied(Reply::Done {
                    revision,
                    deleted: 1..,
                    ..
                }),
            ) => {
                self.deletes.insert(*revision, operation);
            }
            (
                Request::Txn(_),
                Outcome::Replied(Reply::Txn {
                    revision,
                    succeeded: true,
                    ..
                }),
            ) => {
                self.deletes.insert(*revision, operation);
            }
            (Request::Delete(_) | Request::Txn(_), Outcome::Replied(_)) => {}
            (Request::Delete(_) | Request::Txn(_), Outcome::Unknown) => {
                self.open_deletes.push(operation);
            }
            (Request::Revoke { lease }, _) => {
                let first = self.revokes.entry(*lease).or_insert(operation.invoked);
                *first = operation.invoked.min(*first);
            }
            (Request::Grant { lease, .. }, Outcome::Replied(Reply::Done { ttl_seconds, .. }))
            | (Request::KeepAlive { lease }, Outcome::Replied(Reply::KeptAlive { ttl_seconds })) => {
                self.promise(*lease, *ttl_seconds, operation);
            }
            _ => {}
        }
    }

    fn promise(&mut self, lease: i64, ttl_seconds: i64, operation: &'a Operation) {
        if let (Some(known), Ok(seconds @ 1..)) = (operation.returned, u64::try_from(ttl_seconds)) {
            let until = operation.invoked + by_any_clock(seconds);
            self.promises.entry(lease).or_default().push(Promise {
                known,
                until,
                operation,
            });
        }
    }

    /// Whether a client deleted the key at this revision, or may have.
    pub(super) fn somebody_deleted(&self, key: &[u8], revision: i64, at: Moment) -> bool {
        let covers =
            |operation: &&Operation| operation.invoked <= at && deletes(&operation.request, key);
        self.deletes.get(&revision).is_some_and(covers) || self.open_deletes.iter().any(covers)
    }

    /// Whether the end of the lease was asked for.
    pub(super) fn somebody_revoked(&self, lease: i64, at: Moment) -> bool {
        self.revokes.get(&lease).is_some_and(|asked| *asked <= at)
    }

    /// The promise that reaches furthest, of those known by then.
    pub(super) fn promised(&self, lease: i64, known_by: Moment) -> Option<&Promise<'a>> {
        let promises = self.promises.get(&lease)?.iter();
        promises
            .filter(|promise| promise.known <= known_by)
            .max_by_key(|promise| promise.holds_until(self.history))
    }
}

/// Whether a request deletes the key.
fn deletes(request: &Request, key: &[u8]) -> bool {
    match request {
        Request::Delete(keys) => keys.contains(key),
        Request::Txn(txn) => txn
            .writes
            .iter()
            .any(|write| matches!(write, Write::Delete(deleted) if deleted == key)),
        _ => false,
    }
}

/// The lease that a request attaches keys to.
fn lease_of(request: &Request) -> Option<i64> {
    match request {
        Request::Put { lease, .. } => Some(*lease),
        Request::Txn(txn) => txn.writes.iter().find_map(|write| match write {
            Write::Put { lease, .. } if *lease != 0 => Some(*lease),
            _ => None,
        }),
        _ => None,
    }
}

/// The shortest time that a member's clock may take for so many seconds.
fn by_any_clock(seconds: u64) -> Duration {
    Duration::from_micros(seconds * (1_000_000 - CLOCK_DRIFT_MAX_PPM))
}

/// No key vanishes with its lease before the lifetime has passed that was promised last, counted from the moment the
/// promise was asked for; unless somebody asked for it. Nor does a key vanish that hangs on no lease.
pub(super) fn never_early(history: &History) -> Result<(), String> {
    let known = Known::new(history);
    let mut attached: BTreeMap<&Bytes, i64> = BTreeMap::new();
    for (revision, (at, changes)) in &history.published {
        for change in changes {
            let key = match change {
                Change::Put(pair) => {
                    attached.insert(&pair.key, pair.lease);
                    continue;
                }
                Change::Delete(key) => key,
            };
            let lease = attached.remove(key).unwrap_or_default();
            if known.somebody_deleted(key, *revision, *at) {
                continue;
            }
            if lease == 0 {
                return Err(format!(
                    "revision {revision} deleted {key:?}, which nobody asked for"
                ));
            }
            if known.somebody_revoked(lease, *at) {
                continue;
            }
            if let Some(promise) = known
                .promised(lease, *at)
                .filter(|promise| *at < promise.holds_until(history))
            {
                let Promise {
                    until, operation, ..
                } = promise;
                return Err(format!(
                    "revision {revision} deleted {key:?} with lease {lease} at {at:?}, promised until {until:?} by {operation:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Nobody is told that a lease is gone while it was promised to live.
pub(super) fn never_denied(history: &History) -> Result<(), String> {
    let known = Known::new(history);
    for operation in &history.operations {
        let (lease, returned) = match (&operation.request, &operation.outcome, operation.returned) {
            (request, Outcome::Refused(Refusal::NoLease), Some(returned)) => {
                match lease_of(request) {
                    Some(lease) => (lease, returned),
                    None => continue,
                }
            }
            (
                Request::KeepAlive { lease },
                Outcome::Replied(Reply::KeptAlive { ttl_seconds: 0 }),
                Some(returned),
            ) => (*lease, returned),
            _ => continue,
        };
        if known.somebody_revoked(lease, returned) {
            continue;
        }
        let promise = known.promised(lease, operation.invoked);
        if let Some(promise) = promise.filter(|promise| returned < promise.holds_until(history)) {
            return Err(format!(
                "denied: {operation:?}, promised by {:?}",
                promise.operation
            ));
        }
    }
    Ok(())
}
