//! A disk that is full at one member.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::server::new_folder;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::trial::{Sick, Trial};
use crate::{rounds, subjects};

/// Room for all that a member writes here.
const ROOM: &str = "size=1g";
/// Files are written often, so that the member soon needs more room.
const OFTEN: [&str; 1] = ["--snapshot-count=100"];

#[test]
fn a_full_disk_takes_one_member_only() {
    for &subject in subjects() {
        let disk = Disk::new();
        let Some(mut cluster) = Cluster::prepare(&[subject; 3], &OFTEN) else {
            return;
        };
        disk.put_under(&cluster.data_directory(2));
        cluster.launch_all();
        let mut trial = Trial::on("full disk", subject, cluster);
        for next in (0..rounds()).flat_map(|_| [2, 1]) {
            // With the lead and without.
            trial.move_leader(&[0, 1, 2], next);
            disk.fill(trial.cluster.pid(2));
            let (status, after) = trial.cluster.wait_exit(2);
            eprintln!("full disk: the member ended after {after:?}: {status}");
            assert!(!status.success(), "{status}");
            let role = if next == 2 { "leader" } else { "follower" };
            trial.endure(&format!("the {role} has no room"), &[Sick::Mute(2)]);
            disk.make_room();
            trial.cluster.launch(2);
            trial.cluster.wait_ready(2);
            trial.recover();
            trial.endure("there is room again", &[]);
        }
        trial.finish();
    }
}

/// A disk of one member: a file system in memory where this process may mount one, else the disk of all, with a limit
/// on the size of files.
struct Disk {
    mounted: Option<PathBuf>,
}

impl Disk {
    fn new() -> Self {
        let folder = new_folder();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", ROOM, "kvorum-e2e"]);
        let mounted = mount.arg(&folder).stderr(Stdio::null()).status();
        let mounted = mounted.is_ok_and(|status| status.success());
        if !mounted {
            fs::remove_dir(&folder).expect("it is empty");
        }
        Self {
            mounted: mounted.then_some(folder),
        }
    }

    fn put_under(&self, data: &Path) {
        if let Some(folder) = &self.mounted {
            symlink(folder, data).expect("a link");
        }
    }

    /// From now on the member gets no more room.
    fn fill(&self, pid: u32) {
        match &self.mounted {
            Some(folder) => {
                // Refused when the member has taken more meanwhile.
                while !remount(folder, &format!("size={}", used_bytes(folder))) {}
            }
            None => {
                let none = Rlimit {
                    current: Some(0),
                    maximum: None,
                };
                let pid = Pid::from_raw(pid as i32);
                prlimit(pid, Resource::Fsize, none).expect("our own child");
            }
        }
    }

    fn make_room(&self) {
        if let Some(folder) = &self.mounted {
            assert!(remount(folder, ROOM), "no room to be made");
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(folder) = &self.mounted {
            // A failed test may have left somebody who uses it.
            let _ = Command::new("umount").arg("-l").arg(folder).status();
            let _ = fs::remove_dir(folder);
        }
    }
}

fn used_bytes(folder: &Path) -> u64 {
    let space = rustix::fs::statvfs(folder).expect("it is mounted");
    (space.f_blocks - space.f_bfree) * space.f_frsize
}

fn remount(folder: &Path, size: &str) -> bool {
    let options = format!("remount,{size}");
    let mut mount = Command::new("mount");
    mount
        .args(["-o", &options])
        .arg(folder)
        .stderr(Stdio::null());
    mount.status().expect("mount starts").success()
}
