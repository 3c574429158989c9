//! Planted bugs: the proof that the simulator can find what it looks for.
//!
//! Each bug is a small change to a copy of the pure crates below `target/planted`; production code has no switches. The
//! copy has them all and is built once: every change asks whether it is the bug of this run, and a run has one at most.
//! Then seeds run until two of them fail by a checker; a panic alone is not enough. A bug that is not found so, or a place
//! that is no longer there to be changed, is a failure, and so is a copy that fails without a bug.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::root;

mod bugs;

/// Seeds that a bug may take to be found twice.
const SEEDS_MAX: u64 = 300;
/// Seeds that must hold without a bug.
const SEEDS_SOUND: u64 = 5;
/// Bugs that are looked for at the same time, one per core of the machines that tests run on.
const SIDE_BY_SIDE: usize = 2;
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

/// Contents by their place in the tree.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A small change that makes the product wrong.
struct Bug {
    name: &'static str,
    /// Below `crates`.
    file: &'static str,
    /// The drill that makes its situation. Seeds with that one have it five times as often as those of a test run, which
    /// draw among all drills.
    drill: Option<&'static str>,
    /// What stands there once, and what is put in its place.
    change: (&'static str, &'static str),
}

/// Looks for each bug whose name holds `name` and prints a row of the table in `docs/testing.md` for it.
pub(crate) fn run(name: &str) -> Result<()> {
    let tree = root().join("target/planted/tree");
    let mut files = sound_copy()?;
    for (number, bug) in (1..).zip(bugs::BUGS) {
        plant(&mut files, bug, number)?;
    }
    write_out(&files, &tree)?;
    build(&tree)?;
    let sound = failures(0, SEEDS_SOUND, None)?;
    ensure!(sound.is_empty(), "fails without a bug: {sound:?}");
    println!("| bug | seeds until found | and again | found by |");
    println!("|---|---|---|---|");
    let asked = (1..).zip(bugs::BUGS);
    let asked: Vec<_> = asked.filter(|(_, bug)| bug.name.contains(name)).collect();
    let mut missed = 0;
    for some in asked.chunks(SIDE_BY_SIDE) {
        let rows: Vec<Result<_>> = thread::scope(|scope| {
            let look = |(number, bug)| scope.spawn(move || look_for(bug, number));
            let threads: Vec<_> = some.iter().copied().map(look).collect();
            let joined = threads.into_iter().map(|it| it.join().expect("no panic"));
            joined.collect()
        });
        for row in rows {
            let (row, is_found) = row?;
            println!("{row}");
            missed += usize::from(!is_found);
        }
    }
    ensure!(missed == 0, "{missed} planted bugs were not found");
    Ok(())
}

/// The row of a bug in the table, and whether it was found as it must be.
fn look_for(bug: &Bug, number: u32) -> Result<(String, bool)> {
    let found = failures(number, SEEDS_MAX, bug.drill)?;
    let judged: Vec<_> = found.iter().filter(|(_, by)| by != PANIC).collect();
    let mut by: Vec<&str> = judged.iter().map(|(_, by)| &**by).collect();
    by.dedup();
    Ok(match &judged[..] {
        [(first, _), (second, _), ..] => {
            let by = by.join("; ");
            (
                format!("| {} | {first} | {second} | {by} |", bug.name),
                true,
            )
        }
        _ => {
            let row = format!("| {} | not twice within {SEEDS_MAX}: {found:?} |", bug.name);
            (row, false)
        }
    })
}

/// The pure crates and what they are built with, by their place below the root.
fn sound_copy() -> Result<Files> {
    let mut files = Files::new();
    for name in CRATES {
        read_directory(&Path::new("crates").join(name), &mut files)?;
    }
    for file in ["Cargo.lock", "Cargo.toml", "rust-toolchain.toml"] {
        let text = fs::read(root().join(file)).with_context(|| format!("read {file}"))?;
        files.insert(file.into(), text);
    }
    let members = (
        r#"members = ["crates/*", "xtask"]"#,
        r#"members = ["crates/*"]"#,
    );
    replace_once(&mut files, Path::new("Cargo.toml"), members)?;
    let switched = files.get_mut(Path::new("crates/proto/src/lib.rs"));
    switched
        .context("the crate with the switch")?
        .extend_from_slice(SWITCH.as_bytes());
    Ok(files)
}

fn read_directory(below: &Path, files: &mut Files) -> Result<()> {
    let directory = root().join(below);
    let entries = fs::read_dir(&directory);
    for entry in entries.with_context(|| format!("read {}", directory.display()))? {
        let entry = entry?;
        let below = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            read_directory(&below, files)?;
        } else {
            files.insert(below, fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn plant(files: &mut Files, bug: &Bug, number: u32) -> Result<()> {
    let broken = bug.change.1;
    let broken = broken.replace("BUG", &format!("kvorum_proto::planted({number})"));
    let place = Path::new("crates").join(bug.file);
    replace_once(files, &place, (bug.change.0, &broken)).context(bug.name)
}

/// Replaces a text that stands in a file once.
fn replace_once(files: &mut Files, file: &Path, (from, to): (&str, &str)) -> Result<()> {
    let bytes = files.get_mut(file);
    let bytes = bytes.with_context(|| format!("{} is not there", file.display()))?;
    let text = String::from_utf8(std::mem::take(bytes))?;
    let places = text.matches(from).count();
    ensure!(
        places == 1,
        "{places} places for a change in {}",
        file.display()
    );
    *bytes = text.replace(from, to).into();
    Ok(())
}

/// Makes a tree hold these files and no others; what is as it was is not touched, so that it is not built again.
fn write_out(files: &Files, tree: &Path) -> Result<()> {
    remove_others(tree, tree, files)?;
    for (below, bytes) in files {
        let path = tree.join(below);
        if fs::read(&path).is_ok_and(|there| there == *bytes) {
            continue;
        }
        let parent = path.parent().context("a file lies in a directory")?;
        fs::create_dir_all(parent)?;
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn remove_others(tree: &Path, directory: &Path, files: &Files) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_others(tree, &path, files)?;
        } else if !files.contains_key(path.strip_prefix(tree)?) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
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
fn failures(bug: u32, seeds: u64, drill: Option<&str>) -> Result<Vec<(u64, String)>> {
    let output = Command::new(target().join("debug/sim"))
        .args(["--find", "2", "--seeds", &format!("0..{seeds}")])
        .args(drill.iter().flat_map(|drill| ["--drill", drill]))
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
