//! Connections that misbehave: whatever one does, the others are served.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kvorum_e2e::grpc::{Connection, Failure, block_on};
use kvorum_e2e::http;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const RANGE: &str = "etcdserverpb.KV/Range";
const PUT: &str = "etcdserverpb.KV/Put";
const WATCH: &str = "etcdserverpb.Watch/Watch";

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A PING frame with eight bytes of content.
const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// Frame type of GOAWAY.
const GOAWAY: u8 = 7;
/// A client hello of TLS, cut off after its head.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

on_each_server!(
    rubbish_instead_of_http_is_closed,
    malformed_http_is_answered_with_400,
    half_open_and_slow_connections_hurt_nobody,
    many_idle_connections_hurt_nobody,
    a_flood_of_pings_ends_its_own_connection_only,
    a_flood_of_resets_hurts_nobody,
    a_watch_that_is_never_read_hurts_nobody,
);

/// One put and one read over a new connection.
async fn assert_serves(server: &Server) {
    let connection = Connection::open(server.port()).await.expect("connects");
    let put = PutRequest {
        key: "serves".into(),
        value: "x".into(),
        ..PutRequest::default()
    };
    let written: Result<PutResponse, Failure> = connection.call(PUT, &put).await;
    written.expect("put");
    let range = RangeRequest {
        key: "serves".into(),
        ..RangeRequest::default()
    };
    let read: Result<RangeResponse, Failure> = connection.call(RANGE, &range).await;
    assert_eq!(read.expect("range").count, 1);
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a limit of time");
    stream
}

fn rubbish_instead_of_http_is_closed(subject: Subject) {
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    for rubbish in [
        &b"\x00\x01\x02\x03rubbish\r\n\r\n"[..],
        CLIENT_HELLO,
        b"\r\n\r\n\r\n\r\n",
    ] {
        let mut stream = connect(&server);
        stream.write_all(rubbish).expect("sends");
        // A client that gives up sends no more: the server must not wait for the rest.
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("shuts down");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 1000, "a long answer to rubbish: {answer:?}");
    }
    block_on(assert_serves(&server));
}

fn malformed_http_is_answered_with_400(subject: Subject) {
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    let long = format!(
        "GET /health HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "x".repeat(2 << 20)
    );
    let ample = format!(
        "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: {}\r\n{}\r\n",
        "x".repeat(1000 << 10),
        "X-Short: y\r\n".repeat(500)
    );
    let cases: [(&str, &[u8], &str); 9] = [
        ("no host", b"GET /health HTTP/1.1\r\n\r\n", "HTTP/1.1 400"),
        (
            "two hosts",
            b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "a host that is none",
            b"GET /health HTTP/1.1\r\nHost: x y\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "an address in place of a host",
            b"GET http://x/health HTTP/1.1\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "no host in HTTP/1.0",
            b"GET /health HTTP/1.0\r\n\r\n",
            "HTTP/1.0 200",
        ),
        ("headers just below 1 MiB", ample.as_bytes(), "HTTP/1.1 200"),
        (
            "a header without a name",
            b"GET /health HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "a length that is none",
            b"POST /v3/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 400",
        ),
        ("headers over 1 MiB", long.as_bytes(), "HTTP/1.1 431"),
    ];
    for (name, request, expected) in cases {
        let answer = http::exchange(server.port(), request).expect("an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with(expected), "{name}: {answer}");
    }
    block_on(assert_serves(&server));
}

fn half_open_and_slow_connections_hurt_nobody(subject: Subject) {
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    let mut kept = Vec::new();
    for start in [
        &b""[..],
        b"P",
        PREFACE,
        &PREFACE[..10],
        b"GET /health HTTP/1.1\r\nHost:",
    ] {
        let mut stream = connect(&server);
        stream.write_all(start).expect("sends");
        kept.push(stream);
    }
    block_on(assert_serves(&server));
    // The last one goes on, byte by byte, and is answered.
    let mut slow = kept.pop().expect("one is left");
    slow.set_nodelay(true).expect("small packets");
    for byte in b" x\r\nConnection: close\r\n\r\n" {
        slow.write_all(&[*byte]).expect("sends");
        // A round trip of its own through another connection passes the time between two bytes.
        http::get(server.port(), "/version").expect("a page");
    }
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    block_on(assert_serves(&server));
}

/// Held by the test that needs most of the files that this process may open.
static MANY_FILES: Mutex<()> = Mutex::new(());

fn many_idle_connections_hurt_nobody(subject: Subject) {
    const CONNECTIONS_MAX: u64 = 10_000;
    /// Open files left to the other tests of this process, and to the server itself.
    const FILES_LEFT: u64 = 1_000;
    /// One connection of so many is used again in the end.
    const PER_CALL: usize = 20;
    let alone = MANY_FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    // The server has this process's limit, and raises it in the same way.
    let connections = CONNECTIONS_MAX.min(raise_open_files().saturating_sub(FILES_LEFT));
    let before = resident_kilobytes(server.pid());
    block_on(async {
        let mut idle = Vec::new();
        for number in 0..connections {
            let connection = Connection::open(server.port()).await;
            idle.push(connection.unwrap_or_else(|error| panic!("connection {number}: {error}")));
            if number % 1_000 == 0 {
                assert_serves(&server).await;
            }
        }
        assert_serves(&server).await;
        let with = resident_kilobytes(server.pid());
        eprintln!(
            "{subject:?}: {before} kB before, {with} kB with {connections} of {CONNECTIONS_MAX} \
             idle connections: {} bytes for each",
            with.saturating_sub(before) * 1024 / connections
        );
        let range = RangeRequest {
            key: "serves".into(),
            ..RangeRequest::default()
        };
        for connection in idle.iter().step_by(PER_CALL) {
            let read: Result<RangeResponse, Failure> = connection.call(RANGE, &range).await;
            assert_eq!(read.expect("an idle connection wakes up").count, 1);
        }
    });
    drop(alone);
}

/// Lets this process open as many files as the system allows it, and says how many that is.
fn raise_open_files() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // If it stays as it is, the test opens fewer connections.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Memory of a process that lies in RAM.
fn resident_kilobytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number of kB")
}

fn a_flood_of_pings_ends_its_own_connection_only(subject: Subject) {
    const PINGS: usize = 20_000;
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    let mut stream = connect(&server);
    let mut reader = stream.try_clone().expect("a second handle");
    // Answers are read while pings are sent, or both sides would wait for each other.
    let answers = std::thread::spawn(move || {
        let mut answers = Vec::new();
        let _ = reader.read_to_end(&mut answers);
        answers
    });
    stream.write_all(PREFACE).expect("sends");
    stream.write_all(&SETTINGS).expect("sends");
    // The server may close in the middle.
    let _ = stream.write_all(&PING.repeat(PINGS));
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let answers = answers.join().expect("the reader ends");
    assert!(
        frames(&answers).contains(&GOAWAY),
        "no GOAWAY among {:?}",
        frames(&answers).len()
    );
    block_on(assert_serves(&server));
}

/// Types of the frames in a byte stream.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [high, middle, low, kind, _, _, _, _, _, rest @ ..] = bytes {
        types.push(*kind);
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        bytes = rest.get(length..).unwrap_or_default();
    }
    types
}

fn a_flood_of_resets_hurts_nobody(subject: Subject) {
    const STREAMS: usize = 5_000;
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    block_on(async {
        let flood = Connection::open(server.port()).await.expect("connects");
        for _ in 0..STREAMS {
            // A server may end the connection at some point, which is an answer too.
            let Ok(mut stream) = flood.start(RANGE, &[]).await else {
                break;
            };
            stream.reset();
        }
        assert_serves(&server).await;
    });
}

fn a_watch_that_is_never_read_hurts_nobody(subject: Subject) {
    const PUTS: u32 = 400;
    const VALUE_BYTES: usize = 100_000;
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    block_on(async {
        let deaf = Connection::open(server.port()).await.expect("connects");
        let keen = Connection::open(server.port()).await.expect("connects");
        let writer = Connection::open(server.port()).await.expect("connects");
        let create = WatchCreateRequest {
            key: "w".into(),
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let mut never_read = deaf.open_stream(WATCH, &request).await.expect("opens");
        let mut read = keen.open_stream(WATCH, &request).await.expect("opens");
        let created: WatchResponse = read.next().await.expect("answered").expect("open");
        assert!(created.created);
        let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
        let mut seen = 0;
        for number in 0..PUTS {
            let put = PutRequest {
                key: "w".into(),
                value: value.clone(),
                ..PutRequest::default()
            };
            let written: Result<PutResponse, Failure> = writer.call(PUT, &put).await;
            written.unwrap_or_else(|error| panic!("put {number}: {error}"));
            let response: WatchResponse = read.next().await.expect("answered").expect("open");
            seen += response.events.len() as u32;
        }
        assert_eq!(seen, PUTS, "the other watcher misses nothing");
        // It begins to read after all, and misses nothing either.
        let mut late = 0;
        while late < PUTS {
            let response: WatchResponse = never_read.next().await.expect("answered").expect("open");
            late += response.events.len() as u32;
        }
        assert_serves(&server).await;
    });
}
