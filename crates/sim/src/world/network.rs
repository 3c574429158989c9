//! Messages between members: late, lost, twice, in another order, or cut off.
//!
//! A link leads one way. It is cut until a moment, so nothing has to heal it. What a member hears of a broken link is
//! what its transport would tell it: that a message did not go out, and that a peer has closed its connections.
//!
//! A proposal is the one message that never travels twice: the transport sends nothing again, and consensus could not
//! tell a second copy from a second request.

use std::time::Duration;

use kvorum_member::core::Input;
use kvorum_proto::ids::{MemberId, Moment};
use kvorum_proto::raftpb::{Message, MessageType};

use super::node::Place;
use super::{Event, World};

/// How many times slower the messages and jobs of a slow member are.
pub(super) const SLOWNESS: u32 = 40;
/// A message that travels longer is late.
const LATE: Duration = Duration::from_millis(5);

impl World {
    /// Whether nothing gets from one member to another at this moment.
    pub(super) fn is_cut(&self, from: Place, to: Place) -> bool {
        let until = self.cuts.get(&(from, to)).copied();
        until.is_some_and(|until| until > self.now)
    }

    pub(super) fn cut(&mut self, from: Place, to: Place, until: Moment) {
        let end = self.cuts.entry((from, to)).or_default();
        *end = until.max(*end);
    }

    pub(super) fn place_of(&self, id: MemberId) -> Option<Place> {
        self.nodes.iter().position(|node| node.id == id)
    }

    /// How long a message travels; most are fast.
    pub(super) fn travel(&mut self, from: Place, to: Place) -> Duration {
        let micros = match self.network.below(40) {
            0 => self.network.between(1_000, self.mix.travel_micros_max),
            _ => self.network.between(20, 400),
        };
        let slow = [from, to]
            .iter()
            .any(|place| self.nodes[*place].slow_until > self.now);
        Duration::from_micros(micros) * if slow { SLOWNESS } else { 1 } + self.lag(from, to)
    }

    pub(super) fn transmit(&mut self, from: Place, message: Box<Message>) {
        let peer = MemberId(message.to());
        let Some(to) = self.place_of(peer) else {
            return self.violated("messages are for members", format!("{message:?}"));
        };
        self.count("messages between members");
        self.watch_election(from, to, &message);
        let is_lost = !self.is_resting && self.network.chance(self.mix.lost_per_mille, 1_000);
        let is_cut = self.is_cut(from, to);
        if is_cut || is_lost || self.nodes[to].process.is_none() {
            if is_cut {
                self.count("messages lost by a cut");
            } else if is_lost {
                self.struck("messages lost");
            }
            return self.report_unreachable(from, peer);
        }
        self.watch_comeback(from, to, &message);
        let again = self.mix.twice_per_mille;
        if message.r#type() != MessageType::MsgProp && self.network.chance(again, 1_000) {
            self.struck("messages sent twice");
            let delay = self.travel(from, to) * 3;
            let message = message.clone();
            self.plan(delay, Event::Deliver { to, message });
        }
        let delay = self.travel(from, to);
        if delay > LATE {
            self.struck("messages late");
        }
        let arrives = self.now + delay;
        let last = self.arrivals.entry((from, to)).or_default();
        if arrives < *last {
            self.struck("messages that overtake others");
        } else {
            *last = arrives;
        }
        self.plan(delay, Event::Deliver { to, message });
    }

    /// The transport tells of a message that did not go out, but not of each.
    fn report_unreachable(&mut self, from: Place, peer: MemberId) {
        if !self.network.chance(1, 4) {
            return;
        }
        if let Some(process) = &self.nodes[from].process {
            let boot = process.boot;
            let delay = Duration::from_micros(self.network.between(50, 20_000));
            self.plan(delay, Event::Unreachable { boot, peer });
        }
    }

    pub(super) fn deliver(&mut self, to: Place, message: Box<Message>) {
        let from = MemberId(message.from());
        let Some(process) = &mut self.nodes[to].process else {
            return;
        };
        // As the transport does: it tells a removed member that it is removed.
        if process.view.cluster.roster.is_removed(from) {
            if let Some(place) = self.place_of(from)
                && !self.is_cut(to, place)
            {
                self.count("removed members turned away");
                let delay = self.travel(to, place);
                self.plan(delay, Event::TurnedAway { place });
            }
            return;
        }
        process.core.input(Input::Message(message));
    }

    /// The connections of a process that ended by itself are closed by its kernel; after a power loss nobody says so.
    pub(super) fn close_connections(&mut self, of: Place) {
        self.break_transfers(of);
        let peer = self.nodes[of].id;
        for to in 0..self.nodes.len() {
            if to == of || self.is_cut(of, to) {
                continue;
            }
            if let Some(boot) = self.nodes[to].process.as_ref().map(|it| it.boot) {
                let delay = self.travel(of, to);
                self.plan(delay, Event::Closed { boot, peer });
            }
        }
    }
}
