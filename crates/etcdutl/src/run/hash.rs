//! `hashkv`: the hash of the history in a file, as a server that opens it would answer.
//!
//! Source: v3.7.1 `etcdutl/etcdutl/hashkv_command.go`, `server/storage/mvcc/hash.go`.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use kvorum_cli::{Failure, Line};
use kvorum_member::backend::import::{Change, Changes, ImportError, Imported};
use kvorum_mvcc::{HashKv, Revision};
use kvorum_storage::bolt::schema::{self, RevisionKey};
use kvorum_storage::bolt::{Reader, Source};

use crate::files;
use crate::output::{self, Format};

pub(super) fn run(path: &str, line: &Line) -> Result<(), Failure> {
    let format = Format::of(line)?;
    let path = Path::new(path);
    files::stat(path)?;
    let file = files::open(path)?;
    let failed = |error: ImportError| files::in_file(path, &error);
    let imported = Imported::read(&file).map_err(failed)?;
    let newest = newest(&file, i64::MAX).map_err(failed)?;
    let last = newest.values().map(|(revision, _)| revision.main).max();
    let (current, compacted) = (
        imported.current_revision(last.unwrap_or(0)),
        imported.compact_revision(),
    );
    let revision = match line.int("rev") {
        0 => current,
        asked if asked > 0 && asked < compacted => {
            let text = "mvcc: required revision has been compacted";
            return Err(Failure::error(text));
        }
        asked if asked > current => {
            let text = "mvcc: required revision is a future revision";
            return Err(Failure::error(text));
        }
        asked => asked,
    };
    let hash = hash_at(&file, revision, compacted).map_err(failed)?;
    output::hash(format, &hash)
}

/// For each key its last change up to a revision, and whether that was a delete.
type Newest = BTreeMap<Bytes, (Revision, bool)>;

fn newest<S: Source>(file: &Reader<S>, revision: i64) -> Result<Newest, ImportError> {
    let mut newest = Newest::new();
    let mut changes = Changes::new(file)?;
    while let Some(change) = changes.next()? {
        if change.revision.main > revision {
            break;
        }
        newest.insert(change.pair.key, (change.revision, change.is_tombstone));
    }
    Ok(newest)
}

/// The rules are those of `kvorum_mvcc`, for a history that streams by.
fn hash_at<S: Source>(
    file: &Reader<S>,
    revision: i64,
    compacted: i64,
) -> Result<HashKv, ImportError> {
    let newest = newest(file, revision)?;
    let sees = |change: &Change| {
        let last = newest.get(&change.pair.key);
        last == Some(&(change.revision, false))
    };
    let sees_any = newest.values().any(|(_, is_tombstone)| !is_tombstone);
    let mut hash = crc32c::crc32c(schema::KEY);
    let mut changes = Changes::new(file)?;
    while let Some(change) = changes.next()? {
        let Revision { main, sub } = change.revision;
        if main > revision {
            break;
        }
        let is_gone = main <= compacted && sees_any && !sees(&change);
        if is_gone || (main == compacted && change.is_tombstone) {
            continue;
        }
        let key = RevisionKey {
            main,
            sub,
            tombstone: change.is_tombstone,
        };
        hash = crc32c::crc32c_append(hash, &key.encode());
        hash = crc32c::crc32c_append(hash, &change.stored);
    }
    Ok(HashKv {
        hash,
        revision,
        compact_revision: compacted,
    })
}
