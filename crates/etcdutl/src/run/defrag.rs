//! `defrag`: the database of an official server without its free pages.
//!
//! Ours has none: what a compaction makes superfluous leaves the files by itself.

use std::path::Path;

use kvorum_cli::{Failure, Line};
use kvorum_storage::bolt::Patch;

use crate::files::{self, database_of};
use crate::log::{self, Value};

pub(super) fn run(line: &Line) -> Result<(), Failure> {
    let directory = line.text("data-dir");
    defragment(Path::new(&directory), line).map_err(|failure| {
        let cause = failure.text.trim_start_matches("Error: ");
        Failure::error(format!(
            "Failed to defragment etcd data[{directory}] ({cause})"
        ))
    })
}

fn defragment(directory: &Path, line: &Line) -> Result<(), Failure> {
    let database = database_of(directory);
    if !database.exists() && files::is_ours(directory) {
        let shown = directory.display().to_string();
        let message = "nothing to defragment: compaction gives space back by itself here";
        log::info("defrag.rs", message, &[("data-dir", Value::Text(&shown))]);
        return Ok(());
    }
    files::stat(&database)?;
    let (file, _lock) = files::open_locked(&database, line)?;
    let before = files::length(&database)?;
    files::replace(&database, &file, &Patch::new())?;
    let after = files::length(&database)?;
    let shown = database.display().to_string();
    log::info(
        "defrag.rs",
        "finished defragmenting directory",
        &[
            ("path", Value::Text(&shown)),
            ("current-db-size-bytes-before", Value::Number(before)),
            ("current-db-size-bytes-after", Value::Number(after)),
        ],
    );
    Ok(())
}
