//! A store that is full, and somebody who makes room in it: everything is deleted, history given up, the size made to
//! follow, the alarm taken back.

use std::time::Duration;

use kvorum_member::consensus::Proposal;
use kvorum_member::core::Input;
use kvorum_member::quota::{self, Quota};
use kvorum_proto::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{AlarmRequest, AlarmType};

use super::node::Place;
use super::process::Waiter;
use super::{Event, World, wire};
use crate::history::{Keys, Request};

/// The time between two steps of whoever makes room.
const PAUSE: Duration = Duration::from_millis(700);

/// What is done next to make room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Cleaning {
    #[default]
    Delete,
    Compact,
    Disarm,
}

impl World {
    /// Whether a member takes a request, by the size of its own store; if not it tells the others.
    pub(super) fn has_room_for(&mut self, place: Place, payload: &Payload) -> bool {
        let (Some(bytes), Some(process)) = (self.mix.quota_bytes, &self.nodes[place].process)
        else {
            return true;
        };
        let stored = process.view.keys.sizes().total_bytes;
        if quota::check(stored, Quota::Bytes(bytes), quota::cost(payload)).is_ok() {
            return true;
        }
        if !process.view.cluster.alarms.is_raised(AlarmType::Nospace) {
            let alarm = quota::alarm(self.nodes[place].id);
            self.propose_alarm(place, alarm, "quotas reached");
        }
        false
    }

    pub(super) fn plan_cleaning(&mut self) {
        self.plan(PAUSE, Event::Clean);
    }

    pub(super) fn clean(&mut self) {
        self.plan_cleaning();
        let full = |place: &Place| {
            let process = self.nodes[*place].process.as_ref();
            process.is_some_and(|it| it.view.cluster.alarms.is_raised(AlarmType::Nospace))
        };
        let mut serving = (0..self.nodes.len()).filter(|place| self.serving(*place).is_some());
        let Some(place) = serving.find(full) else {
            return;
        };
        let hand = self.clients.len() - 1;
        if self.clients[hand].waits_for.is_some() {
            return;
        }
        let Some(boot) = self.serving(place) else {
            return;
        };
        self.cleaning = match self.cleaning {
            Cleaning::Delete => {
                self.send(hand, boot, Request::Delete(Keys::all()));
                Cleaning::Compact
            }
            Cleaning::Compact => {
                let newest = self.history.published.last_key_value();
                let revision = newest.map_or(1, |(revision, _)| *revision);
                self.send(hand, boot, Request::Compact { revision });
                Cleaning::Disarm
            }
            Cleaning::Disarm => {
                self.disarm(place);
                Cleaning::Delete
            }
        };
    }

    /// Lets every member's size follow what is in use, and takes the alarms back.
    fn disarm(&mut self, place: Place) {
        for node in &mut self.nodes {
            if let Some(process) = &mut node.process {
                process.core.input(Input::Defragment);
            }
        }
        let Some(process) = &self.nodes[place].process else {
            return;
        };
        for raised in process.view.cluster.alarms.list(AlarmType::Nospace as i32) {
            let alarm = AlarmRequest {
                action: AlarmAction::Deactivate as i32,
                member_id: raised.member_id,
                alarm: raised.alarm,
            };
            self.propose_alarm(place, alarm, "quotas cleared");
        }
    }

    fn propose_alarm(&mut self, place: Place, alarm: AlarmRequest, counted: &'static str) {
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let id = process.next_request();
        let data = wire::entry(id.0, Payload::Alarm(alarm));
        process.proposed.insert(id, Waiter::Alarm(counted));
        let proposal = Proposal { id, data };
        process.core.input(Input::Propose(vec![proposal]));
        self.log
            .line(self.now, || format!("member {place} is asked: {counted}"));
    }
}
