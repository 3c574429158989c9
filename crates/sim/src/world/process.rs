//! The process of the member: the machines as the server wires them, and what its shell keeps beside them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::time::Duration;

use kvorum_member::apply::{Apply, Local, ReadView};
use kvorum_member::backend::import::ImportError;
use kvorum_member::checkpoint::stream::Receiving;
use kvorum_member::checkpoint::{self, OpenError, ReceiveError};
use kvorum_member::cluster;
use kvorum_member::consensus::{self, InitialMember};
use kvorum_member::core::{Core, Input};
use kvorum_member::lease::Deadlines;
use kvorum_mvcc::watch::{self, WatchHub};
use kvorum_proto::ids::{ClusterId, LogIndex, MemberId, Moment, RequestId};
use kvorum_proto::raftpb;
use kvorum_storage::bolt::ReadError;
use kvorum_storage::checkpoint::{Directory, StateError};
use kvorum_storage::vfs::{DIRECTORY_MODE, OpenMode, Vfs as _};
use kvorum_storage::wal::{
    self, BackgroundExecutor, Executor, JobId, Lane, Metadata, Options, WalError,
};

use super::mix::Mix;
use super::transfer::{Incoming, receiving};
use super::wire::ELECTION_TIMEOUT;
use crate::disk::Disk;

/// Where the log lies on the simulated disk.
pub const LOG_DIRECTORY: &str = "/wal";
/// Where the state lies.
pub const STATE_DIRECTORY: &str = "/state";

const CLUSTER: ClusterId = ClusterId(0xc1);
/// Each start numbers its requests from here, times the number of the start.
const REQUESTS_PER_BOOT: u64 = 1 << 24;

/// A request of a client: its place in the history.
pub(super) type OperationId = usize;

/// Who waits for the answer to a proposal.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    Client(OperationId),
    /// The change, by what it is counted as; none for what members say of themselves.
    Operator(Option<&'static str>),
    /// An alarm was raised or taken back; counted so.
    Alarm(&'static str),
}

/// One life of the member, from its start to its end.
pub(super) struct Process {
    /// Which life, counted over all members; the first has 1.
    pub(super) boot: u64,
    member: MemberId,
    pub(super) core: Core,
    executor: Executor<Disk>,
    background: BackgroundExecutor<Disk>,
    state: checkpoint::Executor<Disk>,
    /// The snapshot that comes in.
    pub(super) incoming: Option<Incoming>,
    local: Local,
    segment_bytes: u64,
    message_bytes_max: usize,
    /// From then on a compaction takes its next step.
    pub(super) compacts_at: Moment,
    /// What waits for the disk, by the number of its lane.
    pub(super) lanes: [Jobs; LANES],
    /// The watchers; there from the end of the replay on, as clients are let in only then.
    pub(super) hub: Option<WatchHub>,
    /// What the hub has been told and has not taken.
    pub(super) hub_inputs: VecDeque<watch::Input>,
    /// What readers see.
    pub(super) view: ReadView,
    /// The newest revision that this life has published.
    pub(super) published: i64,
    /// Requests that wait for their entry to be applied.
    pub(super) proposed: BTreeMap<RequestId, Waiter>,
    /// Those among them that came before the last snapshot have ids up to here.
    asked_before_snapshot: RequestId,
    /// Requests whose answers may have gone with the entries that a snapshot stands for.
    pub(super) unanswered: BTreeSet<RequestId>,
    /// Reads and questions about leases, by token.
    pub(super) asked: BTreeMap<u64, OperationId>,
    next_request: u64,
    next_token: u64,
}

/// The jobs of one lane; one runs at a time.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) waiting: VecDeque<DiskJob>,
    pub(super) busy: bool,
}

/// Foreground and background of the log, checkpoints, copier.
pub(super) const LANES: usize = 4;

/// A piece of work for the disk.
#[derive(Debug)]
pub(super) enum DiskJob {
    Log(wal::Job),
    State(checkpoint::Job),
}

impl DiskJob {
    pub(super) fn lane(&self) -> usize {
        match self {
            DiskJob::Log(job) => match job.lane() {
                Lane::Foreground => 0,
                Lane::Background => 1,
            },
            DiskJob::State(job) => match job.lane() {
                checkpoint::Lane::State => 2,
                checkpoint::Lane::Copier => 3,
            },
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) enum DiskDone {
    Log(JobId),
    State(checkpoint::Done),
}

/// Why it failed.
#[derive(Debug)]
pub(super) enum DiskError {
    Log(#[expect(dead_code, reason = "shown in the event log")] WalError),
    State(#[expect(dead_code, reason = "shown in the event log")] StateError),
}

/// Why the member did not start.
#[derive(Debug)]
pub(super) enum StartError {
    Log(WalError),
    State(OpenError),
    Restore(String),
}

impl From<WalError> for StartError {
    fn from(error: WalError) -> Self {
        Self::Log(error)
    }
}

/// What a start found on the disk.
pub(super) struct Found {
    pub(super) entries: usize,
    /// Where the log is replayed from.
    pub(super) checkpoint: LogIndex,
    /// Whether a received state takes the place of the own one.
    pub(super) adopted: bool,
    /// Whether a torn tail was cut.
    pub(super) repaired: bool,
}

/// What a start needs to know.
pub(super) struct Start<'a> {
    pub(super) member: MemberId,
    pub(super) boot: u64,
    pub(super) seed: u64,
    pub(super) mix: &'a Mix,
    /// The members that found the cluster.
    pub(super) founders: &'a [MemberId],
    /// Whether this one joins it later.
    pub(super) joins: bool,
}

impl Process {
    /// Starts a member as the server does: a new log where there is none, else the old one and the state.
    pub(super) fn start(disk: &Disk, start: &Start<'_>) -> Result<(Self, Found), StartError> {
        let (member, boot) = (start.member, start.boot);
        let state = state_directory(disk)?;
        let wal::Opened {
            recovered,
            repair,
            log,
            executor,
            background,
        } = open_log(disk, member, start.mix.log)?;
        let next_request = (member.0 << 48) + boot * REQUESTS_PER_BOOT;
        let local = Local {
            member,
            first_request: RequestId(next_request),
        };
        let opened = checkpoint::open(&state, recovered, local).map_err(StartError::State)?;
        let checkpoint::Opened {
            apply,
            recovered,
            adopted,
            ..
        } = opened;
        let found = Found {
            entries: recovered.entries.len(),
            checkpoint: apply.applied(),
            adopted,
            repaired: repair.is_some(),
        };
        let view = apply.read_view();
        let lease = Deadlines::new(ELECTION_TIMEOUT);
        let mut config = consensus::Config::new(member, start.seed, boot);
        config.snapshot_count = start.mix.snapshot_count;
        config.catch_up_entries = start.mix.catch_up_entries;
        config.catch_up_bytes_max = start.mix.catch_up_bytes_max;
        config.apply_credit_bytes = start.mix.apply_credit_bytes;
        config.message_bytes_max = start.mix.append_bytes_max;
        // A log whose first write was not finished: nothing was promised to anybody.
        let core = match (recovered.hard_state.term(), start.joins) {
            (0, true) => Core::join(config, log, apply, lease),
            (0, false) => {
                let members = initial_members(start.founders);
                Core::bootstrap(config, &members, log, apply, lease)
            }
            _ => Core::restore(config, recovered, log, apply, lease),
        };
        let mut core = core.map_err(|error| StartError::Restore(error.to_string()))?;
        core.set_checkpoint_policy(start.mix.state.policy);
        core.set_segment_bytes(start.mix.state.segment_bytes);
        core.set_compact_step(start.mix.compact_step);
        let process = Self {
            boot,
            member,
            core,
            executor,
            background,
            state: checkpoint::Executor::new(state),
            incoming: None,
            local,
            segment_bytes: start.mix.state.segment_bytes,
            message_bytes_max: start.mix.message_bytes_max,
            compacts_at: Moment::default(),
            lanes: Default::default(),
            hub: None,
            hub_inputs: VecDeque::new(),
            published: view.keys.current_revision(),
            view,
            proposed: BTreeMap::new(),
            asked_before_snapshot: RequestId(0),
            unanswered: BTreeSet::new(),
            asked: BTreeMap::new(),
            next_request,
            next_token: 0,
        };
        Ok((process, found))
    }

    /// Lets clients in once the replay is over.
    pub(super) fn open_door(&mut self, seed: u64) -> bool {
        let opens = self.hub.is_none() && self.core.replay().is_none();
        if opens {
            let config = watch::Config {
                cluster: CLUSTER,
                member: self.member,
                message_bytes_max: self.message_bytes_max,
                progress_interval: Duration::from_secs(2),
                leaderless_max: 3 * ELECTION_TIMEOUT,
                seed,
            };
            self.hub = Some(WatchHub::new(config, self.view.keys.clone()));
        }
        opens
    }

    pub(super) fn next_request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Gives a snapshot, whose state is durable, to the machines.
    pub(super) fn hand_over(&mut self, message: Box<raftpb::Message>, state: Box<Apply>) {
        self.asked_before_snapshot = RequestId(self.next_request);
        self.core.input(Input::Snapshot { message, state });
    }

    /// Takes those who proposed something before the last snapshot and have no answer.
    pub(super) fn take_unanswered(&mut self) -> Vec<Waiter> {
        let later = RequestId(self.asked_before_snapshot.0 + 1);
        let later = self.proposed.split_off(&later);
        let lost = std::mem::replace(&mut self.proposed, later);
        self.unanswered.extend(lost.keys());
        lost.into_values().collect()
    }

    pub(super) fn next_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    pub(super) fn run_job(&mut self, job: DiskJob) -> Result<DiskDone, DiskError> {
        match job {
            DiskJob::Log(job) => {
                let done = match job.lane() {
                    Lane::Foreground => self.executor.run(&job),
                    Lane::Background => self.background.run(&job),
                };
                done.map(|()| DiskDone::Log(job.id)).map_err(DiskError::Log)
            }
            DiskJob::State(job) => {
                let done = self.state.run(job, |_| ());
                done.map(DiskDone::State).map_err(DiskError::State)
            }
        }
    }

    /// Reads a file that was received.
    pub(super) fn take_in(
        &self,
        disk: &Disk,
        named: LogIndex,
    ) -> Result<Option<Apply>, ReceiveError> {
        let file = disk.open(&receiving(), OpenMode::Read);
        let file = file.map_err(|source| {
            let (offset, length) = (0, 0);
            ImportError::File(ReadError::Disk {
                offset,
                length,
                source,
            })
        })?;
        checkpoint::take_in(&self.state, file, named, self.local, self.segment_bytes)
    }

    /// Begins to take in files that come for a state; none when it is not needed.
    pub(super) fn begin_files(
        &self,
        named: LogIndex,
    ) -> Result<Option<Receiving<Disk>>, ReceiveError> {
        Receiving::begin(&self.state, named)
    }

    /// Makes a state of files that have come in.
    pub(super) fn finish(&self, files: Receiving<Disk>) -> Result<Apply, ReceiveError> {
        files.finish(self.local)
    }

    /// Makes a received state durable beside the own one.
    pub(super) fn receive(&self, state: &mut Apply) -> Result<bool, ReceiveError> {
        checkpoint::receive(&self.state, state)
    }

    /// Whether a snapshot has arrived and is not in use yet.
    pub(super) fn installs_a_snapshot(&self) -> bool {
        let arrived = |it: &Incoming| !matches!(it, Incoming::Coming { .. });
        self.incoming.as_ref().is_some_and(arrived)
    }

    pub(super) fn check_invariants(&self) {
        self.core.check_invariants();
        if let Some(hub) = &self.hub {
            hub.check_invariants();
        }
    }
}

/// The directory of the state, made when it is not there.
fn state_directory(disk: &Disk) -> Result<Directory<Disk>, StartError> {
    let path = Path::new(STATE_DIRECTORY);
    let failed = |source| {
        StartError::State(OpenError::State(StateError::Disk {
            file: path.to_owned(),
            operation: "making it",
            source,
        }))
    };
    if !disk.exists(path).map_err(failed)? {
        disk.create_directory(path, DIRECTORY_MODE)
            .map_err(failed)?;
    }
    disk.sync_directory(Path::new("/")).map_err(failed)?;
    Ok(Directory::new(disk.clone(), path.to_owned()))
}

fn open_log(
    disk: &Disk,
    member: MemberId,
    options: Options,
) -> Result<wal::Opened<Disk>, WalError> {
    let directory = Path::new(LOG_DIRECTORY);
    if wal::exists(disk, directory)? {
        return wal::open(disk, directory, options);
    }
    let metadata = Metadata {
        node: member,
        cluster: CLUSTER,
    };
    wal::create(disk, directory, metadata, options)
}

/// A member as the roster has it.
pub(super) fn described(id: MemberId, is_learner: bool) -> cluster::Member {
    cluster::Member::new(id, vec![format!("http://member-{id}:2380")], is_learner)
}

fn initial_members(founders: &[MemberId]) -> Vec<InitialMember> {
    let member = |id: &MemberId| InitialMember {
        id: *id,
        context: described(*id, false).context().into(),
    };
    founders.iter().map(member).collect()
}
