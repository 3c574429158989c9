//! Starting the threads of a member and ending them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use kvorum_member::apply;
use kvorum_mvcc::watch;
use kvorum_proto::ids::MemberId;
use tokio::sync::oneshot;

use super::core_thread::{CoreThread, Settings, StopReason};
use super::disk::DiskThreads;
use super::door::Door;
use super::receive::Receiver;
use super::request_ids::RequestIds;
use super::scrub::Scrubber;
use super::state_disk::StateThreads;
use super::{Clock, Member, MemberSettings, watch_thread};
use crate::bootstrap::Booted;
use crate::metrics::Metrics;
use crate::peer::{Dialer, Local, Peers};

/// The ids that requests of this run will have; made before the machines, which must know the first.
pub struct Requests(RequestIds);

impl Requests {
    /// For a member whose run begins now.
    #[must_use]
    pub fn new(member: MemberId) -> Self {
        Self(RequestIds::new(member))
    }

    /// The first id of the run.
    #[must_use]
    pub fn first(&self) -> kvorum_proto::ids::RequestId {
        self.0.first()
    }
}

/// What a member is started with beside its machines.
pub struct Start {
    /// Times of the core thread.
    pub settings: Settings,
    /// The watch hub's part.
    pub watch: watch::Config,
    /// What services ask about.
    pub member: MemberSettings,
    /// What the links to peers need.
    pub peers: PeerSettings,
    /// Time between two rounds in which all files of the state are read again; zero for never.
    pub scrub_pause: Duration,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
}

/// What the links to peers need.
pub struct PeerSettings {
    /// Where this member says that peers reach it.
    pub urls: Vec<String>,
    /// Where snapshots are received.
    pub state_directory: PathBuf,
    /// How other members are called.
    pub(crate) dialer: Dialer,
    /// `--raft-read-timeout`.
    pub read_timeout: Duration,
    /// Where the tasks of the links run.
    pub runtime: tokio::runtime::Handle,
}

/// A member whose threads run.
pub struct Running {
    /// The handle for the services.
    pub member: Member,
    ended: oneshot::Receiver<StopReason>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts the threads around the machines.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn start(booted: Booted, requests: Requests, start: Start) -> io::Result<Self> {
        let Booted {
            core,
            identity,
            introduced,
            executor,
            background,
            state,
        } = booted;
        let clock = Clock::start();
        let commands = Arc::new(Door::default());
        let (door, watchers) = watch_thread::door();
        let view = core.apply().read_view();
        let watch_thread = watchers.start(
            start.watch,
            view.keys.clone(),
            clock,
            Arc::clone(&start.metrics),
        )?;
        let disks = DiskThreads::start(executor, background, &commands, &start.metrics)?;
        let receiving = state.clone();
        let latency = disks.load().latency().clone();
        let state = StateThreads::start(state, disks.load(), &commands, &start.metrics)?;
        let local = apply::Local {
            member: identity.member,
            first_request: requests.first(),
        };
        let member = Member::new(
            identity,
            view,
            door,
            start.metrics,
            Arc::clone(&commands),
            requests.0,
            start.member,
        );
        if start.scrub_pause > Duration::ZERO {
            let scrubber = Scrubber {
                member: member.clone(),
                directory: start.peers.state_directory.clone(),
                latency: latency.clone(),
                pause: start.scrub_pause,
            };
            scrubber.start()?;
        }
        let receiver = Receiver {
            member: member.clone(),
            local,
            executor: receiving,
            directory: start.peers.state_directory,
        };
        let local = Local {
            member: member.clone(),
            identity,
            peer_urls: start.peers.urls,
            dialer: start.peers.dialer,
            read_timeout: start.peers.read_timeout,
            snapshots: Some(Arc::new(receiver)),
            latency,
            runtime: start.peers.runtime,
        };
        let workers = local.runtime.metrics().num_workers();
        member.set_peers(Peers::start(local, introduced));
        let (sender, receiver) = channel();
        commands.open(sender, workers);
        let (tell, ended) = oneshot::channel();
        let thread = CoreThread::new(core, member.clone(), clock, start.settings, (disks, state));
        let core_thread = std::thread::Builder::new()
            .name("core".to_owned())
            .spawn(move || {
                let reason = commands.run(thread, &receiver);
                let _ = tell.send(reason);
            })?;
        Ok(Self {
            member,
            ended,
            threads: vec![core_thread, watch_thread],
        })
    }

    /// Waits until the member ends by itself.
    pub async fn ended(&mut self) -> StopReason {
        let lost = || StopReason::Broken("the core thread is gone".to_owned());
        (&mut self.ended).await.unwrap_or_else(|_| lost())
    }

    /// Stops the member and waits for its threads.
    pub fn stop(self) {
        self.member.stop();
        if let Some(peers) = self.member.peers() {
            peers.stop();
        }
        for thread in self.threads {
            // A thread that panicked has written why.
            let _ = thread.join();
        }
    }
}
