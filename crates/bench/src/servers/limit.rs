//! A limit on the memory of processes, page cache included: a control group of the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Where control groups are, newer kind first, with the file that holds the limit.
const HOMES: [(&str, &str, &str); 2] = [
    ("/sys/fs/cgroup", "cgroup.controllers", "memory.max"),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.limit_in_bytes",
    ),
];

/// A group of our own. Dropped: it is removed, once its processes have ended.
pub(super) struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// A group that may use so many bytes together.
    ///
    /// # Errors
    /// Where control groups are not there or not ours to make.
    pub(super) fn new(name: &str, bytes: u64) -> Result<Self> {
        let home = HOMES
            .iter()
            .find(|(home, sign, _)| Path::new(home).join(sign).exists());
        let (home, _, limit) = home.context("this machine has no control groups for memory")?;
        let group = Self(Path::new(home).join(name));
        fs::create_dir(&group.0).with_context(|| format!("make {}", group.0.display()))?;
        fs::write(group.0.join(limit), bytes.to_string())
            .with_context(|| format!("limit {}", group.0.display()))?;
        Ok(group)
    }

    /// Starts a program inside: a shell enters the group and becomes the program.
    pub(super) fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(self.0.join("cgroup.procs"))
            .arg(binary);
        command
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A group that still has processes stays, and does no harm.
        let _ = fs::remove_dir(&self.0);
    }
}
