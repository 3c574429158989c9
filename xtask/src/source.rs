//! The files of the project, as git knows them.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::root;

/// One file of the project.
pub(crate) struct Source {
    /// Path below the root.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
}

/// Every tracked or new, not ignored text file whose name ends in `suffix`.
pub(crate) fn files(suffix: &str) -> Result<Vec<Source>> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("run git ls-files")?;
    ensure!(listing.status.success(), "git ls-files failed");
    let mut sources = Vec::new();
    for path in String::from_utf8(listing.stdout)?
        .lines()
        .filter(|path| path.ends_with(suffix))
    {
        // A file that is deleted but still in the index has no text.
        if let Ok(text) = fs::read_to_string(root().join(path)) {
            sources.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(sources)
}
