//! The files of our state: what the metrics say of them, and what becomes of damage in them.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kvorum_e2e::grpc::{Connection, Failure, block_on};
use kvorum_e2e::http::{get, samples};
use kvorum_e2e::peers::Subject;
use kvorum_e2e::process::{Outcome, run};
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{PutRequest, PutResponse};
use kvorum_storage::checkpoint::{Listed, Manifest};

const LIMIT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Checkpoints and rounds of the scrub come as fast as they can.
const FLAGS: [&str; 3] = [
    "--snapshot-count=20",
    "--experimental-kvorum-checkpoint-pause=10ms",
    "--experimental-kvorum-scrub-pause=100ms",
];

fn fill(server: &Server, keys: u32) {
    block_on(put(server.port(), keys)).expect("it is put");
}

async fn put(port: u16, keys: u32) -> Result<(), Failure> {
    let connection = Connection::open(port).await?;
    for number in 0..keys {
        let request = PutRequest {
            key: format!("key-{number}.").into(),
            value: vec![b'v'; 1000].into(),
            ..PutRequest::default()
        };
        let answer = connection.call("etcdserverpb.KV/Put", &request).await;
        let _: PutResponse = answer?;
    }
    Ok(())
}

fn metric(server: &Server, name: &str) -> f64 {
    let page = get(server.port(), "/metrics").expect("a page");
    samples(&page.body)[name]
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LIMIT, "no {what} in {LIMIT:?}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// A server with checkpoints, of which the scrub has read all files.
fn start() -> Server {
    let server = Server::start(Subject::Kvorum, &FLAGS).expect("ours is always there");
    fill(&server, 100);
    wait("checkpoint", || metric(&server, "kvorum_segments") > 0.0);
    let rounds = metric(&server, "kvorum_scrub_rounds_total");
    wait("round of the scrub", || {
        metric(&server, "kvorum_scrub_rounds_total") > rounds + 1.0
    });
    server
}

/// The files of the state with this end of the name, by name.
fn files(server: &Server, end: &str) -> Vec<PathBuf> {
    let state = server.data_directory().join("member/state");
    let entries = fs::read_dir(state).expect("the state can be listed");
    let paths = entries.map(|entry| entry.expect("the state can be listed").path());
    let mut files: Vec<PathBuf> = paths
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    files.sort();
    files
}

/// The segments that the manifest lists: any other one is on its way in or out.
fn segments(server: &Server) -> Vec<PathBuf> {
    let manifest = files(server, "manifest").remove(0);
    let bytes = fs::read(&manifest).expect("a manifest").into();
    let listed = Manifest::decode(&bytes).expect("a sound manifest").segments;
    let path = |it: &Listed| manifest.with_file_name(it.id.file_name());
    listed.iter().map(path).collect()
}

/// Spoils a byte. False when the file is gone.
fn flip(path: &Path, at: usize) -> bool {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else {
        return false;
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).expect("a byte");
    byte[0] ^= 0x10;
    file.write_all_at(&byte, at as u64).expect("a byte");
    true
}

fn name(path: &Path) -> String {
    let name = path.file_name().expect("a file");
    name.to_string_lossy().into_owned()
}

#[test]
fn metrics_tell_of_the_files_of_the_state() {
    let server = start();
    let value = |name| metric(&server, name);
    wait("durable checkpoint", || {
        value("kvorum_checkpoint_index") > 20.0
    });
    assert!(value("kvorum_checkpoint_age_seconds") < LIMIT.as_secs_f64());
    assert!(value("etcd_disk_backend_commit_duration_seconds_count") > 0.0);
    wait("records in files", || {
        value("kvorum_segment_bytes") > 10_000.0
    });
    assert!((0.0..=1.0).contains(&value("kvorum_segment_live_ratio")));
    assert!(value("kvorum_scrub_bytes_total") > 0.0);
    assert!(value("kvorum_scrub_last_round_timestamp_seconds") > 1e9);
    // Nothing is deleted and every key is new, but many small segments become one.
    wait("copy", || {
        fill(&server, 20);
        value("kvorum_copier_bytes_total") > 0.0
    });
    assert!(value("kvorum_copier_speed_bytes_per_second") > 0.0);
    assert!(value("kvorum_disk_free_bytes") > 0.0);
    for quiet in [
        "kvorum_scrub_damages_total",
        "kvorum_segments_unwritten",
        "kvorum_segments_retired",
        "kvorum_disk_reserve_bytes",
    ] {
        assert!(value(quiet) >= 0.0);
    }
}

/// Files of the state that a process has mapped.
fn mapped(server: &Server) -> String {
    fs::read_to_string(format!("/proc/{}/maps", server.pid())).expect("it runs")
}

#[test]
fn segments_are_mapped_when_they_are_sealed_and_when_they_are_opened() {
    let mut server = Server::start(Subject::Kvorum, &FLAGS).expect("ours is always there");
    let is_so = |server: &Server| {
        if files(server, "manifest").is_empty() {
            return false;
        }
        let listed = segments(server);
        let maps = mapped(server);
        let is_mapped = |path: &PathBuf| maps.contains(&name(path));
        !listed.is_empty() && listed.iter().all(is_mapped)
    };
    // What a copy has taken the place of is listed, and no longer mapped, until the next checkpoint. Puts bring that about,
    // and then it may be so again.
    let all_mapped = |server: &Server| {
        const LOOKS: usize = 50;
        fill(server, 20);
        (0..LOOKS).any(|_| {
            std::thread::sleep(LOOK_AGAIN);
            is_so(server)
        })
    };
    wait("map of each segment", || all_mapped(&server));
    server.kill();
    server.restart();
    wait("map of each segment", || all_mapped(&server));
}

#[test]
fn a_scrub_finds_damage_without_being_asked() {
    let mut server = start();
    // A segment may give way to a copy of it before anybody has read it again: then it is the turn of another one.
    let mut damaged;
    loop {
        damaged = segments(&server).remove(0);
        // In a value, which no start and no client reads.
        let Ok(bytes) = fs::read(&damaged) else {
            continue;
        };
        let value = bytes.windows(9).position(|window| window == b"vvvvvvvvv");
        if !flip(&damaged, value.expect("a value")) {
            continue;
        }
        let port = server.port();
        wait("end of the server", || {
            // What has given way already is read by nobody, and listed until a checkpoint, which entries bring about.
            // The server may be gone.
            let _ = block_on(put(port, 1));
            !server.is_running() || !segments(&server).contains(&damaged)
        });
        if !server.is_running() {
            break;
        }
    }
    let (status, _) = server.wait_exit();
    assert_eq!(status.code(), Some(1));
    let log = server.log().join("\n");
    for word in [&name(&damaged), "a file of the state is damaged", "offset"] {
        assert!(log.contains(word), "no {word:?} in {log}");
    }
}

#[test]
fn a_damaged_manifest_is_written_anew() {
    let mut server = start();
    let manifest = files(&server, "manifest").remove(0);
    let text = "the manifest is damaged: it is written anew";
    let found = || server.logs(text, Duration::ZERO);
    // A checkpoint or a copy that was under way may put another one in its place before anybody has read it.
    loop {
        assert!(flip(&manifest, 30), "there is always a manifest");
        let damaged = fs::read(&manifest).expect("a manifest");
        let is_new = || fs::read(&manifest).expect("a manifest") != damaged;
        wait("end of the damage", || found() || is_new());
        if found() {
            fill(&server, 1);
            wait("new manifest", is_new);
            break;
        }
    }
    server.kill();
    server.restart();
}

#[test]
fn damage_that_a_start_meets_is_refused_with_file_and_offset() {
    let mut server = start();
    server.kill();
    let manifest = files(&server, "manifest").remove(0);
    let segment = segments(&server).remove(0);
    let end = fs::metadata(&segment).expect("a segment").len() as usize;
    for (file, at) in [(&manifest, 30), (&segment, 3), (&segment, end - 60)] {
        assert!(flip(file, at), "nobody runs who could remove it");
        let Outcome { code, stderr, .. } = run(&mut server.command(server.port()), "", LIMIT);
        assert_eq!(code, Some(1), "{stderr}");
        for word in [&name(file), "offset"] {
            assert!(stderr.contains(word), "no {word:?} in {stderr}");
        }
        assert!(flip(file, at), "nobody runs who could remove it");
    }
    server.restart();
}
