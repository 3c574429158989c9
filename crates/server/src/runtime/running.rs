//! Starting the threads of a member and ending them.

use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use kvorum_member::quota::Quota;
use kvorum_mvcc::watch;
use tokio::sync::oneshot;

use super::core_thread::{CoreThread, Settings, StopReason};
use super::disk::DiskThreads;
use super::request_ids::RequestIds;
use super::{Clock, Member, watch_thread};
use crate::bootstrap::Booted;
use crate::metrics::Metrics;

/// The ids that requests of this run will have; made before the machines, which must know the first.
pub struct Requests(RequestIds);

impl Requests {
    /// For a member whose run begins now.
    #[must_use]
    pub fn new(member: kvorum_proto::ids::MemberId) -> Self {
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
    /// How much it may store.
    pub quota: Quota,
    /// The watch hub's part.
    pub watch: watch::Config,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
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
            executor,
            background,
        } = booted;
        let clock = Clock::start();
        let commands = Arc::new(OnceLock::new());
        let (door, watchers) = watch_thread::door();
        let view = core.apply().read_view();
        let watch_thread = watchers.start(
            start.watch,
            view.keys.clone(),
            clock,
            Arc::clone(&start.metrics),
        )?;
        let disks = DiskThreads::start(executor, background, &commands, &start.metrics)?;
        let member = Member::new(
            identity,
            start.quota,
            view,
            door,
            start.metrics,
            Arc::clone(&commands),
            requests.0,
        );
        let (sender, receiver) = channel();
        // Nobody has set it: the cell was made above.
        let _ = commands.set(sender);
        let (tell, ended) = oneshot::channel();
        let thread = CoreThread::new(core, member.clone(), clock, start.settings, disks);
        let core_thread = std::thread::Builder::new()
            .name("core".to_owned())
            .spawn(move || {
                let reason = thread.run(&receiver);
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
        for thread in self.threads {
            // A thread that panicked has written why.
            let _ = thread.join();
        }
    }
}
