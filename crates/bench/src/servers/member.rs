//! One process.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Setup;
use super::limit::MemoryGroup;
use crate::api;
use crate::endpoint::Endpoint;

/// How long a server may take until it answers a read; one with much data reads it first.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a server may take to end after a signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(2);

pub(super) struct Member {
    name: String,
    folder: PathBuf,
    /// Where it serves clients.
    pub(super) client: Endpoint,
    peer: SocketAddr,
    process: Option<Child>,
}

impl Member {
    pub(super) fn new(parent: &Path, name: &str) -> Result<Self> {
        let folder = parent.join(name);
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            client: free_address()?.into(),
            peer: free_address()?,
            process: None,
        })
    }

    pub(super) fn peer_url(&self) -> String {
        format!("http://{}", self.peer)
    }

    /// Its part of `--initial-cluster`.
    pub(super) fn initial(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    pub(super) fn spawn(
        &mut self,
        setup: &Setup,
        cluster: &str,
        state: &str,
        group: Option<&MemoryGroup>,
    ) -> Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let client_url = format!("http://{}", self.client.address);
        let mut command = match group {
            Some(group) => group.command(&setup.binary),
            None => Command::new(&setup.binary),
        };
        command
            .arg(format!("--name={}", self.name))
            .arg(format!("--data-dir={}", self.data().display()))
            .arg(format!("--listen-client-urls={client_url}"))
            .arg(format!("--advertise-client-urls={client_url}"))
            .arg(format!("--listen-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-cluster={cluster}"))
            .arg(format!("--initial-cluster-state={state}"))
            .arg("--log-level=error")
            .args(&setup.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let process = command.spawn();
        let process = process.with_context(|| format!("start {}", setup.binary.display()))?;
        self.process = Some(process);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Waits for the first answer to a read. `serializable`: it need not know of a leader.
    pub(super) fn wait_until_it_serves(
        &mut self,
        serializable: bool,
        at_most: Duration,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let answer = api::read_any(&self.client, serializable, at_most);
            let Err(error) = answer else {
                return Ok(());
            };
            let process = self.process.as_mut().context("it was not started")?;
            if let Some(status) = process.try_wait()? {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                bail!("the server ended with {status}:\n{}", tail(&log));
            }
            if started.elapsed() > at_most {
                return Err(error.context("the server does not serve"));
            }
            std::thread::sleep(POLL);
        }
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    pub(super) fn ask_to_end(&self) -> Result<()> {
        if let Some(process) = &self.process {
            kill_process(Pid::from_child(process), Signal::TERM)?;
        }
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let asked = Instant::now();
        if process.try_wait()?.is_none() {
            kill_process(Pid::from_child(&process), Signal::TERM)?;
        }
        while process.try_wait()?.is_none() {
            if asked.elapsed() > STOP_TIMEOUT {
                process.kill()?;
                process.wait()?;
                break;
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// The end of a log: what a reader needs to see why a process ended.
fn tail(log: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// An address that nobody listens on at this moment.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
