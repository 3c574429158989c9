//! A small disk for one member: a file system in a file, where the machine and its rights allow it.
//!
//! It is mounted in a mount namespace that a process of its own holds. So it outlives the member, nobody else sees it, and
//! it is gone with the test, however that ends. The member is started inside; the test gets there through `/proc`.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::cluster::Cluster;
use crate::peers::skip;
use crate::process::Process;

/// How long it may take to mount it.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);
/// What the keeper says then.
const MOUNTED: &str = "mounted";
/// What takes the room away.
const BALLAST: &str = "ballast";
/// Ballast is added in steps of so many bytes, and in smaller ones at the end.
const STEP_BYTES: u64 = 64 << 20;
const STEP_BYTES_MIN: u64 = 4 << 10;
/// Pause between two looks at whether there is room again.
const LOOK: Duration = Duration::from_millis(5);

/// The data of a member lies on it.
pub struct SmallDisk {
    /// Ends when its input is closed.
    _keeper: Process,
    data: PathBuf,
}

impl SmallDisk {
    /// A disk of so many bytes for a member that was not started yet. None where this machine cannot, which is then on
    /// record as a skip of this test.
    ///
    /// # Panics
    /// When the file for it cannot be made.
    pub fn give(cluster: &mut Cluster, place: usize, bytes: u64, test: &str) -> Option<Self> {
        let image = cluster.folder().join(format!("disk-{place}"));
        let file = File::create(&image).expect("a file");
        file.set_len(bytes).expect("a file without bytes");
        let mut make = Command::new("mkfs.ext4");
        let made = make.args(["-q", "-m", "0"]).arg(&image).status();
        let (image, data) = (image.display(), cluster.data_directory(place));
        let folder = data.display();
        let script = format!(
            "mkdir -p {folder} && mount -o loop {image} {folder} && chmod 700 {folder} && echo {MOUNTED} && exec cat"
        );
        let mut keep = Command::new("unshare");
        keep.args(["--mount", "sh", "-c", &script]);
        let can = made.is_ok_and(|it| it.success());
        let keeper = can.then(|| Process::spawn_with_input(&mut keep));
        let is_there = |keeper: &Process| keeper.wait_for(MOUNTED, 0, MOUNT_LIMIT).is_some();
        let Some(keeper) = keeper.filter(is_there) else {
            skip(test, "needs a mount namespace and loop devices");
            return None;
        };
        let pid = keeper.pid();
        cluster.wrap(place, &["nsenter", &format!("--mount=/proc/{pid}/ns/mnt")]);
        let data = data.strip_prefix("/").expect("an absolute path");
        Some(Self {
            data: PathBuf::from(format!("/proc/{pid}/root")).join(data),
            _keeper: keeper,
        })
    }

    /// The data, as this process sees them.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Takes so many bytes away.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn add_ballast(&self, bytes: u64) {
        let ballast = self.ballast();
        let from = ballast.metadata().expect("its length").len();
        fallocate(&ballast, FallocateFlags::empty(), from, bytes).expect("there is room");
    }

    /// Gives back what was taken away.
    ///
    /// # Panics
    /// When nothing was.
    pub fn remove_ballast(&self) {
        fs::remove_file(self.data.join(BALLAST)).expect("it is there");
    }

    /// Takes all room away while something else goes on, and what is given back meanwhile.
    pub fn keep_full<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let ballast = self.ballast();
            let _end = Raised(&is_over);
            scope.spawn(|| {
                let ballast = ballast;
                while !is_over.load(Ordering::Relaxed) {
                    fill(&ballast);
                    thread::sleep(LOOK);
                }
            });
            meanwhile()
        })
    }

    fn ballast(&self) -> File {
        let path = self.data.join(BALLAST);
        let opened = OpenOptions::new().create(true).append(true).open(path);
        opened.expect("a file")
    }
}

/// A flag that is raised at the end, also when a test fails.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets a file grow until its disk has no room.
fn fill(file: &File) {
    let mut step = STEP_BYTES;
    while step >= STEP_BYTES_MIN {
        let from = file.metadata().expect("its length").len();
        match fallocate(file, FallocateFlags::empty(), from, step) {
            Ok(()) => {}
            Err(Errno::NOSPC) => step /= 2,
            Err(error) => panic!("fill a disk: {error}"),
        }
    }
}
