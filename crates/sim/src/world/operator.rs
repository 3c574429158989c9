//! Somebody who adds, promotes, removes and replaces members and moves the lead, and asks before each step what the
//! server asks.
//!
//! An answer may get lost, so nobody relies on it: from time to time the operator looks at the roster of the member that
//! has applied the most, starts who is new in it and stops who is no longer.

use std::sync::Arc;
use std::time::Duration;

use kvorum_member::apply::{RequestError, Response};
use kvorum_member::cluster::{self, Change, Roster};
use kvorum_member::consensus::Proposal;
use kvorum_member::core::Input;
use kvorum_proto::ids::{MemberId, Moment};

use super::node::{Node, Place};
use super::process::{Waiter, described};
use super::{Drill, Event, World, wire};
use crate::random::Random;

/// So many members are there at most, those that are gone not counted.
const MEMBERS_MAX: usize = 7;
/// So many members there are in a run at most,
const NODES_MAX: usize = 14;
/// and in one with a drill in which members come and go fast.
const DRILLED_NODES_MAX: usize = 24;
/// A learner may vote when it has at least so much of the leader's log, in a hundred.
/// Source: etcd 3.7.1 `server/etcdserver/server.go`, `readyPercentThreshold`.
const READY_PERCENT: u64 = 90;

/// A change that was asked for is made within this time or never: as long as a member holds what it cannot propose, and
/// a while to commit it.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// What the operator has in mind.
#[derive(Default)]
pub(super) struct Operator {
    /// A member whose disk is lost and that is to be removed.
    wiped: Option<MemberId>,
    /// It is removed, and another one is to take its place.
    replaces: bool,
    /// The change that was made last, by what it is counted as.
    made: Option<&'static str>,
    /// Until then a voter may still be removed that somebody was asked to remove.
    removes_until: Moment,
}

/// Changes of the membership by what they are counted as, and what it is called when one is made after another.
const ORDERS: &[(&str, &str, &str)] = &[
    (
        "learners added",
        "learners added",
        "order: learner, learner",
    ),
    (
        "learners added",
        "learners promoted",
        "order: learner, promotion",
    ),
    (
        "learners added",
        "members removed",
        "order: learner, removal",
    ),
    ("learners added", "voters added", "order: learner, voter"),
    (
        "learners promoted",
        "learners added",
        "order: promotion, learner",
    ),
    (
        "learners promoted",
        "members removed",
        "order: promotion, removal",
    ),
    (
        "learners promoted",
        "voters added",
        "order: promotion, voter",
    ),
    (
        "members removed",
        "learners added",
        "order: removal, learner",
    ),
    (
        "members removed",
        "learners promoted",
        "order: removal, promotion",
    ),
    (
        "members removed",
        "members removed",
        "order: removal, removal",
    ),
    ("members removed", "voters added", "order: removal, voter"),
    ("voters added", "learners added", "order: voter, learner"),
    (
        "voters added",
        "learners promoted",
        "order: voter, promotion",
    ),
    ("voters added", "members removed", "order: voter, removal"),
    ("voters added", "voters added", "order: voter, voter"),
];

impl World {
    pub(super) fn plan_operation(&mut self) {
        let (low, high) = match self.mix.drill {
            Some(Drill::Membership | Drill::Snapshots) => (200, 1_500),
            _ => (300, 4_000),
        };
        let delay = Duration::from_millis(self.weather.between(low, high));
        self.plan(delay, Event::Operate);
    }

    pub(super) fn operate(&mut self) {
        self.plan_operation();
        self.judge_membership();
        let Some(roster) = self.newest_roster() else {
            return;
        };
        self.reconcile(&roster);
        self.publish_names(&roster);
        let Some(place) = self.one_that_serves() else {
            return;
        };
        if let Some(wiped) = self.operator.wiped {
            match roster.member(wiped) {
                Some(_) => return self.remove(place, &roster, wiped),
                None => {
                    self.operator.wiped = None;
                    self.operator.replaces = true;
                }
            }
        }
        if self.is_resting {
            return;
        }
        if self.operator.replaces {
            let is_learner = self.weather.chance(2, 3);
            if self.add(place, &roster, is_learner) {
                self.operator.replaces = false;
                return self.struck("members wiped and replaced");
            }
        }
        match self.weather.below(10) {
            0..3 => {
                let is_learner = self.weather.chance(2, 3);
                self.add(place, &roster, is_learner);
            }
            3..5 => self.promote(place, &roster),
            5 => {
                let members: Vec<_> = roster.members().map(cluster::Member::id).collect();
                let id = *self.weather.pick(&members);
                self.remove(place, &roster, id);
            }
            6 => self.update(place, &roster),
            7 => self.wipe(&roster),
            _ => self.move_lead(&roster),
        }
    }

    /// The roster of whoever has applied the most.
    pub(super) fn newest_roster(&self) -> Option<Roster> {
        let views = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let newest = views.max_by_key(|process| process.view.applied)?;
        Some(newest.view.cluster.roster.clone())
    }

    /// Starts who is new, and stops who was removed and does not know.
    fn reconcile(&mut self, roster: &Roster) {
        for place in 0..self.nodes.len() {
            let node = &self.nodes[place];
            if roster.member(node.id).is_some() && !node.is_called {
                self.nodes[place].is_called = true;
                let delay = Duration::from_millis(self.weather.between(1, 500));
                self.plan(delay, Event::Start { place });
            }
            let forgotten = roster.is_removed(self.nodes[place].id) && self.weather.chance(1, 20);
            if forgotten || (self.is_resting && roster.is_removed(self.nodes[place].id)) {
                self.retire(place);
            }
        }
    }

    /// Members that have started say how they are called, each through itself.
    fn publish_names(&mut self, roster: &Roster) {
        let nameless: Vec<MemberId> = roster
            .members()
            .filter(|member| !member.is_started())
            .map(cluster::Member::id)
            .collect();
        for id in nameless {
            let Some(place) = self.place_of(id).filter(|it| self.serving(*it).is_some()) else {
                continue;
            };
            if let Some(process) = &mut self.nodes[place].process {
                let request = process.next_request();
                process.proposed.insert(request, Waiter::Operator(None));
                let data = wire::publish(request.0, id);
                let proposal = Proposal { id: request, data };
                process.core.input(Input::Propose(vec![proposal]));
            }
        }
    }

    /// A member that takes requests, and is part of the cluster as far as it knows.
    fn one_that_serves(&mut self) -> Option<Place> {
        let serving: Vec<Place> = (0..self.nodes.len())
            .filter(|place| self.serving(*place).is_some())
            .collect();
        (!serving.is_empty()).then(|| *self.weather.pick(&serving))
    }

    pub(super) fn propose_change(&mut self, place: Place, change: &Change, counted: &'static str) {
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let cluster = Arc::clone(&process.view.cluster);
        if cluster.roster.check(change).is_err() {
            return;
        }
        let id = process.next_request();
        let wire = change.to_wire(id.0, &cluster.roster);
        process.proposed.insert(id, Waiter::Operator(Some(counted)));
        process.core.input(Input::ProposeConfChange(wire));
        self.log.line(self.now, || {
            format!("operator asks member {place}: {change:?}")
        });
        self.struck(counted);
    }

    /// Says whether it was asked for.
    pub(super) fn add(&mut self, place: Place, roster: &Roster, is_learner: bool) -> bool {
        let is_safe = is_learner || cluster::ready_to_add_voter(roster);
        let pending = self.nodes.iter().any(|node| !node.is_called);
        let nodes_max = match self.mix.drill {
            Some(Drill::Membership | Drill::Snapshots) => DRILLED_NODES_MAX,
            _ => NODES_MAX,
        };
        let is_full = roster.members().count() >= MEMBERS_MAX || self.nodes.len() >= nodes_max;
        let one_learner = is_learner && roster.check_learners(2).is_err();
        if !is_safe || pending || is_full || one_learner {
            return false;
        }
        let id = MemberId(self.nodes.len() as u64 + 1);
        let root = Random::new(self.seed);
        self.nodes.push(Node::new(id, &root, &root, true));
        let change = Change::Add(described(id, is_learner));
        let counted = match is_learner {
            true => "learners added",
            false => "voters added",
        };
        self.propose_change(place, &change, counted);
        true
    }

    pub(super) fn promote(&mut self, place: Place, roster: &Roster) {
        let Some(learner) = roster.members().find(|member| member.is_learner) else {
            return;
        };
        let id = learner.id();
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        let progress: Vec<_> = processes
            .flat_map(|process| process.core.progress())
            .collect();
        let last = progress.iter().map(|peer| peer.matched.0).max();
        let own = progress
            .iter()
            .find(|peer| peer.member == id)
            .map(|peer| peer.matched.0);
        let in_sync = own
            .zip(last)
            .is_some_and(|(own, last)| own * 100 >= last * READY_PERCENT);
        if in_sync && cluster::ready_to_promote(roster, id) {
            self.propose_change(place, &Change::Promote(id), "learners promoted");
        }
    }

    pub(super) fn remove(&mut self, place: Place, roster: &Roster, id: MemberId) {
        let is_learner = roster.member(id).is_some_and(|member| member.is_learner);
        let enough = roster.voters().count() > 2 && cluster::ready_to_remove_voter(roster, id);
        if is_learner || (enough && self.may_do_without(roster, id)) {
            self.operator.removes_until = self.now + CHANGE_MAX;
            self.propose_change(place, &Change::Remove(id), "members removed");
        }
    }

    fn update(&mut self, place: Place, roster: &Roster) {
        let members: Vec<_> = roster.members().collect();
        let mut member = (*self.weather.pick(&members)).clone();
        member.peer_urls = vec![format!("http://moved-{}:2380", self.planned)];
        self.propose_change(place, &Change::Update(member), "addresses changed");
    }

    /// A member loses its disk. The rest must be able to go on without it, and one is lost at a time.
    fn wipe(&mut self, roster: &Roster) {
        let voters: Vec<_> = roster.voters().map(cluster::Member::id).collect();
        let id = *self.weather.pick(&voters);
        let Some(place) = self.place_of(id) else {
            return;
        };
        let is_reconfiguring = self.operator.removes_until > self.now;
        let is_one_lost = self.operator.wiped.is_some() || is_reconfiguring;
        if voters.len() < 3 || !self.may_do_without(roster, id) || is_one_lost {
            return;
        }
        self.operator.wiped = Some(id);
        let settled = roster.voters().count() == roster.members().count();
        if self.weather.chance(1, 2) && settled && self.nodes[place].process.is_some() {
            // What is acknowledged from now on is gone with the power: as good as a lost disk.
            self.tell_of_fault(place, "has a disk that lies", "disks that lie");
            self.nodes[place].disk.lie();
            let delay = Duration::from_millis(self.weather.between(20, 3_000));
            return self.plan(delay, Event::LosePower { place });
        }
        self.tell_of_fault(place, "loses its disk", "members wiped");
        self.nodes[place].is_gone = true;
        self.kill(place);
    }

    /// Whether the voters that run now are a quorum of those that remain, this one taken away.
    fn may_do_without(&self, roster: &Roster, id: MemberId) -> bool {
        let remaining = roster.voters().filter(|member| member.id() != id);
        let (mut running, mut all) = (0, 0);
        for member in remaining {
            all += 1;
            let place = self.place_of(member.id());
            let is_up = place.is_some_and(|place| {
                !self.nodes[place].is_impaired(self.now) && self.knows_that_it_votes(place)
            });
            running += usize::from(is_up);
        }
        running > all / 2
    }

    /// A learner that was promoted and has not heard of it does not campaign, whoever needs it.
    fn knows_that_it_votes(&self, place: Place) -> bool {
        let node = &self.nodes[place];
        let process = node.process.as_ref();
        process.is_some_and(|it| it.core.conf_state().voters.contains(&node.id.0))
    }

    fn move_lead(&mut self, roster: &Roster) {
        let voters: Vec<_> = roster.voters().map(cluster::Member::id).collect();
        let to = *self.weather.pick(&voters);
        if let Some(leader) = self.leader() {
            self.hand_lead_over(leader, to);
        }
    }

    pub(super) fn hand_lead_over(&mut self, leader: Place, to: MemberId) {
        if let Some(process) = &mut self.nodes[leader].process {
            process.core.input(Input::TransferLeader(to));
            self.log
                .line(self.now, || format!("operator moves the lead to {to}"));
            self.struck("leads moved");
        }
    }

    pub(super) fn operator_hears(
        &mut self,
        change: Option<&'static str>,
        result: Result<Response, RequestError>,
    ) {
        let order = |(first, second, _): &&(&str, &str, &str)| {
            self.operator.made == Some(first) && change == Some(second)
        };
        if let Some((_, _, name)) = ORDERS.iter().find(order).filter(|_| result.is_ok()) {
            self.count(name);
        }
        if change.is_some() && result.is_ok() {
            self.operator.made = change;
        }
        self.log
            .line(self.now, || format!("operator hears {result:?}"));
        self.count(match result {
            Ok(_) => "membership changes made",
            Err(_) => "membership changes refused",
        });
    }
}
