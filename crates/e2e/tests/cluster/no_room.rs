//! A new member on a disk that the state of the cluster does not fit on.

use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::peers::Subject;
use kvorum_e2e::small_disk::SmallDisk;
use tokio::task::JoinSet;

/// Of the new member's disk. A quarter of it is kept free, an eighth is its reserve.
const DISK_BYTES: u64 = 256 << 20;
/// What stands in the way on it: without this the state fits, with it the disk would become short.
const BALLAST_BYTES: u64 = 100 << 20;
/// The state: so many values of so many bytes.
const PUTS: usize = 1_300;
const VALUE_BYTES: usize = 64 << 10;
/// How long a line of the log may take.
const LIMIT: Duration = Duration::from_secs(120);

fn fill(cluster: &Cluster) {
    block_on(async {
        let open = Connection::open(cluster.client_port(0)).await;
        let connection = open.expect("connects");
        let mut puts = JoinSet::new();
        for number in 0..PUTS {
            let connection = connection.clone();
            puts.spawn(async move {
                let key = format!("key{number}");
                connection.put_bytes(&key, VALUE_BYTES).await
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
    let test = "a_state_that_does_not_fit_is_refused_until_there_is_room";
    let Some(disk) = SmallDisk::give(&mut cluster, place, DISK_BYTES, test) else {
        return;
    };
    disk.add_ballast(BALLAST_BYTES);
    let log = cluster.folder().join("log").display().to_string();
    cluster.add_flags(place, &["--wal-dir", &log]);
    cluster.launch(place);
    assert!(cluster.logs(place, "no room for the state", LIMIT));
    assert!(cluster.logs(0, "no room for the state", LIMIT));
    cluster.put("meanwhile", "v");
    assert_eq!(cluster.must_on(0, &["alarm", "list"]), "");
    assert!(cluster.is_running(place));
    disk.remove_ballast();
    // The sender tries again by itself.
    cluster.wait_ready(place);
    let count = ["get", "key", "--prefix", "--count-only", "--consistency=s"];
    let count = cluster.must_on(place, &[&count[..], &["--write-out=fields"]].concat());
    assert!(count.contains(&format!("\"Count\" : {PUTS}")), "{count}");
    assert_eq!(cluster.must_on(0, &["alarm", "list"]), "");
}
