//! A snapshot of the leader becomes the state of this member.
//!
//! Source: etcd v3.7.1 `server/etcdserver/server.go` (`applySnapshot`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kvorum_member::apply::Local;
use kvorum_member::checkpoint::{self, Executor};
use kvorum_member::core;
use kvorum_proto::ids::LogIndex;
use kvorum_proto::raftpb;
use kvorum_storage::bolt::Source;
use kvorum_storage::segment::SEGMENT_BYTES;
use kvorum_storage::vfs::OsVfs;
use tracing::{error, info};

use super::Member;
use crate::peer::TakeSnapshot;

/// Takes snapshots in.
pub(super) struct Receiver {
    pub(super) member: Member,
    pub(super) local: Local,
    pub(super) executor: Executor<OsVfs>,
    pub(super) directory: PathBuf,
}

/// A received file, read page by page.
struct Received(File);

impl Source for Received {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}

impl TakeSnapshot for Receiver {
    fn directory(&self) -> &Path {
        &self.directory
    }

    fn take(&self, file: &Path, message: Box<raftpb::Message>) -> Result<bool, String> {
        let file = File::open(file).map_err(|error| error.to_string())?;
        let refused = |error: checkpoint::ReceiveError| {
            if matches!(error, checkpoint::ReceiveError::State(_)) {
                // What the disk holds is not known any more.
                error!(%error, "a snapshot could not be written");
                self.member.disk_failed(error.to_string());
            }
            error.to_string()
        };
        let metadata = message
            .snapshot
            .as_ref()
            .and_then(|it| it.metadata.as_ref());
        let named = LogIndex(metadata.map_or(0, raftpb::SnapshotMetadata::index));
        let file = Received(file);
        let state = checkpoint::take_in(&self.executor, file, named, self.local, SEGMENT_BYTES);
        let Some(mut state) = state.map_err(refused)? else {
            return Ok(false);
        };
        let started = Instant::now();
        if !checkpoint::receive(&self.executor, &mut state).map_err(refused)? {
            return Ok(false);
        }
        let metrics = self.member.metrics();
        metrics.snap_db_fsync.observe_duration(started.elapsed());
        info!(index = named.0, "saved snapshot");
        metrics.snapshot_applying.set(1.0);
        self.member.peer_news(core::Input::Snapshot {
            message,
            state: Box::new(state),
        });
        Ok(true)
    }
}
