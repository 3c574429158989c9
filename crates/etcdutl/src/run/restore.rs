//! `snapshot restore`: a saved database becomes the data directory of a member of a new cluster.
//!
//! Source: v3.7.1 `etcdutl/etcdutl/snapshot_command.go`, `etcdutl/snapshot/v3_snapshot.go`.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use kvorum_cli::{Failure, Line};
use kvorum_member::cluster::Member;
use kvorum_member::cluster::identity::initial_member_id;
use kvorum_member::official::{self, Founding, Site};
use kvorum_storage::vfs::{DIRECTORY_MODE, OsVfs};
use sha2::{Digest as _, Sha256};

use crate::files;
use crate::log::{self, Value};
use crate::members::{self, Members};

const PLACE: &str = "restore.rs";
/// Bytes of the checksum behind a saved file.
const SHA256_BYTES: u64 = 32;
/// A database is a multiple of this long, so that a checksum behind it shows.
const SECTOR_BYTES: u64 = 512;
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

pub(super) fn run(line: &Line) -> Result<(), Failure> {
    let [path] = line.arguments.as_slice() else {
        let text = "snapshot restore requires exactly one argument";
        return Err(Failure::arguments(text));
    };
    let bump = line.uint("bump-revision");
    if (bump > 0) != line.flag("mark-compacted") {
        let text = "--mark-compacted required if --revision-bump > 0";
        return Err(Failure::arguments(text));
    }
    let name = line.text("name");
    let own_urls =
        members::urls(&line.text("initial-advertise-peer-urls")).map_err(Failure::error)?;
    let cluster = members::parse(&line.text("initial-cluster")).map_err(Failure::error)?;
    members::check(&name, &cluster, &own_urls).map_err(Failure::error)?;
    let founding = founding(&name, &cluster, &line.text("initial-cluster-token"), bump)?;

    let mut data = line.text("data-dir");
    if data.is_empty() {
        data = format!("{name}.etcd");
    }
    let log_given = line.text("wal-dir");
    let log = match log_given.as_str() {
        "" => Path::new(&data).join("member").join("wal"),
        given => given.into(),
    };
    let (data, path) = (Path::new(&data), Path::new(path));
    let vfs = OsVfs::default();
    if !official::is_free(&vfs, data).unwrap_or(false) {
        let text = format!(
            "data-dir \"{}\" not empty or could not be read",
            data.display()
        );
        return Err(Failure::error(text));
    }
    if !log_given.is_empty() && log.exists() {
        let text = format!("wal-dir \"{}\" exists", log.display());
        return Err(Failure::error(text));
    }
    say("restoring snapshot", path, &log, data, line);
    check_sum(path, line.flag("skip-hash-check"))?;
    let reader = files::open(path)?;
    make_directory(data)?;
    let site = Site {
        data,
        log: (!log_given.is_empty()).then_some(log.as_path()),
    };
    if let Some(above) = site.log.and_then(Path::parent) {
        make_directory(above)?;
    }
    official::found(&vfs, path, reader, &founding, site).map_err(|error| files::chain(&error))?;
    say("restored snapshot", path, &log, data, line);
    Ok(())
}

fn say(message: &str, path: &Path, log: &Path, data: &Path, line: &Line) {
    let shown = |path: &Path| path.display().to_string();
    let (path, log, state) = (shown(path), shown(log), shown(&data.join("member/snap")));
    let data = shown(data);
    let fields = [
        ("path", Value::Text(&path)),
        ("wal-dir", Value::Text(&log)),
        ("data-dir", Value::Text(&data)),
        ("snap-dir", Value::Text(&state)),
        (
            "initial-memory-map-size",
            Value::Number(line.uint("initial-memory-map-size")),
        ),
    ];
    log::info(PLACE, message, &fields);
}

fn founding(name: &str, cluster: &Members, token: &str, bump: u64) -> Result<Founding, Failure> {
    let mut members = BTreeMap::new();
    for (name, urls) in cluster {
        let id = initial_member_id(urls, token);
        let mut member = Member::new(id, urls.clone(), false);
        member.name.clone_from(name);
        if members.insert(name.as_str(), member).is_some() {
            return Err(Failure::error(format!("member {name} is listed twice")));
        }
    }
    let this = members.get(name).map(Member::id);
    let bump = i64::try_from(bump);
    Ok(Founding {
        this: this.ok_or_else(|| Failure::error(members::not_listed(name)))?,
        members: members.into_values().collect(),
        bump_revision: bump.map_err(|_| Failure::error("--bump-revision is too large"))?,
    })
}

/// Holds a saved file against the checksum at its end.
fn check_sum(path: &Path, is_skipped: bool) -> Result<(), Failure> {
    let failed = |error| files::disk("read", path, &error);
    let mut file = File::open(path).map_err(|error| files::disk("open", path, &error))?;
    let length = file.metadata().map_err(failed)?.len();
    if length < SHA256_BYTES {
        let text = format!("seek {}: invalid argument", path.display());
        return Err(Failure::error(text));
    }
    let has_sum = length % SECTOR_BYTES == SHA256_BYTES;
    if is_skipped {
        return Ok(());
    }
    if !has_sum {
        let text = "snapshot missing hash but --skip-hash-check=false";
        return Err(Failure::error(text));
    }
    let mut left = length - SHA256_BYTES;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    while left > 0 {
        let wanted = usize::try_from(left).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        let count = file.read(&mut buffer[..wanted]).map_err(failed)?;
        if count == 0 {
            return Err(files::in_file(path, &"it became shorter while it was read"));
        }
        hash.update(&buffer[..count]);
        left -= count as u64;
    }
    let mut expected = [0; SHA256_BYTES as usize];
    file.read_exact(&mut expected).map_err(failed)?;
    let found = hash.finalize();
    if expected[..] != found[..] {
        let shown = |bytes: &[u8]| {
            let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
            numbers.join(" ")
        };
        let (expected, found) = (shown(&expected), shown(&found));
        let text = format!("expected sha256 [{expected}], got [{found}]");
        return Err(Failure::error(text));
    }
    Ok(())
}

fn make_directory(directory: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory)
        .map_err(|error| files::disk("mkdir", directory, &error))
}
