//! A disk that is really full at one member, from one moment to the next. What is foreseen, and costs no member, is tested
//! in `space.rs`.

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::http;
use kvorum_e2e::small_disk::SmallDisk;

use crate::trial::{Sick, Trial};
use crate::{rounds, subjects};

/// Files are written often, so that the member soon needs more room.
const OFTEN: [&str; 1] = ["--snapshot-count=100"];
/// Of the member's disk: files of the log, a reserve, and room for the load.
const DISK_BYTES: u64 = 512 << 20;

#[test]
fn a_disk_that_takes_no_more_ends_one_member_only() {
    for &subject in subjects() {
        let Some(mut cluster) = Cluster::prepare(&[subject; 3], &OFTEN) else {
            return;
        };
        let test = "a_disk_that_takes_no_more_ends_one_member_only";
        let Some(disk) = SmallDisk::give(&mut cluster, 2, DISK_BYTES, test) else {
            return;
        };
        cluster.launch_all();
        let mut trial = Trial::on("full disk", subject, cluster);
        for next in (0..rounds()).flat_map(|_| [2, 1]) {
            // With the lead and without.
            trial.move_leader(&[0, 1, 2], next);
            let id = trial.cluster.id(2);
            let (status, after) = disk.keep_full(|| trial.cluster.wait_exit(2));
            eprintln!("full disk: the member ended after {after:?}: {status}");
            let log = trial.cluster.log(2);
            let says_why = |line: &String| line.to_lowercase().contains("no space left on device");
            assert!(!status.success() && log.iter().any(says_why), "{status}");
            take_alarm_back(&trial.cluster, &id);
            let role = if next == 2 { "leader" } else { "follower" };
            trial.endure(&format!("the {role} has no room"), &[Sick::Mute(2)]);
            disk.remove_ballast();
            trial.cluster.launch(2);
            trial.cluster.wait_ready(2);
            trial.recover();
            trial.endure("there is room again", &[]);
        }
        trial.finish();
    }
}

/// A member of ours that finds its disk full asks all to take no more, and may end before an operator has made room. The
/// operator takes that back when all that it said has arrived.
fn take_alarm_back(cluster: &Cluster, gone: &str) {
    for place in [0, 1] {
        cluster.wait("loss of the peer", || {
            let page = http::get(cluster.client_port(place), "/metrics").ok()?;
            let samples = http::samples(&page.body);
            let of_peer = |name: &str| {
                let end = format!("Remote=\"{gone}\"}}");
                name.starts_with("etcd_network_active_peers{") && name.ends_with(&end)
            };
            let active = samples.iter().find(|(name, _)| of_peer(name));
            active.is_none_or(|(_, count)| *count == 0.0).then_some(())
        });
    }
    cluster.wait("end of alarms", || {
        let disarmed = cluster.etcdctl(&["alarm", "disarm"]);
        (disarmed.code == Some(0)).then_some(())
    });
}
