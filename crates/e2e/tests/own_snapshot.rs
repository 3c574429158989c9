//! `snapshot save` of our etcdctl: what it writes is what the official tool writes, and whatever
//! goes wrong, no half file gets the name.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::{self, Subject, peer};
use kvorum_e2e::process::{Outcome, Process, run};
use kvorum_e2e::server::{Server, free_port, new_folder};

on_each_server!(
    the_same_snapshot_as_with_the_official_tool,
    a_full_disk_leaves_the_older_file,
    a_broken_transfer_leaves_no_file,
    a_signal_or_a_time_limit_leaves_no_file
);

/// How long any answer may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Values that make a snapshot larger than what a broken transfer lets through.
const VALUES: usize = 40;
const VALUE_BYTES: usize = 100_000;

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(new_folder())
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Names of the files in it.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("a folder");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry.expect("an entry")))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(tool: &Path, endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(tool);
    command.env("ETCDCTL_ENDPOINTS", endpoint).args(arguments);
    command
}

fn etcdctl(endpoint: &str, arguments: &[&str]) -> Outcome {
    run(
        &mut command(&peers::etcdctl(), endpoint, arguments),
        "",
        LIMIT,
    )
}

/// A server with some megabytes in it.
fn filled(subject: Subject) -> Option<Server> {
    let server = Server::start(subject, &[])?;
    // It stands in the database, of which two are compared.
    server.wait_storage_version();
    for number in 0..VALUES {
        let mut put = command(
            &peers::etcdctl(),
            &server.endpoint(),
            &["put", &format!("k{number}")],
        );
        let outcome = run(&mut put, &"v".repeat(VALUE_BYTES), LIMIT);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    }
    Some(server)
}

fn the_same_snapshot_as_with_the_official_tool(subject: Subject) {
    let (Some(official), Some(etcdutl)) =
        (peer("etcd-3.7.1", "etcdctl"), peer("etcd-3.7.1", "etcdutl"))
    else {
        return;
    };
    let Some(server) = filled(subject) else {
        return;
    };
    let folder = Folder::new();
    let shown = [official, peers::etcdctl()].map(|tool| {
        let file = folder.file("snapshot");
        let save = ["snapshot", "save", &file];
        let outcome = run(&mut command(&tool, &server.endpoint(), &save), "", LIMIT);
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let mode = fs::metadata(&file).expect("the file").permissions().mode() & 0o777;
        let status = ["snapshot", "status", &file, "-w", "json"];
        let status = run(Command::new(&etcdutl).args(status), "", LIMIT);
        assert_eq!(status.code, Some(0), "{}", status.stderr);
        assert_eq!(folder.names(), ["snapshot"]);
        (outcome.stdout, mode, status.stdout)
    });
    assert_eq!(shown[0], shown[1]);
}

/// A limit on the size of files stands for a disk that is full.
fn a_full_disk_leaves_the_older_file(subject: Subject) {
    let Some(server) = filled(subject) else {
        return;
    };
    let folder = Folder::new();
    let file = folder.file("snapshot");
    fs::write(&file, "older").expect("a file");
    let script = format!(
        "ulimit -f 1000; exec {} snapshot save {file}",
        peers::etcdctl().display()
    );
    let mut shell = Command::new("bash");
    shell
        .env("ETCDCTL_ENDPOINTS", server.endpoint())
        .args(["-c", &script]);
    let outcome = run(&mut shell, "", LIMIT);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    let complaint = format!("Error: could not write snapshot: write {file}.part: file too large\n");
    assert!(outcome.stderr.ends_with(&complaint), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    assert_eq!(folder.names(), ["snapshot"]);
    assert_eq!(fs::read(&file).expect("the file"), b"older");
}

/// Passes connections on to `port` and cuts them when this many bytes went to the client.
fn cutting_proxy(port: u16, bytes_max: usize) -> u16 {
    let listen = free_port();
    let listener = TcpListener::bind(("127.0.0.1", listen)).expect("a port");
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.expect("a connection");
            let mut server = TcpStream::connect(("127.0.0.1", port)).expect("the server");
            let (mut from, mut to) = (
                client.try_clone().expect("a handle"),
                server.try_clone().expect("a handle"),
            );
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let mut left = bytes_max;
            let mut buffer = [0; 8192];
            while left > 0 {
                let length = server.read(&mut buffer[..left.min(8192)]).unwrap_or(0);
                if length == 0 || client.write_all(&buffer[..length]).is_err() {
                    break;
                }
                left -= length;
            }
            // Whoever is gone already needs no end.
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    });
    listen
}

fn a_broken_transfer_leaves_no_file(subject: Subject) {
    let Some(server) = filled(subject) else {
        return;
    };
    let proxy = cutting_proxy(server.port(), 1_000_000);
    let folder = Folder::new();
    let file = folder.file("snapshot");
    let endpoint = format!("127.0.0.1:{proxy}");
    let outcome = etcdctl(&endpoint, &["snapshot", "save", &file]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    let complaint = "Error: could not write snapshot: rpc error: code = Unavailable";
    assert!(outcome.stderr.contains(complaint), "{}", outcome.stderr);
    assert_eq!(folder.names(), [""; 0]);
}

fn a_signal_or_a_time_limit_leaves_no_file(subject: Subject) {
    let Some(server) = Server::prepare(subject, &[]) else {
        return;
    };
    // Nobody listens: it waits as long as it takes.
    let folder = Folder::new();
    let file = folder.file("snapshot");
    let endpoint = format!("127.0.0.1:{}", server.port());
    let save = ["snapshot", "save", &file];
    let mut saving = Process::spawn(&mut command(&peers::etcdctl(), &endpoint, &save));
    assert!(
        saving
            .wait_for("created temporary db file", 0, LIMIT)
            .is_some()
    );
    assert_eq!(folder.names(), ["snapshot.part"]);
    saving.terminate();
    let (status, _) = saving.wait_exit(LIMIT).expect("it ends");
    assert_eq!(status.code(), Some(5), "{:?}", saving.lines());
    assert_eq!(folder.names(), [""; 0]);
    let outcome = etcdctl(
        &endpoint,
        &[&save[..], &["--command-timeout=300ms"]].concat(),
    );
    assert_eq!(outcome.code, Some(5));
    assert!(
        outcome.stderr.ends_with("context deadline exceeded\n"),
        "{}",
        outcome.stderr
    );
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let nowhere = etcdctl("127.0.0.1:1", &["snapshot", "save", "/no/such/folder/file"]);
    assert_eq!(nowhere.code, Some(5));
    let expected = "Error: could not open /no/such/folder/file.part (open /no/such/folder/file.part: \
                    no such file or directory)\n";
    assert_eq!(nowhere.stderr, expected);
    let two = etcdctl("a:1,b:2", &["snapshot", "save", "x"]);
    assert_eq!(two.code, Some(5));
    let expected =
        "Error: snapshot must be requested to one selected node, not multiple [a:1 b:2]\n";
    assert_eq!(two.stderr, expected);
}
