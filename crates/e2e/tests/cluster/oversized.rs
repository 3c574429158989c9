//! Frames on the peer port that claim to be longer than anything is: in what a peer streams, in a message of its own, and
//! before a state. And frames that claim the most that is allowed, and then do not come.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;

use crate::port::{answered, ask, ids};

on_each_server!(frames_that_are_too_long_bring_no_member_down);

/// Longest message of a stream, and longest one before a state, in bytes.
const MESSAGE_BYTES_MAX: u64 = 512 << 20;
const HEAD_BYTES_MAX: u64 = 64 << 20;
/// What a member may need at most while it refuses all that, in KiB: less than one frame says that it has.
const MEMORY_KIB_MAX: u64 = 128 << 10;

/// The most memory that a process had so far, in KiB.
fn memory_peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|it| it.parse().ok()).expect("a number")
}

fn length(bytes: u64) -> Vec<u8> {
    bytes.to_be_bytes().to_vec()
}

/// What comes on a stream of messages, in turn.
fn messages() -> Vec<Vec<u8>> {
    vec![
        length(u64::MAX),
        length(1 << 40),
        length(MESSAGE_BYTES_MAX + 1),
        [length(MESSAGE_BYTES_MAX).as_slice(), b"abc"].concat(),
    ]
}

/// The same on a stream of appends. Official members believe any length there, and end when they have no room for it:
/// they hear that the link lives.
fn appends(subject: Subject) -> Vec<Vec<u8>> {
    if subject != Subject::Kvorum {
        return vec![vec![0]];
    }
    let whole = messages().into_iter().map(|it| [&[2][..], &it].concat());
    let entries = |count, rest: &[u8]| [&[1][..], &length(count), rest].concat();
    let short = [
        entries(u64::MAX, b""),
        entries(1, &length(u64::MAX)),
        entries(1, &length(MESSAGE_BYTES_MAX + 1)),
        entries(1, &[length(MESSAGE_BYTES_MAX).as_slice(), b"abc"].concat()),
        entries(1 << 20, b"abc"),
    ];
    whole.chain(short).collect()
}

/// A peer that answers whoever asks for its streams with such frames. Dropped: its port is free again.
struct Boaster {
    port: u16,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    messages: Vec<Vec<u8>>,
    appends: Vec<Vec<u8>>,
    /// How many of each were sent.
    told: [AtomicUsize; 2],
    is_over: AtomicBool,
}

impl Boaster {
    fn listen(port: u16, subject: Subject) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let state = Arc::new(State {
            messages: messages(),
            appends: appends(subject),
            told: [const { AtomicUsize::new(0) }; 2],
            is_over: AtomicBool::new(false),
        });
        let own = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if own.is_over.load(Ordering::Relaxed) {
                    break;
                }
                // Whoever hangs up hears nothing more.
                let _ = own.answer(stream);
            }
        });
        Self {
            port,
            state,
            thread: Some(thread),
        }
    }

    /// Whether everything was told so many times.
    fn has_told_all(&self, times: usize) -> bool {
        let told = |kind: usize| self.state.told[kind].load(Ordering::Relaxed);
        told(0) >= times * self.state.messages.len() && told(1) >= times * self.state.appends.len()
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut head = [0; 4096];
        let length = stream.read(&mut head)?;
        let head = String::from_utf8_lossy(&head[..length]).into_owned();
        let next = |kind: usize, frames: &[Vec<u8>]| {
            let turn = self.told[kind].fetch_add(1, Ordering::Relaxed);
            frames[turn % frames.len()].clone()
        };
        let body = if head.starts_with("GET /raft/stream/message/") {
            next(0, &self.messages)
        } else if head.starts_with("GET /raft/stream/msgapp/") {
            next(1, &self.appends)
        } else {
            Vec::new()
        };
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\n\r\n",
        )?;
        stream.write_all(&body)
    }
}

impl Drop for Boaster {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        // Somebody has to knock for it to see that.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

/// What a member says to a message that is announced and does not come: status and body.
fn announce(port: u16, headers: &[(&str, &str)], announced: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the peer port is open");
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).expect("a limit");
    let mut head = "POST /raft HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".to_owned();
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(announced);
    stream.write_all(head.as_bytes()).expect("it reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    answered(&mut stream)
}

/// Sends them by requests. Each member tells what is wrong, in the words of etcd.
fn post(cluster: &Cluster, subject: Subject, place: usize) {
    let (cluster_id, _) = ids(cluster, place);
    let port = cluster.peer_port(place);
    let headers = [
        ("X-Server-Version", "3.7.1"),
        ("X-Min-Cluster-Version", "3.0.0"),
        ("X-Etcd-Cluster-ID", cluster_id.as_str()),
    ];
    for announced in [
        "Content-Length: 1099511627776\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\nabc",
    ] {
        let told = announce(port, &headers, announced);
        let expected = (400, "error reading raft message".to_owned());
        assert_eq!(told, expected, "{announced}");
    }
    let too_long = "failed to decode raft message (rafthttp: error limit exceeded)";
    let missing = "failed to decode raft message (unexpected EOF)";
    let state = |path: &str, bytes: u64, expected: &str| {
        let body = [length(bytes).as_slice(), b"abc"].concat();
        let told = ask(port, "POST", path, &headers, &body);
        assert_eq!(told, (400, expected.to_owned()), "{path}: {bytes}");
    };
    let paths = ["/raft/snapshot", "/kvorum/snapshot"];
    let official = subject != Subject::Kvorum;
    for path in &paths[..if official { 1 } else { 2 }] {
        state(path, u64::MAX, too_long);
        state(path, HEAD_BYTES_MAX + 1, too_long);
        state(path, HEAD_BYTES_MAX, missing);
    }
}

fn frames_that_are_too_long_bring_no_member_down(subject: Subject) {
    let Some(mut cluster) = Cluster::start(&[subject; 3], &[]) else {
        return;
    };
    cluster.put("k", "v");
    let before = [0, 1].map(|place| memory_peak(cluster.pid(place)));
    for place in 0..3 {
        post(&cluster, subject, place);
    }
    cluster.put("after", "requests");

    // The third is away, and somebody else at its port: both others ask there for its streams.
    cluster.kill(2);
    let boaster = Boaster::listen(cluster.peer_port(2), subject);
    cluster.wait("all frames sent", || {
        cluster.put("beside", "streams");
        boaster.has_told_all(4).then_some(())
    });
    drop(boaster);
    for (place, before) in before.into_iter().enumerate() {
        let more = memory_peak(cluster.pid(place)) - before;
        eprintln!("{subject:?}: member {place} needed {more} KiB for that");
        // Official members make room for what is announced.
        let bounded = more < MEMORY_KIB_MAX || subject != Subject::Kvorum;
        assert!(bounded, "member {place} took {more} KiB for it");
    }
    cluster.launch(2);
    cluster.wait_ready(2);
    cluster.put("after", "streams");
    cluster.same_hash();
    assert_eq!(cluster.endpoints().len(), 3);
    let health = cluster.must(&["endpoint", "health"]);
    assert!(!health.contains("unhealthy"), "{health}");
}
