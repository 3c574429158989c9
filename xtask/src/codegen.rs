//! Generates the wire types of `crates/proto` from `proto/*.proto`.
//!
//! The generated files are committed, so that a build needs neither a protobuf compiler nor the
//! generator; `check` fails where they differ from what the generator writes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::root;

const GENERATED: &str = "crates/proto/src/generated";

/// Writes the generated files into the source tree.
pub(crate) fn write() -> Result<()> {
    generate(&root().join(GENERATED))
}

/// Fails when the committed files are not what the generator writes.
pub(crate) fn check() -> Result<()> {
    let fresh = root().join("target/codegen-check");
    generate(&fresh)?;
    let committed = root().join(GENERATED);
    for entry in fs::read_dir(&fresh)? {
        let name = entry?.file_name();
        let want = fs::read(fresh.join(&name))?;
        let have = fs::read(committed.join(&name)).unwrap_or_default();
        if want != have {
            bail!(
                "{GENERATED}/{} is stale: run `cargo xtask codegen`",
                name.display()
            );
        }
    }
    Ok(())
}

fn generate(out: &Path) -> Result<()> {
    let protos = root().join("proto");
    let mut files: Vec<PathBuf> = fs::read_dir(&protos)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let descriptors = protox::compile(&files, [&protos]).context("compile proto/*.proto")?;
    fs::create_dir_all(out)?;
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out)
        .compile_fds(descriptors)
        .context("generate Rust from proto/*.proto")
}
