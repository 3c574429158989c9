//! The files of the state, one operation at a time.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{
    Listed, MANIFEST_NAME, Manifest, NEXT_MANIFEST_NAME, NEXT_RECEIVED_MANIFEST_NAME,
    RECEIVED_MANIFEST_NAME, RECEIVING_NAME, StateError,
};
use crate::segment::{Damage, Segment, SegmentId};
use crate::vfs::{DiskSpace, FILE_MODE, OpenMode, Vfs, VfsFile};

/// How much is written to a file in one call to the disk.
const WRITE_BYTES: usize = 1 << 20;

/// The directory of the state.
#[derive(Clone, Debug)]
pub struct Directory<V> {
    vfs: V,
    path: PathBuf,
}

impl<V: Vfs> Directory<V> {
    /// The state in this directory, which must exist. Touches nothing.
    pub fn new(vfs: V, path: PathBuf) -> Self {
        Directory { vfs, path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The room on its disk.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk cannot tell.
    pub fn space(&self) -> Result<DiskSpace, StateError> {
        let space = self.vfs.space(&self.path);
        space.map_err(|error| failed(&self.path, "looking for room on its disk", error))
    }

    /// Reads the manifest; `None` when there is none. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses or the manifest is damaged.
    pub fn manifest(&self) -> Result<Option<Manifest>, StateError> {
        self.read_manifest(MANIFEST_NAME)
    }

    /// Where the manifest is.
    #[must_use]
    pub fn manifest_path(&self) -> PathBuf {
        self.path.join(MANIFEST_NAME)
    }

    fn read_manifest(&self, name: &str) -> Result<Option<Manifest>, StateError> {
        let name = self.path.join(name);
        let file = match self.vfs.open(&name, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&name, "opening", error)),
        };
        let bytes = read(&file).map_err(|error| failed(&name, "reading", error))?;
        match Manifest::decode(&bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err((offset, damage)) => Err(StateError::Manifest {
                file: name,
                offset,
                damage,
            }),
        }
    }

    /// Reads the manifest of a received state; `None` when there is none. Changes nothing.
    ///
    /// # Errors
    ///
    /// As for [`Directory::manifest`].
    pub fn received(&self) -> Result<Option<Manifest>, StateError> {
        self.read_manifest(RECEIVED_MANIFEST_NAME)
    }

    /// Writes down a received state beside the own one. Its segments must be durable.
    ///
    /// # Errors
    ///
    /// As for [`Directory::replace_manifest`].
    pub fn write_received(&self, manifest: &Manifest) -> Result<(), StateError> {
        self.write_manifest(
            NEXT_RECEIVED_MANIFEST_NAME,
            RECEIVED_MANIFEST_NAME,
            manifest,
        )
    }

    /// Makes the received state the own one.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses. Which manifest is there then is not known.
    pub fn adopt_received(&self) -> Result<(), StateError> {
        let received = self.path.join(RECEIVED_MANIFEST_NAME);
        self.vfs
            .rename(&received, &self.manifest_path())
            .map_err(|error| failed(&received, "renaming", error))?;
        self.sync_names()
    }

    /// Forgets the received state. Its segments stay.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses.
    pub fn remove_received(&self) -> Result<(), StateError> {
        self.remove(&self.path.join(RECEIVED_MANIFEST_NAME))?;
        self.sync_names()
    }

    /// The error for damage in one of the segments.
    #[must_use]
    pub fn damaged(&self, damage: Damage) -> StateError {
        let file = self.segment_path(damage.segment);
        StateError::Segment { file, damage }
    }

    /// Opens a listed segment.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses, or the file is not what was listed.
    pub fn open_segment(&self, listed: &Listed) -> Result<Segment, StateError> {
        let segment = self.map_segment(listed.id)?;
        if Listed::of(&segment) == *listed {
            Ok(segment)
        } else {
            let file = self.segment_path(listed.id);
            Err(StateError::OtherSegment { file })
        }
    }

    /// Removes what an earlier run left behind: every segment file but the listed ones, manifests that
    /// never took effect, and what of a leader's state had come. Call it only once the manifest is known to be the newest.
    /// The removals need not be durable: the next start repeats them.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses.
    pub fn remove_unlisted(&self, listed: &[Listed]) -> Result<Vec<String>, StateError> {
        let names = match self.vfs.list(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(|error| failed(&self.path, "listing", error))?,
        };
        let mut removed = Vec::new();
        for name in names {
            let unlisted = SegmentId::of_file_name(&name)
                .is_some_and(|id| listed.iter().all(|listed| listed.id != id));
            let half_done = [
                NEXT_MANIFEST_NAME,
                RECEIVED_MANIFEST_NAME,
                NEXT_RECEIVED_MANIFEST_NAME,
                RECEIVING_NAME,
            ];
            if unlisted || half_done.contains(&&*name) {
                self.remove(&self.path.join(&name))?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    /// Writes the next bytes of a new segment; at offset 0 its file is made, and there must be none
    /// of that name. Nothing is durable yet.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses.
    pub fn write_segment(
        &self,
        id: SegmentId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StateError> {
        let name = self.segment_path(id);
        let mode = match offset {
            0 => OpenMode::CreateNew { mode: FILE_MODE },
            _ => OpenMode::ReadWrite,
        };
        self.write(&name, mode, offset, bytes).map(drop)
    }

    /// Makes the file of a new segment, for [`Directory::append_segment`]; there must be none of that name.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses.
    pub fn create_segment(&self, id: SegmentId) -> Result<V::File, StateError> {
        let name = self.segment_path(id);
        let file = self
            .vfs
            .open(&name, OpenMode::CreateNew { mode: FILE_MODE });
        file.map_err(|error| failed(&name, "opening", error))
    }

    /// Writes the next bytes of a new segment, past the page cache where the disk lets it. Nothing is durable before
    /// [`Directory::finish_segment`].
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses.
    pub fn append_segment(
        &self,
        id: SegmentId,
        file: &mut V::File,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StateError> {
        let written = file.write_past_cache(offset, bytes);
        written.map_err(|error| failed(&self.segment_path(id), "writing", error))
    }

    /// Makes a segment durable that is written to its end, and opens it. Its name is durable after
    /// [`Directory::sync_names`].
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses, or gives back other bytes.
    pub fn finish_segment(&self, id: SegmentId) -> Result<Segment, StateError> {
        self.sync_segment(id)?;
        self.map_segment(id)
    }

    /// Makes durable what was written of a segment so far.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses.
    pub fn sync_segment(&self, id: SegmentId) -> Result<(), StateError> {
        let name = self.segment_path(id);
        let mut file = self
            .vfs
            .open(&name, OpenMode::ReadWrite)
            .map_err(|error| failed(&name, "opening", error))?;
        file.sync().map_err(|error| failed(&name, "syncing", error))
    }

    /// Makes the names of all files durable.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses.
    pub fn sync_names(&self) -> Result<(), StateError> {
        self.vfs
            .sync_directory(&self.path)
            .map_err(|error| failed(&self.path, "syncing", error))
    }

    /// Replaces the manifest. Its segments, and their names, must be durable.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses. Which manifest is there then is not known.
    pub fn replace_manifest(&self, manifest: &Manifest) -> Result<(), StateError> {
        self.write_manifest(NEXT_MANIFEST_NAME, MANIFEST_NAME, manifest)
    }

    /// Each manifest has a name of its own while it is written: a checkpoint and a state that is received are written at
    /// the same time, by different threads.
    fn write_manifest(
        &self,
        next: &str,
        name: &str,
        manifest: &Manifest,
    ) -> Result<(), StateError> {
        let (next, name) = (self.path.join(next), self.path.join(name));
        let left_over = self.vfs.exists(&next);
        if left_over.map_err(|error| failed(&next, "looking for it", error))? {
            self.remove(&next)?;
        }
        let create = OpenMode::CreateNew { mode: FILE_MODE };
        let mut file = self.write(&next, create, 0, &manifest.encode())?;
        file.sync()
            .map_err(|error| failed(&next, "syncing", error))?;
        self.vfs
            .rename(&next, &name)
            .map_err(|error| failed(&next, "renaming", error))?;
        self.sync_names()
    }

    /// Removes a segment that no durable manifest lists. Open ones stay readable.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses.
    pub fn remove_segment(&self, id: SegmentId) -> Result<(), StateError> {
        self.remove(&self.segment_path(id))
    }

    /// Removes all segments with a number in this range, whole or not. No manifest may list one of them.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the disk refuses.
    pub fn remove_segments(&self, numbers: Range<SegmentId>) -> Result<(), StateError> {
        let names = match self.vfs.list(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(|error| failed(&self.path, "listing", error))?,
        };
        let found = names
            .iter()
            .filter_map(|name| SegmentId::of_file_name(name));
        for id in found.filter(|id| numbers.contains(id)) {
            self.remove_segment(id)?;
        }
        Ok(())
    }

    fn map_segment(&self, id: SegmentId) -> Result<Segment, StateError> {
        let name = self.segment_path(id);
        let file = self
            .vfs
            .open(&name, OpenMode::Read)
            .map_err(|error| failed(&name, "opening", error))?;
        let map = file
            .map()
            .map_err(|error| failed(&name, "mapping", error))?;
        Segment::open_mapped(id, map).map_err(|damage| StateError::Segment { file: name, damage })
    }

    fn write(
        &self,
        name: &Path,
        mode: OpenMode,
        offset: u64,
        bytes: &[u8],
    ) -> Result<V::File, StateError> {
        let mut file = self
            .vfs
            .open(name, mode)
            .map_err(|error| failed(name, "opening", error))?;
        for (number, chunk) in bytes.chunks(WRITE_BYTES).enumerate() {
            let at = offset + (number * WRITE_BYTES) as u64;
            file.write_at(at, chunk)
                .map_err(|error| failed(name, "writing", error))?;
        }
        Ok(file)
    }

    fn remove(&self, name: &Path) -> Result<(), StateError> {
        self.vfs
            .remove(name)
            .map_err(|error| failed(name, "removing", error))
    }

    fn segment_path(&self, id: SegmentId) -> PathBuf {
        self.path.join(id.file_name())
    }
}

/// A manifest is read, not mapped: its name is given to another file while members run.
fn read(file: &impl VfsFile) -> io::Result<Bytes> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes.into())
}

fn failed(file: &Path, operation: &'static str, source: io::Error) -> StateError {
    StateError::Disk {
        file: file.to_owned(),
        operation,
        source,
    }
}
