//! A backup of a member's state, and a new member made from it.

use std::error::Error;
use std::path::Path;

use kvorum_member::apply::{Apply, Local};
use kvorum_member::backend::{Backend, Encoding, Sizing};
use kvorum_member::checkpoint;
use kvorum_member::official::{self, Founding, Site};
use kvorum_proto::ids::{MemberId, RequestId};
use kvorum_storage::bolt::Reader;
use kvorum_storage::checkpoint::Directory;
use kvorum_storage::vfs::{FILE_MODE, OpenMode, Vfs as _, VfsFile as _};
use kvorum_storage::wal::{self, Options};

use super::process::described;
use crate::disk::Disk;
use crate::random::Random;

/// Records sized, and bytes encoded, in one step.
const STEP: usize = 1 << 16;
/// The only member of the cluster that a backup becomes.
const MEMBER: MemberId = MemberId(1);

/// The state that a new member takes up which was made from a backup of this one, after a power loss.
pub(super) fn restore(apply: &Apply, luck: Random) -> Result<Apply, String> {
    try_restore(apply, luck).map_err(|error| error.to_string())
}

fn try_restore(apply: &Apply, luck: Random) -> Result<Apply, Box<dyn Error>> {
    let disk = Disk::new(luck);
    let path = Path::new("/backup");
    write_database(&disk, path, apply)?;
    let founding = Founding {
        members: vec![described(MEMBER, false)],
        this: MEMBER,
        bump_revision: 0,
    };
    let site = Site {
        data: Path::new("/"),
        log: None,
    };
    let reader = Reader::open(disk.open(path, OpenMode::Read)?)?;
    official::found(&disk, path, reader, &founding, site)?;
    disk.crash();
    disk.restart();
    let recovered = wal::open(&disk, Path::new("/member/wal"), Options::default())?.recovered;
    let local = Local {
        member: MEMBER,
        first_request: RequestId(0),
    };
    let state = Directory::new(disk, "/member/state".into());
    Ok(checkpoint::open(&state, recovered, local)?.apply)
}

fn write_database(disk: &Disk, path: &Path, apply: &Apply) -> Result<(), Box<dyn Error>> {
    let backend = Backend::new(apply);
    let mut sizing = Sizing::new(&backend);
    while sizing.step(STEP)? {}
    let mut encoding = Encoding::new(&backend, sizing.finish()?)?;
    let mut file = disk.open(path, OpenMode::CreateNew { mode: FILE_MODE })?;
    let mut offset = 0;
    while let Some(blob) = encoding.blob(STEP)? {
        file.write_at(offset, &blob)?;
        offset += blob.len() as u64;
    }
    file.sync()?;
    Ok(disk.sync_directory(Path::new("/"))?)
}
