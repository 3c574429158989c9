//! `migrate --target-version`: the storage version of an official directory, changed offline.
//!
//! Between 3.5 and 3.7 the format of the database differs in one field, the version itself. Going
//! down is refused when the log has entries that the older release does not know.
//!
//! Source: v3.7.1 `etcdutl/etcdutl/migrate_command.go`, `server/storage/schema/schema.go`,
//! `server/storage/wal/version.go`.

use std::path::Path;

use kvorum_cli::{Failure, Line, go};
use kvorum_member::backend::import::Imported;
use kvorum_member::cluster::Version;
use kvorum_proto::etcdserverpb::InternalRaftRequest;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::raftpb::{Entry, EntryType};
use kvorum_storage::bolt::{Patch, schema};
use kvorum_storage::vfs::OsVfs;
use kvorum_storage::wal;
use prost::Message as _;

use crate::files::{self, database_of};
use crate::log::{self, Value};

const PLACE: &str = "migrate.rs";
/// The oldest version whose format can be told from the file.
const OLDEST: Version = version(5);
/// The version that brought the field.
const FIRST_WITH_FIELD: Version = version(6);
/// The newest version that is known.
const NEWEST: Version = version(7);

const fn version(minor: u64) -> Version {
    let (major, patch) = (3, 0);
    Version {
        major,
        minor,
        patch,
    }
}

pub(super) fn run(line: &Line) -> Result<(), Failure> {
    let target = target(&line.text("target-version"))?;
    let directory = line.text("data-dir");
    let directory = Path::new(&directory);
    let database = database_of(directory);
    if !database.exists() && files::is_ours(directory) {
        return ours(directory, target);
    }
    files::stat(&database)?;
    let (file, _lock) = files::open_locked(&database, line)?;
    let imported = Imported::read(&file).map_err(|error| files::in_file(&database, &error))?;
    let current = current(&imported).inspect_err(|_| {
        let text = "failed to detect storage version. Please make sure you are using data dir from etcd v3.5 and older";
        log::error(PLACE, text, &[]);
    })?;
    if current == target {
        up_to_date(target);
        return Ok(());
    }
    let newest_entry = newest_entry(directory)?;
    let mut patch = Patch::new();
    match plan(current, target, newest_entry) {
        Ok(steps) => {
            set(&mut patch, target);
            files::replace(&database, &file, &patch)?;
            for step in steps {
                let step = step.to_string();
                let fields = [("new-storage-version", Value::Text(&step))];
                log::info(PLACE, "updated storage version", &fields);
            }
        }
        Err(text) if line.flag("force") => {
            let fields = [("error", Value::Text(&text))];
            log::info(PLACE, "normal migrate failed, trying with force", &fields);
            set(&mut patch, target);
            files::replace(&database, &file, &patch)?;
            if target < FIRST_WITH_FIELD {
                log::warn(PLACE, "forcefully cleared storage version", &[]);
            } else {
                let short = target.short();
                let fields = [("storage-version", Value::Text(&short))];
                log::warn(PLACE, "forcefully set storage version", &fields);
            }
        }
        Err(text) => return Err(Failure::error(text)),
    }
    Ok(())
}

/// Our state has one format, which is told apart from those of official servers.
fn ours(directory: &Path, target: Version) -> Result<(), Failure> {
    if target == NEWEST {
        up_to_date(target);
        return Ok(());
    }
    let text = "holds a member of Kvorum, whose state has no storage version; \
                `etcdutl migrate --to-etcd VERSION` writes it as an official directory";
    Err(files::in_file(directory, &text))
}

fn up_to_date(version: Version) {
    let short = version.short();
    let fields = [("storage-version", Value::Text(&short))];
    log::info(PLACE, "storage version up-to-date", &fields);
}

fn target(text: &str) -> Result<Version, Failure> {
    let refused = |text: String| Failure::arguments(text);
    let Some((major, minor)) = text
        .split_once('.')
        .filter(|(_, minor)| !minor.contains('.'))
    else {
        let text = go::quote(text.as_bytes());
        return Err(refused(format!(
            "wrong target version format, expected \"X.Y\", got {text}"
        )));
    };
    let number = |text: &str| {
        let number = go::parse_int(text, 10).map(|number| number as u64);
        number.map_err(|error| refused(format!("failed to parse target version: {error}")))
    };
    let version = Version {
        major: number(major)?,
        minor: number(minor)?,
        patch: 0,
    };
    if version < OLDEST {
        let short = version.short();
        return Err(refused(format!(
            "target version \"{short}\" not supported. Minimal \"3.5\""
        )));
    }
    Ok(version)
}

fn current(imported: &Imported) -> Result<Version, Failure> {
    match &imported.storage_version {
        Some(text) => text
            .parse()
            .map_err(|_| Failure::error(format!("{text} is not in dotted-tri format"))),
        None if imported.term.0 == 0 => Err(Failure::error("missing term information")),
        None => Ok(OLDEST),
    }
}

/// The versions on the way, or why there is none.
fn plan(
    current: Version,
    target: Version,
    newest_entry: Option<Version>,
) -> Result<Vec<Version>, String> {
    let no_plan = |text: &str| Err(format!("cannot create migration plan: {text}"));
    if current.major != target.major {
        let (from, to) = (current.to_string(), target.to_string());
        let fields = [
            ("storage-version", Value::Text(&from)),
            ("target-storage-version", Value::Text(&to)),
        ];
        let text = "Changing major storage version is not supported";
        log::error(PLACE, text, &fields);
        return no_plan("changing major storage version is not supported");
    }
    let unknown = [current, target].into_iter().find(|at| *at > NEWEST);
    if let Some(unknown) = unknown {
        // Going up, the first step that is not known is named; going down, where it starts.
        let named = if current < target {
            version(NEWEST.minor.max(current.minor) + 1)
        } else {
            unknown
        };
        return no_plan(&format!("version \"{named}\" is not supported"));
    }
    let newer = newest_entry.filter(|newest| target < current && target < *newest);
    if let Some(newest) = newer {
        return Err(format!(
            "cannot downgrade storage, WAL contains newer entries, as the target version ({target}) is lower than the version ({newest}) detected from WAL logs"
        ));
    }
    Ok(if current < target {
        (current.minor + 1..=target.minor).map(version).collect()
    } else {
        (target.minor..current.minor).rev().map(version).collect()
    })
}

fn set(patch: &mut Patch, target: Version) {
    let key = schema::meta::STORAGE_VERSION;
    if target < FIRST_WITH_FIELD {
        patch.remove(schema::META, key);
    } else {
        patch.put(schema::META, key, target.to_string().as_bytes());
    }
}

/// The oldest version that knows every entry since the last snapshot.
fn newest_entry(directory: &Path) -> Result<Option<Version>, Failure> {
    let log = directory.join("member").join("wal");
    let recovered = wal::read(&OsVfs::default(), &log)
        .map_err(|error| Failure::error(format!("failed to read wal: {error}")))?;
    Ok(recovered.entries.iter().filter_map(version_of).max())
}

/// The version that brought a request; what is older than 3.5 makes no difference here.
fn version_of(entry: &Entry) -> Option<Version> {
    if entry.r#type() != EntryType::EntryNormal {
        return None;
    }
    let request = InternalRaftRequest::decode(entry.data.clone()?).ok()?;
    match request.payload? {
        Payload::DowngradeVersionTest(test) => {
            let named = test.ver.parse().ok();
            Some(named.unwrap_or(FIRST_WITH_FIELD).max(FIRST_WITH_FIELD))
        }
        _ => Some(OLDEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_two_numbers_from_3_5_on() {
        let check = |text: &str, expected: Result<Version, &str>| {
            let found = target(text).map_err(|failure| failure.text);
            let expected = expected.map_err(|text| format!("Error: {text}"));
            assert_eq!(found, expected);
        };
        check("3.6", Ok(version(6)));
        let format = "wrong target version format, expected \"X.Y\", got \"3.6.0\"";
        check("3.6.0", Err(format));
        let number =
            "failed to parse target version: strconv.ParseInt: parsing \"x\": invalid syntax";
        check("3.x", Err(number));
        check(
            "3.4",
            Err("target version \"3.4\" not supported. Minimal \"3.5\""),
        );
    }

    #[test]
    fn going_up_and_down_takes_every_step() {
        let check = |from, to, entry: Option<u64>, expected: Result<&[u64], &str>| {
            let found = plan(version(from), version(to), entry.map(version));
            match expected {
                Ok(steps) => assert_eq!(found, Ok(steps.iter().copied().map(version).collect())),
                Err(text) => assert!(found.clone().unwrap_err().contains(text), "{found:?}"),
            }
        };
        check(5, 7, Some(6), Ok(&[6, 7]));
        check(7, 5, Some(5), Ok(&[6, 5]));
        check(7, 5, None, Ok(&[6, 5]));
        check(7, 6, Some(6), Ok(&[6]));
        check(
            7,
            5,
            Some(6),
            Err("version (3.5.0) is lower than the version (3.6.0)"),
        );
        check(5, 8, None, Err("version \"3.8.0\" is not supported"));
        check(9, 6, None, Err("version \"3.9.0\" is not supported"));
    }
}
