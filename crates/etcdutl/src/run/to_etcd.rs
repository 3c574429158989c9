//! `migrate --to-etcd`: our directory becomes that of an official server.

use std::fs::{File, TryLockError};
use std::path::Path;

use kvorum_cli::{Failure, Line};
use kvorum_member::cluster::{SERVER_VERSION, Version};
use kvorum_member::official;
use kvorum_storage::vfs::OsVfs;

use crate::files;
use crate::log::{self, Value};

/// The oldest release whose format is known.
const OLDEST: Version = Version {
    major: 3,
    minor: 4,
    patch: 0,
};

pub(super) fn run(line: &Line) -> Result<(), Failure> {
    let text = line.text("to-etcd");
    let version = text.parse().or_else(|_| format!("{text}.0").parse());
    let version: Version =
        version.map_err(|_| Failure::arguments(format!("no version of etcd: \"{text}\"")))?;
    if !(OLDEST..=SERVER_VERSION.of_cluster()).contains(&version.of_cluster()) {
        let text = format!("version {text} not supported. Minimal \"3.4\", maximal \"3.7\"");
        return Err(Failure::arguments(text));
    }
    let directory = line.text("data-dir");
    let directory = Path::new(&directory);
    let member = directory.join("member");
    files::stat(&member)?;
    if !files::is_ours(directory) {
        return Err(files::in_file(directory, &"holds no state of Kvorum"));
    }
    let log = match line.text("wal-dir").as_str() {
        "" => member.join("wal"),
        given => given.into(),
    };
    if !log.exists() {
        let text = "there is no log; give the server's --wal-dir, if it had one";
        return Err(files::in_file(&log, &text));
    }
    let _lock = lock(&member)?;
    let given = official::give_back(&OsVfs::default(), &member, &log, version)
        .map_err(|error| files::chain(&error))?;
    let (version, database) = (version.short(), given.database.display().to_string());
    let kept = given.kept.display().to_string();
    let fields = [
        ("version", Value::Text(&version)),
        ("database", Value::Text(&database)),
        ("revision", Value::Number(given.revision.unsigned_abs())),
        ("kept", Value::Text(&kept)),
    ];
    let text = "wrote the data directory of an official etcd server";
    log::info("to_etcd.rs", text, &fields);
    Ok(())
}

/// The lock that our server holds while it runs.
fn lock(member: &Path) -> Result<File, Failure> {
    let file = File::open(member).map_err(|error| files::disk("open", member, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(files::in_file(member, &"in use by another process")),
        Err(TryLockError::Error(error)) => Err(files::disk("lock", member, &error)),
    }
}
