//! Starting a server of one member, and ending it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kvorum_proto::etcdserverpb::RangeRequest;
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};

use crate::h2c::Connection;
use crate::keys;

/// How long a server may take until it answers a read.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to end after a signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A server on free ports with a directory of its own. Dropped: it is ended and the directory removed.
pub(crate) struct Server {
    process: Child,
    directory: PathBuf,
    /// Where it serves clients.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts `binary` with its data below `parent`, and waits until it serves. `flags` are added to the others.
    pub(crate) fn start(binary: &Path, parent: &Path, flags: &[String]) -> Result<Self> {
        let (address, peers) = (free_address()?, free_address()?);
        let directory = parent.join(format!("bench-{}-{}", std::process::id(), address.port()));
        fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        let log = fs::File::create(directory.join("log"))?;
        let (client_url, peer_url) = (format!("http://{address}"), format!("http://{peers}"));
        let process = Command::new(binary)
            .arg("--name=bench")
            .arg(format!("--data-dir={}", directory.join("data").display()))
            .arg(format!("--listen-client-urls={client_url}"))
            .arg(format!("--advertise-client-urls={client_url}"))
            .arg(format!("--listen-peer-urls={peer_url}"))
            .arg(format!("--initial-advertise-peer-urls={peer_url}"))
            .arg(format!("--initial-cluster=bench={peer_url}"))
            .arg("--log-level=error")
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", binary.display()))?;
        let mut server = Self {
            process,
            directory,
            address,
        };
        server.wait_until_it_serves()?;
        Ok(server)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn wait_until_it_serves(&mut self) -> Result<()> {
        let started = Instant::now();
        let read = RangeRequest {
            key: keys::key(0).into(),
            ..RangeRequest::default()
        };
        let read = read.encode_to_vec();
        loop {
            let answer = Connection::ask(self.address, "/etcdserverpb.KV/Range", &read);
            let Err(error) = answer else {
                return Ok(());
            };
            if let Some(status) = self.process.try_wait()? {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("the server ended with {status}:\n{log}");
            }
            if started.elapsed() > START_TIMEOUT {
                return Err(error.context("the server does not serve"));
            }
            std::thread::sleep(POLL);
        }
    }

    fn stop(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM)?;
        let asked = Instant::now();
        while self.process.try_wait()?.is_none() {
            if asked.elapsed() > STOP_TIMEOUT {
                self.process.kill()?;
                self.process.wait()?;
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.stop().is_err() {
            // It has ended by itself, or it cannot be ended at all.
            let _ = self.process.kill();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What `binary --version` prints, line by line.
pub(crate) fn version(binary: &Path) -> Result<Vec<String>> {
    let output = Command::new(binary)
        .arg("--version")
        .output()
        .with_context(|| format!("run {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// An address that nobody listens on at this moment.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
