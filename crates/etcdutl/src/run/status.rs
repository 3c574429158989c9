//! `snapshot status`: what a database file holds, and one hash over all of it.
//!
//! Source: v3.7.1 `etcdutl/snapshot/v3_snapshot.go` (`Status`).

use std::collections::BTreeSet;
use std::path::Path;

use kvorum_cli::{Failure, Line};
use kvorum_member::backend::import::{Changes, ImportError, Imported};
use kvorum_storage::bolt::{ReadError, Reader, Source};

use crate::files;
use crate::output::{self, Format};

/// What is shown of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// CRC-32C over the names of the buckets and their keys and values, in order.
    pub(crate) hash: u32,
    /// Store revision of the last change; 0 without one.
    pub(crate) revision: i64,
    /// Keys that have a value.
    pub(crate) total_keys: usize,
    /// Bytes of all pages.
    pub(crate) total_size: u64,
    /// The storage version; empty before 3.6.
    pub(crate) version: String,
}

pub(super) fn run(line: &Line) -> Result<(), Failure> {
    let [path] = line.arguments.as_slice() else {
        let text = "snapshot status requires exactly one argument";
        return Err(Failure::arguments(text));
    };
    let path = Path::new(path);
    files::stat(path)?;
    let format = Format::of(line)?;
    let status = status(&files::open(path)?).map_err(|error| files::in_file(path, &error))?;
    output::status(format, &status)
}

fn status<S: Source>(file: &Reader<S>) -> Result<Status, ImportError> {
    let imported = Imported::read(file)?;
    let mut keys = BTreeSet::new();
    let mut revision = 0;
    let mut changes = Changes::new(file)?;
    while let Some(change) = changes.next()? {
        revision = change.revision.main;
        if change.is_tombstone {
            keys.remove(&change.pair.key);
        } else {
            keys.insert(change.pair.key);
        }
    }
    Ok(Status {
        hash: hash(file)?,
        revision,
        total_keys: keys.len(),
        total_size: file.image_bytes(),
        version: imported.storage_version.unwrap_or_default(),
    })
}

fn hash<S: Source>(file: &Reader<S>) -> Result<u32, ReadError> {
    let mut hash = 0;
    let mut buckets = file.buckets()?;
    while let Some(bucket) = buckets.next()? {
        hash = crc32c::crc32c_append(hash, bucket.name());
        let mut pairs = file.pairs(&bucket)?;
        while let Some((key, value)) = pairs.next()? {
            hash = crc32c::crc32c_append(hash, key);
            hash = crc32c::crc32c_append(hash, value);
        }
    }
    Ok(hash)
}
