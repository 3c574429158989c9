//! Members, their disks, the network between them, clients and an operator in virtual time, moved by one scheduler with
//! one seed.
//!
//! A member is the one that the server runs: the write-ahead log on a disk that fails, [`kvorum_member::core::Core`]
//! with its router, and the watch hub. The scheduler does one thing at a time and draws which: a machine that has work
//! takes a step, a disk job runs or is reported, a tick passes, a request or an answer arrives, a client does
//! something, a fault strikes. All chance comes from the seed, split by purpose, so a run is a function of its seed.
//!
//! What clients did and saw goes into a [`History`]; the checkers judge it when the run is over. What only the world
//! can see (a log that does not open after a crash, a lease that never ends) is judged here on the spot.

mod agreed;
mod backup;
mod client;
mod comeback;
mod disturb;
mod drill;
mod faults;
mod member;
mod mix;
mod network;
mod node;
mod operator;
mod process;
mod quota;
mod rest;
mod traffic;
mod transfer;
mod watcher;
mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use kvorum_member::cluster::Change;
use kvorum_member::consensus::SnapshotNumber;
use kvorum_member::core::{Input, Machine};
use kvorum_mvcc::watch;
use kvorum_proto::ids::{MemberId, Moment};
use kvorum_proto::raftpb::Message;

use crate::checkers::Violation;
use crate::event_log::EventLog;
use crate::history::{History, Refusal, Reply};
use crate::random::Random;
use crate::workload::Kind;
use agreed::Agreed;
use client::Client;
pub use drill::Drill;
use drill::Drilling;
pub use faults::{FAULTS, Pairs, STORMS};
pub use mix::{Cut, Mix, Trial, Weather};
pub use node::DRIFT_MAX_PPM;
use node::{Node, Place};
use operator::Operator;
use process::{DiskDone, OperationId, Process};
pub use process::{LOG_DIRECTORY, STATE_DIRECTORY};
use quota::Cleaning;
use transfer::{Transfer, TransferId};
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
    nodes: Vec<Node>,
    /// The members that found the cluster.
    founders: Vec<MemberId>,
    /// Links that carry nothing until a moment.
    cuts: BTreeMap<(Place, Place), Moment>,
    /// Links that are late until a moment, and by how much.
    lags: BTreeMap<(Place, Place), (Moment, Duration)>,
    drilling: Drilling,
    /// Snapshots on their way.
    transfers: BTreeMap<TransferId, Transfer>,
    transfers_begun: TransferId,
    agreed: Agreed,
    operator: Operator,
    disturbances: u64,
    boots: u64,
    streams: u64,
    clients: Vec<Client>,
    watch_clients: Vec<WatchClient>,
    /// Clients and faults have ended, and everything comes to rest.
    is_resting: bool,
    /// Disk jobs begun so far, and the one that is to hang.
    jobs: u64,
    disk_work: (u64, u64),
    hanging_job: Option<u64>,
    schedule: Random,
    traffic: Random,
    weather: Random,
    network: Random,
    log: EventLog,
    history: History,
    counts: Counts,
    pairs: Pairs,
    /// Requests of each kind of use.
    by_workload: Counts,
    /// When the last message on each link arrives, to know which ones overtake it.
    arrivals: BTreeMap<(Place, Place), Moment>,
    /// Steps of machines so far.
    turns: u64,
    cleaning: Cleaning,
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
        done: DiskDone,
    },
    /// A client sends its next request.
    Act {
        client: usize,
    },
    /// A request reaches a member, from its client or from another member.
    Arrive {
        boot: u64,
        operation: OperationId,
        forwarded: bool,
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
    /// The next fault of a drill.
    Drill,
    /// A member hears nobody and is heard by nobody for a while.
    CutOff {
        place: Place,
        length: Duration,
    },
    /// The operator asks a member that led to hand the lead over.
    HandOver {
        place: Place,
        to: MemberId,
    },
    /// The operator promotes or removes a member.
    Reconfigure {
        id: MemberId,
    },
    /// The operator asks a member to promote another one.
    Promote {
        place: Place,
        id: MemberId,
    },
    /// A link that flaps changes its mind.
    Flap {
        link: (Place, Place),
        left: u32,
    },
    /// A member starts.
    Start {
        place: Place,
    },
    /// Somebody makes room on the disk.
    FreeDisk {
        place: Place,
    },
    /// The operator does something.
    Operate,
    /// Somebody makes room in the store.
    Clean,
    /// A member loses its power.
    LosePower {
        place: Place,
    },
    /// The process of a member ends.
    Kill {
        place: Place,
    },
    /// A message reaches a member.
    Deliver {
        to: Place,
        message: Box<Message>,
    },
    /// A member hears that a message did not go out.
    Unreachable {
        boot: u64,
        peer: MemberId,
    },
    /// A member hears that a peer has closed its connections.
    Closed {
        boot: u64,
        peer: MemberId,
    },
    /// The next piece of a snapshot reaches a member.
    Piece {
        transfer: TransferId,
    },
    /// A member goes on with a snapshot that has arrived.
    TakeIn {
        transfer: TransferId,
    },
    /// A member hears that the connection broke on which a snapshot came.
    TransferBroken {
        boot: u64,
        transfer: TransferId,
    },
    /// A member looks whether anything has come of a snapshot.
    Silence {
        boot: u64,
        transfer: TransferId,
    },
    /// A member hears what became of a snapshot.
    SnapshotSent {
        boot: u64,
        number: SnapshotNumber,
        received: bool,
    },
    /// A removed member is told so.
    TurnedAway {
        place: Place,
    },
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
    pub fn new(seed: u64, cut: &Cut, keeps_lines: bool) -> Self {
        let root = Random::new(seed);
        let mix = Mix::draw(&mut root.split("mix"), cut);
        let mut world = Self::with(seed, seed, mix, keeps_lines);
        world.plan_disturbance();
        world
    }

    /// The world of a trial.
    #[must_use]
    pub fn of_trial(trial: Trial, keeps_lines: bool) -> Self {
        let mut world = Self::with(trial.seed, trial.luck, Mix::trial(), keeps_lines);
        if let Some((call, fault)) = trial.call {
            world.nodes[0].disk.plan(call, fault);
        }
        world.hanging_job = trial.hanging_job;
        // One death by kill, so that a replay is part of the history.
        world.plan_disturbance();
        world
    }

    /// `luck` decides what members are like and what a power loss leaves.
    fn with(seed: u64, luck: u64, mix: Mix, keeps_lines: bool) -> Self {
        let founders: Vec<_> = (1..=u64::from(mix.members)).map(MemberId).collect();
        let root = Random::new(seed);
        let luck = Random::new(luck);
        let node = |id: &MemberId| Node::new(*id, &root, &luck, false);
        let nodes = founders.iter().map(node).collect();
        let mut traffic = root.split("traffic");
        let mut history = History::default();
        let watch_clients = (0..mix.watch_clients)
            .map(|_| {
                let storms = mix.disturbs && traffic.chance(1, 6);
                WatchClient::draw(storms, &mut traffic, &mut history)
            })
            .collect();
        let clients = (0..).zip(&mix.workloads);
        let clients = clients.map(|(name, kind)| Client::new(name, *kind, mix.value_bytes));
        let mut clients: Vec<Client> = clients.collect();
        // The last one only does what the world has it do.
        let mut hand = Client::new(clients.len() as u32, Kind::Registers, mix.value_bytes);
        hand.acts = false;
        clients.push(hand);
        let mut world = Self {
            seed,
            now: Moment::default(),
            events: BTreeMap::new(),
            planned: 0,
            nodes,
            founders,
            cuts: BTreeMap::new(),
            lags: BTreeMap::new(),
            drilling: Drilling::new(root.split("drill")),
            transfers: BTreeMap::new(),
            transfers_begun: 0,
            agreed: Agreed::default(),
            operator: Operator::default(),
            disturbances: 0,
            boots: 0,
            streams: 0,
            clients,
            watch_clients,
            is_resting: false,
            jobs: 0,
            disk_work: (0, 0),
            hanging_job: None,
            schedule: root.split("schedule"),
            traffic,
            weather: root.split("weather"),
            network: root.split("network"),
            log: EventLog::new(keeps_lines),
            history,
            counts: Counts::new(),
            pairs: Pairs::new(),
            by_workload: Counts::new(),
            arrivals: BTreeMap::new(),
            turns: 0,
            cleaning: Cleaning::default(),
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

    /// How often each fault struck while a client of each kind waited for an answer.
    #[must_use]
    pub fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// Requests of each kind of use.
    #[must_use]
    pub fn by_workload(&self) -> &Counts {
        &self.by_workload
    }

    /// What happened how often.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        for node in &self.nodes {
            let disk = node.disk.counts();
            let more = [
                ("power losses", disk.crashes),
                (
                    "disk calls failed",
                    disk.failed_reads + disk.failed_syncs + disk.failed_writes,
                ),
                ("reads of the disk failed", disk.failed_reads),
                ("syncs failed", disk.failed_syncs),
                ("writes failed", disk.failed_writes),
                ("syncs that lied", disk.lies),
                ("disk calls refused by a full disk", disk.full),
                ("sectors lost", disk.sectors_lost),
                ("sectors kept", disk.sectors_kept),
                ("files torn", disk.files_torn),
                ("names lost", disk.names_lost),
            ];
            for (what, times) in more {
                *counts.entry(what).or_default() += times;
            }
        }
        let more = [
            ("revisions", self.history.published.len() as u64),
            ("virtual seconds", self.now.0.as_secs()),
            (
                "watch messages put together from pieces",
                self.watch_clients.iter().map(|it| it.assembled).sum(),
            ),
        ];
        for (what, times) in more {
            *counts.entry(what).or_default() += times;
        }
        counts
    }

    fn begin(&mut self) {
        match self.nodes.len() {
            1 => self.count("worlds of one member"),
            7 => self.count("worlds of seven members"),
            _ => {}
        }
        for place in 0..self.nodes.len() {
            self.nodes[place].is_called = true;
            self.plan(Duration::ZERO, Event::Start { place });
        }
        if self.mix.operates {
            self.plan_operation();
        }
        self.plan_drill();
        if self.mix.quota_bytes.is_some() {
            self.plan_cleaning();
        }
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
        let is_due = self
            .events
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= self.now);
        if (!is_due || self.schedule.chance(1, 2))
            && let Some((place, turn)) = self.pick_turn()
        {
            // Members work side by side.
            let micros = 60 / self.nodes.len() as u64;
            self.now = self.now + Duration::from_micros(self.schedule.between(1, micros.max(1)));
            self.stall(place);
            return self.take_turn(place, turn);
        }
        let deadline = self.deadline();
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

    /// When the next thing is due that only time brings.
    fn deadline(&self) -> Option<Moment> {
        let of_node = |node: &Node| {
            let shown = node.process.as_ref().and_then(Process::deadline)?;
            Some(node.clock.when(shown).max(node.paused_until))
        };
        self.nodes.iter().filter_map(of_node).min()
    }

    /// Something that has work at this moment, on any member.
    fn pick_turn(&mut self) -> Option<(Place, Turn)> {
        let count = self.nodes.len();
        let first = self.schedule.below(count as u64) as usize;
        let mut turns = Vec::new();
        for step in 0..count {
            let place = (first + step) % count;
            self.turns(place, &mut turns);
            if !turns.is_empty() {
                return Some((place, *self.schedule.pick(&turns)));
            }
        }
        None
    }

    /// What has work at this moment on one member.
    fn turns(&self, place: Place, turns: &mut Vec<Turn>) {
        let node = &self.nodes[place];
        let Some(process) = node
            .process
            .as_ref()
            .filter(|_| node.paused_until <= self.now)
        else {
            return;
        };
        let now = node.clock.shows(self.now);
        let ready = process.core.ready(now);
        let waits =
            |machine: &Machine| *machine == Machine::Compaction && process.compacts_at > now;
        let ready = ready.filter(|machine| !waits(machine) && !self.is_stalled(place, *machine));
        turns.extend(ready.map(Turn::Machine));
        if let Some(hub) = &process.hub {
            let ticks = hub.next_deadline().is_some_and(|deadline| deadline <= now);
            if ticks || !process.hub_inputs.is_empty() {
                turns.push(Turn::Hub);
            }
            if hub.has_work() {
                turns.push(Turn::HubPoll);
            }
        }
    }

    /// The member that an event is for, if it takes part in it.
    fn taker(&self, event: &Event) -> Option<Place> {
        match event {
            Event::Tick { boot }
            | Event::RunJob { boot, .. }
            | Event::JobDone { boot, .. }
            | Event::Arrive { boot, .. }
            | Event::Read { boot, .. }
            | Event::ToHub { boot, .. }
            | Event::Unreachable { boot, .. }
            | Event::Closed { boot, .. }
            | Event::TransferBroken { boot, .. }
            | Event::Silence { boot, .. }
            | Event::SnapshotSent { boot, .. } => self.place_of_boot(*boot),
            Event::Deliver { to, .. } => Some(*to),
            Event::Piece { transfer } | Event::TakeIn { transfer } => self.receiver_of(*transfer),
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) {
        let until = self.taker(&event).map(|place| &self.nodes[place]);
        if let Some(until) = until.map(|node| node.paused_until)
            && until > self.now
        {
            return self.plan_at(until, event);
        }
        match event {
            Event::Tick { boot } => self.tick(boot),
            Event::RunJob { boot, lane } => self.run_job(boot, lane),
            Event::JobDone { boot, lane, done } => self.job_done(boot, lane, done),
            Event::Act { client } => self.act(client),
            Event::Arrive {
                boot,
                operation,
                forwarded,
            } => self.arrive(boot, operation, forwarded),
            Event::Read { boot, operation } => self.read(boot, operation),
            Event::Answer { operation, result } => self.answered(operation, result),
            Event::GiveUp { operation } => self.give_up(operation),
            Event::WatchAct { client } => self.watch_act(client),
            Event::ToHub { boot, request } => self.reach_hub(boot, request),
            Event::Message { client, message } => self.message(client, &message),
            Event::Disturb => self.disturb(),
            Event::Drill => self.drill(),
            Event::CutOff { place, length } => self.cut_off(place, length),
            Event::HandOver { .. } | Event::Promote { .. } | Event::Reconfigure { .. }
                if self.is_resting => {}
            Event::HandOver { place, to } => {
                if self.leads(place) {
                    self.hand_lead_over(place, to);
                }
            }
            Event::Reconfigure { id } => self.reconfigure(id),
            Event::Promote { place, id } => {
                self.propose_change(place, &Change::Promote(id), "learners promoted");
            }
            Event::Flap { link, left } => self.flap(link, left),
            Event::Start { place } => self.start(place),
            Event::FreeDisk { place } => {
                self.nodes[place].disk.set_capacity(u64::MAX);
                self.log.line(self.now, || {
                    format!("member {place}: room on the disk again")
                });
            }
            Event::Operate => self.operate(),
            Event::Clean => self.clean(),
            Event::LosePower { place } => self.cut_power(place),
            Event::Kill { place } => self.kill_for(place, "killed"),
            Event::Deliver { to, message } => self.deliver(to, message),
            Event::Unreachable { boot, peer } => self.tell(boot, Input::Unreachable(peer)),
            Event::Closed { boot, peer } => self.tell(boot, Input::Closed(peer)),
            Event::Piece { transfer } => self.piece(transfer),
            Event::TakeIn { transfer } => self.take_in(transfer),
            Event::Silence { boot, transfer } => self.silence(boot, transfer),
            Event::TransferBroken { boot, transfer } => self.transfer_broken(boot, transfer),
            Event::SnapshotSent {
                boot,
                number,
                received,
            } => self.tell(boot, Input::SnapshotSent { number, received }),
            Event::TurnedAway { place } => self.retire(place),
        }
    }

    fn tell(&mut self, boot: u64, input: Input) {
        if let Some(process) = self.process_of(boot) {
            process.core.input(input);
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
        let place = self.place_of_boot(boot)?;
        self.nodes[place].process.as_mut()
    }

    /// Where the process of that life runs.
    fn place_of_boot(&self, boot: u64) -> Option<Place> {
        let is_it = |process: &Process| process.boot == boot;
        self.nodes
            .iter()
            .position(|node| node.process.as_ref().is_some_and(is_it))
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
