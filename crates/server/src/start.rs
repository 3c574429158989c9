//! The life of the process: configuration, bootstrap, ports, readiness, the end.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kvorum_member::cluster::CLUSTER_VERSION;
use kvorum_member::quota::Quota;
use kvorum_mvcc::watch;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest,
};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::api::v3::{Api, Limits, Services};
use crate::bootstrap;
use crate::config::{self, Config, STATUS_FAILED};
use crate::log::{self, Line};
use crate::metrics::Metrics;
use crate::peer::Dialer;
use crate::ports;
use crate::process::data_directory::{self, DataDirectory};
use crate::process::huge_pages::SmallPages;
use crate::process::signals::{Signals, StopSignal};
use crate::process::{limits, service};
use crate::runtime::disk_space::DiskWatch;
use crate::runtime::{
    Member, MemberSettings, PeerSettings, Requests, Running, Settings, Start, StopReason,
    auto_compaction, disk_space, freed, handover, promotion, versions,
};
use crate::security::PeerSecurity;
use crate::transport::Server;

/// Runs the server with these arguments and this environment until it ends.
#[must_use]
pub fn run(
    arguments: impl Iterator<Item = OsString>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> ExitCode {
    // Before anything else, since what has huge pages keeps them.
    let small_pages = SmallPages::begin();
    log::take_over_panics();
    let arguments: Vec<String> = arguments
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // A variable that is no text is none of ours.
    let variables: Vec<(String, String)> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let parsed = match config::parse(&arguments, &variables) {
        Ok(parsed) => parsed,
        Err(exit) => return ExitCode::from(exit.report()),
    };
    for line in &parsed.early {
        line.write();
    }
    if let Err(error) = log::init(&parsed.config) {
        Line::warn("failed to verify flags")
            .text("error", error)
            .write();
        return ExitCode::from(STATUS_FAILED);
    }
    for line in &parsed.notices {
        line.write();
    }
    let (message, error) = match serve(&parsed.config, small_pages) {
        // The process ends by the signal it got, as its parent expects.
        Ok(End::Signal(signal)) => signal.end_process(),
        Ok(End::Stopped(StopReason::Asked | StopReason::Removed)) => return ExitCode::SUCCESS,
        Ok(End::Stopped(StopReason::Broken(reason))) => ("the member cannot go on", reason),
        // What official servers say of every start that fails.
        Err(error) => ("discovery failed", format!("{error:#}")),
    };
    Line::fatal(message).text("error", error).write();
    ExitCode::from(STATUS_FAILED)
}

/// How the life of a member ended.
enum End {
    /// The process was told to stop.
    Signal(StopSignal),
    /// The member stopped by itself.
    Stopped(StopReason),
}

/// Runs the member until it ends; an error is a start that failed.
fn serve(config: &Config, small_pages: Option<SmallPages>) -> anyhow::Result<End> {
    let data = config.data_dir.as_ref();
    data_directory::identify(data)?;
    let mut directory = DataDirectory::open(data)?;
    let initialized = bootstrap::is_initialized(config)?;
    config.start_line(initialized).write();
    let security = PeerSecurity::prepare(config, initialized)?;
    let connections_max = limits::client_connections_max(limits::raise_open_files())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.spawn(freed::look_after_memory(small_pages));
    let metrics = Arc::new(Metrics::new(config.metrics == "extensive"));
    // Ports are taken first: an address in use is told before anything is written.
    let bound = runtime.block_on(async { ports::bind(config, security.server.as_ref()) })?;
    let disk = DiskWatch::open(&directory.member().join("state"), &config.wal_directory())?;
    let surroundings = (runtime.handle(), security.dialer);
    let running = start(config, &mut directory, &metrics, surroundings)?;
    runtime.spawn(disk_space::watch(running.member.clone(), disk));
    runtime.block_on(live(config, running, bound, metrics, connections_max))
}

/// From a data directory to a member whose threads run.
fn start(
    config: &Config,
    directory: &mut DataDirectory,
    metrics: &Arc<Metrics>,
    (runtime, dialer): (&tokio::runtime::Handle, Dialer),
) -> anyhow::Result<Running> {
    let mut requests = None;
    let booted = bootstrap::boot(config, directory, runtime, &dialer, |member| {
        requests.insert(Requests::new(member)).first()
    })?;
    directory.mark_format()?;
    let election_timeout = bootstrap::election_timeout(config);
    let identity = booted.identity;
    let requests = requests.unwrap_or_else(|| Requests::new(identity.member));
    let start = Start {
        settings: Settings {
            tick: Duration::from_millis(config.heartbeat_interval_ms),
            request_timeout: bootstrap::request_timeout(config),
            election_timeout,
            compaction_pause: config.compaction_sleep_interval.to_duration(),
            compaction_step_records: config.compaction_step_records(),
            checkpoint: bootstrap::checkpoint_policy(config),
            warning_apply_duration: config.warning_apply_duration.to_duration(),
        },
        watch: watch::Config {
            cluster: identity.cluster,
            member: identity.member,
            message_bytes_max: config.max_request_bytes as usize + watch::FRAGMENT_OVERHEAD_BYTES,
            progress_interval: config.watch_progress_notify_interval.to_duration(),
            leaderless_max: 3 * election_timeout,
            seed: identity.member.0,
        },
        member: MemberSettings {
            quota: Quota::from_flag(config.quota_backend_bytes),
            request_timeout: bootstrap::request_timeout(config),
            strict_reconfig_check: config.strict_reconfig_check,
            learners_max: usize::try_from(config.max_learners).unwrap_or(usize::MAX),
        },
        peers: PeerSettings {
            urls: config
                .initial_advertise_peer_urls
                .iter()
                .map(ToString::to_string)
                .collect(),
            state_directory: config.member_directory().join("state"),
            dialer,
            read_timeout: config.raft_read_timeout.to_duration(),
            runtime: runtime.clone(),
        },
        scrub_pause: config.kvorum_scrub_pause.to_duration(),
        metrics: Arc::clone(metrics),
    };
    ports::announce(config, identity, metrics);
    Ok(Running::start(booted, requests, start)?)
}

/// Pause before a member tries again to tell the cluster about itself.
const PUBLISH_PAUSE: Duration = Duration::from_millis(100);

/// From running threads to the end.
async fn live(
    config: &Config,
    mut running: Running,
    mut bound: ports::Bound,
    metrics: Arc<Metrics>,
    connections_max: Option<u64>,
) -> anyhow::Result<End> {
    let mut signals = Signals::take_over()?;
    let member = running.member.clone();
    let peer_server = member
        .peers()
        .map(|peers| ports::open_to_peers(config, &mut bound, peers, &metrics));
    tokio::spawn(versions::monitor(member.clone()));
    if let Some(retention) = config::auto_compaction_retention(config)? {
        tokio::spawn(auto_compaction::run(member.clone(), retention));
    }
    if config.kvorum_promote_learners {
        tokio::spawn(promotion::promote_learners(member.clone()));
    }
    if config.initial_election_tick_advance {
        tokio::spawn(handover::advance_election(member.clone()));
    }
    let stopped = tokio::select! {
        published = publish(config, &member) => published.err(),
        signal = signals.next() => {
            return Ok(End::Signal(end(signal, running, None, peer_server).await));
        }
        reason = running.ended() => Some(reason),
    };
    if let Some(reason) = stopped {
        return Ok(End::Stopped(reason));
    }
    let api = Api::new(
        member.clone(),
        api_limits(config),
        Arc::clone(&metrics),
        tokio::runtime::Handle::current(),
    );
    let services = Arc::new(Services(api));
    let server = ports::open(config, bound, services, &member, metrics, connections_max);
    info!("ready to serve client requests");
    for address in server.addresses() {
        info!(
            address,
            "serving client traffic insecurely; this is strongly discouraged!"
        );
    }
    service::notify_ready();
    tokio::select! {
        signal = signals.next() => {
            let server = Some(server.into_server());
            Ok(End::Signal(end(signal, running, server, peer_server).await))
        }
        reason = running.ended() => Ok(End::Stopped(reason)),
    }
}

/// Stops accepting, lets calls in flight end for a bounded time, then stops the member.
async fn end(
    signal: StopSignal,
    running: Running,
    server: Option<Server>,
    peer_server: Option<Server>,
) -> StopSignal {
    handover::hand_over(&running.member).await;
    if let Some(server) = server {
        server.shutdown().await;
    }
    if let Some(peers) = running.member.peers() {
        // What peers read ends, so their port has nothing left to wait for.
        peers.stop();
    }
    if let Some(server) = peer_server {
        server.shutdown().await;
    }
    let stopped = tokio::task::spawn_blocking(move || running.stop()).await;
    if let Err(error) = stopped {
        warn!(%error, "the member did not stop cleanly");
    }
    info!("closed etcd server");
    signal
}

fn api_limits(config: &Config) -> Limits {
    Limits {
        request_bytes_max: config.max_request_bytes as usize,
        txn_ops_max: usize::try_from(config.max_txn_ops).unwrap_or(usize::MAX),
        election_timeout: bootstrap::election_timeout(config),
    }
}

/// Tells the cluster this member's name and client addresses, and settles its version. The member serves when this
/// is applied: it has a leader, and all that was committed before is replayed.
async fn publish(config: &Config, member: &Member) -> Result<(), StopReason> {
    let id = member.identity().member;
    let urls: Vec<String> = config
        .advertise_client_urls
        .iter()
        .map(ToString::to_string)
        .collect();
    let attributes = Payload::ClusterMemberAttrSet(ClusterMemberAttrSetRequest {
        member_id: id.0,
        member_attributes: Some(Attributes {
            name: config.name.clone(),
            client_urls: urls.clone(),
        }),
    });
    propose_until_applied(member, &attributes).await?;
    info!(

        local_member_id = %id,
        local_member_attributes = ?urls,
        "published local member to cluster through raft"
    );
    let cluster = member.read_view().cluster;
    // Several members find out what they have in common; a lone one knows. Data of an older release
    // may have come in.
    let alone = cluster.roster.members().count() <= 1;
    let stays = cluster.downgrade.target.is_some();
    let is_old = |version| version < CLUSTER_VERSION && !stays;
    if alone && cluster.version.is_none_or(is_old) {
        let version = ClusterVersionSetRequest {
            ver: CLUSTER_VERSION.to_string(),
        };
        propose_until_applied(member, &Payload::ClusterVersionSet(version)).await?;
    }
    Ok(())
}

/// Proposes what must be in the log before the member serves, until it is there. Whatever kept it out passes: there was no
/// leader yet, or it was lost. Where nobody knows whether it is there (see [`kvorum_member::core::Output::AnswersLost`])
/// the same again changes nothing.
/// Source: etcd v3.7.1 `server/etcdserver/server.go`, `publishV3`.
async fn propose_until_applied(member: &Member, payload: &Payload) -> Result<(), StopReason> {
    use kvorum_member::apply::RequestError;
    loop {
        let (sender, receiver) = oneshot::channel();
        member.propose_inside(payload.clone(), move |outcome| drop(sender.send(outcome)));
        match receiver.await.unwrap_or(Err(RequestError::Stopped)) {
            Ok(_) => return Ok(()),
            Err(error @ RequestError::Stopped) => {
                return Err(StopReason::Broken(error.to_string()));
            }
            Err(error) => {
                warn!(%error, "failed to publish local member to cluster through raft");
                tokio::time::sleep(PUBLISH_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
