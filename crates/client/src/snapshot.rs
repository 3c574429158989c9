//! Snapshots: the whole store of one member, as etcd's database file.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};

use crate::client::{Client, Method, Retry};
use crate::connection::Call;
use crate::error::Error;

const SNAPSHOT: Method<SnapshotRequest, SnapshotResponse> =
    Method::new("/etcdserverpb.Maintenance/Snapshot", Retry::Repeatable);

/// A snapshot on its way. It comes from one member at one moment: give the client that member's
/// endpoint alone. The last 32 bytes are the SHA-256 of all before them.
///
/// ```no_run
#[doc = include_str!("../docs/snapshot.rs")]
/// ```
pub struct Snapshot {
    stream: Call,
    first: Option<SnapshotResponse>,
    version: String,
    remaining_bytes: u64,
}

impl Client {
    /// Asks for a snapshot and waits for its beginning.
    ///
    /// # Errors
    /// What the server refuses. Tried again while nobody serves it.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let (stream, first) = self.open_answered(&SNAPSHOT, &SnapshotRequest {}).await?;
        let head = first.as_ref();
        Ok(Snapshot {
            version: head.map(|first| first.version.clone()).unwrap_or_default(),
            remaining_bytes: head
                .map_or(0, |first| first.remaining_bytes + first.blob.len() as u64),
            first,
            stream,
        })
    }
}

impl Snapshot {
    /// Version of the format, as `3.6.0`; empty from servers before 3.6.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Bytes of the database that are still to come, without the checksum behind them.
    pub fn remaining_bytes(&self) -> u64 {
        self.remaining_bytes
    }

    /// The next bytes; none at the end. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The stream broke. A snapshot cannot be resumed, only asked for again.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let part = match self.first.take() {
            Some(first) => Some(first),
            None => self.stream.receive::<SnapshotResponse>().await?,
        };
        Ok(part.map(|part| {
            self.remaining_bytes = part.remaining_bytes;
            part.blob
        }))
    }
}
