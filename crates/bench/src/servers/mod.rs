//! Servers of this tool: a lone member or a cluster on one machine, on free ports and in folders of their own.

mod limit;
mod member;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::api;
use crate::load::Target;
use limit::MemoryGroup;
use member::Member;
use member::START_TIMEOUT;

/// How long a cluster may take to agree on a leader.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// How long a cluster may take to accept a new member.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
const JOIN_POLL: Duration = Duration::from_millis(250);
/// How long a new member may take until it has what the others have.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(180);

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) binary: PathBuf,
    /// The folder in which data directories are made.
    pub(crate) parent: PathBuf,
    pub(crate) members: usize,
    /// Added to name, addresses, data directory and `--log-level=error`.
    pub(crate) flags: Vec<String>,
    /// Memory that all members have together, page cache included; none: as much as there is.
    pub(crate) memory_bytes: Option<u64>,
}

/// Members of one cluster. Dropped: they are killed and their folders removed.
pub(crate) struct Servers {
    setup: Setup,
    folder: PathBuf,
    members: Vec<Member>,
    group: Option<MemoryGroup>,
    /// Members there ever were, for their names.
    named: usize,
}

impl Servers {
    /// Starts all members with empty data directories and waits until each of them serves.
    pub(crate) fn start(setup: Setup) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ensure!(setup.members > 0, "a cluster without members");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kvorum-bench-{}-{number}", std::process::id());
        let folder = setup.parent.join(&name);
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        let group = setup.memory_bytes;
        let group = group.map(|bytes| MemoryGroup::new(&name, bytes));
        let mut servers = Self {
            members: Vec::new(),
            group: group.transpose()?,
            named: 0,
            folder,
            setup,
        };
        for _ in 0..servers.setup.members {
            let member = servers.new_member()?;
            servers.members.push(member);
        }
        let cluster = servers.initial_cluster();
        for member in &mut servers.members {
            member.spawn(&servers.setup, &cluster, "new", servers.group.as_ref())?;
        }
        for member in &mut servers.members {
            member.wait_until_it_serves(false, START_TIMEOUT)?;
        }
        Ok(servers)
    }

    fn new_member(&mut self) -> Result<Member> {
        self.named += 1;
        Member::new(&self.folder, &format!("m{}", self.named))
    }

    fn initial_cluster(&self) -> String {
        let all = self.members.iter().map(Member::initial);
        all.collect::<Vec<_>>().join(",")
    }

    /// The members that run: connections take turns, CPU and memory are added up.
    pub(crate) fn target(&self) -> Target {
        let running = self.members.iter().filter(|member| member.pid().is_some());
        Target {
            endpoints: running
                .clone()
                .map(|member| member.client.clone())
                .collect(),
            pids: running.filter_map(Member::pid).collect(),
        }
    }

    /// All connections go to one member; CPU and memory are still those of all.
    pub(crate) fn only(&self, place: usize) -> Target {
        Target {
            endpoints: vec![self.members[place].client.clone()],
            ..self.target()
        }
    }

    /// The place of the member that leads, by its own word.
    pub(crate) fn leader(&self) -> Result<usize> {
        let asked = Instant::now();
        while asked.elapsed() < ELECTION_TIMEOUT {
            for (place, member) in self.members.iter().enumerate() {
                if member.pid().is_none() {
                    continue;
                }
                let Ok(status) = api::status(&member.client, Duration::from_secs(1)) else {
                    continue;
                };
                let own = status.header.unwrap_or_default().member_id;
                if status.leader == own && own != 0 {
                    return Ok(place);
                }
            }
            std::thread::sleep(POLL);
        }
        bail!("no leader within {ELECTION_TIMEOUT:?}")
    }

    /// A member that runs and does not lead.
    pub(crate) fn follower(&self) -> Result<usize> {
        let leader = self.leader()?;
        let mut others = (0..self.members.len()).filter(|place| *place != leader);
        let runs = |place: &usize| self.members[*place].pid().is_some();
        others.find(runs).context("no follower runs")
    }

    /// Where the members keep their data.
    pub(crate) fn data(&self, place: usize) -> PathBuf {
        self.members[place].data()
    }

    /// Ends a member with SIGKILL.
    pub(crate) fn kill(&mut self, place: usize) -> Result<()> {
        self.members[place].kill()
    }

    /// Sends SIGTERM to a member and does not wait.
    pub(crate) fn ask_to_end(&self, place: usize) -> Result<()> {
        self.members[place].ask_to_end()
    }

    /// Ends a member with SIGTERM and waits for it.
    pub(crate) fn end(&mut self, place: usize) -> Result<()> {
        self.members[place].end()
    }

    /// Starts a member again that was ended. Returns how long it took to its first answer to a linearizable read.
    pub(crate) fn restart(&mut self, place: usize) -> Result<Duration> {
        let cluster = self.initial_cluster();
        let started = Instant::now();
        let member = &mut self.members[place];
        member.spawn(&self.setup, &cluster, "existing", self.group.as_ref())?;
        member.wait_until_it_serves(false, START_TIMEOUT)?;
        Ok(started.elapsed())
    }

    /// Adds a member to the cluster and starts it. Returns its place and how long it took until it had applied all that
    /// was committed before.
    pub(crate) fn join(&mut self) -> Result<(usize, Duration)> {
        let leader = self.members[self.leader()?].client.clone();
        let member = self.new_member()?;
        let asked = Instant::now();
        // A cluster takes no new member before its own have been connected for some seconds.
        while let Err(error) = api::member_add(&leader, &member.peer_url()) {
            ensure!(asked.elapsed() < JOIN_TIMEOUT, error);
            std::thread::sleep(JOIN_POLL);
        }
        self.members.push(member);
        let place = self.members.len() - 1;
        let cluster = self.initial_cluster();
        let started = Instant::now();
        let committed = api::status(&leader, START_TIMEOUT)?.raft_index;
        let member = &mut self.members[place];
        member.spawn(&self.setup, &cluster, "existing", self.group.as_ref())?;
        member.wait_until_it_serves(true, CATCH_UP_TIMEOUT)?;
        loop {
            let applied = api::status(&member.client, START_TIMEOUT)?.raft_applied_index;
            if applied >= committed {
                break;
            }
            ensure!(
                started.elapsed() < CATCH_UP_TIMEOUT,
                "the new member does not catch up: applied {applied} of {committed}"
            );
            std::thread::sleep(POLL);
        }
        Ok((place, started.elapsed()))
    }

    /// Takes the member that joined last out of the cluster again.
    pub(crate) fn leave(&mut self) -> Result<()> {
        let place = self.members.len() - 1;
        let status = api::status(&self.members[place].client, START_TIMEOUT)?;
        let id = status.header.unwrap_or_default().member_id;
        // Every member passes it on to the leader.
        api::member_remove(&self.members[0].client, id)?;
        let mut member = self.members.remove(place);
        // It may end by itself once it learns that it is out.
        let _ = member.kill();
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Nobody needs the data any more: members that agree on an orderly end would take seconds for it.
        self.members.clear();
        self.group = None;
        let _ = fs::remove_dir_all(&self.folder);
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
