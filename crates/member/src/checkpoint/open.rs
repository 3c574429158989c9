//! A start: which state counts, and what of the log comes after it.

use kvorum_mvcc::{RestoreError, Store};
use kvorum_proto::ids::LogIndex;
use kvorum_proto::raftpb;
use kvorum_storage::checkpoint::{Directory, Manifest, StateError};
use kvorum_storage::segment::Segment;
use kvorum_storage::vfs::Vfs;
use kvorum_storage::wal::Recovered;

use super::body::{self, BodyError};
use crate::apply::{Apply, Local};
use crate::backend::import::Imported;

/// Why the state on disk cannot be taken up. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file is damaged or the disk refused.
    #[error(transparent)]
    State(#[from] StateError),
    /// The manifest is whole and cannot be understood.
    #[error(
        "{file}: {error}; restore this member from its peers or a backup, the file was left as it is"
    )]
    Body {
        /// The manifest.
        file: String,
        /// What is wrong.
        error: BodyError,
    },
    /// The segments are whole and contradict each other.
    #[error(
        "{directory}: {error}; restore this member from its peers or a backup, the files were left as they are"
    )]
    Store {
        /// The directory of the state.
        directory: String,
        /// What is wrong.
        error: RestoreError,
    },
    /// The log begins behind the state, or there is no state.
    #[error(
        "the write-ahead log begins at index {first}, and the state in {directory} ends at {}; \
         put the missing files back, or restore this member from its peers or a backup", state.0
    )]
    Gap {
        /// The directory of the state.
        directory: String,
        /// The first index of the log.
        first: u64,
        /// The last index in the state; 0 when there is none.
        state: LogIndex,
    },
    /// The state is of another log, or the end of the log is missing.
    #[error(
        "the state in {directory} ends at index {} of term {term}, which the write-ahead log does not have; \
         put the missing files back, or restore this member from its peers or a backup", index.0
    )]
    OtherLog {
        /// The directory of the state.
        directory: String,
        /// The last index in the state.
        index: LogIndex,
        /// Its term.
        term: u64,
    },
}

/// What a start begins with.
#[derive(Debug)]
pub struct Opened {
    /// The state; the empty one when there is no checkpoint.
    pub apply: Apply,
    /// What of the log comes after it.
    pub recovered: Recovered,
    /// Whether a received state has taken the place of the own one.
    pub adopted: bool,
    /// Files that an earlier run left behind, removed.
    pub removed: Vec<String>,
}

/// A state that was read before it was known to be the one that counts: a large one takes as long as the log, and
/// both can be read at the same time.
#[derive(Debug)]
pub struct Prepared {
    manifest: Manifest,
    loaded: Loaded,
}

/// What a manifest and its segments hold.
type Loaded = (Imported, Store);

/// Reads the state that the own manifest names. None when there is none, or when it cannot be read: [`open_prepared`]
/// then says why, if it is the one that counts.
pub fn prepare<V: Vfs>(directory: &Directory<V>) -> Option<Prepared> {
    let manifest = directory.manifest().ok()??;
    let loaded = load(directory, &manifest).ok()?;
    Some(Prepared { manifest, loaded })
}

/// Takes up the state in a directory, and cuts what is in it off the front of the log.
///
/// # Errors
///
/// [`OpenError`], with nothing changed.
pub fn open<V: Vfs>(
    directory: &Directory<V>,
    recovered: Recovered,
    local: Local,
) -> Result<Opened, OpenError> {
    open_prepared(directory, None, recovered, local)
}

/// The same, with a state that was read before. It is used if it is still the one that counts.
///
/// # Errors
///
/// [`OpenError`], with nothing changed.
pub fn open_prepared<V: Vfs>(
    directory: &Directory<V>,
    prepared: Option<Prepared>,
    mut recovered: Recovered,
    local: Local,
) -> Result<Opened, OpenError> {
    let place = || directory.path().display().to_string();
    let (manifest, adopted) = choose(directory, &recovered)?;
    let Some(manifest) = manifest else {
        if recovered.snapshot.index() > 0 {
            return Err(OpenError::Gap {
                directory: place(),
                first: recovered.snapshot.index() + 1,
                state: LogIndex(0),
            });
        }
        return Ok(Opened {
            apply: Apply::new(local),
            recovered,
            adopted,
            removed: directory.remove_unlisted(&[])?,
        });
    };
    let (imported, store) = match prepared {
        Some(prepared) if prepared.manifest == manifest => prepared.loaded,
        _ => load(directory, &manifest)?,
    };
    let apply = Apply::restore(local, imported, store, manifest.segments.clone());
    follow(directory, &manifest, &mut recovered)?;
    recovered.snapshot.conf_state = Some(apply.conf_state());
    Ok(Opened {
        removed: directory.remove_unlisted(apply.files())?,
        apply,
        recovered,
        adopted,
    })
}

/// The manifest that counts, and whether it was a received one: that counts from the moment the log
/// says so.
fn choose<V: Vfs>(
    directory: &Directory<V>,
    recovered: &Recovered,
) -> Result<(Option<Manifest>, bool), OpenError> {
    let start = LogIndex(recovered.snapshot.index());
    let own = directory.manifest()?;
    if own.as_ref().is_some_and(|manifest| manifest.index >= start) {
        return Ok((own, false));
    }
    let received = directory.received()?;
    match received.filter(|manifest| manifest.index == start && start.0 > 0) {
        Some(received) => {
            directory.adopt_received()?;
            Ok((Some(received), true))
        }
        None => Ok((own, false)),
    }
}

fn load<V: Vfs>(directory: &Directory<V>, manifest: &Manifest) -> Result<Loaded, OpenError> {
    let segments = manifest
        .segments
        .iter()
        .map(|listed| directory.open_segment(listed));
    let segments = segments.collect::<Result<Vec<_>, _>>()?;
    restore(manifest, segments).map_err(|error| match error {
        StateOfError::Body(error) => OpenError::Body {
            file: directory.manifest_path().display().to_string(),
            error,
        },
        StateOfError::Store(RestoreError::Damaged(damage)) => directory.damaged(damage).into(),
        StateOfError::Store(error) => OpenError::Store {
            directory: directory.path().display().to_string(),
            error,
        },
    })
}

/// Why a manifest and its segments make no state.
#[derive(Debug)]
pub(crate) enum StateOfError {
    Body(BodyError),
    Store(RestoreError),
}

fn restore(manifest: &Manifest, segments: Vec<Segment>) -> Result<Loaded, StateOfError> {
    let (image, imported) = body::decode(manifest).map_err(StateOfError::Body)?;
    let store = Store::restore(&image, segments).map_err(StateOfError::Store)?;
    Ok((imported, store))
}

/// The state that a manifest and its segments hold.
pub(crate) fn state_of(
    manifest: &Manifest,
    segments: Vec<Segment>,
    local: Local,
) -> Result<Apply, StateOfError> {
    let (imported, store) = restore(manifest, segments)?;
    let files = manifest.segments.clone();
    Ok(Apply::restore(local, imported, store, files))
}

/// Makes the log begin right behind the state.
fn follow<V: Vfs>(
    directory: &Directory<V>,
    manifest: &Manifest,
    recovered: &mut Recovered,
) -> Result<(), OpenError> {
    let (start, index) = (recovered.snapshot.index(), manifest.index.0);
    let place = || directory.path().display().to_string();
    if index < start {
        return Err(OpenError::Gap {
            directory: place(),
            first: start + 1,
            state: manifest.index,
        });
    }
    let covered = index - start;
    let term = match covered.checked_sub(1) {
        None => recovered.snapshot.term.unwrap_or_default(),
        Some(last) => {
            let last = usize::try_from(last)
                .ok()
                .and_then(|at| recovered.entries.get(at));
            last.map_or(0, raftpb::Entry::term)
        }
    };
    if term != manifest.term.0 {
        return Err(OpenError::OtherLog {
            directory: place(),
            index: manifest.index,
            term: manifest.term.0,
        });
    }
    recovered.entries.drain(..covered as usize);
    recovered.snapshot.index = Some(index);
    recovered.snapshot.term = Some(term);
    // What the state holds was committed, whether or not the log had come to saying so.
    let commit = recovered.hard_state.commit();
    recovered.hard_state.commit = Some(commit.max(index));
    Ok(())
}
