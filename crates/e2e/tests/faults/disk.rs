//! A disk that takes no more at one member, from one write to the next. What is foreseen, and costs no member, is tested
//! in `space.rs`.

use kvorum_e2e::cluster::Cluster;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::trial::{Sick, Trial};
use crate::{rounds, subjects};

/// Files are written often, so that the member soon needs more room.
const OFTEN: [&str; 1] = ["--snapshot-count=100"];

#[test]
fn a_disk_that_takes_no_more_ends_one_member_only() {
    for &subject in subjects() {
        let Some(mut cluster) = Cluster::prepare(&[subject; 3], &OFTEN) else {
            return;
        };
        cluster.launch_all();
        let mut trial = Trial::on("full disk", subject, cluster);
        for next in (0..rounds()).flat_map(|_| [2, 1]) {
            // With the lead and without.
            trial.move_leader(&[0, 1, 2], next);
            let_no_file_grow(trial.cluster.pid(2));
            let (status, after) = trial.cluster.wait_exit(2);
            eprintln!("full disk: the member ended after {after:?}: {status}");
            assert!(!status.success(), "{status}");
            let role = if next == 2 { "leader" } else { "follower" };
            trial.endure(&format!("the {role} has no room"), &[Sick::Mute(2)]);
            trial.cluster.launch(2);
            trial.cluster.wait_ready(2);
            trial.recover();
            trial.endure("there is room again", &[]);
        }
        trial.finish();
    }
}

/// From now on none of the member's files grows; the file system itself has room, so that it could not be foreseen.
fn let_no_file_grow(pid: u32) {
    let none = Rlimit {
        current: Some(0),
        maximum: None,
    };
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    prlimit(pid, Resource::Fsize, none).expect("our own child");
}
