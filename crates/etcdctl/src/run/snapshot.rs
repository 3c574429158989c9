//! `snapshot save`: a member's store as a file, whole or not at all.
//!
//! Everything goes to a file `NAME.part` first. It gets its name when all has come, the checksum
//! is right and the disk has it; until then nothing, or an older snapshot, stands under the name.
//!
//! Source: v3.7.1 `etcdctl/ctlv3/command/snapshot_command.go`; `client/v3/snapshot`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kvorum_cli::failure::{INTERRUPTED, log};
use kvorum_cli::progress::{Progress, Unit};
use kvorum_cli::{Failure, Line, go, print_text};
use kvorum_client::{Client, Snapshot};
use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::block_in_place;

use super::session::Stop;
use super::settings;
use crate::failure;

/// Only the owner may read it: all keys are in it.
const MODE: u32 = 0o600;
/// Bytes of the checksum behind the database.
const CHECKSUM_BYTES: usize = 32;
/// Databases are a multiple of this long, so that the checksum shows in the length.
const SECTOR_BYTES: u64 = 512;

pub(super) async fn save(mut line: Line) -> Result<(), Failure> {
    let [name] = line.arguments.as_slice() else {
        let text = "snapshot save expects one argument <filename>";
        return Err(Failure::arguments(text));
    };
    let target = PathBuf::from(name);
    let is_limited = |line: &Line| line.is_given("command-timeout");
    let settings = settings(&mut line).await?;
    let [endpoint] = settings.endpoints() else {
        let endpoints = settings.endpoints().join(" ");
        return Err(interrupted(format!(
            "snapshot must be requested to one selected node, not multiple [{endpoints}]"
        )));
    };
    let client = settings.patient_client().await?;
    // A file that grows too large is then an error of the write and not the end of the process.
    let too_large = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()));
    let _too_large = too_large.map_err(|error| Failure::error(error.to_string()))?;
    let mut stop = Stop::new()?;
    let part = Part::create(&target)?;
    tell("created temporary db file", &[("path", &part.shown())]);
    let saving = save_to(&client, endpoint, part, &target);
    let limit = settings.command_timeout();
    let saved = tokio::select! {
        saved = saving => saved,
        () = tokio::time::sleep(limit), if is_limited(&line) => {
            Err(interrupted("could not write snapshot: context deadline exceeded"))
        }
        () = stop.wait() => Err(interrupted("interrupted; no snapshot was saved")),
    };
    let version = saved?;
    print_text(&format!("Snapshot saved at {}\n", target.display()));
    if !version.is_empty() {
        print_text(&format!("Server version {version}\n"));
    }
    Ok(())
}

fn interrupted(text: impl Into<String>) -> Failure {
    Failure::new(INTERRUPTED, text)
}

/// A line of log, where no person watches.
fn tell(message: &str, fields: &[(&str, &str)]) {
    if !io::stderr().is_terminal() {
        log("info", message, fields);
    }
}

/// Fetches all of it and gives the file its name. Returns the version of the format.
async fn save_to(
    client: &Client,
    endpoint: &str,
    mut part: Part,
    target: &Path,
) -> Result<String, Failure> {
    let started = Instant::now();
    let snapshot = client.snapshot().await;
    let mut snapshot = snapshot.map_err(|error| failure::call(INTERRUPTED, &error))?;
    tell("fetching snapshot", &[("endpoint", endpoint)]);
    let version = snapshot.version().to_owned();
    let bytes = fetch(&mut snapshot, &mut part).await?;
    block_in_place(|| part.finish(target))?;
    let took = go::duration(started.elapsed());
    let size = go::bytes_short(bytes);
    let fields = [
        ("endpoint", endpoint),
        ("size", &size),
        ("took", &took),
        ("etcd-version", &version),
    ];
    tell("fetched snapshot", &fields);
    tell("saved", &[("path", &target.display().to_string())]);
    Ok(version)
}

/// Writes what comes and checks it against the checksum at its end. Returns its length.
async fn fetch(snapshot: &mut Snapshot, part: &mut Part) -> Result<u64, Failure> {
    let mut bar = Progress::new(Unit::Bytes, snapshot.remaining_bytes());
    let mut check = Check::default();
    loop {
        let next = snapshot.next().await;
        let bytes = match next {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(error) => return Err(interrupted(format!("could not write snapshot: {error}"))),
        };
        block_in_place(|| part.write(&bytes))?;
        check.add(&bytes);
        bar.set(check.length);
    }
    drop(bar);
    check.finish().map_err(interrupted)
}

/// The checksum of all bytes but the last, which are the expected one.
#[derive(Default)]
struct Check {
    hash: Sha256,
    /// The newest bytes, which may be the checksum.
    tail: Vec<u8>,
    length: u64,
}

impl Check {
    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        let surely_data = self.tail.len().saturating_sub(CHECKSUM_BYTES);
        self.hash.update(&self.tail[..surely_data]);
        self.tail.drain(..surely_data);
    }

    fn finish(self) -> Result<u64, String> {
        let length = self.length;
        if length % SECTOR_BYTES != CHECKSUM_BYTES as u64 {
            return Err(format!("sha256 checksum not found [bytes: {length}]"));
        }
        if self.hash.finalize().as_slice() != self.tail {
            return Err(
                "the snapshot does not have the sha256 checksum that came with it".to_owned(),
            );
        }
        Ok(length)
    }
}

/// The file under its first name; it is removed unless it is finished.
struct Part {
    path: PathBuf,
    file: File,
    is_finished: bool,
}

impl Part {
    fn create(target: &Path) -> Result<Self, Failure> {
        let mut path = target.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(MODE);
        match options.open(&path) {
            Ok(file) => Ok(Self {
                path,
                file,
                is_finished: false,
            }),
            Err(error) => {
                let shown = path.display();
                let error = go::os_error(&error);
                Err(interrupted(format!(
                    "could not open {shown} (open {shown}: {error})"
                )))
            }
        }
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            let (path, error) = (self.path.display(), go::os_error(&error));
            interrupted(format!("could not write snapshot: write {path}: {error}"))
        };
        self.file.write_all(bytes).map_err(failed)
    }

    /// Makes sure that the disk has it and gives it its name.
    fn finish(mut self, target: &Path) -> Result<(), Failure> {
        let path = self.path.display();
        let synced = self.file.sync_all();
        synced.map_err(|error| {
            let error = go::os_error(&error);
            interrupted(format!("could not fsync snapshot: sync {path}: {error}"))
        })?;
        let renamed = fs::rename(&self.path, target).and_then(|()| sync_folder(target));
        renamed.map_err(|error| {
            let (target, error) = (target.display(), go::os_error(&error));
            interrupted(format!(
                "could not rename {path} to {target} (rename {path} {target}: {error})"
            ))
        })?;
        self.is_finished = true;
        Ok(())
    }
}

/// The name lasts when the folder has reached the disk.
fn sync_folder(target: &Path) -> io::Result<()> {
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_finished {
            // What is left is a file whose name says that it is not whole.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[&[u8]]) -> Result<u64, String> {
        let mut check = Check::default();
        for part in parts {
            check.add(part);
        }
        check.finish()
    }

    #[test]
    fn a_snapshot_ends_with_its_checksum_however_it_is_cut() {
        let data = [7u8; 1024];
        let sum: [u8; CHECKSUM_BYTES] = Sha256::digest(data).into();
        assert_eq!(check(&[&data, &sum]), Ok(1056));
        assert_eq!(check(&[&data, &sum[..5], &sum[5..]]), Ok(1056));
        assert_eq!(
            check(&[&[&data[..], &sum[..1]].concat(), &sum[1..]]),
            Ok(1056)
        );
        assert!(check(&[&data]).is_err_and(|text| text.contains("[bytes: 1024]")));
        assert!(check(&[]).is_err());
        let mut wrong = data;
        wrong[500] = 8;
        assert!(check(&[&wrong, &sum]).is_err_and(|text| text.contains("does not have")));
    }
}
