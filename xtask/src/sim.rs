//! `cargo xtask sim`: many seeds, one seed with its event log, or the planted bugs.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{planted, root};

/// Passes the words on to the simulator, or plants bugs.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    if words == ["--planted"] {
        return planted::run();
    }
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package=kvorum-sim", "--bin=sim", "--"])
        .args(words)
        .current_dir(root())
        .status()
        .context("run the simulator")?;
    ensure!(status.success(), "the simulator found something");
    Ok(())
}
