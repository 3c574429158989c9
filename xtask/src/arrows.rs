//! Which crate may use which: the arrows go downwards only.
//!
//! A new arrow is a decision: it is made here, in a commit of its own, together with
//! ARCHITECTURE.md.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::root;

/// For each crate of ours the crates of ours that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("kvorum-proto", &[]),
    ("kvorum-storage", &["kvorum-proto"]),
    ("kvorum-mvcc", &["kvorum-proto", "kvorum-storage"]),
    (
        "kvorum-member",
        &["kvorum-proto", "kvorum-storage", "kvorum-mvcc"],
    ),
    (
        "kvorum-server",
        &[
            "kvorum-client",
            "kvorum-proto",
            "kvorum-storage",
            "kvorum-mvcc",
            "kvorum-member",
        ],
    ),
    (
        "kvorum-sim",
        &[
            "kvorum-proto",
            "kvorum-storage",
            "kvorum-mvcc",
            "kvorum-member",
        ],
    ),
    ("kvorum-client", &["kvorum-proto"]),
    ("kvorum-cli", &[]),
    (
        "kvorum-etcdctl",
        &["kvorum-cli", "kvorum-client", "kvorum-proto"],
    ),
    (
        "kvorum-etcdutl",
        &[
            "kvorum-cli",
            "kvorum-proto",
            "kvorum-storage",
            "kvorum-mvcc",
            "kvorum-member",
        ],
    ),
    ("kvorum-e2e", &["kvorum-proto"]),
    ("kvorum-bench", &["kvorum-client", "kvorum-proto"]),
    ("kvorum-fuzz", &["kvorum-proto", "kvorum-storage"]),
    ("xtask", &[]),
];

/// Crates from outside that a pure crate may use; everything else needs a decision here.
const PURE_OUTSIDE: &[(&str, &[&str])] = &[
    ("kvorum-proto", &["bytes", "prost"]),
    (
        "kvorum-storage",
        &[
            "bytes",
            "crc32c",
            "memmap2",
            "nix",
            "prost",
            "rustix",
            "thiserror",
            "tracing",
        ],
    ),
    (
        "kvorum-mvcc",
        &[
            "bytes",
            "crc32c",
            "memmap2",
            "prost",
            "thiserror",
            "tracing",
        ],
    ),
    (
        "kvorum-member",
        &[
            "bytes",
            "crc32c",
            "prost",
            "raft",
            "serde",
            "serde_json",
            "sha1",
            // The raft crate logs through it, and through nothing else.
            "slog",
            "thiserror",
            "tracing",
        ],
    ),
];

/// The arrows that break the tables, one line each.
pub(crate) fn violations() -> Result<Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(root())
        .output()
        .context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata without packages")?;
    let mut lines = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("package without a name")?;
        let Some((_, ours)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            lines.push(format!(
                "{name}: not in the table of arrows (xtask/src/arrows.rs)"
            ));
            continue;
        };
        let outside = PURE_OUTSIDE
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, list)| list);
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // What only tests use does not end up in the product.
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let target = dependency["name"]
                .as_str()
                .context("dependency without a name")?;
            let is_ours = ALLOWED.iter().any(|(known, _)| *known == target);
            if is_ours && !ours.contains(&target) {
                lines.push(format!("{name} -> {target}: this arrow is not allowed"));
            }
            if !is_ours && outside.is_some_and(|list| !list.contains(&target)) {
                lines.push(format!(
                    "{name} -> {target}: not on the allow-list of a pure crate"
                ));
            }
        }
    }
    Ok(lines)
}
