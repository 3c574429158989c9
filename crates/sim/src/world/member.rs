//! The member's machines take their steps, and what they want done is done.

use std::time::Duration;

use kvorum_member::apply::{Effect, ReadView, RequestError, Response};
use kvorum_member::checkpoint;
use kvorum_member::core::{Input, Machine, Output};
use kvorum_member::lease;
use kvorum_mvcc::{HistoryBounds, StoreJob, watch};
use kvorum_proto::ids::{Moment, RequestId};
use kvorum_storage::wal::Work;

use super::network::SLOWNESS;
use super::node::Place;
use super::process::{DiskDone, DiskJob, Process, Waiter};
use super::transfer::Incoming;
use super::{Event, Turn, World, wire};
use crate::history::{Change, Refusal, Reply};

/// Heartbeats come this often.
const TICK: Duration = Duration::from_millis(100);
/// How long the job of a trial hangs: longer than clients wait.
const HANG: Duration = Duration::from_secs(9);
/// Why a removed member stops, in etcd's words.
const REMOVED: &str = "the member has been permanently removed from the cluster";
/// Most history the hub reads in one step, in events.
const POLL_BUDGET_MAX: u64 = 20;
/// Invariants are checked after one step in so many; a rule that broke stays broken.
const INVARIANTS_ONE_IN: u64 = 32;
/// A check reads the whole store: with each so many revisions it comes more rarely.
const INVARIANTS_REVISIONS: u64 = 200;

impl Process {
    /// When the next thing is due that only time brings, by the clock of its member.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let hub = self.hub.as_ref().and_then(watch::WatchHub::next_deadline);
        let core = match self.core.apply().compaction_pending() {
            // It takes its next step then, and other things are looked at on this occasion.
            true => Some(self.compacts_at),
            false => self.core.deadline(),
        };
        [core, hub].into_iter().flatten().min()
    }
}

impl World {
    pub(super) fn plan_tick(&mut self, boot: u64) {
        self.plan(TICK, Event::Tick { boot });
    }

    pub(super) fn tick(&mut self, boot: u64) {
        if let Some(place) = self.place_of_boot(boot) {
            // As in the server, nobody wakes for ticks that lead to nothing.
            let process = self.nodes[place].process.as_ref();
            if process.is_some_and(|process| process.core.needs_ticks()) {
                self.tell(boot, Input::Tick);
            }
            let clock = self.nodes[place].clock;
            let next = clock.when(clock.shows(self.now) + TICK);
            self.plan_at(next, Event::Tick { boot });
        }
    }

    pub(super) fn take_turn(&mut self, place: Place, turn: Turn) {
        let now = self.nodes[place].clock.shows(self.now);
        let budget = self.schedule.between(1, POLL_BUDGET_MAX) as usize;
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        match turn {
            Turn::Machine(machine) => {
                if machine == Machine::Compaction {
                    let pause = self.schedule.between(0, self.mix.compact_pause_micros);
                    process.compacts_at = now + Duration::from_micros(pause);
                }
                process.core.step(machine, now);
            }
            Turn::Hub => {
                if let Some(hub) = &mut process.hub {
                    let tick = hub.next_deadline().is_some_and(|deadline| deadline <= now);
                    let input = if tick {
                        Some(watch::Input::Tick)
                    } else {
                        process.hub_inputs.pop_front()
                    };
                    input.into_iter().for_each(|input| hub.step(now, input));
                }
            }
            Turn::HubPoll => {
                if let Some(hub) = &mut process.hub {
                    hub.poll(budget);
                }
            }
        }
        self.turns += 1;
        let rarer = 1 + self.history.published.len() as u64 / INVARIANTS_REVISIONS;
        if self.mix.checks_invariants
            && self.turns.is_multiple_of(INVARIANTS_ONE_IN * rarer)
            && !matches!(turn, Turn::Machine(Machine::Compaction))
        {
            process.check_invariants();
        }
        self.log.line(self.now, || match turn {
            Turn::Machine(machine) => format!("member {place}: step {machine:?}"),
            Turn::Hub => format!("member {place}: step WatchHub"),
            Turn::HubPoll => format!("member {place}: step WatchHub, history"),
        });
        self.carry_out(place);
        self.hand_out(place);
        self.open_door(place);
    }

    /// Does what the machines want done.
    fn carry_out(&mut self, place: Place) {
        while let Some(output) = self.nodes[place]
            .process
            .as_mut()
            .and_then(|process| process.core.take_output())
        {
            match output {
                Output::Job(job) => self.submit(place, DiskJob::Log(job)),
                Output::StateJob(job) => self.submit(place, DiskJob::State(job)),
                Output::Publish(view) => self.publish(place, view),
                Output::Reply { id, result } => self.replied(place, id, result),
                Output::AnswersLost => self.answers_lost(place),
                Output::ReadReady(tokens) => {
                    for token in tokens {
                        self.read_ready(place, token.0);
                    }
                }
                Output::ReadRefused { token, error } => {
                    self.answer_token(place, token.0, Err(wire::refusal(&error)));
                }
                Output::Watch(input) => self.tell_hub(place, input),
                Output::Lease(answer) => self.lease_answer(place, &answer),
                Output::Leadership(leadership) => {
                    self.log
                        .line(self.now, || format!("member {place}: {leadership:?}"));
                    self.note_leadership(place, &leadership);
                    if leadership.settled {
                        self.settled(place, leadership.term);
                    }
                }
                Output::Notice(Effect::CompactionFinished { .. }) => {
                    self.count("compactions finished");
                }
                Output::Notice(Effect::Checkpointed(_)) => self.count("checkpoints"),
                Output::Accepted { .. } | Output::Free(_) | Output::Notice(_) => {}
                Output::SnapshotDone { index, installed } => {
                    if let Some(process) = &mut self.nodes[place].process {
                        process
                            .incoming
                            .take_if(|it| matches!(it, Incoming::Installing));
                    }
                    self.log.line(self.now, || {
                        format!(
                            "member {place}: snapshot at {} installed: {installed}",
                            index.0
                        )
                    });
                    self.count(if installed {
                        "snapshots installed"
                    } else {
                        "snapshots not wanted"
                    });
                }
                Output::Send(message) => self.transmit(place, message),
                Output::SendSnapshot {
                    number,
                    message,
                    state,
                } => {
                    self.send_snapshot(place, number, message, state);
                }
                Output::Stop { reason } if reason == REMOVED => self.retire(place),
                Output::Stop { reason } => self.violated("the member goes on", reason),
            }
        }
    }

    fn replied(&mut self, place: Place, id: RequestId, result: Result<Response, RequestError>) {
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let waiter = process.proposed.remove(&id);
        if waiter.is_none() && process.unanswered.remove(&id) {
            return self.count("answers after they counted as lost");
        }
        match waiter {
            Some(Waiter::Client(operation)) => self.reply(operation, result),
            Some(Waiter::Operator(change)) => self.operator_hears(change, result),
            Some(Waiter::Alarm(counted)) if result.is_ok() => self.struck(counted),
            Some(Waiter::Alarm(_)) => {}
            None => self.violated("one answer for each request", format!("{id}: {result:?}")),
        }
    }

    /// Clients that wait for what a snapshot may hold hear that nobody knows what became of it.
    fn answers_lost(&mut self, place: Place) {
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        for waiter in process.take_unanswered() {
            match waiter {
                Waiter::Client(operation) => {
                    self.count("answers lost with a snapshot");
                    self.give_up(operation);
                }
                Waiter::Operator(change) => {
                    self.operator_hears(change, Err(RequestError::Timeout));
                }
                Waiter::Alarm(_) => {}
            }
        }
    }

    /// Readers see a new state: everything up to its revision is out in the world now.
    fn publish(&mut self, place: Place, view: ReadView) {
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let from = (process.published + 1).max(view.keys.compact_revision());
        if view.keys.current_revision() < process.published {
            let story = format!(
                "{} after {}",
                view.keys.current_revision(),
                process.published
            );
            return self.violated("the store's revision never falls", story);
        }
        process.published = view.keys.current_revision();
        let applied = (process.view.applied, view.applied);
        let everything = HistoryBounds {
            revisions_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let history = view.keys.history(from, everything);
        process.view = view;
        self.agree(place, applied.0, applied.1);
        match history {
            Ok(history) => {
                for batch in &history.batches {
                    self.record(batch.revision, wire::changes(batch));
                }
            }
            Err(error) => self.violated(
                "history is there from the compacted revision on",
                error.to_string(),
            ),
        }
    }

    /// Writes down what a revision changed, or holds it against what it was before a restart.
    fn record(&mut self, revision: i64, changes: Vec<Change>) {
        match self.history.published.get(&revision) {
            // Of a compacted revision only the newest records are left.
            Some((_, before)) if !changes.iter().all(|change| before.contains(change)) => {
                let story = format!("revision {revision} was {before:?} and is {changes:?}");
                self.violated("what was published stays as it was", story);
            }
            Some(_) => {}
            None => {
                self.history.published.insert(revision, (self.now, changes));
            }
        }
    }

    fn tell_hub(&mut self, place: Place, input: watch::Input) {
        if let watch::Input::Events { batches, .. } = &input {
            for batch in batches {
                let changes = wire::changes(batch);
                let published = self.history.published.get(&batch.revision);
                if published.is_none_or(|(_, published)| *published != changes) {
                    let story = format!(
                        "revision {}: {changes:?} to watchers, {published:?} to readers",
                        batch.revision
                    );
                    return self.violated("watchers are told what readers see", story);
                }
            }
        }
        if let Some(process) = &mut self.nodes[place].process {
            process.hub_inputs.push_back(input);
        }
    }

    fn lease_answer(&mut self, place: Place, answer: &lease::Output) {
        match answer {
            lease::Output::KeptAlive {
                token, ttl_seconds, ..
            } => {
                self.answer_token(
                    place,
                    token.0,
                    Ok(Reply::KeptAlive {
                        ttl_seconds: *ttl_seconds,
                    }),
                );
            }
            lease::Output::NotPrimary(token) => {
                let refusal = Refusal::Other("not primary".to_owned());
                self.answer_token(place, token.0, Err(refusal));
            }
            other => self.violated("answers about leases were asked for", format!("{other:?}")),
        }
    }

    fn answer_token(&mut self, place: Place, token: u64, result: Result<Reply, Refusal>) {
        let operation = self.nodes[place]
            .process
            .as_mut()
            .and_then(|process| process.asked.remove(&token));
        match operation {
            Some(operation) => self.answer(operation, result),
            None => self.violated(
                "one answer for each request",
                format!("token {token}: {result:?}"),
            ),
        }
    }

    fn submit(&mut self, place: Place, job: DiskJob) {
        let lane = job.lane();
        match &job {
            DiskJob::Log(job) if matches!(job.work, Work::Cut { .. }) => {
                self.count("log files begun");
            }
            DiskJob::State(checkpoint::Job::Store(StoreJob::Write(_))) => {
                self.count("runs sealed");
            }
            DiskJob::State(checkpoint::Job::Copy(_)) => self.count("copies of segments"),
            DiskJob::State(checkpoint::Job::Store(StoreJob::Remove(_))) => {
                self.count("removals of segments");
            }
            DiskJob::Log(_) | DiskJob::State(_) => {}
        }
        if let Some(process) = &mut self.nodes[place].process {
            process.lanes[lane].waiting.push_back(job);
        }
        self.start_lane(place, lane);
    }

    /// Lets the next job of a lane begin, unless one runs.
    fn start_lane(&mut self, place: Place, lane: usize) {
        let (low, high) = self.mix.job_micros;
        let node = &mut self.nodes[place];
        let Some(process) = &mut node.process else {
            return;
        };
        let (boot, jobs) = (process.boot, &mut process.lanes[lane]);
        if jobs.busy || jobs.waiting.is_empty() {
            return;
        }
        jobs.busy = true;
        let mut delay = Duration::from_micros(self.schedule.between(low, high));
        if node.slow_until > self.now {
            delay *= SLOWNESS;
        }
        if self.hanging_job == Some(self.jobs) {
            node.hang = Some(HANG);
        }
        self.jobs += 1;
        if let Some(hang) = node.hang.take() {
            self.struck("disk jobs hung");
            delay += hang;
        }
        self.plan(delay, Event::RunJob { boot, lane });
    }

    pub(super) fn run_job(&mut self, boot: u64, lane: usize) {
        let Some(place) = self.place_of_boot(boot) else {
            return;
        };
        self.disturb_install(place, lane);
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        let job = process.lanes[lane]
            .waiting
            .pop_front()
            .expect("a lane that runs has a job");
        let name = name_of(&job);
        let result = process.run_job(job);
        self.log.line(self.now, || match &result {
            Ok(_) => format!("member {place}: job {name}: done"),
            Err(error) => format!("member {place}: job {name}: {error:?}"),
        });
        match result {
            Ok(done) => {
                let (low, high) = self.mix.job_micros;
                let delay = Duration::from_micros(self.schedule.between(low, high) / 4);
                self.plan(delay, Event::JobDone { boot, lane, done });
            }
            Err(_) if self.nodes[place].disk.is_crashed() => self.lose_power(place),
            Err(_) => {
                self.note_disk(place);
                self.count("processes stopped by a failed job");
                self.kill(place);
            }
        }
    }

    pub(super) fn job_done(&mut self, boot: u64, lane: usize, done: DiskDone) {
        let Some(place) = self.place_of_boot(boot) else {
            return;
        };
        if let Some(process) = &mut self.nodes[place].process {
            process.lanes[lane].busy = false;
            process.core.input(match done {
                DiskDone::Log(job) => Input::JobDone(job),
                DiskDone::State(done) => Input::StateDone(done),
            });
            self.start_lane(place, lane);
        }
    }

    /// Gives the hub's messages to the network.
    fn hand_out(&mut self, place: Place) {
        loop {
            let output = self.nodes[place]
                .process
                .as_mut()
                .and_then(|process| process.hub.as_mut()?.take_output());
            match output {
                Some(watch::Output::Message(message)) => self.send_message(message),
                Some(watch::Output::Damaged(damage)) => {
                    self.violated("the history can be read", damage.to_string());
                }
                Some(watch::Output::NoLeader { stream }) => self.cancel_stream(stream),
                None => return,
            }
        }
    }

    fn open_door(&mut self, place: Place) {
        let seed = self.seed;
        let Some(process) = &mut self.nodes[place].process else {
            return;
        };
        if process.open_door(seed) {
            self.log
                .line(self.now, || format!("member {place}: serves"));
        }
    }
}

fn name_of(job: &DiskJob) -> String {
    let job = match job {
        DiskJob::Log(job) => job,
        DiskJob::State(job) => return name_of_state(job),
    };
    let what = match &job.work {
        Work::Write {
            segment,
            offset,
            bytes,
        } => format!("write {} bytes to {segment} at {offset}", bytes.len()),
        Work::Cut { full, next, .. } => format!("end {full}, begin {next}"),
        Work::ZeroAhead {
            segment,
            offset,
            length,
        } => format!("{length} zeros to {segment} at {offset}"),
        Work::Prepare { .. } => "prepare the next file".to_owned(),
        Work::Remove { segment } => format!("remove {segment}"),
    };
    format!("{} {what}", job.id.0)
}

fn name_of_state(job: &checkpoint::Job) -> String {
    match job {
        checkpoint::Job::Store(StoreJob::Write(image)) => format!("write segment {}", image.id()),
        checkpoint::Job::Copy(StoreJob::Write(image)) => format!("copy to segment {}", image.id()),
        checkpoint::Job::Store(StoreJob::Remove(ids))
        | checkpoint::Job::Copy(StoreJob::Remove(ids)) => format!("remove segments {ids:?}"),
        checkpoint::Job::Manifest(manifest) => format!("manifest at {}", manifest.index),
        checkpoint::Job::Adopt => "adopt what was received".to_owned(),
    }
}
