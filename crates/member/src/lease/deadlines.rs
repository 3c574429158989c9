//! The leader's half: when each lease ends.
//!
//! Theory. A lease ends at `now + lifetime` of its grant or last keep-alive. Every
//! [`CHECK_INTERVAL`] the ended leases are picked in order of their ends, at most
//! [`PICKED_PER_CHECK_MAX`] of them, and their revokes are asked for, at most
//! [`REVOKES_IN_FLIGHT_MAX`] at a time. A lease is gone when its revoke has been applied, not
//! before; a revoke that is not seen applied within [`REVOKE_RETRY`] is asked for again.
//!
//! A keep-alive of a lease that has ended is never granted, because its revoke may already stand
//! in the log: the answer waits until the lease is gone and says so with a lifetime of 0. For the
//! same reason `Promoted` must come only when the first entry of the leader's own term has been
//! applied: whatever an earlier leader asked for is then decided.
//!
//! A member may believe that it leads when it leads no longer: it was cut off, or stood still for a
//! while. What it promised then, the true leader would not keep. So a keep-alive first asks a quorum
//! whether this member leads, and when that is confirmed, the lease is renewed as of the moment at
//! which the keep-alive came: whoever leads later was elected after it, and gives the lease its
//! whole lifetime from then on. In the same way a revoke is proposed by this leader in this term or
//! not at all.
//!
//! A lease with a written-down rest of its lifetime (a checkpoint) cannot simply be renewed: the
//! next leader would start from the old rest and end it early. The rest is first cleared through
//! the log, and the answer waits for that.
//!
//! Rests are written down where that is asked for ([`Deadlines::write_rests`]): without it each change of
//! the leader gives every lease its whole lifetime, and one of hours may never end. A lease whose rest may
//! be on its way into the log is renewed like one whose rest is written. To tell the two apart by what is
//! applied, no rest is written while a clearing is under way, so a clearing that is applied was asked for
//! after all rests. Who grants an id again before its revoke is answered may see the new lease begin with
//! a rest of the old one, as with etcd.
//!
//! Example, lifetime 2 s: granted at 10.0, kept alive at 11.5, so its end is 13.5. The check at
//! 14.0 finds it and asks for the revoke. A keep-alive at 13.7 waits; at 14.1 the revoke is
//! applied and the keep-alive is answered with 0.
//!
//! Source: etcd v3.7.1 server/lease/lessor.go (Promote, Renew, revokeExpiredLeases),
//! server/etcdserver/server.go (revokeExpiredLeases).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kvorum_proto::ids::{LeaseId, Moment};

use super::messages::{Input, Output, Restored, Round, Token};
use super::ttl_seconds_min;

/// How often ended leases are looked for.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How many ended leases one check picks at most; the rest wait for the next one. Twelve times what etcd picks: of
/// 100,000 leases that end together the last is gone within 10 s.
pub const PICKED_PER_CHECK_MAX: usize = 6_000;
/// How many revokes are under way at a time; more picked leases wait for their turn. A batch of so many is applied in
/// well under a millisecond, so requests that come meanwhile hardly wait.
pub const REVOKES_IN_FLIGHT_MAX: usize = 64;
/// After how long a revoke, or the clearing of a checkpoint, is asked for again.
pub const REVOKE_RETRY: Duration = Duration::from_secs(3);
/// How many rests go into one entry of the log at most.
/// Source: etcd v3.7.1 server/lease/lessor.go, `maxLeaseCheckpointBatchSize`.
const RESTS_PER_ENTRY_MAX: usize = 1_000;
/// From how many leases on a new leader spreads their ends.
const SPREAD_LEASES_MIN: usize = 1_000;
/// How many leases a new leader lets end in one second, when it spreads.
const SPREAD_PER_SECOND_MAX: usize = 750;

/// What the leader knows about one lease.
#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl_seconds: i64,
    remaining_seconds: i64,
    /// When it ends; [`NEVER`] on a member that does not lead.
    end: Moment,
    /// When the clearing of its checkpoint was last asked for, while that is awaited.
    clearing: Option<Moment>,
    /// When its rest is written down next; [`NEVER`] if not.
    due: Moment,
    /// Its rest was written down by this leader, and that may not be applied yet.
    written: bool,
    /// Clearings asked for by this leader and not seen applied.
    clears: u32,
}

impl Lease {
    fn new(ttl_seconds: i64, remaining_seconds: i64, end: Moment) -> Self {
        Self {
            ttl_seconds,
            remaining_seconds,
            end,
            clearing: None,
            due: NEVER,
            written: false,
            clears: 0,
        }
    }

    /// What a leader that comes to the lead would count down, in seconds.
    fn rest_seconds(&self) -> i64 {
        match self.remaining_seconds {
            0 => self.ttl_seconds,
            rest => rest,
        }
    }
}

/// A keep-alive that waits until it is known who leads.
#[derive(Clone, Copy, Debug)]
struct KeepAlive {
    round: Round,
    came: Moment,
    token: Token,
    id: LeaseId,
}

/// What became of leases since the start, for the metrics. All only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leases granted.
    pub granted: u64,
    /// Leases ended, by whomever.
    pub revoked: u64,
    /// Revokes asked for because a lease had ended; one that is asked for again counts again.
    pub expired: u64,
}

/// The end of a lease that nobody counts down.
const NEVER: Moment = Moment(Duration::MAX);

/// The ends of all leases.
///
/// Invariants: a lease is in exactly one of `ends` (with its end), `picked` and `in_flight`; what
/// is in the last two has ended; `waiting` and `waits_for` mirror each other and name existing
/// leases; `due` holds each lease that has a time to be written down; off the lead only `ends` has
/// members.
#[derive(Debug)]
pub struct Deadlines {
    election_timeout: Duration,
    is_primary: bool,
    leases: BTreeMap<LeaseId, Lease>,
    ends: BTreeSet<(Moment, LeaseId)>,
    picked: VecDeque<LeaseId>,
    /// When each revoke was asked for.
    in_flight: BTreeMap<LeaseId, Moment>,
    /// Leases whose checkpoint is being cleared.
    clearing: BTreeSet<LeaseId>,
    /// Keep-alives that came at a moment and wait for a confirmation, oldest first.
    unconfirmed: VecDeque<KeepAlive>,
    last_round: Round,
    /// Keep-alives that wait for the lease to be gone or its checkpoint to be cleared. At most
    /// one of each stream.
    waiting: BTreeSet<(LeaseId, Token)>,
    waits_for: BTreeMap<Token, LeaseId>,
    last_check: Option<Moment>,
    /// How often rests are written down; none for never.
    rests_every: Option<Duration>,
    /// When which rest is written down next.
    due: BTreeSet<(Moment, LeaseId)>,
    counts: Counts,
    outputs: VecDeque<Output>,
}

impl Deadlines {
    /// Without leases and off the lead. A new leader adds `election_timeout` to every lease. A
    /// lease counts down at least [`ttl_seconds_min`] seconds, whatever its grant says.
    pub fn new(election_timeout: Duration) -> Self {
        Self {
            election_timeout,
            is_primary: false,
            leases: BTreeMap::new(),
            ends: BTreeSet::new(),
            picked: VecDeque::new(),
            in_flight: BTreeMap::new(),
            clearing: BTreeSet::new(),
            unconfirmed: VecDeque::new(),
            last_round: Round::default(),
            waiting: BTreeSet::new(),
            waits_for: BTreeMap::new(),
            last_check: None,
            rests_every: None,
            due: BTreeSet::new(),
            counts: Counts::default(),
            outputs: VecDeque::new(),
        }
    }

    /// From the next promotion on, has the rest of each lease that lasts longer than `interval` written
    /// down that often.
    pub fn write_rests(&mut self, interval: Duration) {
        self.rests_every = Some(interval);
    }

    /// Takes one input.
    pub fn input(&mut self, now: Moment, input: Input) {
        match input {
            Input::Granted { id, ttl_seconds } => self.granted(now, id, ttl_seconds),
            Input::Revoked(id) => self.revoked(now, id),
            Input::Checkpointed {
                id,
                remaining_seconds,
            } => {
                self.checkpointed(now, id, remaining_seconds);
            }
            Input::Restored(leases) => self.restored(leases),
            Input::Promoted => self.promoted(now),
            Input::Demoted => self.demoted(),
            Input::KeepAlive { token, id } => self.keep_alive(now, token, id),
            Input::TimeToLive { token, id } => self.time_to_live(now, token, id),
            Input::Confirmed(round) => self.confirmed(now, round),
            Input::Unconfirmed(round) => self.refuse_unconfirmed(round),
            Input::Forget(token) => {
                self.unconfirmed.retain(|waiting| waiting.token != token);
                if let Some(id) = self.waits_for.remove(&token) {
                    self.waiting.remove(&(id, token));
                }
            }
            Input::Tick => self.tick(now),
        }
    }

    /// The next output, if there is one.
    pub fn take_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the next tick has something to do; none when only other inputs bring work.
    pub fn next_deadline(&self) -> Option<Moment> {
        if !self.is_primary {
            return None;
        }
        let check = self.ends.first().map(|(end, _)| match self.last_check {
            Some(last) => (last + CHECK_INTERVAL).max(*end),
            None => *end,
        });
        let revoke = self
            .in_flight
            .values()
            .min()
            .map(|asked| *asked + REVOKE_RETRY);
        let clear = self
            .clearing
            .iter()
            .filter_map(|id| self.leases[id].clearing)
            .min();
        let clear = clear.map(|asked| asked + REVOKE_RETRY);
        let rest = self.due.first().map(|(due, _)| *due);
        [check, revoke, clear, rest].into_iter().flatten().min()
    }

    /// All leases, those that end first in front; by id on a member that does not lead.
    pub fn list(&self) -> Vec<LeaseId> {
        let ended = self.picked.iter().chain(self.in_flight.keys());
        let mut ended: Vec<_> = ended.map(|id| (self.leases[id].end, *id)).collect();
        ended.sort_unstable();
        ended.iter().chain(&self.ends).map(|(_, id)| *id).collect()
    }

    /// What became of leases since the start, the replay of the log included.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Panics when an invariant of this type is broken.
    pub fn check_invariants(&self) {
        let places = self.ends.len() + self.picked.len() + self.in_flight.len();
        assert_eq!(places, self.leases.len(), "a lease is in exactly one place");
        let kept = |(end, id): &(Moment, LeaseId)| self.leases[id].end == *end;
        assert!(
            self.ends.iter().all(kept),
            "ends holds the end of the lease"
        );
        let mut ended = self.picked.iter().chain(self.in_flight.keys());
        assert!(
            ended.all(|id| self.leases.contains_key(id)),
            "what has ended still exists"
        );
        assert!(
            self.in_flight.len() <= REVOKES_IN_FLIGHT_MAX,
            "revokes in flight are bounded"
        );
        assert_eq!(
            self.waiting.len(),
            self.waits_for.len(),
            "who waits is listed both ways"
        );
        let known = |(id, token): &(LeaseId, Token)| {
            self.leases.contains_key(id) && self.waits_for.get(token) == Some(id)
        };
        assert!(
            self.waiting.iter().all(known),
            "keep-alives wait for existing leases"
        );
        let is_due = |(due, id): &(Moment, LeaseId)| {
            self.leases.get(id).is_some_and(|lease| lease.due == *due)
        };
        assert!(self.due.iter().all(is_due), "a rest is due once");
        let idle = self.picked.is_empty() && self.in_flight.is_empty() && self.waiting.is_empty();
        let idle = idle && self.due.is_empty();
        assert!(self.is_primary || idle, "off the lead nothing is counted");
    }

    #[cfg(test)]
    pub(super) fn end(&self, id: LeaseId) -> Moment {
        self.leases[&id].end
    }

    fn granted(&mut self, now: Moment, id: LeaseId, ttl_seconds: i64) {
        self.counts.granted += 1;
        let whole = self.whole(ttl_seconds);
        let end = if self.is_primary { now + whole } else { NEVER };
        let old = self.leases.insert(id, Lease::new(ttl_seconds, 0, end));
        assert!(old.is_none(), "a lease is granted once");
        self.ends.insert((end, id));
        if self.is_primary {
            self.schedule(now, id);
        }
    }

    fn revoked(&mut self, now: Moment, id: LeaseId) {
        let Some(lease) = self.leases.remove(&id) else {
            return;
        };
        self.counts.revoked += 1;
        if !self.ends.remove(&(lease.end, id)) && self.in_flight.remove(&id).is_none() {
            self.picked.retain(|picked| *picked != id);
        }
        self.clearing.remove(&id);
        self.due.remove(&(lease.due, id));
        self.answer_waiting(id, 0);
        self.ask_for_revokes(now);
    }

    fn checkpointed(&mut self, now: Moment, id: LeaseId, remaining_seconds: i64) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        lease.remaining_seconds = remaining_seconds;
        if remaining_seconds == 0 {
            lease.clears = lease.clears.saturating_sub(1);
            lease.written = false;
        }
        if remaining_seconds > 0 || lease.clearing.take().is_none() {
            return;
        }
        self.clearing.remove(&id);
        if lease.end > now {
            self.renew(now, id);
        }
    }

    fn restored(&mut self, leases: Vec<Restored>) {
        self.demoted();
        let lease =
            |lease: &Restored| Lease::new(lease.ttl_seconds, lease.remaining_seconds, NEVER);
        self.leases = leases.iter().map(|it| (it.id, lease(it))).collect();
        self.ends = self.leases.keys().map(|id| (NEVER, *id)).collect();
    }

    fn promoted(&mut self, now: Moment) {
        if self.is_primary {
            // A new term: who waited on the old one asks again.
            self.demoted();
        }
        self.is_primary = true;
        let mut ends: Vec<_> = self
            .leases
            .iter()
            .map(|(id, lease)| {
                let rest = match lease.remaining_seconds {
                    0 => self.whole(lease.ttl_seconds),
                    rest => seconds(rest),
                };
                (now + rest + self.election_timeout, *id)
            })
            .collect();
        ends.sort_unstable();
        if ends.len() >= SPREAD_LEASES_MIN {
            for later in SPREAD_PER_SECOND_MAX..ends.len() {
                let earlier = ends[later - SPREAD_PER_SECOND_MAX].0;
                ends[later].0 = ends[later].0.max(earlier + Duration::from_secs(1));
            }
        }
        for (end, id) in &ends {
            if let Some(lease) = self.leases.get_mut(id) {
                lease.end = *end;
            }
        }
        self.ends = ends.into_iter().collect();
        self.picked.clear();
        self.in_flight.clear();
        self.last_check = None;
        for id in self.leases.keys().copied().collect::<Vec<_>>() {
            self.schedule(now, id);
        }
    }

    fn demoted(&mut self) {
        self.is_primary = false;
        self.refuse_unconfirmed(self.last_round);
        for token in std::mem::take(&mut self.waits_for).into_keys() {
            self.outputs.push_back(Output::NotPrimary(token));
        }
        self.waiting.clear();
        self.clearing.clear();
        self.picked.clear();
        self.in_flight.clear();
        self.due.clear();
        for lease in self.leases.values_mut() {
            *lease = Lease::new(lease.ttl_seconds, lease.remaining_seconds, NEVER);
        }
        self.ends = self.leases.keys().map(|id| (NEVER, *id)).collect();
    }

    fn keep_alive(&mut self, now: Moment, token: Token, id: LeaseId) {
        if !self.is_primary {
            self.outputs.push_back(Output::NotPrimary(token));
            return;
        }
        self.last_round = Round(self.last_round.0 + 1);
        self.unconfirmed.push_back(KeepAlive {
            round: self.last_round,
            came: now,
            token,
            id,
        });
        self.outputs.push_back(Output::Confirm(self.last_round));
    }

    /// Confirms everything that was asked before as well.
    fn confirmed(&mut self, now: Moment, round: Round) {
        while let Some(keep_alive) = self.unconfirmed.pop_front_if(|it| it.round <= round) {
            self.keep_alive_confirmed(now, keep_alive);
        }
    }

    fn refuse_unconfirmed(&mut self, round: Round) {
        while let Some(keep_alive) = self.unconfirmed.pop_front_if(|it| it.round <= round) {
            self.outputs.push_back(Output::NotPrimary(keep_alive.token));
        }
    }

    fn keep_alive_confirmed(&mut self, now: Moment, keep_alive: KeepAlive) {
        let KeepAlive {
            came, token, id, ..
        } = keep_alive;
        let Some(lease) = self.leases.get_mut(&id) else {
            self.outputs.push_back(Output::KeptAlive {
                token,
                id,
                ttl_seconds: 0,
            });
            return;
        };
        self.waiting.insert((id, token));
        self.waits_for.insert(token, id);
        if lease.end <= now {
            return;
        }
        if lease.remaining_seconds == 0 && !lease.written {
            self.renew(came, id);
        } else if lease.clearing.is_none() {
            lease.clearing = Some(now);
            lease.clears += 1;
            self.clearing.insert(id);
            self.outputs.push_back(Output::ClearCheckpoint(id));
        }
    }

    fn time_to_live(&mut self, now: Moment, token: Token, id: LeaseId) {
        let output = match self.leases.get(&id) {
            _ if !self.is_primary => Output::NotPrimary(token),
            None => Output::TimeToLive {
                token,
                id,
                ttl_seconds: -1,
                granted_seconds: 0,
            },
            Some(lease) => Output::TimeToLive {
                token,
                id,
                ttl_seconds: i64::try_from(lease.end.since(now).as_secs()).unwrap_or(i64::MAX),
                granted_seconds: lease.ttl_seconds,
            },
        };
        self.outputs.push_back(output);
    }

    fn tick(&mut self, now: Moment) {
        if !self.is_primary {
            return;
        }
        if self
            .last_check
            .is_none_or(|last| now >= last + CHECK_INTERVAL)
        {
            self.pick(now);
        }
        let is_late = |asked: &Moment| now >= *asked + REVOKE_RETRY;
        for (id, asked) in self
            .in_flight
            .iter_mut()
            .filter(|(_, asked)| is_late(asked))
        {
            *asked = now;
            self.counts.expired += 1;
            self.outputs.push_back(Output::Revoke(*id));
        }
        for id in &self.clearing {
            let Some(lease) = self.leases.get_mut(id) else {
                continue;
            };
            if lease.clearing.as_ref().is_some_and(is_late) {
                lease.clearing = Some(now);
                lease.clears += 1;
                self.outputs.push_back(Output::ClearCheckpoint(*id));
            }
        }
        self.ask_for_revokes(now);
        self.write_down(now);
    }

    /// Has the rest of a lease written down in time, if it lasts long enough.
    fn schedule(&mut self, now: Moment, id: LeaseId) {
        let (Some(interval), Some(lease)) = (self.rests_every, self.leases.get_mut(&id)) else {
            return;
        };
        if seconds(lease.rest_seconds()) > interval {
            self.due.remove(&(lease.due, id));
            lease.due = now + interval;
            self.due.insert((lease.due, id));
        }
    }

    /// Writes down the rests that are due, one entry of the log at a time.
    fn write_down(&mut self, now: Moment) {
        let Some(interval) = self.rests_every else {
            return;
        };
        let mut rests = Vec::new();
        while rests.len() < RESTS_PER_ENTRY_MAX
            && let Some((due, id)) = self.due.first().copied()
            && due <= now
        {
            self.due.pop_first();
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            lease.due = NEVER;
            let left = lease.end.since(now);
            if left.is_zero() {
                continue;
            }
            if left > interval {
                lease.due = now + interval;
                self.due.insert((lease.due, id));
            }
            // Rounded up: the next leader must not end it early.
            let rest = i64::try_from(left.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX);
            if lease.clears == 0 && rest < lease.ttl_seconds {
                lease.written = true;
                rests.push((id, rest));
            }
        }
        if !rests.is_empty() {
            self.outputs.push_back(Output::WriteRests(rests));
        }
    }

    /// Takes the leases that have ended out of those that count down.
    fn pick(&mut self, now: Moment) {
        for _ in 0..PICKED_PER_CHECK_MAX {
            let Some((end, id)) = self.ends.first().copied() else {
                break;
            };
            if end > now {
                break;
            }
            self.last_check = Some(now);
            self.ends.pop_first();
            self.picked.push_back(id);
        }
    }

    fn ask_for_revokes(&mut self, now: Moment) {
        while self.in_flight.len() < REVOKES_IN_FLIGHT_MAX {
            let Some(id) = self.picked.pop_front() else {
                break;
            };
            self.in_flight.insert(id, now);
            self.counts.expired += 1;
            self.outputs.push_back(Output::Revoke(id));
        }
    }

    /// Gives a lease that has not ended its whole lifetime again, counted from `from`, and answers
    /// who asked for it.
    fn renew(&mut self, from: Moment, id: LeaseId) {
        let Some(lease) = self.leases.get(&id) else {
            return;
        };
        let (old, ttl_seconds) = (lease.end, lease.ttl_seconds);
        let end = old.max(from + self.whole(ttl_seconds));
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.end = end;
        }
        self.ends.remove(&(old, id));
        self.ends.insert((end, id));
        self.answer_waiting(id, ttl_seconds);
    }

    fn answer_waiting(&mut self, id: LeaseId, ttl_seconds: i64) {
        let all = (id, Token(0))..=(id, Token(u64::MAX));
        while let Some((_, token)) = self.waiting.range(all.clone()).next().copied() {
            self.waiting.remove(&(id, token));
            self.waits_for.remove(&token);
            self.outputs.push_back(Output::KeptAlive {
                token,
                id,
                ttl_seconds,
            });
        }
    }

    /// A whole lifetime as it is counted down.
    fn whole(&self, ttl_seconds: i64) -> Duration {
        seconds(ttl_seconds.max(ttl_seconds_min(self.election_timeout)))
    }
}

/// Lifetimes are not negative once they are at least the minimum; one that is has ended.
fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}
