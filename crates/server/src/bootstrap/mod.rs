//! From a configuration to the machines of a member: a new cluster, one that runs already, or what its log remembers.
//!
//! A log that is there wins over every bootstrap flag, as in etcd. The directory of an official server is taken over in
//! place ([`official`]); one of a format that this release does not know is refused rather than guessed about.

mod birth;
mod discovery;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kvorum_member::apply::{Apply, Local};
use kvorum_member::checkpoint::{self, OpenError, Policy};
use kvorum_member::consensus::{self, InitialMember, RestoreError};
use kvorum_member::core::Core;
use kvorum_member::lease::Deadlines;
use kvorum_member::official::{self, OfficialError, Taking};
use kvorum_member::rescue::{self, RescueError};
use kvorum_proto::ids::{MemberId, RequestId};
use kvorum_proto::raftpb::Entry;
use kvorum_storage::checkpoint::Directory;
use kvorum_storage::vfs::{OsVfs, SyncMode};
use kvorum_storage::wal::{self, BackgroundExecutor, Executor, Metadata, WalError};
use tokio::runtime::Handle;
use tracing::{info, warn};

pub use birth::BirthError;
use birth::{Birth, Way};
pub use discovery::{DiscoveryError, ServiceError};

use crate::config::{BootstrapError, Config, Gate};
use crate::peer::Dialer;
use crate::process::data_directory::DataDirectory;
use crate::runtime::Identity;

/// How often the rests of long leases are written down (feature gate `LeaseCheckpoint`).
/// Source: etcd v3.7.1 `server/lease/lessor.go`, `defaultLeaseCheckpointInterval`.
const RESTS_INTERVAL: Duration = Duration::from_secs(300);

/// How often a log that another process holds is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(100);
/// How many tries there are between two log lines about it.
const LOCK_TRIES_PER_LINE: u32 = 100;

/// Why a member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The flags do not found a cluster.
    #[error(transparent)]
    Flags(#[from] BootstrapError),
    /// The other members are not found.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The other members do not let this one in.
    #[error(transparent)]
    Birth(#[from] BirthError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The log does not fit together.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The directory of an official server cannot be taken over.
    #[error("cannot take over the data directory of an official etcd server")]
    Official(#[from] OfficialError),
    /// The directory of an official server without its log.
    #[error(
        "{directory} holds the backend of an official etcd server (member/snap/db) and no write-ahead log; \
         nothing was changed; use `etcdutl snapshot restore --skip-hash-check` on that file"
    )]
    OfficialWithoutLog {
        /// The data directory.
        directory: String,
    },
    /// Users are asked for in the state that is there.
    #[error(
        "authentication is on in {directory}, and this release has none: it would serve everything to everybody"
    )]
    Authentication {
        /// The data directory.
        directory: String,
    },
    /// The state on disk cannot be taken up.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The member cannot go on alone.
    #[error(transparent)]
    Rescue(#[from] RescueError),
}

/// The machines of a member that is about to run.
pub struct Booted {
    /// The machines.
    pub core: Core,
    /// Who it is.
    pub identity: Identity,
    /// Members of a running cluster with their peer URLs, known before the log tells of them.
    pub introduced: BTreeMap<MemberId, Vec<String>>,
    /// Does the log's urgent jobs.
    pub executor: Executor<OsVfs>,
    /// Does the log's other jobs.
    pub background: BackgroundExecutor<OsVfs>,
    /// Does the jobs of the state.
    pub state: checkpoint::Executor<OsVfs>,
}

/// Whether the member has a log already.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn is_initialized(config: &Config) -> Result<bool, StartError> {
    Ok(wal::exists(&vfs(config), &config.wal_directory())?)
}

fn vfs(config: &Config) -> OsVfs {
    OsVfs::new(if config.unsafe_no_fsync {
        SyncMode::Never
    } else {
        SyncMode::Dsync
    })
}

/// Opens or makes the log and sets up the machines on it. `first_request` says, once the member is known, which
/// request ids this run will use.
///
/// # Errors
///
/// See [`StartError`].
pub(crate) fn boot(
    config: &Config,
    directory: &DataDirectory,
    runtime: &Handle,
    dialer: &Dialer,
    first_request: impl FnOnce(MemberId) -> RequestId,
) -> Result<Booted, StartError> {
    official::settle(&vfs(config), directory.member())?;
    if is_initialized(config)? {
        restart(config, directory, runtime, dialer, first_request)
    } else if directory.has_official_backend() {
        let directory = config.data_dir.clone();
        Err(StartError::OfficialWithoutLog { directory })
    } else {
        found(config, directory, runtime, dialer, first_request)
    }
}

fn options(config: &Config) -> wal::Options {
    let max_wals = match config.max_wals {
        0 => usize::MAX,
        files => usize::try_from(files).unwrap_or(usize::MAX),
    };
    wal::Options {
        max_wals,
        ..wal::Options::default()
    }
}

fn found(
    config: &Config,
    directory: &DataDirectory,
    runtime: &Handle,
    dialer: &Dialer,
    first_request: impl FnOnce(MemberId) -> RequestId,
) -> Result<Booted, StartError> {
    let birth = runtime.block_on(birth::find(config, dialer))?;
    let identity = birth.identity;
    info!(
        cluster_id = %identity.cluster,
        local_member_id = %identity.member,
        "starting local member"
    );
    let metadata = Metadata {
        node: identity.member,
        cluster: identity.cluster,
    };
    let opened = wal::create(
        &vfs(config),
        &config.wal_directory(),
        metadata,
        options(config),
    )?;
    let apply = Apply::new(Local {
        member: identity.member,
        first_request: first_request(identity.member),
    });
    let core = begin(config, &birth, opened.log, apply)?;
    Ok(Booted {
        core,
        identity,
        introduced: birth.introduced(),
        executor: opened.executor,
        background: opened.background,
        state: checkpoint::Executor::new(state_files(config, directory)),
    })
}

/// The machines of a member whose log is empty.
fn begin(config: &Config, birth: &Birth, log: wal::Log, apply: Apply) -> Result<Core, StartError> {
    let settings = consensus_config(config, birth.identity.member);
    Ok(match &birth.way {
        Way::Found(members) => {
            let initial = members.iter().map(|member| InitialMember {
                id: member.id(),
                context: member.context().into(),
            });
            let initial: Vec<_> = initial.collect();
            Core::bootstrap(settings, &initial, log, apply, deadlines(config))?
        }
        Way::Join(_) => Core::join(settings, log, apply, deadlines(config))?,
    })
}

fn restart(
    config: &Config,
    directory: &DataDirectory,
    runtime: &Handle,
    dialer: &Dialer,
    first_request: impl FnOnce(MemberId) -> RequestId,
) -> Result<Booted, StartError> {
    // The state is read while the log is: with many keys the one takes as long as the other.
    let files = state_files(config, directory);
    let (opened, prepared) = std::thread::scope(|scope| {
        let log = scope.spawn(|| open_waiting(config));
        let prepared = checkpoint::prepare(&files);
        (log.join(), prepared)
    });
    let opened = opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    if let Some(repair) = &opened.repair {
        warn!(
            file = %repair.file.display(),
            offset = repair.offset,
            bytes_cut = repair.bytes_cut,
            copy = %repair.copy.display(),
            "repaired the write-ahead log: cut a torn tail that nobody was told of"
        );
    }
    let recovered = opened.recovered;
    let Metadata { node, cluster } = recovered.metadata;
    let local = Local {
        member: node,
        first_request: first_request(node),
    };
    if directory.has_official_backend() {
        take_over(config, directory, &recovered, local)?;
    }
    let wal_commit = recovered.hard_state.commit();
    let state = checkpoint::open_prepared(&files, prepared, recovered, local)?;
    if !state.removed.is_empty() {
        info!(files = ?state.removed, "removed files that no checkpoint lists");
    }
    let checkpoint::Opened {
        apply,
        mut recovered,
        ..
    } = state;
    if apply.cluster().auth.enabled {
        let directory = config.data_dir.clone();
        return Err(StartError::Authentication { directory });
    }
    let identity = Identity {
        cluster,
        member: node,
    };
    let unfinished = recovered.entries.is_empty() && recovered.hard_state.term() == 0;
    let changes = if config.force_new_cluster && !unfinished {
        go_alone(identity, &apply, &mut recovered, wal_commit)?
    } else {
        info!(
            cluster_id = %cluster,
            local_member_id = %node,
            checkpoint_index = apply.applied().0,
            commit_index = recovered.hard_state.commit(),
            entries = recovered.entries.len(),
            "restarting local member"
        );
        Vec::new()
    };
    let (core, introduced) = if unfinished {
        // The first start ended before anything was durable: it is begun again on the same log.
        let mut birth = runtime.block_on(birth::find(config, dialer))?;
        birth.identity = identity;
        let core = begin(config, &birth, opened.log, apply)?;
        (core, birth.introduced())
    } else {
        let settings = consensus_config(config, node);
        let log = opened.log;
        let deadlines = deadlines(config);
        let core = Core::restore_alone(settings, recovered, changes, log, apply, deadlines)?;
        (core, BTreeMap::new())
    };
    Ok(Booted {
        core,
        identity,
        introduced,
        executor: opened.executor,
        background: opened.background,
        state: checkpoint::Executor::new(state_files(config, directory)),
    })
}

/// What it takes to go on as the only member of the cluster; see [`rescue`].
fn go_alone(
    identity: Identity,
    apply: &Apply,
    recovered: &mut wal::Recovered,
    wal_commit: u64,
) -> Result<Vec<Entry>, StartError> {
    let roster = &apply.cluster().roster;
    let rescue = rescue::go_alone(identity.member, roster, recovered)?;
    if rescue.discarded > 0 {
        info!(
            "entry-index" = recovered.hard_state.commit() + 1,
            "commit-index-from-wal" = wal_commit,
            "number-of-discarded-entries" = rescue.discarded,
            "discarding uncommitted WAL entries"
        );
    }
    let commit = recovered.hard_state.commit() + rescue.changes.len() as u64;
    info!(
        "cluster-id" = %identity.cluster,
        "local-member-id" = %identity.member,
        "wal-commit-index" = wal_commit,
        "commit-index" = commit,
        "removed-member-ids" = ?rescue.removed,
        "forcing restart member"
    );
    Ok(rescue.changes)
}

/// Makes our state of that of an official server, and says what it was and where it is kept.
fn take_over(
    config: &Config,
    directory: &DataDirectory,
    recovered: &wal::Recovered,
    local: Local,
) -> Result<(), StartError> {
    let member = directory.member();
    info!(
        path = %member.join("snap").join("db").display(),
        "found the backend of an official etcd server"
    );
    match official::take_over(&vfs(config), member, recovered, local)? {
        Taking::Over(taken) => {
            info!(
                database = %taken.database.display(),
                version = taken.version.map_or("unknown".to_owned(), |version| version.to_string()),
                consistent_index = taken.applied.0,
                replayed_entries = taken.replayed,
                changes = taken.changes,
                revision = taken.revision,
                kept = %taken.kept.display(),
                "took over the data directory of an official etcd server"
            );
            if taken.users > 0 {
                warn!(
                    users_and_roles = taken.users,
                    "users and roles are kept and not served: this release has no authentication"
                );
            }
        }
        Taking::Aside(kept) => info!(
            kept = %kept.display(),
            "moved the backend of an official etcd server aside: our own state is as new"
        ),
    }
    Ok(())
}

/// The files of the state.
fn state_files(config: &Config, directory: &DataDirectory) -> Directory<OsVfs> {
    Directory::new(vfs(config), directory.state())
}

/// When checkpoints are made.
#[must_use]
pub fn checkpoint_policy(config: &Config) -> Policy {
    Policy {
        entries_min: config.snapshot_count,
        pause: config.kvorum_checkpoint_pause.to_duration(),
        ..Policy::default()
    }
}

/// Opens the log; while another process has it, waits and says so, as an official server does.
fn open_waiting(config: &Config) -> Result<wal::Opened<OsVfs>, StartError> {
    let directory = config.wal_directory();
    let mut tries: u32 = 0;
    loop {
        match wal::open(&vfs(config), &directory, options(config)) {
            Err(WalError::Locked { file }) => {
                if tries.is_multiple_of(LOCK_TRIES_PER_LINE) {
                    log_locked(&file);
                }
                tries += 1;
                // Nobody tells when the other process ends, so it is asked again and again.
                std::thread::sleep(LOCK_RETRY);
            }
            other => return Ok(other?),
        }
    }
}

fn log_locked(file: &Path) {
    warn!(
        file = %file.display(),
        "the write-ahead log is taken by another process; waiting for it to end"
    );
}

fn consensus_config(config: &Config, member: MemberId) -> consensus::Config {
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = started.unwrap_or_default().as_nanos() as u64;
    let ticks = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let defaults = consensus::Config::new(member, nanoseconds ^ member.0, nanoseconds);
    consensus::Config {
        election_ticks: ticks(config.election_ticks()),
        pre_vote: config.pre_vote,
        snapshot_count: config.snapshot_count,
        catch_up_entries: config.snapshot_catchup_entries,
        request_timeout_ticks: request_timeout(config).as_millis() as u64
            / config.heartbeat_interval_ms.max(1),
        ..defaults
    }
}

fn deadlines(config: &Config) -> Deadlines {
    let mut deadlines = Deadlines::new(election_timeout(config));
    if config.feature_gates.enabled(Gate::LeaseCheckpoint) {
        deadlines.write_rests(RESTS_INTERVAL);
    }
    deadlines
}

/// The election timeout.
#[must_use]
pub fn election_timeout(config: &Config) -> Duration {
    Duration::from_millis(config.election_timeout_ms)
}

/// How long a request may take: 5 s for the queue and the disk, and two elections.
///
/// Source: etcd v3.7.1 `server/config/config.go`, `ReqTimeout`.
#[must_use]
pub fn request_timeout(config: &Config) -> Duration {
    Duration::from_secs(5) + 2 * election_timeout(config)
}
