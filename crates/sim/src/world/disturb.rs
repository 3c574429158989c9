//! Faults, deaths and starts.

use std::time::Duration;

use kvorum_member::checkpoint::OpenError;
use kvorum_member::core::Input;
use kvorum_proto::ids::{LogIndex, Moment};
use kvorum_storage::checkpoint::StateError;
use kvorum_storage::wal::WalError;

use super::node::Place;
use super::process::{Process, Start, StartError};
use super::transfer::Incoming;
use super::{Event, FAULTS, Weather, World};
use crate::disk::Fault;

/// The chance of a pause of the whole process at one step of a machine: one in so many.
const STALL_ONE_IN: u64 = 20_000;

impl World {
    pub(super) fn plan_disturbance(&mut self) {
        let (low, high) = self.mix.fault_gap_millis;
        let delay = Duration::from_millis(self.weather.between(low, high));
        self.plan(delay, Event::Disturb);
    }

    pub(super) fn disturb(&mut self) {
        if self.is_resting {
            return;
        }
        if !self.mix.disturbs {
            return self.kill_for(0, "killed");
        }
        self.plan_disturbance();
        let place = self.weather.below(self.nodes.len() as u64) as Place;
        if !self.strikes(place) {
            return;
        }
        let kinds = match (self.mix.weather, self.nodes.len()) {
            (Weather::Quiet, _) => 1,
            (_, 1) => 14,
            _ => 26,
        };
        match self.weather.below(kinds) {
            kind @ 14.. => self.disturb_network(place, kind),
            kind => self.disturb_member(place, kind),
        }
    }

    /// Numbers a fault, and says whether it is to strike: it may be left out, or be beyond the budget.
    pub(super) fn strikes(&mut self, place: Place) -> bool {
        let number = self.disturbances;
        self.disturbances += 1;
        self.count("disturbances");
        let is_too_much = self.is_too_much(place);
        if is_too_much {
            self.count("faults beyond the budget left out");
        }
        !is_too_much && !self.mix.left_out.contains(&number)
    }

    /// The budget: mostly no more members are impaired than the rest can do without.
    fn is_too_much(&mut self, place: Place) -> bool {
        let here = self.nodes.iter().filter(|node| !node.is_gone);
        let minority = (here.count().max(1) - 1) / 2;
        let now = self.now;
        let impaired = (0..self.nodes.len())
            .filter(|other| *other != place && !self.nodes[*other].is_gone)
            .filter(|other| self.nodes[*other].is_impaired(now) || self.is_apart(*other))
            .count();
        let is_over = impaired + 1 > minority && self.nodes.len() > 1;
        is_over && self.weather.chance(4, 5)
    }

    /// Whether any link of a member is cut.
    fn is_apart(&self, place: Place) -> bool {
        (0..self.nodes.len()).any(|other| self.is_cut(place, other) || self.is_cut(other, place))
    }

    fn disturb_member(&mut self, place: Place, kind: u64) {
        // Chance: what strikes, and at which of the next disk calls.
        let call = self.nodes[place].disk.calls() + self.weather.below(30);
        match kind {
            0 | 1 => self.kill_for(place, "killed"),
            2 => {
                self.nodes[place].disk.crash();
                self.lose_power(place);
            }
            3 | 4 => self.plan_fault(place, call, Fault::CrashBefore),
            5 | 6 => self.plan_fault(place, call, Fault::CrashAfter),
            7 | 8 => self.plan_fault(place, call, Fault::Fail),
            9 => {
                let room = self.weather.below(6_000);
                let disk = &self.nodes[place].disk;
                disk.set_capacity(disk.used_bytes() + room);
                self.log.line(self.now, || {
                    format!("member {place}: {room} bytes are left on the disk")
                });
                let delay = Duration::from_millis(self.weather.between(100, 4_000));
                self.plan(delay, Event::FreeDisk { place });
            }
            12 => self.put_clock_ahead(place),
            13 => self.suspend(place),
            _ => {
                let hang = Duration::from_millis(self.weather.between(100, 12_000));
                self.log.line(self.now, || {
                    format!("member {place}: the next disk job hangs for {hang:?}")
                });
                self.nodes[place].hang = Some(hang);
            }
        }
    }

    fn disturb_network(&mut self, place: Place, kind: u64) {
        let until = self.now + Duration::from_millis(self.weather.between(50, 6_000));
        let others = || (0..self.nodes.len()).filter(move |other| *other != place);
        let others: Vec<Place> = others().collect();
        match kind {
            14..17 => {
                let leader = self.leader();
                let apart = leader.unwrap_or(place);
                self.tell_of_fault(apart, "is cut off, whoever leads", "leaders isolated");
                self.part(&[apart], until);
            }
            17 | 18 => {
                let side: Vec<Place> = others
                    .into_iter()
                    .filter(|_| self.weather.chance(1, 2))
                    .chain([place])
                    .collect();
                self.tell_of_fault(place, "and some others are cut off", "partitions");
                self.part(&side, until);
            }
            19 => {
                self.tell_of_fault(place, "hears nobody", "members that hear nobody");
                for other in others {
                    self.cut(other, place, until);
                }
            }
            20 => {
                self.tell_of_fault(place, "is heard by nobody", "members that nobody hears");
                for other in others {
                    self.cut(place, other, until);
                }
            }
            21 => {
                let other = *self.weather.pick(&others);
                self.tell_of_fault(place, "has a link that flaps", "links that flap");
                self.flap((place, other), 12);
            }
            22 => {
                self.tell_of_fault(place, "is slow", "members that are slow");
                self.nodes[place].slow_until = until;
            }
            23 => {
                self.tell_of_fault(place, "loses its connections", "connections reset");
                self.close_connections(place);
            }
            _ => {
                self.tell_of_fault(place, "stands still", "pauses of the process");
                self.nodes[place].paused_until = until;
            }
        }
    }

    /// The clock goes ahead at once, as after a stop of the whole machine that the clock has seen.
    fn put_clock_ahead(&mut self, place: Place) {
        let jump = Duration::from_millis(self.weather.between(10, 3_000));
        self.tell_of_fault(place, "has a clock that jumps", "clocks put ahead");
        self.nodes[place].clock.put_ahead(jump);
        self.history.clock_jumps.push((self.now, jump));
    }

    /// The whole machine stops, and its clock with it.
    fn suspend(&mut self, place: Place) {
        let length = Duration::from_millis(self.weather.between(50, 6_000));
        let node = &mut self.nodes[place];
        if node.paused_until <= self.now && node.clock.stand_still(length) {
            node.paused_until = self.now + length;
            self.tell_of_fault(
                place,
                "is suspended, clock and all",
                "clocks that stand still",
            );
        }
    }

    pub(super) fn tell_of_fault(&mut self, place: Place, what: &str, counted: &'static str) {
        self.log.line(self.now, || format!("member {place} {what}"));
        if FAULTS.contains(&counted) {
            self.struck(counted);
        } else {
            self.count(counted);
        }
    }

    pub(super) fn leader(&self) -> Option<Place> {
        let settled = |process: &Process| process.core.status().leadership.settled;
        self.nodes
            .iter()
            .position(|node| node.process.as_ref().is_some_and(settled))
    }

    /// Cuts every link between these members and the others.
    pub(super) fn part(&mut self, side: &[Place], until: Moment) {
        for one in 0..self.nodes.len() {
            for other in 0..self.nodes.len() {
                if side.contains(&one) != side.contains(&other) {
                    self.cut(one, other, until);
                }
            }
        }
    }

    /// Cuts a link for a moment, both ways, and again after a while.
    pub(super) fn flap(&mut self, link: (Place, Place), left: u32) {
        let until = self.now + Duration::from_millis(self.weather.between(10, 400));
        self.cut(link.0, link.1, until);
        self.cut(link.1, link.0, until);
        if left > 0 && !self.is_resting {
            let pause = Duration::from_millis(self.weather.between(20, 800));
            let left = left - 1;
            self.plan(pause, Event::Flap { link, left });
        }
    }

    pub(super) fn plan_fault(&mut self, place: Place, call: u64, fault: Fault) {
        self.log.line(self.now, || {
            format!("member {place}: disk call {call} will meet {fault:?}")
        });
        self.nodes[place].disk.plan(call, fault);
    }

    /// Now and then a whole process stands still for a while.
    pub(super) fn stall(&mut self, place: Place) {
        if self.mix.weather != Weather::Quiet
            && !self.is_resting
            && self.schedule.chance(1, STALL_ONE_IN)
        {
            let pause = Duration::from_millis(self.schedule.between(50, 6_000));
            self.tell_of_fault(place, "stands still", "pauses of the process");
            self.nodes[place].paused_until = self.now + pause;
        }
    }

    pub(super) fn kill_for(&mut self, place: Place, why: &'static str) {
        if self.nodes[place].process.is_some() {
            self.tell_of_fault(place, why, "kills");
            self.kill(place);
        }
    }

    /// The process ends; what it wrote is still in the page cache.
    pub(super) fn kill(&mut self, place: Place) {
        self.nodes[place].disk.kill_process();
        self.close_connections(place);
        self.forget_transfers(place, true);
        self.die(place);
    }

    /// The disk has crashed, and the process with it.
    pub(super) fn lose_power(&mut self, place: Place) {
        self.log
            .line(self.now, || format!("member {place}: the power is gone"));
        self.note_disk(place);
        if self.nodes[place].disk.lies() {
            self.nodes[place].is_gone = true;
            self.judge_liar(place);
        }
        self.forget_transfers(place, false);
        self.die(place);
    }

    /// The power of a member goes now.
    pub(super) fn cut_power(&mut self, place: Place) {
        if !self.nodes[place].is_gone {
            self.nodes[place].disk.crash();
            self.lose_power(place);
        }
    }

    /// What a disk that lied has kept is opened or refused by name; nobody relies on it.
    fn judge_liar(&mut self, place: Place) {
        let disk = self.nodes[place].disk.copy();
        disk.restart();
        let start = Start {
            member: self.nodes[place].id,
            boot: self.boots,
            seed: self.seed,
            mix: &self.mix,
            founders: &self.founders,
            joins: self.nodes[place].joins,
        };
        let counted = match Process::start(&disk, &start) {
            Ok(_) => "disks that lied and open",
            Err(_) => "disks that lied and are refused",
        };
        self.count(counted);
    }

    /// The member was removed: its process ends for good.
    pub(super) fn retire(&mut self, place: Place) {
        if self.nodes[place].is_gone {
            return;
        }
        self.tell_of_fault(place, "is removed and stops", "removed members stopped");
        self.nodes[place].is_gone = true;
        self.kill(place);
    }

    fn die(&mut self, place: Place) {
        self.nodes[place].paused_until = self.now;
        if let Some(process) = self.nodes[place].process.take() {
            self.note_death(&process);
            self.break_streams(process.boot);
            let waiting: Vec<_> = self
                .clients
                .iter()
                .filter(|client| client.boot == process.boot)
                .filter_map(|client| client.waits_for)
                .collect();
            for operation in waiting {
                let delay = Duration::from_micros(self.schedule.between(10, 50_000));
                self.plan(delay, Event::GiveUp { operation });
            }
            self.plan_start(place);
        }
    }

    /// What the process was about when it ended.
    fn note_death(&mut self, process: &Process) {
        let [_, _, state, copier] = &process.lanes;
        let about = [
            (state.busy, "deaths during a checkpoint"),
            (copier.busy, "deaths during a copy"),
            (
                process.core.apply().compaction_pending(),
                "deaths during a compaction",
            ),
            (
                process.installs_a_snapshot(),
                "deaths during the installation of a snapshot",
            ),
            (
                matches!(process.incoming, Some(Incoming::Coming { .. })),
                "deaths while a snapshot comes in",
            ),
            (
                self.sends_a_snapshot(process.boot),
                "deaths while a snapshot goes out",
            ),
        ];
        for (was_so, fault) in about {
            if was_so {
                self.struck(fault);
            }
        }
    }

    fn plan_start(&mut self, place: Place) {
        let (low, high) = self.mix.down_millis;
        let delay = Duration::from_millis(self.schedule.between(low, high));
        self.plan(delay, Event::Start { place });
    }

    pub(super) fn start(&mut self, place: Place) {
        let node = &self.nodes[place];
        if node.is_gone || node.process.is_some() {
            return;
        }
        if node.disk.is_crashed() {
            node.disk.restart();
        }
        self.boots += 1;
        self.count("starts");
        if self.nodes[place].clock.drifts() {
            self.struck("clocks that drift");
        }
        let node = &self.nodes[place];
        let start = Start {
            member: node.id,
            boot: self.boots,
            seed: self.seed,
            mix: &self.mix,
            founders: &self.founders,
            joins: node.joins,
        };
        match Process::start(&node.disk, &start) {
            Ok((process, found)) => {
                self.log.line(self.now, || {
                    format!(
                        "member {place}: start {}: {} entries behind {}, repaired: {}",
                        self.boots, found.entries, found.checkpoint.0, found.repaired
                    )
                });
                if found.checkpoint > LogIndex(0) {
                    self.count("starts from a checkpoint");
                }
                if found.repaired {
                    self.count("torn tails cut");
                }
                if found.adopted {
                    self.count("starts that adopt a received state");
                }
                self.nodes[place].process = Some(process);
                self.plan_tick(self.boots);
                if self.schedule.chance(1, 2) {
                    self.tell(self.boots, Input::AdvanceElection);
                }
            }
            Err(error) => self.not_started(place, &error),
        }
    }

    /// A start may fail as long as the disk does; the log itself must always open.
    fn not_started(&mut self, place: Place, error: &StartError) {
        self.log.line(self.now, || {
            format!("member {place}: start {} failed: {error:?}", self.boots)
        });
        self.count("starts that failed");
        let is_the_disks_fault = match error {
            _ if self.nodes[place].disk.is_crashed() => true,
            StartError::Log(WalError::Disk { .. } | WalError::DiskFull { .. }) => true,
            StartError::State(OpenError::State(StateError::Disk { .. })) => true,
            StartError::Log(_) | StartError::State(_) | StartError::Restore(_) => false,
        };
        if is_the_disks_fault {
            self.note_disk(place);
            self.nodes[place].disk.kill_process();
            self.plan_start(place);
        } else {
            let story = match error {
                StartError::Log(error) => error.to_string(),
                StartError::State(error) => error.to_string(),
                StartError::Restore(reason) => reason.clone(),
            };
            self.violated("log and state open after every crash", story);
        }
    }
}
