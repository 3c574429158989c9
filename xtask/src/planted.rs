//! Planted bugs: the proof that the simulator can find what it looks for.
//!
//! Each bug is a small change to a copy of the pure crates below `target/planted`; production code has no switches.
//! The copy is built, and seeds run until one of them fails. A bug that no seed finds, or a place that is no longer
//! there to be changed, is a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::root;

/// Seeds that a bug may take to be found.
const SEEDS_MAX: u64 = 200;

/// The crates that the simulator is made of.
const CRATES: &[&str] = &["proto", "storage", "mvcc", "member", "sim"];

struct Bug {
    name: &'static str,
    /// Below `crates`.
    file: &'static str,
    /// What stands there once, and what is put in its place.
    change: (&'static str, &'static str),
}

const BUGS: &[Bug] = &[
    Bug {
        name: "a leader counts its own copy before it is synced",
        file: "member/src/consensus/driver/turn.rs",
        change: (
            "if self.gates.is_empty() {\n            self.node.on_persist_ready(batch);",
            "if true {\n            self.node.on_persist_ready(batch);",
        ),
    },
    Bug {
        name: "a follower acknowledges before its sync",
        file: "member/src/consensus/driver/turn.rs",
        change: (
            "    !matches!(\n        message.msg_type,",
            "    false && !matches!(\n        message.msg_type,",
        ),
    },
    Bug {
        name: "the vote is not written down",
        file: "member/src/consensus/convert.rs",
        change: ("vote: Some(state.vote),", "vote: Some(0),"),
    },
    Bug {
        name: "a leader answers reads without asking",
        file: "member/src/consensus/driver.rs",
        change: (
            "if let Err(reason) = self.reads.push(self.now, token) {",
            "if self.is_leading() { let index = LogIndex(self.node.raft.raft_log.committed); self.outputs.push_back(Output::ReadReady { tokens: vec![token], index }); } else if let Err(reason) = self.reads.push(self.now, token) {",
        ),
    },
    Bug {
        name: "an answer to an old round of reads serves the next one",
        file: "member/src/consensus/reads.rs",
        change: (
            "Some(round) if round.context == context => {",
            "Some(round) if round.context.len() == context.len() => {",
        ),
    },
    Bug {
        name: "a learner counts in the quorum",
        file: "member/src/consensus/convert.rs",
        change: (
            "eraftpb::ConfChangeType::AddLearnerNode,\n    };",
            "eraftpb::ConfChangeType::AddNode,\n    };",
        ),
    },
    Bug {
        name: "a refused membership change reaches raft",
        file: "member/src/apply/cluster.rs",
        change: ("node_id: Some(0),", "node_id: wire.node_id,"),
    },
    Bug {
        name: "a membership change from before a snapshot is made again",
        file: "member/src/consensus/driver/inputs.rs",
        change: ("if index <= self.configured {", "if false {"),
    },
    Bug {
        name: "entries that a snapshot holds are applied after it",
        file: "member/src/consensus/driver/turn.rs",
        change: ("        self.flow.clear();\n", ""),
    },
    Bug {
        name: "a snapshot forgets the leases",
        file: "member/src/apply/machine.rs",
        change: (
            "self.state = new.state;",
            "self.state = new.state; self.state.grants = crate::lease::Grants::new();",
        ),
    },
    Bug {
        name: "leases of a snapshot are not counted down",
        file: "member/src/apply/machine.rs",
        change: ("            Effect::Lease(leases),\n", ""),
    },
    Bug {
        name: "the state depends on who waits for the reply",
        file: "member/src/apply/machine.rs",
        change: (
            "Payload::Put(request) => {\n",
            "Payload::Put(mut request) => {\n                if waits && request.lease != 0 { request.lease = 0; }\n",
        ),
    },
    Bug {
        name: "a forwarded proposal enters the log twice",
        file: "member/src/consensus/driver/inputs.rs",
        change: (
            "            self.hold(RequestId(0), entry);",
            "            self.hold(RequestId(0), entry.clone()); self.hold(RequestId(0), entry);",
        ),
    },
    Bug {
        name: "a deposed leader's revoke is forwarded",
        file: "member/src/consensus/driver/turn.rs",
        change: (
            "if held.only_in.is_some() && held.only_in != leads_in {",
            "if held.only_in.is_some() && false {",
        ),
    },
    Bug {
        name: "a keep-alive does not ask whether its leader leads",
        file: "member/src/lease/deadlines.rs",
        change: (
            "self.outputs.push_back(Output::Confirm(self.last_round));",
            "self.confirmed(now, self.last_round);",
        ),
    },
    Bug {
        name: "a new leader does not give leases their time again",
        file: "member/src/lease/deadlines.rs",
        change: (
            "(now + rest + self.election_timeout, *id)",
            "(now + rest.min(self.election_timeout), *id)",
        ),
    },
    Bug {
        name: "a hard state stands before the snapshot that it needs",
        file: "storage/src/wal/log.rs",
        change: (
            "self.record(|group| group.snapshot(snapshot));",
            "if let Some(state) = hard_state { self.state(state); } self.record(|group| group.snapshot(snapshot));",
        ),
    },
    Bug {
        name: "a group is written but not synced",
        file: "storage/src/wal/executor.rs",
        change: (
            "file.write_through(offset, bytes)",
            "file.write_at(offset, bytes)",
        ),
    },
    Bug {
        name: "durability is reported before the job is done",
        file: "storage/src/wal/log.rs",
        change: (
            "self.foreground = Some(Flight::Write { id, ticket });",
            "self.persisted(ticket); self.foreground = Some(Flight::Write { id, ticket: None });",
        ),
    },
    Bug {
        name: "a torn tail takes a whole record with it",
        file: "storage/src/wal/replay.rs",
        change: (
            "Some(torn.map_err(|damage| Found { offset, damage })?)",
            "{ self.entries.pop(); Some(torn.map_err(|damage| Found { offset, damage })?) }",
        ),
    },
    Bug {
        name: "the directory is not synced after a new file",
        file: "storage/src/wal/executor.rs",
        change: (
            ".rename(&made, &named)\n            .and_then(|()| self.vfs.sync_directory(&self.directory))",
            ".rename(&made, &named)",
        ),
    },
    Bug {
        name: "the last group is not written again after a failed sync",
        file: "storage/src/wal/mod.rs",
        change: (
            "file.write_through(tail.group as u64, &bytes[tail.group..tail.offset])",
            "file.write_at(tail.offset as u64, &[])",
        ),
    },
    Bug {
        name: "a lease ends one tick early",
        file: "member/src/lease/deadlines.rs",
        change: (
            "if end > now {\n                break;",
            "if end > now + Duration::from_millis(100) {\n                break;",
        ),
    },
    Bug {
        name: "a keep-alive is granted while the revoke is in the log",
        file: "member/src/lease/deadlines.rs",
        change: (
            "if lease.end <= now {\n            return;",
            "if false {\n            return;",
        ),
    },
    Bug {
        name: "a watch skips its first revision",
        file: "mvcc/src/watch/hub.rs",
        change: ("asked => (asked, asked)", "asked => (asked + 1, asked)"),
    },
    Bug {
        name: "a watch message holds a part of a transaction",
        file: "mvcc/src/watch/live.rs",
        change: (
            "self.show_target(matched[0].0, &mut page, &places, &mut left_behind);",
            "for place in &places { self.show_target(matched[0].0, &mut page, &[*place], &mut left_behind); }",
        ),
    },
    Bug {
        name: "a compaction drops the newest version of a key",
        file: "mvcc/src/index/history.rs",
        change: (
            "&& (!change.is_tombstone() || revision.main == compacted)",
            "&& revision.main == compacted",
        ),
    },
    Bug {
        name: "a read does not wait until its index is applied",
        file: "member/src/apply/machine.rs",
        change: ("if *first.key() > self.state.applied {", "if false {"),
    },
    Bug {
        name: "a proposal enters the log twice",
        file: "member/src/core.rs",
        change: (
            "Input::Propose(proposals) => consensus::Input::Propose(proposals),",
            "Input::Propose(proposals) => consensus::Input::Propose([proposals.clone(), proposals].concat()),",
        ),
    },
    Bug {
        name: "a segment is not synced before its checkpoint",
        file: "storage/src/checkpoint/directory.rs",
        change: (
            "file.sync()\n            .map_err(|error| failed(&name, \"syncing\", error))?;",
            "let _ = &mut file;",
        ),
    },
    Bug {
        name: "the directory is not synced after a new manifest",
        file: "storage/src/checkpoint/directory.rs",
        change: (
            "            .map_err(|error| failed(&next, \"renaming\", error))?;\n        self.sync_names()",
            "            .map_err(|error| failed(&next, \"renaming\", error))",
        ),
    },
    Bug {
        name: "a manifest is replaced before its last segment is written",
        file: "member/src/checkpoint/machine.rs",
        change: (
            "let listed: Vec<Listed> = listed.collect::<Option<_>>()?;",
            "let listed: Vec<Listed> = listed.flatten().collect();",
        ),
    },
    Bug {
        name: "a checkpoint says that it holds one entry more",
        file: "member/src/apply/checkpoint.rs",
        change: (
            "index: self.state.applied,",
            "index: kvorum_proto::ids::LogIndex(self.state.applied.0 + 1),",
        ),
    },
    Bug {
        name: "a checkpoint forgets the leases",
        file: "member/src/backend/mod.rs",
        change: (
            "bucket(schema::LEASE, self.leases.iter().map(lease))",
            "bucket(schema::LEASE, [])",
        ),
    },
    Bug {
        name: "a copy drops tombstones that older files need",
        file: "mvcc/src/segment_image.rs",
        change: (
            "let is_needed = row.version == 0 && !self.is_oldest;",
            "let is_needed = false;",
        ),
    },
    Bug {
        name: "a copy leaves out what came last",
        file: "mvcc/src/segment_image.rs",
        change: (
            "self.looked = true;",
            "self.looked = true; if let Some(last) = self.kept.last_mut() { *last = 0; }",
        ),
    },
];

/// Plants each bug whose name holds `name` in turn and prints a row of the table in `docs/testing.md` for it.
pub(crate) fn run(name: &str) -> Result<()> {
    let tree = root().join("target/planted/tree");
    let mut missed = 0;
    println!("| bug | seeds until found | found by |");
    println!("|---|---|---|");
    fresh_copy(&tree)?;
    for bug in BUGS.iter().filter(|bug| bug.name.contains(name)) {
        let sound = plant(&tree, bug)?;
        let found = first_failure(&tree)?;
        // Written anew, so that it is built anew.
        fs::write(tree.join("crates").join(bug.file), sound)?;
        match found {
            Some((seeds, property)) => println!("| {} | {seeds} | {property} |", bug.name),
            None => {
                missed += 1;
                println!("| {} | not within {SEEDS_MAX} | nothing |", bug.name);
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
    Ok(())
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

/// Changes the copy; returns what stood there.
fn plant(tree: &Path, bug: &Bug) -> Result<String> {
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
    fs::write(&path, source.replace(sound, broken))?;
    Ok(source)
}

/// How many seeds it took, and the property that the first failing one broke.
fn first_failure(tree: &Path) -> Result<Option<(u64, String)>> {
    let seeds = format!("0..{SEEDS_MAX}");
    let output = Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "--offline",
            "--package=kvorum-sim",
            "--bin=sim",
            "--",
        ])
        .args(["--stop", "--seeds", &seeds])
        .env("CARGO_TARGET_DIR", root().join("target/planted/build"))
        .env("RUSTFLAGS", "-Awarnings")
        .current_dir(tree)
        .output()
        .context("run the planted simulator")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find_map(|line| {
        let (seed, story) = line.strip_prefix("seed ")?.split_once(": ")?;
        let property = story
            .split_once(": ")
            .map_or(story, |(property, _)| property);
        Some((seed.parse::<u64>().ok()? + 1, property.to_owned()))
    });
    if found.is_none() && !output.status.success() {
        bail!(
            "the planted copy does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(found)
}
