//! Planted bugs: the proof that the simulator can find what it looks for.
//!
//! Each bug is a small change to a copy of the pure crates below `target/planted`; production code has no switches. The
//! copy has them all and is built once: every change asks whether it is the bug of this run, and a run has one at most.
//! Then seeds run until two of them fail by a checker; a panic alone is not enough. A bug that is not found so, or a place
//! that is no longer there to be changed, is a failure, and so is a copy that fails without a bug.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::root;

mod bugs;

/// Seeds that a bug may take to be found twice.
const SEEDS_MAX: u64 = 300;
/// Seeds that must hold without a bug.
const SEEDS_SOUND: u64 = 5;
/// What the simulator calls a panic.
const PANIC: &str = "no machine panics";
/// The crates that the simulator is made of.
const CRATES: &[&str] = &["proto", "storage", "mvcc", "member", "sim"];
/// Says which bug a run has, by the variable that the runs of the copy are started with.
const SWITCH: &str = r#"
/// Whether this run has the bug of this number.
#[must_use]
pub fn planted(bug: u32) -> bool {
    static BUG: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let read = || std::env::var("PLANTED").ok().and_then(|bug| bug.parse().ok());
    *BUG.get_or_init(|| read().unwrap_or_default()) == bug
}
"#;

/// A small change that makes the product wrong.
struct Bug {
    name: &'static str,
    /// Below `crates`.
    file: &'static str,
    /// What stands there once, and what is put in its place.
    change: (&'static str, &'static str),
}

/// Looks for each bug whose name holds `name` and prints a row of the table in `docs/testing.md` for it.
pub(crate) fn run(name: &str) -> Result<()> {
    let tree = root().join("target/planted/tree");
    fresh_copy(&tree)?;
    for (number, bug) in (1..).zip(bugs::BUGS) {
        plant(&tree, bug, number)?;
    }
    build(&tree)?;
    let sound = failures(0, SEEDS_SOUND)?;
    ensure!(sound.is_empty(), "fails without a bug: {sound:?}");
    println!("| bug | seeds until found | and again | found by |");
    println!("|---|---|---|---|");
    let mut missed = 0;
    for (number, bug) in (1..).zip(bugs::BUGS) {
        if !bug.name.contains(name) {
            continue;
        }
        let found = failures(number, SEEDS_MAX)?;
        let judged: Vec<_> = found.iter().filter(|(_, by)| by != PANIC).collect();
        let mut by: Vec<&str> = judged.iter().map(|(_, by)| &**by).collect();
        by.dedup();
        match &judged[..] {
            [(first, _), (second, _), ..] => {
                println!("| {} | {first} | {second} | {} |", bug.name, by.join("; "));
            }
            _ => {
                missed += 1;
                println!("| {} | not twice within {SEEDS_MAX}: {found:?} |", bug.name);
            }
        }
    }
    ensure!(missed == 0, "{missed} planted bugs were not found");
    Ok(())
}

fn fresh_copy(tree: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    for name in CRATES {
        let below = Path::new("crates").join(name);
        copy_directory(&root().join(&below), &tree.join(&below))?;
    }
    for file in ["Cargo.lock", "rust-toolchain.toml"] {
        fs::copy(root().join(file), tree.join(file)).with_context(|| format!("copy {file}"))?;
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let members = r#"members = ["crates/*", "xtask"]"#;
    ensure!(
        manifest.contains(members),
        "the workspace has other members than expected"
    );
    fs::write(
        tree.join("Cargo.toml"),
        manifest.replace(members, r#"members = ["crates/*"]"#),
    )?;
    let switched = tree.join("crates/proto/src/lib.rs");
    let source = fs::read_to_string(&switched)?;
    Ok(fs::write(switched, source + SWITCH)?)
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn plant(tree: &Path, bug: &Bug, number: u32) -> Result<()> {
    let path = tree.join("crates").join(bug.file);
    let source = fs::read_to_string(&path)?;
    let (sound, broken) = bug.change;
    let places = source.matches(sound).count();
    ensure!(
        places == 1,
        "{}: {places} places to plant it in {}",
        bug.name,
        bug.file
    );
    let broken = broken.replace("BUG", &format!("kvorum_proto::planted({number})"));
    Ok(fs::write(&path, source.replace(sound, &broken))?)
}

fn build(tree: &Path) -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--package=kvorum-sim"])
        .env("CARGO_TARGET_DIR", target())
        .env("RUSTFLAGS", "-Awarnings")
        .current_dir(tree)
        .output()
        .context("build the planted simulator")?;
    ensure!(
        output.status.success(),
        "the planted copy does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn target() -> PathBuf {
    root().join("target/planted/build")
}

/// The seeds that fail, counted from 1, each with the property that it broke first; two by a checker are enough.
fn failures(bug: u32, seeds: u64) -> Result<Vec<(u64, String)>> {
    let output = Command::new(target().join("debug/sim"))
        .args(["--find", "2", "--seeds", &format!("0..{seeds}")])
        .env("PLANTED", bug.to_string())
        .stderr(Stdio::null())
        .output()
        .context("run the planted simulator")?;
    let mut found: Vec<(u64, String)> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((seed, story)) = line
            .strip_prefix("seed ")
            .and_then(|line| line.split_once(": "))
        else {
            continue;
        };
        let seed = seed.parse::<u64>().context("a seed is a number")? + 1;
        let property = story
            .split_once(": ")
            .map_or(story, |(property, _)| property);
        match found.last_mut() {
            // Whatever else is wrong with a run that panics says more than the panic.
            Some((last, by)) if *last == seed => {
                if by == PANIC {
                    property.clone_into(by);
                }
            }
            _ => found.push((seed, property.to_owned())),
        }
    }
    Ok(found)
}
