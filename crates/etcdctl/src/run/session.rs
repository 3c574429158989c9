//! `lock` and `elect`: what is held as long as the tool, or its command, runs.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/lock_command.go`, `elect_command.go`.

use kvorum_client::{Client, Election, Mutex, Observer, Session};
use kvorum_proto::etcdserverpb::{RangeRequest, RangeResponse};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ending, execute, settings};
use crate::failure::failed;
use crate::output::Reply;
use crate::settings::Settings;
use kvorum_cli::Failure;
use kvorum_cli::Line;
use kvorum_cli::failure::ERROR;

/// Time to live of an election's session, in seconds.
const ELECT_TTL: i64 = 60;
/// Exit code of a command that a signal ended, as Go passes it on.
const KILLED: u8 = 255;

/// SIGINT and SIGTERM: the user wants to end it in order.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::error(error.to_string()));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

pub(super) async fn lock(mut line: Line) -> Result<(), Failure> {
    let Some((name, command)) = line.arguments.split_first() else {
        let text = "lock takes a lock name argument and an optional command to execute";
        return Err(Failure::arguments(text));
    };
    let (name, command) = (name.clone(), command.to_vec());
    let settings = settings(&mut line).await?;
    let client = settings.patient_client().await?;
    let ttl = match line.int("ttl") {
        ttl if ttl > 0 => ttl,
        _ => ELECT_TTL,
    };
    let mut session = Session::open(&client, ttl).await.map_err(failed)?;
    let mut stop = Stop::new()?;
    let Ok(mutex) = Mutex::lock_or(&session, &name, stop.wait())
        .await
        .map_err(failed)?
    else {
        return Err(Failure::error("context canceled"));
    };
    if !command.is_empty() {
        return locked_command(mutex, command).await;
    }
    let held = read(&client, mutex.key()).await?;
    if held.kvs.is_empty() {
        return Err(Failure::error("lock lost on init"));
    }
    settings.printer.print(&Reply::Range(held))?;
    tokio::select! {
        () = stop.wait() => mutex.unlock().await.map_err(failed),
        () = session.expired() => Err(Failure::error("session expired")),
    }
}

/// Runs the command while the lock is held, and ends as it ends.
async fn locked_command(mutex: Mutex, command: Vec<String>) -> Result<(), Failure> {
    let variables = vec![
        ("ETCD_LOCK_KEY", mutex.key().to_owned()),
        ("ETCD_LOCK_REV", mutex.header().revision.to_string()),
    ];
    let ended = execute(command, variables).await;
    let unlocked = mutex.unlock().await;
    match ended {
        Ok(status) if status.success() => unlocked.map_err(failed),
        Ok(status) => {
            let code = status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(KILLED);
            Err(Failure::new(code, ending(status)))
        }
        Err(error) => Err(Failure::new(ERROR, error)),
    }
}

pub(super) async fn elect(mut line: Line) -> Result<(), Failure> {
    let listen = line.flag("listen");
    let (name, proposal) = match line.arguments.as_slice() {
        [_] if !listen => return Err(Failure::arguments("no proposal argument but -l not set")),
        [name] => (name.clone(), None),
        [_, _] if listen => return Err(Failure::arguments("proposal given but -l is set")),
        [name, proposal] => (name.clone(), Some(proposal.clone())),
        _ => {
            let text = "elect takes one election name argument and an optional proposal argument";
            return Err(Failure::arguments(text));
        }
    };
    let settings = settings(&mut line).await?;
    let client = settings.patient_client().await?;
    match proposal {
        None => observe(&settings, &client, &name).await,
        Some(proposal) => campaign(&settings, &client, &name, proposal).await,
    }
}

async fn observe(settings: &Settings, client: &Client, name: &str) -> Result<(), Failure> {
    let mut observer = Observer::new(client, name);
    let mut stop = Stop::new()?;
    loop {
        let seen = tokio::select! {
            seen = observer.next() => seen,
            () = stop.wait() => return Ok(()),
        };
        let leader = seen.map_err(|_| Failure::error("elect: observer lost"))?;
        settings.printer.print(&Reply::Range(leader))?;
    }
}

async fn campaign(
    settings: &Settings,
    client: &Client,
    name: &str,
    proposal: String,
) -> Result<(), Failure> {
    let mut session = Session::open(client, ELECT_TTL).await.map_err(failed)?;
    let mut stop = Stop::new()?;
    let election = tokio::select! {
        election = Election::campaign(&session, name, proposal) => Some(election.map_err(failed)?),
        () = stop.wait() => None,
    };
    let Some(election) = election else {
        // The candidate's key goes with its lease.
        session.close().await.map_err(failed)?;
        return Err(Failure::error("context canceled"));
    };
    settings
        .printer
        .print(&Reply::Range(read(client, election.key()).await?))?;
    tokio::select! {
        () = stop.wait() => election.resign().await.map_err(failed),
        () = session.expired() => Err(Failure::error("elect: session expired")),
    }
}

async fn read(client: &Client, key: &str) -> Result<RangeResponse, Failure> {
    let request = RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    };
    client.range(&request).await.map_err(failed)
}
