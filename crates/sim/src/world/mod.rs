//! One member, its disk and its clients in virtual time, moved by one scheduler with one seed.
//!
//! The member is the one that the server runs: the write-ahead log on a disk that fails, [`kvorum_member::core::Core`]
//! with its router, and the watch hub. The scheduler does one thing at a time and draws which: a machine that has work
//! takes a step, a disk job runs or is reported, a tick passes, a request or an answer arrives, a client does
//! something, a fault strikes. All chance comes from the seed, split by purpose, so a run is a function of its seed.
//!
//! What clients did and saw goes into a [`History`]; the checkers judge it when the run is over. What only the world
//! can see (a log that does not open after a crash, a lease that never ends) is judged here on the spot.

mod client;
mod disturb;
mod member;
mod mix;
mod process;
mod rest;
mod traffic;
mod watcher;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use kvorum_member::core::Machine;
use kvorum_mvcc::watch;
use kvorum_proto::ids::Moment;
use kvorum_storage::wal::JobId;

use crate::checkers::Violation;
use crate::disk::Disk;
use crate::event_log::EventLog;
use crate::history::{History, Refusal, Reply};
use crate::random::Random;
use client::Client;
pub use mix::{Mix, Trial, Weather};
pub use process::LOG_DIRECTORY;
use process::{OperationId, Process};
use watcher::WatchClient;

/// How often something happened, by its name.
pub type Counts = BTreeMap<&'static str, u64>;

/// One simulated world.
pub struct World {
    seed: u64,
    mix: Mix,
    now: Moment,
    /// What happens later, by its time and then by the order in which it was planned.
    events: BTreeMap<(Moment, u64), Event>,
    planned: u64,
    disk: Disk,
    process: Option<Process>,
    boots: u64,
    streams: u64,
    clients: Vec<Client>,
    watch_clients: Vec<WatchClient>,
    /// Clients and faults have ended, and everything comes to rest.
    is_resting: bool,
    /// The next disk job hangs for this long.
    hang: Option<Duration>,
    /// Disk jobs begun so far, and the one that is to hang.
    jobs: u64,
    disk_work: (u64, u64),
    hanging_job: Option<u64>,
    schedule: Random,
    traffic: Random,
    weather: Random,
    log: EventLog,
    history: History,
    counts: Counts,
    violations: Vec<Violation>,
}

/// Something that happens at a point in time. What belongs to a life of the member that is over does nothing.
enum Event {
    Tick {
        boot: u64,
    },
    RunJob {
        boot: u64,
        lane: usize,
    },
    JobDone {
        boot: u64,
        lane: usize,
        job: JobId,
    },
    /// A client sends its next request.
    Act {
        client: usize,
    },
    /// A request reaches the member.
    Arrive {
        boot: u64,
        operation: OperationId,
    },
    /// The member answers a confirmed read.
    Read {
        boot: u64,
        operation: OperationId,
    },
    /// An answer reaches its client.
    Answer {
        operation: OperationId,
        result: Result<Reply, Refusal>,
    },
    /// A client waits no longer.
    GiveUp {
        operation: OperationId,
    },
    /// A watching client does something.
    WatchAct {
        client: usize,
    },
    /// Something from a watching client reaches the member.
    ToHub {
        boot: u64,
        request: watch::Input,
    },
    /// A watch message reaches its client.
    Message {
        client: usize,
        message: watch::Message,
    },
    /// A fault strikes.
    Disturb,
    /// The member starts.
    Start,
    /// Somebody makes room on the disk.
    FreeDisk,
}

/// What the scheduler can do at once.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Machine(Machine),
    /// The hub takes an input.
    Hub,
    /// The hub reads history for those behind.
    HubPoll,
}

impl World {
    /// A world before its first step.
    #[must_use]
    pub fn new(seed: u64, length: Duration, keeps_lines: bool) -> Self {
        let root = Random::new(seed);
        let mix = Mix::draw(&mut root.split("mix"), length);
        let mut world = Self::with(seed, mix, Disk::new(root.split("disk")), keeps_lines);
        world.plan_disturbance();
        world
    }

    /// The world of a trial.
    #[must_use]
    pub fn of_trial(trial: Trial, keeps_lines: bool) -> Self {
        let disk = Disk::new(Random::new(trial.luck));
        if let Some((call, fault)) = trial.call {
            disk.plan(call, fault);
        }
        let mut world = Self::with(trial.seed, Mix::trial(), disk, keeps_lines);
        world.hanging_job = trial.hanging_job;
        // One death by kill, so that a replay is part of the history.
        world.plan_disturbance();
        world
    }

    fn with(seed: u64, mix: Mix, disk: Disk, keeps_lines: bool) -> Self {
        let root = Random::new(seed);
        let mut traffic = root.split("traffic");
        let mut history = History::default();
        let watch_clients = (0..mix.watch_clients)
            .map(|_| WatchClient::draw(&mut traffic, &mut history))
            .collect();
        let mut world = Self {
            seed,
            now: Moment::default(),
            events: BTreeMap::new(),
            planned: 0,
            disk,
            process: None,
            boots: 0,
            streams: 0,
            clients: (0..mix.clients).map(Client::new).collect(),
            watch_clients,
            is_resting: false,
            hang: None,
            jobs: 0,
            disk_work: (0, 0),
            hanging_job: None,
            schedule: root.split("schedule"),
            traffic,
            weather: root.split("weather"),
            log: EventLog::new(keeps_lines),
            history,
            counts: Counts::new(),
            violations: Vec::new(),
            mix,
        };
        world
            .log
            .line(world.now, || format!("seed {seed}, {:?}", world.mix));
        world.begin();
        world
    }

    /// Runs to the end: traffic and faults, rest, one more restart, everything read back.
    pub fn run(&mut self) {
        let end = self.now + self.mix.length;
        self.run_until(end);
        self.rest();
    }

    /// The lines written so far.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.log.lines()
    }

    /// Disk calls and disk jobs until clients and faults ended.
    #[must_use]
    pub fn disk_work_before_rest(&self) -> (u64, u64) {
        self.disk_work
    }

    /// What clients did and saw.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What the world itself found wrong.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What happened how often.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        let disk = self.disk.counts();
        let more = [
            ("power losses", disk.crashes),
            ("disk calls failed", disk.failures),
            ("disk calls refused by a full disk", disk.full),
            ("sectors lost", disk.sectors_lost),
            ("sectors kept", disk.sectors_kept),
            ("files torn", disk.files_torn),
            ("names lost", disk.names_lost),
            ("revisions", self.history.published.len() as u64),
            ("virtual seconds", self.now.0.as_secs()),
        ];
        for (what, times) in more {
            *counts.entry(what).or_default() += times;
        }
        counts
    }

    fn begin(&mut self) {
        self.plan(Duration::ZERO, Event::Start);
        for client in 0..self.clients.len() {
            self.plan_act(client);
        }
        for client in 0..self.watch_clients.len() {
            self.plan(Duration::from_millis(1), Event::WatchAct { client });
        }
    }

    fn run_until(&mut self, end: Moment) {
        while self.now < end && self.violations.is_empty() {
            self.step(end);
        }
    }

    /// One step of the scheduler.
    fn step(&mut self, end: Moment) {
        let turns = self.turns();
        let is_due = self
            .events
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= self.now);
        if !turns.is_empty() && (!is_due || self.schedule.chance(1, 2)) {
            let turn = *self.schedule.pick(&turns);
            self.now = self.now + Duration::from_micros(self.schedule.between(1, 60));
            self.stall();
            return self.take_turn(turn);
        }
        let deadline = self.process.as_ref().and_then(Process::deadline);
        let next = self.events.first_key_value().map(|((at, _), _)| *at);
        if let Some(deadline) = deadline.filter(|deadline| next.is_none_or(|at| *deadline < at)) {
            self.now = self.now.max(deadline);
            return;
        }
        match self.events.pop_first() {
            Some(((at, _), event)) => {
                self.now = self.now.max(at);
                self.happen(event);
            }
            None => self.now = end,
        }
    }

    /// What has work at this moment.
    fn turns(&self) -> Vec<Turn> {
        let Some(process) = &self.process else {
            return Vec::new();
        };
        let mut turns: Vec<Turn> = process.core.ready(self.now).map(Turn::Machine).collect();
        if let Some(hub) = &process.hub {
            let ticks = hub
                .next_deadline()
                .is_some_and(|deadline| deadline <= self.now);
            if ticks || !process.hub_inputs.is_empty() {
                turns.push(Turn::Hub);
            }
            if hub.has_work() {
                turns.push(Turn::HubPoll);
            }
        }
        turns
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { boot } => self.tick(boot),
            Event::RunJob { boot, lane } => self.run_job(boot, lane),
            Event::JobDone { boot, lane, job } => self.job_done(boot, lane, job),
            Event::Act { client } => self.act(client),
            Event::Arrive { boot, operation } => self.arrive(boot, operation),
            Event::Read { boot, operation } => self.read(boot, operation),
            Event::Answer { operation, result } => self.answered(operation, result),
            Event::GiveUp { operation } => self.give_up(operation),
            Event::WatchAct { client } => self.watch_act(client),
            Event::ToHub { boot, request } => self.reach_hub(boot, request),
            Event::Message { client, message } => self.message(client, &message),
            Event::Disturb => self.disturb(),
            Event::Start => self.start(),
            Event::FreeDisk => {
                self.disk.set_capacity(u64::MAX);
                self.log.line(self.now, || "disk: room again".to_owned());
            }
        }
    }

    fn plan(&mut self, delay: Duration, event: Event) {
        self.plan_at(self.now + delay, event);
    }

    fn plan_at(&mut self, at: Moment, event: Event) {
        self.planned += 1;
        self.events.insert((at, self.planned), event);
    }

    /// The living process of that life.
    fn process_of(&mut self, boot: u64) -> Option<&mut Process> {
        self.process.as_mut().filter(|process| process.boot == boot)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn violated(&mut self, property: &'static str, story: String) {
        self.log
            .line(self.now, || format!("VIOLATED {property}: {story}"));
        self.violations.push(Violation { property, story });
    }
}
