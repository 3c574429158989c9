//! A damaged data directory: the server says which file and what is wrong with it, ends, and
//! leaves everything as it was. Only the end of the log that a crash has torn is repaired.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use kvorum_e2e::folder;
use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::peers::Subject;
use kvorum_e2e::process::{Outcome, run};
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{PutRequest, PutResponse};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// Size of a disk sector, by which a torn write is known.
const SECTOR: usize = 512;
/// More than half of a log file needs, at 1 MiB for each put.
const LARGE_PUTS_MAX: u32 = 200;

fn start(flags: &[&str]) -> Server {
    Server::start(Subject::Kvorum, flags).expect("ours is always there")
}

fn put(server: &Server, puts: impl IntoIterator<Item = (String, Bytes)>) {
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        for (key, value) in puts {
            let request = PutRequest {
                key: key.into(),
                value,
                ..PutRequest::default()
            };
            let answer = connection
                .call::<PutResponse>("etcdserverpb.KV/Put", &request)
                .await;
            answer.expect("put");
        }
    });
}

fn fill(server: &Server, keys: std::ops::Range<u32>) {
    let value = Bytes::from(vec![b'v'; 100]);
    put(
        server,
        keys.map(|number| (format!("key-{number}."), value.clone())),
    );
}

/// Starts a server on the damaged directory. It must end with code 1, a JSON line of level fatal
/// on standard error that contains all of `words`, and a directory as it was.
fn check_refused(server: &Server, words: &[&str]) {
    let before = folder::print(&server.data_directory());
    let Outcome { code, stderr, .. } = run(&mut server.command(server.port()), "", LIMIT);
    assert_eq!(code, Some(1), "{stderr}");
    let lines = stderr.lines().map(serde_json::from_str::<Value>);
    let fatal: Vec<Value> = lines
        .map(|line| line.expect("every line is a JSON object"))
        .filter(|line| line["level"] == "fatal")
        .collect();
    assert_eq!(fatal.len(), 1, "one line says why: {stderr}");
    let reason = fatal[0]["error"].as_str().unwrap_or_default();
    for word in words {
        assert!(reason.contains(word), "no {word:?} in {reason:?}");
    }
    assert_eq!(before, folder::print(&server.data_directory()), "changed");
}

fn name(path: &Path) -> String {
    path.file_name()
        .expect("a file")
        .to_string_lossy()
        .into_owned()
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    let mut windows = bytes.windows(what.len());
    windows
        .position(|window| window == what)
        .expect("it was written")
}

fn write_at(path: &Path, offset: usize, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path);
    let written = file.and_then(|file| file.write_all_at(bytes, offset as u64));
    written.expect("the log can be written");
}

/// Where the last written byte stands, one past it.
fn written(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.expect("not empty") + 1
}

#[test]
fn flipped_bit_in_front_of_valid_records_is_refused_with_its_place() {
    let mut server = start(&[]);
    fill(&server, 0..20);
    server.kill();
    let path = server.last_wal();
    let bytes = fs::read(&path).expect("the log can be read");
    let at = find(&bytes, b"key-7.");
    write_at(&path, at, &[bytes[at] ^ 0x10]);
    check_refused(&server, &[&name(&path), "at offset ", "crc mismatch"]);
    let offset = offset_named(&server);
    assert!(
        offset <= at && at < offset + 400,
        "offset {offset} is not the record around {at}"
    );
    // The damage undone, everything is there again.
    write_at(&path, at, &[bytes[at]]);
    server.restart();
}

/// The offset that a refused start names.
fn offset_named(server: &Server) -> usize {
    let Outcome { stderr, .. } = run(&mut server.command(server.port()), "", LIMIT);
    let (_, rest) = stderr.split_once("at offset ").expect("an offset");
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .expect("a number")
}

/// The log's files, oldest first.
fn log_files(server: &Server) -> Vec<PathBuf> {
    let list = fs::read_dir(server.data_directory().join("member/wal")).expect("the log");
    let paths = list.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    files.sort();
    files
}

#[test]
fn missing_and_shortened_files_in_the_middle_are_refused_by_name() {
    let mut server = start(&["--unsafe-no-fsync"]);
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    for _ in 0..LARGE_PUTS_MAX {
        if log_files(&server).len() > 2 {
            break;
        }
        put(&server, [("large".to_owned(), value.clone())]);
    }
    server.kill();
    let files = log_files(&server);
    let [first, middle, last, ..] = &files[..] else {
        panic!("{files:?} are too few files");
    };

    let elsewhere = server.data_directory().with_extension("taken-out");
    fs::rename(middle, &elsewhere).expect("the file can be moved");
    check_refused(&server, &["missing between", &name(first), &name(last)]);
    fs::rename(&elsewhere, middle).expect("the file can be moved");

    let bytes = fs::read(middle).expect("the log can be read");
    for length in [bytes.len() - 1000, bytes.len() / 2 / 8 * 8] {
        let file = OpenOptions::new().write(true).open(middle).expect("opens");
        file.set_len(length as u64).expect("it can be shortened");
        check_refused(&server, &[&name(middle), "at offset "]);
        fs::write(middle, &bytes).expect("it can be written back");
    }
    server.restart();
}

#[test]
fn torn_end_is_repaired_logged_and_kept_as_a_copy() {
    let mut server = start(&[]);
    fill(&server, 0..5);
    let large = Bytes::from(vec![b'v'; 20 * SECTOR]);
    put(&server, [("torn".to_owned(), large)]);
    server.kill();
    let path = server.last_wal();
    let bytes = fs::read(&path).expect("the log can be read");
    let from = (find(&bytes, b"torn") / SECTOR + 10) * SECTOR;
    write_at(&path, from, &vec![0; written(&bytes) - from]);
    let torn = fs::read(&path).expect("the log can be read");

    server.restart();
    let log = server.log();
    let mut lines = log
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok());
    let repair: Value = lines
        .find(|line: &Value| {
            line["msg"]
                .as_str()
                .is_some_and(|text| text.starts_with("repaired the write-ahead log"))
        })
        .expect("the repair is logged");
    assert_eq!(repair["level"], "warn");
    assert_eq!(repair["file"], path.display().to_string());
    let offset = repair["offset"].as_u64().expect("an offset") as usize;
    assert!(
        offset < from && written(&bytes) - offset < 22 * SECTOR,
        "{offset} is not where the torn group begins"
    );
    let copy = PathBuf::from(repair["copy"].as_str().expect("a copy"));
    assert_eq!(copy, path.with_extension("wal.broken"));
    let copied = fs::read(&copy).expect("the copy is there");
    assert!(copied == torn, "the copy is the file as it was");
    let now = fs::read(&path).expect("the log can be read");
    assert!(now[..offset] == bytes[..offset], "what was whole stays");
}

#[test]
fn newer_format_is_refused_by_its_number() {
    let mut server = start(&[]);
    fill(&server, 0..3);
    server.kill();
    let path = server.data_directory().join("member/state/format");
    let now = fs::read_to_string(&path).expect("the format is written down");
    fs::write(&path, "kvorum-state 9999\n").expect("it can be written");
    check_refused(
        &server,
        &["member/state/format", "format 9999", "newer release"],
    );
    fs::write(&path, "rubbish\n").expect("it can be written");
    check_refused(&server, &["member/state/format", "names no format"]);
    fs::write(&path, now).expect("it can be written");
    server.restart();
}
