//! The judge of leases: what the notes say of each, and what the history made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::History;
use super::{Change, Evidence, LATE, Note, Renewal};

/// What the workers know about one lease.
#[derive(Clone, Debug, Default)]
struct Known {
    granted: bool,
    ttl: Duration,
    /// Until here it is certain to live, unless it is revoked.
    lives_until: Duration,
    /// The last moment at which its time may have begun again.
    last_begun: Duration,
    revoke_sent: bool,
    revoked_at: Option<i64>,
    /// A keep-alive was granted although the revoke had been acknowledged.
    alive_after_revoke: bool,
    /// When the server first said that there is no such lease, without a revoke.
    gone: Option<Duration>,
}

/// What is wrong about leases; also the revisions of `unsent` that are not the end of one.
pub(super) fn violations(
    evidence: &Evidence,
    history: &History<'_>,
    unsent: &BTreeSet<i64>,
) -> Vec<String> {
    let known = known(evidence);
    let mut found = Vec::new();
    for (lease, known) in &known {
        if known.alive_after_revoke {
            found.push(format!("revoked: {lease} was kept alive after its revoke"));
        }
        if let Some(at) = known.gone.filter(|at| *at < known.lives_until) {
            let until = known.lives_until;
            found.push(format!(
                "early: {lease} was gone at {at:?} and should live until {until:?}"
            ));
        }
    }
    let attached = replay(evidence, history, unsent, &known, &mut found);
    found.extend(wrong_at_the_end(evidence, &known, &attached));
    found
}

fn known(evidence: &Evidence) -> BTreeMap<i64, Known> {
    let mut leases: BTreeMap<i64, Known> = BTreeMap::new();
    for note in evidence.notes() {
        match note {
            Note::Grant { lease, sent, ttl } => {
                let known = leases.entry(*lease).or_default();
                if let Some(ttl) = ttl {
                    known.granted = true;
                    known.ttl = *ttl;
                    known.lives_until = *sent + *ttl;
                }
            }
            Note::Renew {
                lease,
                sent,
                got,
                answer,
            } => {
                let known = leases.entry(*lease).or_default();
                known.last_begun = known.last_begun.max(*got);
                match answer {
                    Renewal::Alive(_) if known.revoked_at.is_some() => {
                        known.alive_after_revoke = true;
                    }
                    Renewal::Alive(ttl) => known.lives_until = known.lives_until.max(*sent + *ttl),
                    Renewal::Gone if !known.revoke_sent => {
                        known.gone.get_or_insert(*got);
                    }
                    Renewal::Gone | Renewal::Unknown => {}
                }
            }
            Note::Revoke { lease, revision } => {
                let known = leases.entry(*lease).or_default();
                known.revoke_sent = true;
                known.revoked_at = known.revoked_at.or(*revision);
            }
            Note::Write { .. } | Note::Refused { .. } | Note::Read { .. } => {}
        }
    }
    leases
}

/// Goes through the history and returns the keys that hang on each lease at its end.
fn replay(
    evidence: &Evidence,
    history: &History<'_>,
    unsent: &BTreeSet<i64>,
    known: &BTreeMap<i64, Known>,
    found: &mut Vec<String>,
) -> BTreeMap<i64, BTreeSet<String>> {
    let mut arrived = BTreeMap::new();
    for event in evidence
        .events
        .iter()
        .chain(evidence.others.iter().flatten())
    {
        let at = arrived.entry(event.revision).or_insert(event.at);
        // Whoever was told first knows best when it had happened.
        *at = event.at.min(*at);
    }
    let mut revokes = BTreeSet::new();
    for (lease, known) in known {
        revokes.extend(known.revoked_at.map(|at| (at, *lease)));
    }
    let mut tied = Tied::default();
    let mut ended = BTreeSet::new();
    for (revision, changes) in history {
        tied.expect_revoked(&mut revokes, *revision, found);
        if unsent.contains(revision) {
            let Some(lease) = tied.lease_with_exactly(changes) else {
                found.push(format!(
                    "sent: nobody sent {changes:?} at revision {revision}"
                ));
                continue;
            };
            ended.insert(lease);
            let at = arrived.get(revision).copied().unwrap_or_default();
            let known = known.get(&lease).cloned().unwrap_or_default();
            if !known.revoke_sent && at < known.lives_until {
                let until = known.lives_until;
                found.push(format!(
                    "early: {lease} ended at {at:?} (revision {revision}) and should live until {until:?}"
                ));
            }
        }
        for change in changes {
            tied.apply(change);
            let revoked = known.get(&change.lease).and_then(|known| known.revoked_at);
            if ended.contains(&change.lease) || revoked.is_some_and(|at| at < *revision) {
                found.push(format!(
                    "revoked: {change:?} at revision {revision}, when the lease had ended"
                ));
            }
        }
    }
    tied.expect_revoked(&mut revokes, i64::MAX, found);
    tied.keys_of
}

/// Which keys hang on which lease.
#[derive(Default)]
struct Tied {
    lease_of: BTreeMap<String, i64>,
    keys_of: BTreeMap<i64, BTreeSet<String>>,
}

impl Tied {
    fn apply(&mut self, change: &Change) {
        if let Some(before) = self.lease_of.remove(&change.key) {
            let keys = self.keys_of.entry(before).or_default();
            keys.remove(&change.key);
            if keys.is_empty() {
                self.keys_of.remove(&before);
            }
        }
        if change.value.is_some() && change.lease != 0 {
            self.lease_of.insert(change.key.clone(), change.lease);
            let keys = self.keys_of.entry(change.lease).or_default();
            keys.insert(change.key.clone());
        }
    }

    /// An acknowledged revoke has deleted every key by its own revision: checks those of `revokes`
    /// (revision and lease) that come before `revision`, and takes them out.
    fn expect_revoked(
        &self,
        revokes: &mut BTreeSet<(i64, i64)>,
        revision: i64,
        found: &mut Vec<String>,
    ) {
        while let Some((at, lease)) = revokes.first().copied().filter(|(at, _)| *at < revision) {
            revokes.pop_first();
            if let Some(keys) = self.keys_of.get(&lease) {
                found.push(format!(
                    "revoked: {keys:?} outlive the revoke of {lease} at revision {at}"
                ));
            }
        }
    }

    /// The lease whose end these changes are: deletes of all its keys, and of nothing else.
    fn lease_with_exactly(&self, changes: &BTreeSet<&Change>) -> Option<i64> {
        let lease = *self.lease_of.get(&changes.first()?.key)?;
        let all_deleted = changes.iter().all(|change| change.value.is_none());
        let keys: BTreeSet<String> = changes.iter().map(|change| change.key.clone()).collect();
        (all_deleted && self.keys_of.get(&lease) == Some(&keys)).then_some(lease)
    }
}

fn wrong_at_the_end(
    evidence: &Evidence,
    known: &BTreeMap<i64, Known>,
    attached: &BTreeMap<i64, BTreeSet<String>>,
) -> Vec<String> {
    let ending = &evidence.ending;
    let mut found = Vec::new();
    for (lease, known) in known {
        let there = ending.leases.contains_key(lease);
        if known.granted && !known.revoke_sent && !there && known.lives_until > ending.at {
            found.push(format!(
                "leases: {lease} is gone and should live until {:?}",
                known.lives_until
            ));
        }
        if known.revoked_at.is_some() && there {
            found.push(format!("revoked: {lease} is there at the end"));
        }
        let begun = known.last_begun.max(ending.last_start);
        let limit = known.lives_until.max(begun + known.ttl) + LATE;
        if known.granted && there && limit < ending.at {
            found.push(format!(
                "late: {lease} is there at {:?}, its time was over before {limit:?}",
                ending.at
            ));
        }
    }
    for (lease, keys) in &ending.leases {
        if !known.contains_key(lease) {
            found.push(format!("leases: nobody asked for {lease}"));
        }
        let expected = attached.get(lease).cloned().unwrap_or_default();
        if *keys != expected {
            found.push(format!(
                "attached: lease {lease} has {keys:?} instead of {expected:?}"
            ));
        }
    }
    for (lease, keys) in attached {
        if !ending.leases.contains_key(lease) {
            found.push(format!(
                "attached: {keys:?} hang on {lease}, which is not there"
            ));
        }
    }
    found
}
