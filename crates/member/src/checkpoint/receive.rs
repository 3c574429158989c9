//! A state that came from elsewhere, made durable beside the own one.

use std::ops::Range;

use kvorum_mvcc::{ImportError as StoreError, Store};
use kvorum_proto::ids::LogIndex;
use kvorum_storage::bolt::{Reader, Source};
use kvorum_storage::checkpoint::{Listed, Manifest, StateError};
use kvorum_storage::segment::{Damage, SEGMENT_BYTES, SegmentId};
use kvorum_storage::vfs::Vfs;

use super::executor::{Done, Executor, Job};
use super::machine::Sealed;
use super::stream::StreamError;
use crate::apply::{self, Apply, Local};
use crate::backend::import::{Changes, ImportError, Imported};
use crate::disk_space::{self, NoRoom};

/// Segments of a received state have numbers from its index times this on. The own ones stay below:
/// there are fewer segments than entries, and the index is ahead of the own log.
pub(super) const NUMBERS_PER_INDEX: u64 = 1 << 24;

/// Records that are looked at in one step when a compaction has to end first.
const STEP_RECORDS: usize = 10_000;

/// Why a state could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The disk refused; the process must stop.
    #[error(transparent)]
    State(#[from] StateError),
    /// The file is no database of etcd, or damaged. Nothing of it is used.
    #[error(transparent)]
    File(#[from] ImportError),
    /// Its history does not fit together. Nothing of it is used.
    #[error(transparent)]
    History(#[from] StoreError),
    /// The file is whole and not the one that was announced. Nothing of it is used.
    #[error("the state is that of entry {found} and not of {named}")]
    OtherEntry {
        /// The entry that the file was made at.
        found: LogIndex,
        /// The entry that the message with it names.
        named: LogIndex,
    },
    /// The stream is no state. Nothing of it is used.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// There is no room for it. Nothing of it is used, and what was written is gone again.
    #[error(transparent)]
    Room(#[from] NoRoom),
}

impl ReceiveError {
    /// Whether nobody knows any more what the own disk holds, so that the process must stop.
    #[must_use]
    pub fn is_of_own_disk(&self) -> bool {
        matches!(self, ReceiveError::State(_))
    }

    /// Whether the disk is too small for it.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        match self {
            ReceiveError::Room(_) => true,
            ReceiveError::Stream(StreamError::Write(error)) => error.is_full_disk(),
            _ => false,
        }
    }
}

/// Takes in the file that came with a snapshot at the entry `named`, as [`import`] does. None when the
/// own state is as new: a sender that did not hear of its success sends the same again. Segments have
/// `segment_bytes`. One at a time, as for [`receive`].
///
/// # Errors
///
/// [`ReceiveError`]; what was written of a file that is not used is removed.
pub fn take_in<V: Vfs, S: Source>(
    executor: &Executor<V>,
    file: S,
    named: LogIndex,
    local: Local,
    segment_bytes: u64,
) -> Result<Option<Apply>, ReceiveError> {
    if !is_needed(executor, named)? {
        return Ok(None);
    }
    let mut written = Vec::new();
    let reader = Reader::open(file).map_err(ImportError::from)?;
    let mut fits = |bytes| Ok(disk_space::room(executor.directory().space()?, bytes)?);
    let taken = import_into(
        executor,
        &reader,
        local,
        segment_bytes,
        &mut written,
        &mut fits,
    );
    let taken = taken.and_then(|state| match state.applied() {
        found if found == named => Ok(Some(state)),
        found => Err(ReceiveError::OtherEntry { found, named }),
    });
    if matches!(&taken, Err(error) if !error.is_of_own_disk()) {
        remove(executor, &written)?;
    }
    taken
}

/// Whether a state at that entry is newer than the own one.
///
/// A state that was received before and is not the own one by now was not wanted: consensus had heard of a later term
/// while it came in. It goes, with its files, whose names the next one may have. If it stayed, the same state sent by the
/// leader of that term would count as received, and nobody would ever use it.
pub(super) fn is_needed<V: Vfs>(
    executor: &Executor<V>,
    named: LogIndex,
) -> Result<bool, StateError> {
    let directory = executor.directory();
    if let Some(unwanted) = directory.received()? {
        directory.remove_received()?;
        directory.remove_segments(numbers(unwanted.index))?;
    }
    Ok(own_entry(executor)? < Some(named))
}

fn own_entry<V: Vfs>(executor: &Executor<V>) -> Result<Option<LogIndex>, StateError> {
    let own = executor.directory().manifest()?;
    Ok(own.map(|manifest| manifest.index))
}

/// The numbers of the segments of a state received at that entry.
pub(super) fn numbers(index: LogIndex) -> Range<SegmentId> {
    first_number(index.0)..first_number(index.0.saturating_add(1))
}

fn remove<V: Vfs>(executor: &Executor<V>, files: &[Listed]) -> Result<(), StateError> {
    for file in files {
        executor.directory().remove_segment(file.id)?;
    }
    Ok(())
}

/// Takes in a database file of etcd, as a leader or an operator gives it. The history goes into
/// segments as it is read, so memory holds the index and a few runs. Durable only after [`receive`]
/// or a checkpoint.
///
/// # Errors
///
/// [`ReceiveError`].
pub fn import<V: Vfs, S: Source>(
    executor: &Executor<V>,
    file: &Reader<S>,
    local: Local,
) -> Result<Apply, ReceiveError> {
    let fits = &mut |_| Ok(());
    import_into(executor, file, local, SEGMENT_BYTES, &mut Vec::new(), fits)
}

/// The same with segments of that size; `files` are those that were written, also after a failure. Before each, `fits`
/// is asked whether there is room for so many bytes.
fn import_into<V: Vfs, S: Source>(
    executor: &Executor<V>,
    file: &Reader<S>,
    local: Local,
    segment_bytes: u64,
    files: &mut Vec<Listed>,
    fits: &mut dyn FnMut(u64) -> Result<(), ReceiveError>,
) -> Result<Apply, ReceiveError> {
    let imported = Imported::read(file)?;
    let mut store = Store::new();
    store.set_segment_bytes(segment_bytes);
    store.number_segments_from(first_number(imported.applied.0));
    let mut changes = Changes::new(file)?;
    let mut last = 0;
    while let Some(change) = changes.next()? {
        last = change.revision.main;
        store.import(change.revision, change.is_tombstone, &change.stored)?;
        while let Some(job) = store.take_job() {
            fits(segment_bytes)?;
            if let Done::Written { id, segment } = executor.run(Job::Store(job), |_| ())? {
                files.extend(segment.as_ref().map(Listed::of));
                store.written(id, segment);
            }
        }
    }
    let current = imported.current_revision(last);
    let compacted = imported.compact_revision();
    let finished = store.finish_import(current, compacted);
    finished.map_err(|damage: Damage| executor.damaged(damage))?;
    Ok(Apply::restore(local, imported, store, files.clone()))
}

/// Makes a state durable beside the own one, under numbers of its own: what
/// [`crate::core::Input::Snapshot`] asks for. One at a time: not before
/// [`crate::core::Output::SnapshotDone`] has come for the one before. False when the own state is as
/// new; then nothing of it is left.
///
/// # Errors
///
/// [`ReceiveError::State`]; the process must stop.
pub fn receive<V: Vfs>(executor: &Executor<V>, state: &mut Apply) -> Result<bool, ReceiveError> {
    if own_entry(executor)? >= Some(state.applied()) {
        remove(executor, state.files())?;
        return Ok(false);
    }
    let first = first_number(state.applied().0);
    state.store_mut().number_segments_from(first);
    let sealed = seal(state);
    let mut files = state.files().to_vec();
    while let Some(job) = state.store_mut().take_job() {
        if let Done::Written { id, segment } = executor.run(Job::Store(job), |_| ())? {
            files.extend(segment.as_ref().map(Listed::of));
            state.store_written(id, segment);
        }
    }
    let listed = |id: &SegmentId| files.iter().find(|file| file.id == *id).copied();
    let manifest = Manifest {
        index: sealed.index,
        term: sealed.term,
        next_segment: sealed.next_segment,
        segments: sealed.segments.iter().filter_map(listed).collect(),
        body: sealed.body,
    };
    assert_eq!(
        manifest.segments.len(),
        sealed.segments.len(),
        "every run was written"
    );
    executor.directory().write_received(&manifest)?;
    state.set_files(manifest.segments);
    Ok(true)
}

fn seal(state: &mut Apply) -> Sealed {
    while state.compaction_pending() {
        let records_max = STEP_RECORDS;
        state.input(apply::Input::CompactStep { records_max });
    }
    state.seal()
}

pub(super) fn first_number(index: u64) -> SegmentId {
    SegmentId(index.saturating_mul(NUMBERS_PER_INDEX))
}
