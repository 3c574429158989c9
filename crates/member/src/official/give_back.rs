//! Our directory becomes that of an official server, in place.

use std::path::{Path, PathBuf};

use kvorum_proto::ids::LogIndex;
use kvorum_proto::raftpb::HardState;
use kvorum_proto::walpb;
use kvorum_storage::checkpoint::Directory;
use kvorum_storage::vfs::{FILE_MODE, FileOutput, OpenMode, Vfs};
use kvorum_storage::wal::{self, Ticket};

use super::fill::Files;
use super::take_over::{STATE, settle};
use super::{
    OfficialError, empty_directory, exists, free_name, rename, snap, sync_directory, write_file,
};
use crate::apply::{Apply, Effect, Input, Local};
use crate::backend::{Backend, Encoding, Sizing};
use crate::checkpoint;
use crate::cluster::Version;

/// The directory of the official server that is being made.
pub(super) const NEW_SNAP: &str = "snap.new";
const SNAP: &str = "snap";
/// What our state is called when it was given back, before the number.
const KEPT: &str = "kvorum";
/// Pairs looked at, and bytes written, in a step of the encoding.
const STEP_ITEMS: usize = 10_000;
const STEP_BYTES: usize = 1 << 20;

/// What was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenBack {
    /// The database.
    pub database: PathBuf,
    /// The last entry in it.
    pub applied: LogIndex,
    /// The newest store revision in it.
    pub revision: i64,
    /// Where our state is kept.
    pub kept: PathBuf,
}

/// Writes the state in `member/state` as the database of an official server of this version, which
/// then starts on the directory. Nobody may use the directory meanwhile: the lock of the log is
/// held, and the caller holds that of the directory.
///
/// The order: a checkpoint of ours at the last committed entry C, so that the log may say C; the
/// snapshot record {C} in the log; the new `snap` directory under its name, from where on an
/// official server starts; our state away, from where on ours takes the directory over.
///
/// # Errors
///
/// [`OfficialError`].
pub fn give_back<V: Vfs>(
    vfs: &V,
    member: &Path,
    log: &Path,
    version: Version,
) -> Result<GivenBack, OfficialError> {
    settle(vfs, member)?;
    let mut opened = wal::open(vfs, log, wal::Options::default())?;
    let local = Local {
        member: opened.recovered.metadata.node,
        first_request: kvorum_proto::ids::RequestId(u64::MAX),
    };
    let state = member.join(STATE);
    let directory = Directory::new(vfs.clone(), state.clone());
    let loaded = checkpoint::open(&directory, opened.recovered.clone(), local)?;
    let (mut apply, recovered) = (loaded.apply, loaded.recovered);
    let mut files = Files::new(directory, apply.files());
    let hard_state = catch_up(&mut apply, &recovered, &mut files, &state)?;
    files.checkpoint(&mut apply)?;

    let backend = Backend::new(&apply).written_for(version);
    let new = member.join(NEW_SNAP);
    empty_directory(vfs, &new)?;
    write_database(vfs, &new.join("db"), &backend)?;
    let view = apply.read_view();
    let conf_state = apply.conf_state();
    let name = snap::file_name(view.term, view.applied);
    let mut cluster = view.cluster.as_ref().clone();
    cluster.version = cluster.version.map(|own| own.min(version.of_cluster()));
    let content = snap::encode(view.applied, view.term, conf_state.clone(), &cluster);
    write_file(vfs, &new.join(name), &content)?;
    sync_directory(vfs, &new)?;

    let record = walpb::Snapshot {
        index: Some(view.applied.0),
        term: Some(view.term.0),
        conf_state: Some(conf_state),
    };
    opened
        .log
        .append_snapshot(Ticket(1), &record, Some(hard_state));
    run_log(&mut opened)?;
    let target = member.join(SNAP);
    if exists(vfs, &target)? {
        // A server that found the log locked leaves one behind.
        rename(
            vfs,
            &target,
            &member.join(free_name(vfs, member, "official")?),
        )?;
    }
    rename(vfs, &new, &target)?;
    sync_directory(vfs, member)?;
    let kept = member.join(free_name(vfs, member, KEPT)?);
    rename(vfs, &state, &kept)?;
    sync_directory(vfs, member)?;
    Ok(GivenBack {
        database: target.join("db"),
        applied: view.applied,
        revision: view.keys.current_revision(),
        kept,
    })
}

/// Applies what is committed. All that a lone voter has logged is: nobody else can say otherwise.
/// The hard state that says so.
fn catch_up<V: Vfs>(
    apply: &mut Apply,
    recovered: &wal::Recovered,
    files: &mut Files<V>,
    state: &Path,
) -> Result<HardState, OfficialError> {
    let mut hard_state = recovered.hard_state;
    for entry in &recovered.entries {
        let is_alone = apply.conf_state().voters == [apply.local().member.0];
        if entry.index() > hard_state.commit() && !is_alone {
            break;
        }
        apply.input(Input::Committed(vec![entry.clone()]));
        while let Some(effect) = apply.take_effect() {
            if let Effect::Stop(reason) = effect {
                let file = state.to_owned();
                return Err(OfficialError::Entry { file, reason });
            }
        }
        hard_state.commit = Some(hard_state.commit().max(entry.index()));
        files.write(apply.store_mut())?;
    }
    Ok(hard_state)
}

fn write_database<V: Vfs>(vfs: &V, path: &Path, backend: &Backend) -> Result<(), OfficialError> {
    let failed = || OfficialError::disk(path, "write");
    let mut sizing = Sizing::new(backend);
    let unwritable = |error: crate::backend::BackendError| OfficialError::Encode {
        file: path.to_owned(),
        error,
    };
    while sizing.step(STEP_ITEMS).map_err(unwritable)? {}
    let layout = sizing.finish().map_err(|error| unwritable(error.into()))?;
    let mode = OpenMode::CreateNew { mode: FILE_MODE };
    let mut output = FileOutput::new(vfs.open(path, mode).map_err(failed())?);
    let mut encoding = Encoding::new(backend, layout).map_err(|error| unwritable(error.into()))?;
    while let Some(blob) = encoding.blob(STEP_BYTES).map_err(unwritable)? {
        std::io::Write::write_all(&mut output, &blob).map_err(failed())?;
    }
    output.finish().map_err(failed())?;
    Ok(())
}

/// Makes everything that was appended durable.
pub(super) fn run_log<V: Vfs>(opened: &mut wal::Opened<V>) -> Result<(), OfficialError> {
    while let Some(output) = opened.log.take_output() {
        if let wal::Output::Job(job) = output {
            match job.lane() {
                wal::Lane::Foreground => opened.executor.run(&job)?,
                wal::Lane::Background => opened.background.run(&job)?,
            }
            opened.log.done(job.id);
        }
    }
    Ok(())
}
