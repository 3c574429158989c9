//! Looks after the room on the disk: tells [`DiskSpace`] what is free and does what it decides.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvorum_member::disk_space::{DiskSpace, LOOK_PAUSE_MIN, Needs, Step};
use kvorum_storage::reserve::Reserve;
use kvorum_storage::vfs::{OsVfs, Vfs as _};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::Member;

/// Pause after a disk could not tell.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(5);

/// The disks of a member.
#[derive(Debug)]
pub(crate) struct DiskWatch {
    reserve: Reserve<OsVfs>,
    /// Where the log is; it may have a disk of its own, which has no reserve.
    log: PathBuf,
    space: DiskSpace,
}

/// What a look has found.
struct Found {
    free_bytes: u64,
    reserve_bytes: u64,
    /// When to look again.
    pause: Duration,
}

impl DiskWatch {
    /// Before the start. A member whose disk has filled up needs its reserve to start at all; nothing else is
    /// changed.
    ///
    /// # Errors
    ///
    /// When the disk cannot tell, or the reserve cannot be given back.
    pub(crate) fn open(state: &Path, log: &Path) -> io::Result<Self> {
        let reserve = Reserve::new(OsVfs::default(), state);
        let is_held = reserve.is_held()?;
        let mut watch = Self {
            reserve,
            log: log.to_owned(),
            space: DiskSpace::new(is_held),
        };
        if is_held {
            watch.look()?;
        }
        Ok(watch)
    }

    fn look(&mut self) -> io::Result<Found> {
        let state = self.reserve.disk()?;
        // Before its first start a member has no log.
        let log = OsVfs::default().space(&self.log).unwrap_or(state);
        let needs = Needs::of_disk(state.total_bytes.min(log.total_bytes));
        let free_bytes = state.free_bytes.min(log.free_bytes);
        match self.space.look(free_bytes, needs) {
            Some(Step::Release) => self.reserve.release()?,
            Some(Step::Reserve(bytes)) => {
                let taken = self.reserve.take(bytes)?;
                self.space.took(taken);
            }
            None => {}
        }
        let held = self.reserve.is_held()?;
        Ok(Found {
            free_bytes,
            reserve_bytes: if held { needs.reserve_bytes } else { 0 },
            pause: match self.space.is_short() {
                true => LOOK_PAUSE_MIN,
                false => needs.pause(free_bytes),
            },
        })
    }
}

/// Looks again and again until the member stops.
pub(crate) async fn watch(member: Member, mut watch: DiskWatch) {
    let mut was_short = false;
    while !member.is_stopping() {
        let looked = spawn_blocking(move || {
            let found = watch.look();
            (watch, found)
        });
        let Ok((back, found)) = looked.await else {
            return;
        };
        watch = back;
        let pause = match found {
            Ok(found) => {
                tell(&member, &watch, &found, &mut was_short);
                found.pause
            }
            Err(error) => {
                warn!(%error, "the room on the disk is not known");
                UNKNOWN_PAUSE
            }
        };
        sleep(pause).await;
    }
}

fn tell(member: &Member, watch: &DiskWatch, found: &Found, was_short: &mut bool) {
    let is_short = watch.space.is_short();
    member.metrics().disk_free.set(found.free_bytes as f64);
    member
        .metrics()
        .disk_reserve
        .set(found.reserve_bytes as f64);
    member.set_disk_short(is_short);
    if is_short != *was_short {
        *was_short = is_short;
        let free_bytes = found.free_bytes;
        if is_short {
            warn!(
                free_bytes,
                "the disk is nearly full: writes are refused until there is room; delete keys, compact, or enlarge the disk"
            );
        } else {
            info!(free_bytes, "the disk has room again");
        }
    }
}
