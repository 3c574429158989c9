//! A new member on a disk that the state of the cluster does not fit on.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::peers::{Subject, skip};
use kvorum_proto::etcdserverpb::{PutRequest, PutResponse};
use tokio::task::JoinSet;

/// Of the new member's disk. A quarter of it is kept free, an eighth is its reserve.
const DISK_BYTES: u64 = 256 << 20;
/// What stands in the way on it: without this the state fits, with it the disk would become short.
const BALLAST: &str = "100M";
/// The state: so many values of so many bytes.
const PUTS: usize = 1_300;
const VALUE_BYTES: usize = 64 << 10;
/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Lets a member that was not started yet have a disk of its own for its state, with something on it. False where this
/// machine cannot, which is then on record.
fn give_disk(cluster: &mut Cluster, place: usize) -> bool {
    let image = cluster.folder().join("disk");
    let file = File::create(&image).expect("a file");
    file.set_len(DISK_BYTES).expect("a file without bytes");
    let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
    let words = ["--mount", "losetup", "--find"];
    let can_mount = Command::new("unshare").args(words).status();
    if !made.is_ok_and(|it| it.success()) || !can_mount.is_ok_and(|it| it.success()) {
        skip(
            "a_state_that_does_not_fit_is_refused_until_there_is_room",
            "needs a mount namespace and loop devices",
        );
        return false;
    }
    let (image, data) = (
        image.display(),
        cluster.data_directory(place).display().to_string(),
    );
    let script = format!(
        "mkdir -p {data} && mount -o loop {image} {data} && chmod 700 {data} && fallocate -l {BALLAST} {data}/ballast \
         && exec \"$0\" \"$@\""
    );
    cluster.wrap(place, &["unshare", "--mount", "sh", "-c", &script]);
    let log = cluster.folder().join("log").display().to_string();
    cluster.add_flags(place, &["--wal-dir", &log]);
    true
}

fn fill(cluster: &Cluster) {
    block_on(async {
        let open = Connection::open(cluster.client_port(0)).await;
        let connection = open.expect("connects");
        let mut puts = JoinSet::new();
        for number in 0..PUTS {
            let connection = connection.clone();
            puts.spawn(async move {
                let request = PutRequest {
                    key: format!("key{number}").into(),
                    value: vec![b'x'; VALUE_BYTES].into(),
                    ..PutRequest::default()
                };
                let put = connection.call::<PutResponse>("etcdserverpb.KV/Put", &request);
                put.await.map(drop)
            });
            if puts.len() > 50 {
                let put = puts.join_next().await.expect("one is under way");
                put.expect("it ends").expect("acknowledged");
            }
        }
        while let Some(put) = puts.join_next().await {
            put.expect("it ends").expect("acknowledged");
        }
    });
}

/// The disk must not fill up for that, nor seem to: then the whole cluster would be asked to take no more for the sake of
/// a member that is of no use yet.
#[test]
fn a_state_that_does_not_fit_is_refused_until_there_is_room() {
    let few = ["--snapshot-count=20", "--snapshot-catchup-entries=5"];
    let Some(mut cluster) = Cluster::start(&[Subject::Kvorum], &few) else {
        return;
    };
    fill(&cluster);
    let place = cluster
        .add(Subject::Kvorum, true)
        .expect("the binary is there");
    if !give_disk(&mut cluster, place) {
        return;
    }
    cluster.launch(place);
    assert!(cluster.logs(place, "no room for the state", LIMIT));
    assert!(cluster.logs(0, "no room for the state", LIMIT));
    cluster.put("meanwhile", "v");
    assert_eq!(cluster.must_on(0, &["alarm", "list"]), "");
    assert!(cluster.is_running(place));
    let data = cluster.data_directory(place);
    let data = data.strip_prefix("/").expect("an absolute path");
    let root = PathBuf::from(format!("/proc/{}/root", cluster.pid(place)));
    fs::remove_file(root.join(data).join("ballast")).expect("it is there");
    // The sender tries again by itself.
    cluster.wait_ready(place);
    let count = ["get", "key", "--prefix", "--count-only", "--consistency=s"];
    let count = cluster.must_on(place, &[&count[..], &["--write-out=fields"]].concat());
    assert!(count.contains(&format!("\"Count\" : {PUTS}")), "{count}");
    assert_eq!(cluster.must_on(0, &["alarm", "list"]), "");
}
