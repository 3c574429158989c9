//! An official member's directory becomes ours, in place.

use std::path::{Path, PathBuf};

use kvorum_mvcc::{Revision, Store};
use kvorum_proto::etcdserverpb::InternalRaftRequest;
use kvorum_proto::ids::{LogIndex, Term};
use kvorum_proto::raftpb::{Entry, EntryType};
use kvorum_storage::bolt::Reader;
use kvorum_storage::checkpoint::{Directory, FORMAT_NAME, format_mark};
use kvorum_storage::vfs::{OpenMode, Vfs};
use kvorum_storage::wal::Recovered;
use prost::Message as _;

use super::fill::Files;
use super::give_back::NEW_SNAP;
use super::{
    OfficialError, empty_directory, exists, free_name, read_file, remove_directory, rename, snap,
    sync_directory, write_file,
};
use crate::apply::{Apply, Effect, Input, Local};
use crate::auth;
use crate::backend::import::{Changes, ImportError, Imported};
use crate::cluster::{SERVER_VERSION, Version};

/// Where an official server keeps its state, below `member`.
const SNAP: &str = "snap";
/// The database in it.
const DATABASE: &str = "db";
/// Where we keep ours.
pub(super) const STATE: &str = "state";
/// The state that is being made.
const NEW_STATE: &str = "state.new";
/// The state that is being replaced.
const OLD_STATE: &str = "state.old";
/// What `snap` is called when it was taken over, before the number.
const KEPT: &str = "official";

/// What became of the official files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taking {
    /// They are our state now.
    Over(TakenOver),
    /// Ours is as new as they are, or newer. They were only moved, to this place.
    Aside(PathBuf),
}

/// What was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The database that it came from, by the name that it had.
    pub database: PathBuf,
    /// The version that the database or its cluster had; none in a cluster that never decided.
    pub version: Option<Version>,
    /// The last entry in the database.
    pub applied: LogIndex,
    /// Entries of the log that were applied to it.
    pub replayed: u64,
    /// Changes that the database held.
    pub changes: u64,
    /// The store revision now.
    pub revision: i64,
    /// Users and roles, which are kept and not served.
    pub users: usize,
    /// Where the official files are kept.
    pub kept: PathBuf,
}

/// Clears away what an interrupted attempt left behind and counts for nothing. To be called before
/// every start.
///
/// # Errors
///
/// [`OfficialError::Disk`].
pub fn settle<V: Vfs>(vfs: &V, member: &Path) -> Result<(), OfficialError> {
    let (state, old) = (member.join(STATE), member.join(OLD_STATE));
    if exists(vfs, &old)? {
        if exists(vfs, &state)? {
            remove_directory(vfs, &old)?;
        } else {
            rename(vfs, &old, &state)?;
            sync_directory(vfs, member)?;
        }
    }
    remove_directory(vfs, &member.join(NEW_STATE))?;
    remove_directory(vfs, &member.join(NEW_SNAP))
}

/// Moves the official files to a name of their own.
fn set_aside<V: Vfs>(vfs: &V, member: &Path) -> Result<PathBuf, OfficialError> {
    let kept = member.join(free_name(vfs, member, KEPT)?);
    rename(vfs, &member.join(SNAP), &kept)?;
    sync_directory(vfs, member)?;
    Ok(kept)
}

/// Takes the database in `member/snap` over into `member/state`. `recovered` is what the log says;
/// the log is open and locked, so that no server uses the directory.
///
/// # Errors
///
/// [`OfficialError`]. Nothing that counts was changed then.
pub fn take_over<V: Vfs>(
    vfs: &V,
    member: &Path,
    recovered: &Recovered,
    local: Local,
) -> Result<Taking, OfficialError> {
    let mut database = Database::open(vfs, &member.join(SNAP), recovered)?;
    let state = member.join(STATE);
    let ours = Directory::new(vfs.clone(), state.clone()).manifest()?;
    let ours = ours.map_or(LogIndex(0), |manifest| manifest.index);
    if ours >= database.imported.applied && ours.0 >= recovered.snapshot.index() {
        return Ok(Taking::Aside(set_aside(vfs, member)?));
    }
    let term = database.check(vfs, member, recovered)?;
    let entries = behind(recovered, database.imported.applied);
    if let Some(entry) = entries.iter().find(|entry| changes_users(entry)) {
        let (file, index) = (database.path, LogIndex(entry.index()));
        return Err(OfficialError::Users { file, index });
    }
    let new = member.join(NEW_STATE);
    empty_directory(vfs, &new)?;
    let mut files = Files::new(Directory::new(vfs.clone(), new.clone()), &[]);
    let (store, changes) = fill(&database, &mut files, 0)?;
    let file = database.path;
    let applied = database.imported.applied;
    let users = database.imported.cluster.auth_kept.users.len()
        + database.imported.cluster.auth_kept.roles.len();
    let version = database.version;
    database.imported.term = term;
    let mut apply = Apply::restore(local, database.imported, store, Vec::new());
    let replayed = entries.len() as u64;
    replay(&mut apply, entries, &mut files, &file)?;
    files.checkpoint(&mut apply)?;

    write_file(vfs, &new.join(FORMAT_NAME), format_mark().as_bytes())?;
    sync_directory(vfs, &new)?;
    if exists(vfs, &state)? {
        rename(vfs, &state, &member.join(OLD_STATE))?;
    }
    rename(vfs, &new, &state)?;
    sync_directory(vfs, member)?;
    let kept = set_aside(vfs, member)?;
    settle(vfs, member)?;
    Ok(Taking::Over(TakenOver {
        database: file,
        version,
        applied,
        replayed,
        changes,
        revision: apply.read_view().keys.current_revision(),
        users,
        kept,
    }))
}

/// An open database and what it says beside its keys.
pub(super) struct Database<F> {
    path: PathBuf,
    reader: Reader<F>,
    pub(super) imported: Imported,
    version: Option<Version>,
}

impl<F: kvorum_storage::vfs::VfsFile> Database<F> {
    /// The database that goes with the log: the one in use, or one that was received from a leader
    /// and not taken up yet.
    ///
    /// Source: etcd v3.7.1, `server/storage/backend.go` (`RecoverSnapshotBackend`).
    fn open<V: Vfs<File = F>>(
        vfs: &V,
        snap: &Path,
        recovered: &Recovered,
    ) -> Result<Self, OfficialError> {
        let start = LogIndex(recovered.snapshot.index());
        let path = snap.join(DATABASE);
        let used = Self::open_at(vfs, path)?;
        let received = snap.join(snap::received_name(start));
        if used.imported.applied < start && exists(vfs, &received)? {
            return Self::open_at(vfs, received);
        }
        Ok(used)
    }

    fn open_at<V: Vfs<File = F>>(vfs: &V, path: PathBuf) -> Result<Self, OfficialError> {
        let file = vfs.open(&path, OpenMode::Read);
        let file = file.map_err(OfficialError::disk(&path, "open"))?;
        let reader = Reader::open(file).map_err(OfficialError::unreadable(&path))?;
        Self::of(path, reader)
    }

    /// What an open file says.
    pub(super) fn of(path: PathBuf, reader: Reader<F>) -> Result<Self, OfficialError> {
        let mut imported = match Imported::read(&reader) {
            // A server that ends before it has applied anything leaves an empty one.
            Err(ImportError::NoBucket(_)) => Imported::default(),
            read => read.map_err(OfficialError::database(&path))?,
        };
        let written = imported.storage_version.as_deref();
        let version = written.and_then(|text| text.parse().ok());
        let version = version.or(imported.cluster.version);
        // A file says that it is of 3.7 once we have taken it over.
        imported.storage_version = None;
        Ok(Self {
            path,
            reader,
            imported,
            version,
        })
    }

    /// Refuses what cannot be served as it was meant. The term of the last entry, which databases
    /// before 3.5 do not tell.
    fn check<V: Vfs>(
        &self,
        vfs: &V,
        member: &Path,
        recovered: &Recovered,
    ) -> Result<Term, OfficialError> {
        let file = || self.path.clone();
        if self.imported.cluster.auth.enabled {
            return Err(OfficialError::Authentication { file: file() });
        }
        for version in [self.version, self.imported.cluster.version] {
            let newer = version.filter(|found| found.of_cluster() > SERVER_VERSION.of_cluster());
            if let Some(version) = newer {
                let file = file();
                return Err(OfficialError::Newer { file, version });
            }
        }
        let start = LogIndex(recovered.snapshot.index());
        let end = LogIndex(start.0 + recovered.entries.len() as u64);
        let applied = self.imported.applied;
        let told = self.imported.term;
        let term = term_at(recovered, applied).filter(|term| told.0 == 0 || *term == told);
        let Some(term) = term else {
            return Err(OfficialError::OtherLog {
                file: file(),
                applied,
                start,
                end,
            });
        };
        let start_term = Term(recovered.snapshot.term.unwrap_or_default());
        let snap = member.join(SNAP).join(snap::file_name(start_term, start));
        if start.0 > 0 && exists(vfs, &snap)? {
            let content = read_file(vfs, &snap)?;
            match snap::has_user_keys(content) {
                Ok(false) => {}
                Ok(true) => return Err(OfficialError::UserKeys { file: snap }),
                Err(damage) => return Err(OfficialError::Snap { file: snap, damage }),
            }
        }
        Ok(term)
    }
}

/// The term of an entry of the log; none when the log does not have it.
fn term_at(recovered: &Recovered, index: LogIndex) -> Option<Term> {
    let start = recovered.snapshot.index();
    match index.0.checked_sub(start)?.checked_sub(1) {
        None => Some(Term(recovered.snapshot.term.unwrap_or_default())),
        Some(at) => {
            let entry = recovered.entries.get(usize::try_from(at).ok()?)?;
            Some(Term(entry.term()))
        }
    }
}

/// Streams the history of a database into files, and raises its revision by so much; what is below
/// is compacted then. How many changes it had.
pub(super) fn fill<F: kvorum_storage::vfs::VfsFile, V: Vfs>(
    database: &Database<F>,
    files: &mut Files<V>,
    bump_revision: i64,
) -> Result<(Store, u64), OfficialError> {
    let Database {
        path,
        reader,
        imported,
        ..
    } = database;
    let mut store = Files::<V>::new_store();
    let failed = |error| OfficialError::History {
        file: path.clone(),
        error,
    };
    let mut changes = Changes::new(reader).map_err(OfficialError::database(path))?;
    let (mut count, mut last) = (0, 0);
    while let Some(change) = changes.next().map_err(OfficialError::database(path))? {
        store
            .import(change.revision, change.is_tombstone, &change.stored)
            .map_err(failed)?;
        count += 1;
        last = change.revision.main;
        files.write(&mut store)?;
    }
    let mut compacted = imported.compact_revision();
    if bump_revision > 0 {
        last = last.saturating_add(bump_revision);
        let at = Revision::start_of(last);
        store.import(at, false, &[]).map_err(failed)?;
        compacted = compacted.max(last);
    }
    store
        .finish_import(imported.current_revision(last), compacted)
        .map_err(|damage| failed(damage.into()))?;
    files.write(&mut store)?;
    Ok((store, count))
}

/// The committed entries behind an index.
fn behind(recovered: &Recovered, applied: LogIndex) -> Vec<Entry> {
    let commit = recovered.hard_state.commit();
    let entries = recovered.entries.iter();
    entries
        .filter(|entry| (applied.0 + 1..=commit).contains(&entry.index()))
        .cloned()
        .collect()
}

/// Whether an entry is a request that the database must have seen, as nobody here can carry it out.
fn changes_users(entry: &Entry) -> bool {
    let is_request = entry.r#type() == EntryType::EntryNormal;
    // What does not decode is refused where it is applied.
    let request = InternalRaftRequest::decode(entry.data()).ok();
    let payload = request.and_then(|request| request.payload);
    is_request && payload.is_some_and(|payload| auth::is_change(&payload))
}

fn replay<V: Vfs>(
    apply: &mut Apply,
    entries: Vec<Entry>,
    files: &mut Files<V>,
    file: &Path,
) -> Result<(), OfficialError> {
    /// Entries that are applied between two looks at the files.
    const BATCH: usize = 1000;
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        apply.input(Input::Committed(entries.by_ref().take(BATCH).collect()));
        while let Some(effect) = apply.take_effect() {
            if let Effect::Stop(reason) = effect {
                let file = file.to_owned();
                return Err(OfficialError::Entry { file, reason });
            }
        }
        files.write(apply.store_mut())?;
    }
    Ok(())
}
