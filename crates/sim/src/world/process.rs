//! The process of the member: the machines as the server wires them, and what its shell keeps beside them.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use kvorum_member::apply::{Apply, Local, ReadView};
use kvorum_member::cluster;
use kvorum_member::consensus::{self, InitialMember};
use kvorum_member::core::Core;
use kvorum_member::lease::Deadlines;
use kvorum_mvcc::watch::{self, WatchHub};
use kvorum_proto::ids::{ClusterId, MemberId, RequestId};
use kvorum_storage::wal::{
    self, BackgroundExecutor, Executor, Job, Lane, Metadata, Options, WalError,
};

use super::wire::ELECTION_TIMEOUT;
use crate::disk::Disk;

/// Where the log lies on the simulated disk.
pub const LOG_DIRECTORY: &str = "/wal";

const MEMBER: MemberId = MemberId(0x8e9e);
const CLUSTER: ClusterId = ClusterId(0xc1);
/// Each start numbers its requests from here, times the number of the start.
const REQUESTS_PER_BOOT: u64 = 1 << 24;

/// A request of a client: its place in the history.
pub(super) type OperationId = usize;

/// One life of the member, from its start to its end.
pub(super) struct Process {
    /// Which life; the first has 1.
    pub(super) boot: u64,
    pub(super) core: Core,
    executor: Executor<Disk>,
    background: BackgroundExecutor<Disk>,
    /// What waits for the disk, foreground first.
    pub(super) lanes: [Jobs; 2],
    /// The watchers; there from the end of the replay on, as clients are let in only then.
    pub(super) hub: Option<WatchHub>,
    /// What the hub has been told and has not taken.
    pub(super) hub_inputs: VecDeque<watch::Input>,
    /// What readers see.
    pub(super) view: ReadView,
    /// The newest revision that this life has published.
    pub(super) published: i64,
    /// Requests that wait for their entry to be applied.
    pub(super) proposed: BTreeMap<RequestId, OperationId>,
    /// Reads and questions about leases, by token.
    pub(super) asked: BTreeMap<u64, OperationId>,
    next_request: u64,
    next_token: u64,
}

/// The jobs of one lane; one runs at a time.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) waiting: VecDeque<Job>,
    pub(super) busy: bool,
}

/// Why the member did not start.
#[derive(Debug)]
pub(super) enum StartError {
    Log(WalError),
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
    /// Whether a torn tail was cut.
    pub(super) repaired: bool,
}

impl Process {
    /// Starts the member as the server does: a new log where there is none, else the old one.
    pub(super) fn start(
        disk: &Disk,
        boot: u64,
        seed: u64,
        options: Options,
    ) -> Result<(Self, Found), StartError> {
        let directory = Path::new(LOG_DIRECTORY);
        let opened = if wal::exists(disk, directory)? {
            wal::open(disk, directory, options)?
        } else {
            wal::create(
                disk,
                directory,
                Metadata {
                    node: MEMBER,
                    cluster: CLUSTER,
                },
                options,
            )?
        };
        let wal::Opened {
            recovered,
            repair,
            log,
            executor,
            background,
        } = opened;
        let found = Found {
            entries: recovered.entries.len(),
            repaired: repair.is_some(),
        };
        let next_request = (MEMBER.0 << 48) + boot * REQUESTS_PER_BOOT;
        let apply = Apply::new(Local {
            member: MEMBER,
            first_request: RequestId(next_request),
        });
        let view = apply.read_view();
        let lease = Deadlines::new(ELECTION_TIMEOUT);
        let config = consensus::Config::new(MEMBER, seed, boot);
        // A log whose bootstrap was not finished: nothing was promised to anybody.
        let core = if recovered.hard_state.term() == 0 {
            Core::bootstrap(config, &initial_members(), log, apply, lease)
        } else {
            Core::restore(config, recovered, log, apply, lease)
        };
        let core = core.map_err(|error| StartError::Restore(error.to_string()))?;
        let process = Self {
            boot,
            core,
            executor,
            background,
            lanes: Default::default(),
            hub: None,
            hub_inputs: VecDeque::new(),
            published: view.keys.current_revision(),
            view,
            proposed: BTreeMap::new(),
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
                member: MEMBER,
                max_request_bytes: 1 << 20,
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

    pub(super) fn next_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    pub(super) fn run_job(&mut self, job: &Job) -> Result<(), WalError> {
        match job.lane() {
            Lane::Foreground => self.executor.run(job),
            Lane::Background => self.background.run(job),
        }
    }

    pub(super) fn check_invariants(&self) {
        self.core.check_invariants();
        if let Some(hub) = &self.hub {
            hub.check_invariants();
        }
    }
}

fn initial_members() -> Vec<InitialMember> {
    let member = cluster::Member::new(MEMBER, vec!["http://localhost:2380".to_owned()], false);
    vec![InitialMember {
        id: MEMBER,
        context: member.context().into(),
    }]
}
