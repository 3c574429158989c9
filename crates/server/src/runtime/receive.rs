//! A snapshot of the leader becomes the state of this member.
//!
//! Source: etcd v3.7.1 `server/etcdserver/server.go` (`applySnapshot`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kvorum_member::apply::{Apply, Local};
use kvorum_member::checkpoint::stream::Receiving;
use kvorum_member::checkpoint::{self, Executor};
use kvorum_member::core;
use kvorum_proto::ids::LogIndex;
use kvorum_proto::raftpb;
use kvorum_storage::bolt::Source;
use kvorum_storage::segment::SEGMENT_BYTES;
use kvorum_storage::vfs::OsVfs;
use tokio::sync::mpsc;
use tracing::{error, info};

use super::Member;
use super::state_disk::chain;
use crate::peer::{NotTaken, Piece, TakeSnapshot};

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

    fn take(&self, file: &Path, message: Box<raftpb::Message>) -> Result<bool, NotTaken> {
        let file = File::open(file).map_err(|error| error.to_string())?;
        let (file, named) = (Received(file), entry_of(&message));
        let state = checkpoint::take_in(&self.executor, file, named, self.local, SEGMENT_BYTES);
        match state.map_err(|error| self.refused(&error))? {
            Some(state) => self.install(state, message),
            None => Ok(false),
        }
    }

    fn take_files(
        &self,
        mut pieces: mpsc::Receiver<Piece>,
        message: Box<raftpb::Message>,
    ) -> Result<bool, NotTaken> {
        let receiving = Receiving::begin(&self.executor, entry_of(&message));
        let Some(mut receiving) = receiving.map_err(|error| self.refused(&error))? else {
            // What is not needed is read, or the sender would not hear the answer.
            while pieces.blocking_recv().flatten().is_some() {}
            return Ok(false);
        };
        let taken = loop {
            match pieces.blocking_recv() {
                Some(Some(bytes)) => match receiving.input(&bytes) {
                    Ok(()) => {}
                    Err(error) => break Err(self.refused(&error)),
                },
                Some(None) => break Ok(()),
                None => break Err("given up".to_owned().into()),
            }
        };
        if let Err(why) = taken {
            let gone = receiving.give_up();
            gone.map_err(|error| self.refused(&error))?;
            return Err(why);
        }
        let state = receiving.finish(self.local);
        self.install(state.map_err(|error| self.refused(&error))?, message)
    }
}

impl Receiver {
    /// Makes a state durable and gives it to the machines. False when it is not needed any more.
    fn install(&self, mut state: Apply, message: Box<raftpb::Message>) -> Result<bool, NotTaken> {
        let started = Instant::now();
        let received = checkpoint::receive(&self.executor, &mut state);
        if !received.map_err(|error| self.refused(&error))? {
            return Ok(false);
        }
        let metrics = self.member.metrics();
        metrics.snap_db_fsync.observe_duration(started.elapsed());
        info!(index = state.applied().0, "saved snapshot");
        metrics.snapshot_applying.set(1.0);
        self.member.peer_news(core::Input::Snapshot {
            message,
            state: Box::new(state),
        });
        Ok(true)
    }

    /// Why a snapshot was not taken; the member ends when it is for its own disk.
    fn refused(&self, error: &checkpoint::ReceiveError) -> NotTaken {
        let text = chain(error);
        if error.is_no_room() {
            return NotTaken::NoRoom(text);
        }
        if error.is_of_own_disk() {
            // What the disk holds is not known any more.
            error!(error = text, "a snapshot could not be written");
            self.member.disk_failed(text.clone());
        }
        NotTaken::Refused(text)
    }
}

/// The entry at which the state stands that comes with a message.
fn entry_of(message: &raftpb::Message) -> LogIndex {
    let snapshot = message.snapshot.as_ref();
    let metadata = snapshot.and_then(|snapshot| snapshot.metadata.as_ref());
    LogIndex(metadata.map_or(0, raftpb::SnapshotMetadata::index))
}
