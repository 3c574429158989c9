//! A database becomes a member of a new cluster.
//!
//! Everybody who restores from the same file with the same list of members comes to the same
//! cluster: the log of each begins with one entry per member, committed in term 1, and the state
//! stands behind the last of them.
//!
//! Source: etcd v3.7.1, `etcdutl/snapshot/v3_snapshot.go` (`Restore`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kvorum_proto::ids::{LogIndex, MemberId, RequestId, Term};
use kvorum_proto::raftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState};
use kvorum_proto::walpb;
use kvorum_storage::bolt::Reader;
use kvorum_storage::checkpoint::{Directory, FORMAT_NAME, format_mark};
use kvorum_storage::vfs::{DIRECTORY_MODE, Vfs};
use kvorum_storage::wal::{self, Append, Metadata, Ticket};
use prost::Message as _;

use super::fill::Files;
use super::give_back::run_log;
use super::take_over::{Database, STATE, fill};
use super::{
    OfficialError, empty_directory, exists, remove_directory, rename, sync_directory, write_file,
};
use crate::apply::{Apply, Local};
use crate::cluster::identity::cluster_id;
use crate::cluster::{Change, Member, Roster};

/// The term of the entries that name the members.
const TERM: Term = Term(1);
/// What a directory is called while it is made, behind its name.
const NEW: &str = ".new";
const LOG: &str = "wal";

/// The cluster that is founded.
#[derive(Clone, Debug)]
pub struct Founding {
    /// All members, none twice.
    pub members: Vec<Member>,
    /// The one whose directory is made.
    pub this: MemberId,
    /// How far the revision is raised, with everything below forgotten; 0 for not at all.
    pub bump_revision: i64,
}

/// Where the new member lies.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The data directory, which exists.
    pub data: &'a Path,
    /// The directory of the log, which does not; none: below `member`.
    pub log: Option<&'a Path>,
}

/// Whether a directory holds nothing but what an interrupted [`found`] left behind.
///
/// # Errors
///
/// [`OfficialError::Disk`].
pub fn is_free<V: Vfs>(vfs: &V, data: &Path) -> Result<bool, OfficialError> {
    if !exists(vfs, data)? {
        return Ok(true);
    }
    let names = vfs.list(data);
    let names = names.map_err(OfficialError::disk(data, "list"))?;
    Ok(names.iter().all(|name| *name == format!("member{NEW}")))
}

/// Makes the directory of a member from a database. It appears under its name whole or not at all.
///
/// # Errors
///
/// [`OfficialError`]. There is no `member` directory then.
pub fn found<V: Vfs>(
    vfs: &V,
    path: &Path,
    reader: Reader<V::File>,
    founding: &Founding,
    site: Site<'_>,
) -> Result<(), OfficialError> {
    let member = site.data.join("member");
    let new = with_suffix(&member);
    for below in [new.join(STATE), new.join(LOG), new.clone()] {
        remove_directory(vfs, &below)?;
    }
    vfs.create_directory(&new, DIRECTORY_MODE)
        .map_err(OfficialError::disk(&new, "create"))?;
    let first = make_state(vfs, path, reader, founding, &new.join(STATE))?;
    match site.log {
        Some(log) => {
            let new_log = with_suffix(log);
            remove_directory(vfs, &new_log)?;
            make_log(vfs, &new_log, founding, first)?;
            rename(vfs, &new_log, log)?;
            sync_directory(vfs, log.parent().unwrap_or(Path::new(".")))?;
        }
        None => make_log(vfs, &new.join(LOG), founding, first)?,
    }
    sync_directory(vfs, &new)?;
    rename(vfs, &new, &member)?;
    sync_directory(vfs, site.data)
}

fn with_suffix(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(NEW);
    name.into()
}

/// What the log begins with.
struct First {
    entries: Vec<Entry>,
    conf_state: ConfState,
}

fn make_state<V: Vfs>(
    vfs: &V,
    path: &Path,
    reader: Reader<V::File>,
    founding: &Founding,
    state: &Path,
) -> Result<First, OfficialError> {
    empty_directory(vfs, state)?;
    let mut database = Database::of(path.to_owned(), reader)?;
    let mut files = Files::new(Directory::new(vfs.clone(), state.to_owned()), &[]);
    let (store, _) = fill(&database, &mut files, founding.bump_revision)?;
    let mut roster = Roster::new();
    for member in &founding.members {
        roster.apply(Change::Add(member.clone()));
    }
    let entries: Vec<Entry> = (1..).zip(roster.members()).map(entry).collect();
    database.imported.cluster.roster = roster;
    database.imported.applied = LogIndex(entries.len() as u64);
    database.imported.term = TERM;
    let local = Local {
        member: founding.this,
        first_request: RequestId(u64::MAX),
    };
    let mut apply = Apply::restore(local, database.imported, store, Vec::new());
    files.checkpoint(&mut apply)?;
    write_file(vfs, &state.join(FORMAT_NAME), format_mark().as_bytes())?;
    sync_directory(vfs, state)?;
    let conf_state = apply.conf_state();
    Ok(First {
        entries,
        conf_state,
    })
}

fn entry((index, member): (u64, &Member)) -> Entry {
    let change = ConfChange {
        id: None,
        r#type: Some(ConfChangeType::ConfChangeAddNode as i32),
        node_id: Some(member.id().0),
        context: Some(member.context().into()),
    };
    Entry {
        term: Some(TERM.0),
        index: Some(index),
        r#type: Some(EntryType::EntryConfChange as i32),
        data: Some(change.encode_to_vec().into()),
    }
}

fn make_log<V: Vfs>(
    vfs: &V,
    log: &Path,
    founding: &Founding,
    first: First,
) -> Result<(), OfficialError> {
    let ids = founding.members.iter().map(Member::id);
    let metadata = Metadata {
        node: founding.this,
        cluster: cluster_id(ids),
    };
    let mut opened = wal::create(vfs, log, metadata, wal::Options::default())?;
    let last = first.entries.len() as u64;
    let hard_state = HardState {
        term: Some(TERM.0),
        vote: first.conf_state.voters.first().copied(),
        commit: Some(last),
    };
    opened.log.append(Append {
        ticket: Ticket(1),
        hard_state: Some(hard_state),
        entries: first.entries,
        must_sync: true,
    });
    let record = walpb::Snapshot {
        index: Some(last),
        term: Some(TERM.0),
        conf_state: Some(first.conf_state),
    };
    opened.log.append_snapshot(Ticket(2), &record, None);
    run_log(&mut opened)
}
