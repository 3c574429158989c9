//! Drills: faults that come one after another on purpose.
//!
//! What chance brings together once in a thousand hours is here waited for: a vote that decides and its witness, who loses
//! power right after it; an answer that is on its way for longer than the question is asked again; a snapshot that meets
//! entries which are not applied, and a power loss that meets the snapshot. A run has one drill at most, drawn from its
//! seed. Whatever a drill does, a cluster must bear: nothing acknowledged is lost, and no read is stale.

use std::time::Duration;

use kvorum_member::cluster::{self, Change};
use kvorum_member::core::Machine;
use kvorum_proto::ids::{MemberId, Moment, Term};
use kvorum_proto::raftpb::{Message, MessageType};

use super::comeback::{self, Comeback};
use super::node::Place;
use super::{Event, World};
use crate::disk::Fault;
use crate::random::Random;

/// A leader that is cut off is asked so often to hand the lead over,
const HAND_OVERS: u32 = 7;
/// and so long lies between: it takes one to two seconds to see that nobody hears it.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(300);

/// A series of faults with one aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drill {
    /// Elections are won by a bare majority of which the others do not hear; those who voted lose their power right
    /// after it, and the winner is cut off.
    Elections,
    /// Links are late for a while, by more than the time after which a member asks again; the lead moves meanwhile, or
    /// cannot move as its holder is cut off.
    Links,
    /// Learners are removed, and promoted through a member that has not heard of it.
    Membership,
    /// A leader comes back with entries that others have gone on without, and goes again.
    Comebacks,
    /// Members fall behind without applying what they have, get snapshots, and lose their power while these are
    /// written down.
    Snapshots,
}

impl Drill {
    /// All of them.
    pub const ALL: [Drill; 5] = [
        Drill::Elections,
        Drill::Links,
        Drill::Membership,
        Drill::Comebacks,
        Drill::Snapshots,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Drill::Elections => "elections",
            Drill::Links => "links",
            Drill::Membership => "membership",
            Drill::Comebacks => "comebacks",
            Drill::Snapshots => "snapshots",
        }
    }
}

/// What a drill keeps in mind.
pub(super) struct Drilling {
    pub(super) random: Random,
    /// The newest term with an election, and the candidate whose election is disturbed, if any.
    election: (Term, Option<Place>),
    /// Where the power goes at a job of the log, and after how many others.
    install: Option<(Place, u64)>,
    /// The leader that is to come back, if any.
    pub(super) comeback: Option<Comeback>,
}

impl Drilling {
    pub(super) fn new(random: Random) -> Self {
        Self {
            random,
            election: (Term(0), None),
            install: None,
            comeback: None,
        }
    }

    /// A duration between two numbers of milliseconds.
    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.random.between(low, high))
    }
}

impl World {
    pub(super) fn plan_drill(&mut self) {
        let pause = match self.mix.drill {
            None | Some(Drill::Elections) => return,
            Some(Drill::Comebacks) => comeback::LOOKS_EVERY,
            Some(_) => self.drilling.millis(300, 3_000),
        };
        if !self.is_resting {
            self.plan(pause, Event::Drill);
        }
    }

    pub(super) fn drills(&self, drill: Drill) -> bool {
        self.mix.drill == Some(drill) && !self.is_resting
    }

    /// The next fault of the series.
    pub(super) fn drill(&mut self) {
        self.plan_drill();
        match self.mix.drill {
            Some(Drill::Links) => self.drill_link(),
            Some(Drill::Membership) => self.drill_membership(),
            Some(Drill::Snapshots) => self.drill_standstill(),
            Some(Drill::Comebacks) => self.drill_comeback(),
            Some(Drill::Elections) | None => {}
        }
    }

    /// A leader is cut off, and asked again and again to hand the lead over until it sees that it has none.
    fn drill_deposed(&mut self, leader: Place) {
        let to = self.drilling.random.below(self.nodes.len() as u64) as Place;
        let length = self.drilling.millis(2_500, 6_000);
        let what = "is cut off, and asked to hand the lead over";
        self.tell_of_fault(leader, what, "leaders isolated");
        self.part(&[leader], self.now + length);
        let (place, to) = (leader, self.nodes[to].id);
        for asked in 1..=HAND_OVERS {
            self.plan(HAND_OVER_PAUSE * asked, Event::HandOver { place, to });
        }
    }

    /// What one member says to another is late for a while; mostly it is the leader who is not heard in time.
    fn drill_link(&mut self) {
        let places = self.nodes.len() as u64;
        let leader = self.leader().filter(|_| self.drilling.random.chance(3, 4));
        if let Some(leader) = leader
            && self.drilling.random.chance(1, 2)
        {
            return self.drill_deposed(leader);
        }
        let to = self.drilling.random.below(places) as Place;
        let from = leader.unwrap_or_else(|| self.drilling.random.below(places) as Place);
        if from == to {
            return;
        }
        let late = self.drilling.millis(50, 1_800);
        let until = self.now + self.drilling.millis(500, 5_000);
        self.tell_of_fault(from, "is heard late by one other", "links that lag");
        self.log.line(self.now, || {
            format!("what member {from} says to member {to} is late by {late:?} until {until:?}")
        });
        self.lags.insert((from, to), (until, late));
        if Some(from) == leader && self.drilling.random.chance(1, 3) {
            self.hand_lead_over(from, self.nodes[to].id);
        }
    }

    /// A learner is removed by the leader, and promoted through a member that applies nothing meanwhile: whoever carries
    /// changes out must refuse the second one, on every member.
    fn drill_membership(&mut self) {
        let (Some(roster), Some(leader)) = (self.newest_roster(), self.leader()) else {
            return;
        };
        let learner = roster.members().find(|member| member.is_learner);
        let Some(id) = learner.map(cluster::Member::id) else {
            self.add(leader, &roster, true);
            return;
        };
        let is_other = |place: &Place| *place != leader && self.nodes[*place].id != id;
        let others = (0..self.nodes.len()).filter(is_other);
        let others: Vec<Place> = others.filter(|it| self.serving(*it).is_some()).collect();
        if others.is_empty() {
            return;
        }
        let late = *self.drilling.random.pick(&others);
        let asks_in = self.drilling.millis(100, 1_500);
        self.tell_of_fault(late, "applies nothing for a while", "applies that stall");
        self.nodes[late].stalled_until = self.now + asks_in + Duration::from_millis(500);
        self.propose_change(leader, &Change::Remove(id), "members removed");
        self.plan(asks_in, Event::Promote { place: late, id });
    }

    /// One member applies nothing of what it hears and is cut off then; it hears again shortly before it applies again.
    /// Of two membership changes it has the first one unapplied, and gets the second one in a snapshot.
    fn drill_standstill(&mut self) {
        let place = self.drilling.random.below(self.nodes.len() as u64) as Place;
        let hears = self.drilling.millis(50, 500);
        let apart = self.drilling.millis(100, 2_000);
        let slack = self.drilling.millis(200, 1_200);
        self.tell_of_fault(place, "applies nothing for a while", "applies that stall");
        self.nodes[place].stalled_until = self.now + hears + apart + slack;
        let length = apart;
        self.plan(hears, Event::CutOff { place, length });
        if let (Some(roster), Some(leader)) = (self.newest_roster(), self.leader()) {
            let learner = roster.members().find(|member| member.is_learner);
            let id = match learner.map(cluster::Member::id) {
                Some(id) => {
                    self.promote(leader, &roster);
                    id
                }
                None if self.add(leader, &roster, true) => self.nodes[self.nodes.len() - 1].id,
                None => return,
            };
            self.plan(hears + apart / 2, Event::Reconfigure { id });
        }
    }

    /// A learner is promoted, a voter removed.
    pub(super) fn reconfigure(&mut self, id: MemberId) {
        let (Some(roster), Some(leader)) = (self.newest_roster(), self.leader()) else {
            return;
        };
        match roster.member(id) {
            Some(member) if member.is_learner => self.promote(leader, &roster),
            Some(_) => self.remove(leader, &roster, id),
            None => {}
        }
    }

    pub(super) fn cut_off(&mut self, place: Place, length: Duration) {
        if !self.is_resting {
            self.part(&[place], self.now + length);
        }
    }

    /// How much later than usual a message arrives.
    pub(super) fn lag(&self, from: Place, to: Place) -> Duration {
        match self.lags.get(&(from, to)) {
            Some((until, late)) if *until > self.now => *late,
            _ => Duration::ZERO,
        }
    }

    /// Whether a machine of a member takes no step at present, whatever waits for it.
    pub(super) fn is_stalled(&self, place: Place, machine: Machine) -> bool {
        machine == Machine::Apply && self.nodes[place].stalled_until > self.now
    }

    /// Looks at a message of an election before it leaves.
    pub(super) fn watch_election(&mut self, from: Place, to: Place, message: &Message) {
        if !self.drills(Drill::Elections) {
            return;
        }
        let term = Term(message.term());
        match message.r#type() {
            MessageType::MsgVote if term > self.drilling.election.0 => {
                let is_disturbed = self.drilling.random.chance(2, 3);
                self.drilling.election = (term, is_disturbed.then_some(from));
                if is_disturbed {
                    self.keep_election_quiet(from);
                }
            }
            MessageType::MsgVoteResp
                if !message.reject()
                    && self.drilling.election == (term, Some(to))
                    && self.drilling.random.chance(4, 5) =>
            {
                self.plan(Duration::ZERO, Event::LosePower { place: from });
                let back = self.drilling.millis(1, 100);
                self.plan(back, Event::Start { place: from });
            }
            _ => {}
        }
    }

    /// Some of the others do not hear of the candidate for a while.
    fn keep_election_quiet(&mut self, candidate: Place) {
        self.tell_of_fault(
            candidate,
            "campaigns unheard by some",
            "elections disturbed",
        );
        let until = self.now + self.drilling.millis(1_000, 4_000);
        for other in 0..self.nodes.len() {
            if other != candidate && self.drilling.random.chance(1, 2) {
                self.cut(candidate, other, until);
                self.cut(other, candidate, until);
            }
        }
    }

    /// Whoever has won a disturbed election is cut off before it has said so.
    pub(super) fn silence_winner(&mut self, place: Place, term: Term) {
        if self.drills(Drill::Elections) && self.drilling.election == (term, Some(place)) {
            self.drilling.election.1 = None;
            let until: Moment = self.now + self.drilling.millis(500, 4_000);
            self.part(&[place], until);
        }
    }

    /// A snapshot was received: now and then the power goes while the log's record of it is written.
    pub(super) fn drill_install(&mut self, place: Place) {
        if self.drills(Drill::Snapshots) && self.drilling.random.chance(1, 2) {
            self.drilling.install = Some((place, self.drilling.random.below(2)));
        }
    }

    /// A job of the log is about to run.
    pub(super) fn disturb_install(&mut self, place: Place, lane: usize) {
        if self.is_resting {
            return;
        }
        match &mut self.drilling.install {
            Some((at, left)) if *at == place && lane == 0 && *left > 0 => *left -= 1,
            Some((at, _)) if *at == place && lane == 0 => {
                self.drilling.install = None;
                let disk = &self.nodes[place].disk;
                // The first call writes, the second one makes it durable: mostly the power goes between them.
                let late = u64::from(self.drilling.random.chance(1, 4));
                disk.plan(disk.calls() + late, Fault::CrashAfter);
            }
            _ => {}
        }
    }
}
