//! Wall clocks that jump: by more than a year, forwards and back, at one member after the other and at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::peers::{Subject, peer};

use crate::rounds;
use crate::trial::Trial;

/// What each clock shows in turn, against the right time.
const JUMPS: [&str; 3] = ["+400d", "-400d", "+0"];

/// The official members are programs without the C library, which a preloaded library does not reach.
#[test]
fn wall_clocks_may_jump() {
    let Some(library) = peer("faketime", "libfaketimeMT.so.1") else {
        return;
    };
    let Some(mut cluster) = Cluster::prepare(&[Subject::Kvorum; 3], &[]) else {
        return;
    };
    for place in 0..3 {
        set(&cluster, place, "+0");
        let preload = format!("LD_PRELOAD={}", library.display());
        let file = format!(
            "FAKETIME_TIMESTAMP_FILE={}",
            clock(&cluster, place).display()
        );
        let rest = [
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ];
        cluster.wrap(place, &["env", &preload, &file, rest[0], rest[1]]);
    }
    cluster.launch_all();
    let trial = Trial::on("clock", Subject::Kvorum, cluster);
    for _ in 0..rounds() {
        for jump in JUMPS {
            let leader = trial.cluster.leader();
            set(&trial.cluster, leader, jump);
            trial.endure(&format!("the leader's clock shows {jump}"), &[]);
            for place in 0..3 {
                set(&trial.cluster, place, jump);
            }
            trial.endure(&format!("all clocks show {jump}"), &[]);
        }
    }
    for place in 0..3 {
        let years = years(&trial.cluster, place);
        assert!(years.len() > 1, "member {place} logged in {years:?} only");
    }
    trial.finish();
}

fn clock(cluster: &Cluster, place: usize) -> PathBuf {
    cluster.folder().join(format!("clock{place}"))
}

fn set(cluster: &Cluster, place: usize, jump: &str) {
    // In one step: the library may read at any moment.
    let (file, new) = (
        clock(cluster, place),
        clock(cluster, place).with_extension("new"),
    );
    fs::write(&new, jump).expect("the folder is there");
    fs::rename(&new, &file).expect("the folder is there");
}

/// The years in which a member has logged, as it thinks.
fn years(cluster: &Cluster, place: usize) -> BTreeSet<String> {
    let lines = cluster.log(place);
    let year = |line: &String| Some(line.split_once("\"ts\":\"")?.1.get(..4)?.to_owned());
    lines.iter().filter_map(year).collect()
}
