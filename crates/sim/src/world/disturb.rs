//! Faults, deaths and starts.

use std::time::Duration;

use kvorum_storage::wal::WalError;

use super::process::{Process, StartError};
use super::{Event, Weather, World};
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
            return self.kill_for("killed");
        }
        self.plan_disturbance();
        // Chance: what strikes, and at which of the next disk calls.
        let call = self.disk.calls() + self.weather.below(30);
        let kind = if self.mix.weather == Weather::Quiet {
            0
        } else {
            self.weather.below(12)
        };
        match kind {
            0 | 1 => self.kill_for("killed"),
            2 => {
                self.disk.crash();
                self.lose_power();
            }
            3 | 4 => self.plan_fault(call, Fault::CrashBefore),
            5 | 6 => self.plan_fault(call, Fault::CrashAfter),
            7 | 8 => self.plan_fault(call, Fault::Fail),
            9 => {
                let room = self.weather.below(6_000);
                self.disk.set_capacity(self.disk.used_bytes() + room);
                self.log
                    .line(self.now, || format!("disk: {room} bytes are left"));
                let delay = Duration::from_millis(self.weather.between(100, 4_000));
                self.plan(delay, Event::FreeDisk);
            }
            _ => {
                let hang = Duration::from_millis(self.weather.between(100, 12_000));
                self.log.line(self.now, || {
                    format!("disk: the next job hangs for {hang:?}")
                });
                self.hang = Some(hang);
            }
        }
    }

    fn plan_fault(&mut self, call: u64, fault: Fault) {
        self.log.line(self.now, || {
            format!("disk: call {call} will meet {fault:?}")
        });
        self.disk.plan(call, fault);
    }

    /// Now and then the whole process stands still for a while.
    pub(super) fn stall(&mut self) {
        if self.mix.weather != Weather::Quiet
            && !self.is_resting
            && self.schedule.chance(1, STALL_ONE_IN)
        {
            let pause = Duration::from_millis(self.schedule.between(50, 6_000));
            self.log.line(self.now, || {
                format!("the process stands still for {pause:?}")
            });
            self.count("pauses of the process");
            self.now = self.now + pause;
        }
    }

    pub(super) fn kill_for(&mut self, why: &'static str) {
        if self.process.is_some() {
            self.log.line(self.now, || why.to_owned());
            self.count("kills");
            self.kill();
        }
    }

    /// The process ends; what it wrote is still in the page cache.
    pub(super) fn kill(&mut self) {
        self.disk.kill_process();
        self.die();
    }

    /// The disk has crashed, and the process with it.
    pub(super) fn lose_power(&mut self) {
        self.log.line(self.now, || "the power is gone".to_owned());
        self.die();
    }

    fn die(&mut self) {
        if self.process.take().is_none() {
            return;
        }
        self.break_streams();
        let waiting: Vec<_> = self
            .clients
            .iter()
            .filter_map(|client| client.waits_for)
            .collect();
        for operation in waiting {
            let delay = Duration::from_micros(self.schedule.between(10, 50_000));
            self.plan(delay, Event::GiveUp { operation });
        }
        self.plan_start();
    }

    fn plan_start(&mut self) {
        let (low, high) = self.mix.down_millis;
        let delay = Duration::from_millis(self.schedule.between(low, high));
        self.plan(delay, Event::Start);
    }

    pub(super) fn start(&mut self) {
        if self.disk.is_crashed() {
            self.disk.restart();
        }
        self.boots += 1;
        self.count("starts");
        match Process::start(&self.disk, self.boots, self.seed, self.mix.log) {
            Ok((process, found)) => {
                self.log.line(self.now, || {
                    format!(
                        "start {}: {} entries, repaired: {}",
                        self.boots, found.entries, found.repaired
                    )
                });
                if found.repaired {
                    self.count("torn tails cut");
                }
                self.process = Some(process);
                self.plan_tick(self.boots);
            }
            Err(error) => self.not_started(&error),
        }
    }

    /// A start may fail as long as the disk does; the log itself must always open.
    fn not_started(&mut self, error: &StartError) {
        self.log.line(self.now, || {
            format!("start {} failed: {error:?}", self.boots)
        });
        self.count("starts that failed");
        let is_the_disks_fault = match error {
            _ if self.disk.is_crashed() => true,
            StartError::Log(WalError::Disk { .. } | WalError::DiskFull { .. }) => true,
            StartError::Log(_) | StartError::Restore(_) => false,
        };
        if is_the_disks_fault {
            self.disk.kill_process();
            self.plan_start();
        } else {
            let story = match error {
                StartError::Log(error) => error.to_string(),
                StartError::Restore(reason) => reason.clone(),
            };
            self.violated("the log opens after every crash", story);
        }
    }
}
