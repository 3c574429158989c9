//! A cluster under load, and what every fault has to leave intact.

use std::cell::Cell;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::hosts::Hosts;
use kvorum_e2e::network::Network;
use kvorum_e2e::peers::{Subject, peer};
use kvorum_e2e::process::{Outcome, Process};
use kvorum_e2e::recorder::{Change, Load, Note, violations};

/// Requests that have to be answered while a fault lasts, with a majority at hand.
const REQUESTS_PER_FAULT: u64 = 300;
/// What has to be answered in a second meanwhile, on a machine that does more than [`USUAL_PART`] times that without a
/// fault.
const REQUESTS_PER_SECOND: f64 = 100.0;
/// A slower machine has to answer one part in so many of what it answered without a fault; it may have been less busy
/// then. Who is held up by a member that does not answer gets through once a second: eight workers together, eight times.
const USUAL_PART: f64 = 10.0;
/// A cluster that answers nothing for this long hangs.
const HANG: Duration = Duration::from_secs(120);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long etcdctl waits for a member that may not answer.
const ASK: &str = "--command-timeout=1s";

/// A cluster under load.
pub(crate) struct Trial {
    pub(crate) cluster: Cluster,
    pub(crate) network: Option<Network>,
    load: Load,
    name: &'static str,
    subject: Subject,
    balancer: Option<Process>,
    /// What the Go program said, whenever it ran.
    told: Vec<String>,
    troubles: Vec<String>,
    /// Requests per second of these members without a fault.
    usual: f64,
    /// Behind the cluster, whose processes end first.
    hosts: Option<Hosts>,
}

/// What is wrong with a member, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sick {
    /// It answers nobody.
    Mute(usize),
    /// It answers clients and is not part of the majority.
    Apart(usize),
}

impl Sick {
    fn place(self) -> usize {
        match self {
            Sick::Mute(place) | Sick::Apart(place) => place,
        }
    }
}

impl Trial {
    /// A cluster whose members reach each other directly. None when something is not to be had.
    pub(crate) fn start(
        name: &'static str,
        subject: Subject,
        members: usize,
        flags: &[&str],
    ) -> Option<Self> {
        let cluster = Cluster::start(&vec![subject; members], flags)?;
        Some(Self::on(name, subject, cluster))
    }

    /// The same with a network between them that can be broken.
    pub(crate) fn start_apart(
        name: &'static str,
        subject: Subject,
        members: usize,
        flags: &[&str],
    ) -> Option<Self> {
        let mut cluster = Cluster::prepare(&vec![subject; members], flags)?;
        let network = Network::between(&mut cluster, 1);
        cluster.launch_all();
        let mut trial = Self::on(name, subject, cluster);
        trial.network = Some(network);
        Some(trial)
    }

    /// The same with a host for each member. None also where there are no hosts to be had.
    pub(crate) fn start_on_hosts(
        name: &'static str,
        subject: Subject,
        members: usize,
        flags: &[&str],
    ) -> Option<Self> {
        let hosts = Hosts::new(members)?;
        let mut cluster = Cluster::prepare(&vec![subject; members], flags)?;
        cluster.settle(&hosts);
        cluster.launch_all();
        let mut trial = Self::on(name, subject, cluster);
        trial.hosts = Some(hosts);
        Some(trial)
    }

    /// Puts a running cluster under load.
    pub(crate) fn on(name: &'static str, subject: Subject, cluster: Cluster) -> Self {
        let mut trial = Self {
            load: Load::start_on(&members_at(&cluster), 1),
            cluster,
            network: None,
            name,
            subject,
            balancer: None,
            told: Vec::new(),
            troubles: Vec::new(),
            usual: 0.0,
            hosts: None,
        };
        trial.start_balancer();
        trial.usual = trial.rate();
        trial
    }

    /// Members have come or gone: clients turn to those that run.
    pub(crate) fn turn_to_all(&mut self) {
        self.load.turn_to(&members_at(&self.cluster));
        self.end_balancer();
        self.start_balancer();
        self.usual = self.rate();
    }

    /// Starts the Go program on all members that are there now.
    fn start_balancer(&mut self) {
        let Some(program) = peer("client-go", "balancer") else {
            return;
        };
        let mut command = std::process::Command::new(program);
        command.arg(self.cluster.endpoints().join(","));
        self.balancer = Some(Process::spawn_with_input(&mut command));
    }

    /// The network, where there is one to be broken.
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("the trial has a network")
    }

    /// The hosts, where each member has its own.
    pub(crate) fn hosts(&self) -> &Hosts {
        self.hosts.as_ref().expect("the trial has hosts")
    }

    /// Who leads among the members that are well.
    pub(crate) fn leader_without(&self, sick: &[usize]) -> usize {
        let well: Vec<usize> = (0..self.cluster.size())
            .filter(|place| !sick.contains(place))
            .collect();
        self.cluster.leader_among(&well)
    }

    /// A fault has struck, and a majority is at hand: clients are served, tools tell what is the matter.
    pub(crate) fn endure(&self, what: &str, sick: &[Sick]) {
        let before = self.load.acknowledged();
        self.wait("write", || self.load.acknowledged() > before);
        let (from, before) = (Instant::now(), self.load.answered());
        self.ask_tools(sick);
        let with_tools = self.rate_since(from, before);
        let least = REQUESTS_PER_SECOND.min(self.usual / USUAL_PART);
        let best = self.fastest(least);
        eprintln!(
            "{}: {:?}: {what}: {with_tools:.0} requests/s while tools ask, then {best:.0}, no write for {} ms at most",
            self.name,
            self.subject,
            self.load.take_longest_gap().as_millis()
        );
        assert!(
            best >= least,
            "{what}: {best} requests/s, not {least}; without a fault {}",
            self.usual
        );
    }

    fn rate_since(&self, from: Instant, before: u64) -> f64 {
        (self.load.answered() - before) as f64 / from.elapsed().as_secs_f64()
    }

    /// Requests per second, over as many as a fault has to see. Others on the machine have moments in which nobody
    /// answers anything fast; the fault lasts until they are over, but not for ever.
    fn fastest(&self, least: f64) -> f64 {
        let started = Instant::now();
        let mut best = self.rate();
        while best < least && started.elapsed() < HANG {
            best = self.rate().max(best);
        }
        best
    }

    /// Requests per second now.
    fn rate(&self) -> f64 {
        let (from, before) = (Instant::now(), self.load.answered());
        self.wait_for_requests(REQUESTS_PER_FAULT);
        self.rate_since(from, before)
    }

    /// All faults are over: all members agree again.
    pub(crate) fn recover(&self) -> usize {
        if let Some(network) = &self.network {
            network.heal();
        }
        if let Some(hosts) = &self.hosts {
            hosts.heal();
        }
        self.cluster.leader()
    }

    /// What an operator asks in the middle of a fault, with the official tool and all endpoints.
    fn ask_tools(&self, sick: &[Sick]) {
        let cluster = &self.cluster;
        let places: Vec<usize> = sick.iter().map(|sick| sick.place()).collect();
        let endpoint = |place| cluster.endpoint(place);
        let all: Vec<String> = (0..cluster.size()).map(endpoint).collect();
        let mute = |place: &usize| sick.contains(&Sick::Mute(*place));
        let ask = |endpoints: &str, words: &[&str]| {
            cluster.etcdctl_at(endpoints, &[&[ASK], words].concat())
        };
        let well: Vec<usize> = (0..cluster.size())
            .filter(|place| !places.contains(place))
            .collect();
        let all_joined = all.join(",");
        let status = cluster.wait("status of all members", || {
            let status = ask(&all_joined, &["endpoint", "status", "-w", "table"]);
            let has_row = |place: usize| status.stdout.contains(&format!(" {} ", all[place]));
            let told = (0..all.len()).all(|place| has_row(place) != mute(&place));
            told.then_some(status)
        });
        let complete = !(0..all.len()).any(|place| mute(&place));
        assert_eq!(status.code == Some(0), complete, "{status:?}");
        for place in (0..all.len()).filter(mute) {
            let text = format!("Failed to get the status of endpoint {}", all[place]);
            assert!(status.stderr.contains(&text), "{status:?}");
        }
        // The tool asks whom it reaches first, and that may be one that cannot answer: another comes first each time.
        let turn = Cell::new(0);
        let turned = || {
            let mut endpoints = all.clone();
            endpoints.rotate_left(turn.replace(turn.get() + 1) % all.len());
            endpoints.join(",")
        };
        let list = self.until_done("list of members", || ask(&turned(), &["member", "list"]));
        assert_eq!(list.stdout.lines().count(), all.len(), "{list:?}");
        cluster.wait("health of all members", || {
            let health = ask(&turned(), &["endpoint", "health", "--cluster"]);
            let text = [health.stdout.as_str(), health.stderr.as_str()].concat();
            let says =
                |place: &usize, word: &str| text.contains(&format!("{} is {word}", all[*place]));
            let told = well.iter().all(|place| says(place, "healthy"))
                && places.iter().all(|place| says(place, "unhealthy"));
            told.then_some(())
        });
        if well.len() > 1 {
            let leader = cluster.leader_among(&well);
            let at = well.iter().position(|&place| place == leader);
            let next = well[(at.unwrap_or_default() + 1) % well.len()];
            self.move_leader(&well, next);
        }
    }

    /// Moves the lead to one of these members.
    pub(crate) fn move_leader(&self, well: &[usize], next: usize) {
        let joined: Vec<String> = well
            .iter()
            .map(|&place| self.cluster.endpoint(place))
            .collect();
        let joined = joined.join(",");
        let target = self.cluster.id(next);
        // On a busy machine the lead may move on by itself, and has to be moved once more.
        self.cluster.wait("the lead of another", || {
            self.until_done("transfer of the lead", || {
                self.cluster.leader_among(well);
                self.cluster
                    .etcdctl_at(&joined, &[ASK, "move-leader", &target])
            });
            (self.cluster.leader_among(well) == next).then_some(())
        });
    }

    /// Asks again while the balancer in the tool turns to a member that cannot answer.
    fn until_done(&self, what: &str, mut ask: impl FnMut() -> Outcome) -> Outcome {
        let started = Instant::now();
        loop {
            let outcome = ask();
            if outcome.code == Some(0) {
                return outcome;
            }
            assert!(started.elapsed() < HANG, "no {what}: {outcome:?}");
            sleep(LOOK);
        }
    }

    /// Waits for more answered requests.
    pub(crate) fn wait_for_requests(&self, more: u64) {
        let goal = self.load.answered() + more;
        self.wait("answer", || self.load.answered() >= goal);
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        self.cluster.wait(what, || is_so().then_some(()));
    }

    /// Ends the Go program and keeps what it was told.
    fn end_balancer(&mut self) {
        let Some(mut balancer) = self.balancer.take() else {
            return;
        };
        balancer.close_input();
        let ended = balancer.wait_exit(HANG);
        let lines = balancer.lines();
        if !ended.is_some_and(|(status, _)| status.success()) {
            let why = lines.last().cloned().unwrap_or_default();
            self.troubles
                .push(format!("the Go program: {ended:?}: {why}"));
        }
        self.told.extend(lines);
    }

    /// Ends the load and judges everything that was noted.
    pub(crate) fn finish(mut self) {
        self.end_balancer();
        let answered = self.load.answered();
        let mut evidence = self.load.finish();
        evidence.workers.push(notes(&self.told));
        evidence.troubles.append(&mut self.troubles);
        let ends = self
            .told
            .iter()
            .filter_map(|line| line.strip_prefix("end: "));
        let ends: Vec<&str> = ends.collect();
        let (hash, revision) = self.cluster.same_hash();
        eprintln!(
            "{}: {:?}: {answered} requests answered, {} events to each watcher, all members have hash {hash} at \
             revision {revision}; Go client: {}",
            self.name,
            self.subject,
            evidence.events.len(),
            ends.join("; "),
        );
        let found = violations(&evidence);
        assert!(
            found.is_empty(),
            "{} violations:\n{}",
            found.len(),
            found.join("\n")
        );
    }
}

/// Where all members that run serve clients.
fn members_at(cluster: &Cluster) -> Vec<SocketAddr> {
    let running = (0..cluster.size()).filter(|&place| cluster.is_running(place));
    running.map(|place| cluster.client_address(place)).collect()
}

/// What the Go program was told, as notes of one more worker.
fn notes(lines: &[String]) -> Vec<Note> {
    let mut notes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), notes.last_mut()) {
            (["put", key, value], _) => notes.push(Note::Write {
                condition: None,
                changes: vec![Change {
                    key: (*key).to_owned(),
                    value: Some((*value).to_owned()),
                    lease: 0,
                }],
                floor: 0,
                revision: None,
            }),
            (["done", number], Some(Note::Write { revision, .. })) => {
                *revision = number.parse().ok();
            }
            _ => {}
        }
    }
    notes
}
