//! A disk that takes the log and not the state: applying falls behind, and writes are refused before
//! too many of them pile up.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::grpc::{Connection, Failure, block_on};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::small_disk::SmallDisk;
use kvorum_proto::etcdserverpb::{RangeRequest, RangeResponse};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A file of zeros that takes as much room as is written to it.
const DISK_BYTES: u64 = 1 << 30;
/// More than our server applies while its disk takes none of it: five runs of 8 MiB.
const LARGE_PUTS: usize = 800;
const LARGE_BYTES: usize = 64 << 10;
/// More than may be committed and not applied (5,000).
const SMALL_PUTS: usize = 6_000;
/// Puts that follow until one is refused, and the time between two of them.
const LATE_PUTS_MAX: u32 = 3_000;
const NEXT_PUT: Duration = Duration::from_millis(20);
/// A member that has not caught up by then hangs.
const CATCH_UP: Duration = Duration::from_secs(120);

on_each_server!(writes_are_refused_while_applying_lags);

/// A file system that takes no writes. Dropped: it takes them again.
struct Frozen(PathBuf);

impl Frozen {
    fn new(directory: &Path) -> Self {
        assert!(fsfreeze("--freeze", directory), "it freezes");
        Self(directory.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Whoever writes to it waits where no signal ends it.
        fsfreeze("--unfreeze", &self.0);
    }
}

fn fsfreeze(what: &str, directory: &Path) -> bool {
    let status = Command::new("fsfreeze").arg(what).arg(directory).status();
    status.is_ok_and(|status| status.success())
}

/// A member whose state lies on a file system of its own, and the log elsewhere. None where this
/// machine cannot have one, which is then on record.
fn member(subject: Subject) -> Option<(Cluster, SmallDisk)> {
    let mut cluster = Cluster::prepare(&[subject], &[])?;
    let test = "writes_are_refused_while_applying_lags";
    let disk = SmallDisk::give(&mut cluster, 0, DISK_BYTES, test)?;
    let log = cluster.folder().join("log").display().to_string();
    cluster.add_flags(0, &["--wal-dir", &log]);
    cluster.launch(0);
    cluster.wait_ready(0);
    Some((cluster, disk))
}

async fn put(connection: Connection, key: usize, bytes: usize) -> Result<(), Failure> {
    let key = format!("key-{key:05}");
    connection.put_bytes(&key, bytes).await.map(drop)
}

async fn count(connection: &Connection, serializable: bool) -> Result<usize, Failure> {
    let request = RangeRequest {
        key: "key-".into(),
        range_end: "key.".into(),
        count_only: true,
        serializable,
        ..RangeRequest::default()
    };
    let range = connection.call::<RangeResponse>("etcdserverpb.KV/Range", &request);
    Ok(range.await?.count as usize)
}

fn writes_are_refused_while_applying_lags(subject: Subject) {
    let Some((cluster, disk)) = member(subject) else {
        return;
    };
    // Codes 2, Unknown, and 14, Unavailable.
    let failure = |code, message: &str| Failure::Status {
        code,
        message: message.into(),
    };
    let refused = failure(2, "etcdserver: too many requests");
    let timed_out = failure(14, "etcdserver: request timed out");
    block_on(async {
        let open = Connection::open(cluster.client_port(0)).await;
        let connection = open.expect("connects");
        let frozen = Frozen::new(disk.data());

        let (mut puts, seen) = (JoinSet::new(), Arc::new(Notify::new()));
        let mut key = 0;
        let mut start = |bytes| {
            let (connection, seen) = (connection.clone(), Arc::clone(&seen));
            let refused = refused.clone();
            key += 1;
            puts.spawn(async move {
                let result = put(connection, key, bytes).await;
                if result == Err(refused) {
                    seen.notify_one();
                }
                result
            });
        };
        (0..LARGE_PUTS).for_each(|_| start(LARGE_BYTES));
        (0..SMALL_PUTS).for_each(|_| start(1));
        // A put that comes when so many are committed is refused; these came before.
        let mut late = 0;
        while timeout(NEXT_PUT, seen.notified()).await.is_err() {
            start(1);
            late += 1;
            assert!(late < LATE_PUTS_MAX, "none is refused");
        }
        // Official etcd's reads wait for its database.
        if subject == Subject::Kvorum {
            let read = count(&connection, true).await;
            assert!(read.is_ok(), "what is applied is served: {read:?}");
        }
        drop(frozen);

        let mut acknowledged = 0;
        while let Some(result) = puts.join_next().await {
            match result.expect("it ends") {
                Ok(()) => acknowledged += 1,
                Err(failure) => assert!([&refused, &timed_out].contains(&&failure), "{failure}"),
            }
        }
        // What timed out may be waiting to be applied still.
        let started = Instant::now();
        while let Err(failure) = put(connection.clone(), 0, 1).await {
            let behind = [&refused, &timed_out].contains(&&failure);
            assert!(behind && started.elapsed() < CATCH_UP, "{failure}");
            sleep(NEXT_PUT).await;
        }
        let kept = count(&connection, false).await.expect("it serves");
        assert!(kept >= acknowledged, "{kept} of {acknowledged}");
    });
}
