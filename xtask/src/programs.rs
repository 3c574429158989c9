//! Everything is built once, and the test programs are then run as cargo would run them.
//!
//! `cargo test --package` resolves features anew for each choice of packages and builds most of the workspace again;
//! one build of the whole workspace takes a quarter of the time of four builds of its parts.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::root;

/// What one build of the workspace left behind.
pub(crate) struct Programs {
    /// In the order of their packages.
    pub(crate) tests: Vec<TestProgram>,
    binaries: Vec<(String, PathBuf)>,
}

/// The test functions of one target.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestProgram {
    /// Name of the package.
    pub(crate) package: String,
    /// Name of the library, the binary or the file below `tests`.
    pub(crate) target: String,
    path: PathBuf,
    folder: PathBuf,
}

impl TestProgram {
    /// The program, started where cargo would start it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

impl Programs {
    /// Builds every target of the workspace.
    ///
    /// # Errors
    /// When something does not build; the compiler has said what.
    pub(crate) fn build() -> Result<Self> {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--workspace", "--all-targets", "--quiet"])
            .arg("--message-format=json-render-diagnostics")
            .current_dir(root())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("start cargo")?;
        ensure!(output.status.success(), "the workspace does not build");
        let mut programs = Self {
            tests: Vec::new(),
            binaries: Vec::new(),
        };
        for line in output.stdout.split(|byte| *byte == b'\n') {
            if !line.is_empty() {
                programs.note(&serde_json::from_slice(line).context("read cargo's messages")?)?;
            }
        }
        programs.tests.sort();
        ensure!(!programs.tests.is_empty(), "no test program was built");
        Ok(programs)
    }

    fn note(&mut self, message: &Value) -> Result<()> {
        let Some(path) = message["executable"].as_str().map(PathBuf::from) else {
            return Ok(());
        };
        let target = text(&message["target"]["name"])?;
        if message["profile"]["test"] == true {
            let manifest = PathBuf::from(text(&message["manifest_path"])?);
            let folder = manifest.parent().context("a manifest lies in a folder")?;
            self.tests.push(TestProgram {
                package: package(&text(&message["package_id"])?),
                target,
                path,
                folder: folder.to_owned(),
            });
        } else if message["target"]["kind"][0] == "bin" {
            self.binaries.push((target, path));
        }
        Ok(())
    }

    /// Variables that tell the end-to-end tests which binaries to run.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (String, &PathBuf)> {
        self.binaries
            .iter()
            .map(|(name, path)| (format!("KVORUM_{}", name.to_uppercase()), path))
    }
}

fn text(value: &Value) -> Result<String> {
    Ok(value
        .as_str()
        .with_context(|| format!("a text, not {value}"))?
        .to_owned())
}

/// The name in `path+file:///src/crates/member#kvorum-member@0.1.0` or `path+file:///src/xtask#0.1.0`.
fn package(id: &str) -> String {
    let (path, fragment) = id.rsplit_once('#').unwrap_or(("", id));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::package;

    #[test]
    fn a_package_is_named_with_and_without_its_own_name() {
        let named = "path+file:///src/crates/member#kvorum-member@0.1.0";
        assert_eq!(package(named), "kvorum-member");
        assert_eq!(package("path+file:///src/xtask#0.1.0"), "xtask");
    }
}
