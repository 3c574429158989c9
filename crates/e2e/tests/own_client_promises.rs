//! What our client library promises in its documentation: its examples run, every future may be
//! dropped, and no server can make it panic.

// The examples of the documentation, whose items are public there.
#[path = "../../client/docs/election.rs"]
#[expect(unreachable_pub, reason = "an example is for other crates")]
mod election;
#[path = "../../client/docs/first_steps.rs"]
#[expect(unreachable_pub, reason = "an example is for other crates")]
mod first_steps;
#[path = "../../client/docs/lease.rs"]
#[expect(unreachable_pub, reason = "an example is for other crates")]
mod lease;
#[path = "../../client/docs/lock.rs"]
#[expect(unreachable_pub, reason = "an example is for other crates")]
mod lock;
#[path = "../../client/docs/mirror.rs"]
#[expect(unreachable_pub, reason = "an example is for other crates")]
mod mirror;
#[path = "../../client/docs/namespace.rs"]
#[expect(unreachable_pub, reason = "an example is for other crates")]
mod namespace;
#[path = "../../client/docs/snapshot.rs"]
#[expect(unreachable_pub, reason = "an example is for other crates")]
mod snapshot;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use kvorum_client::{Client, Config, Error, KeyRange};
use kvorum_e2e::grpc::block_on;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};
use kvorum_proto::ids::LeaseId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

on_each_server!(
    examples_of_the_documentation_run,
    a_watch_whose_futures_are_dropped_loses_and_repeats_nothing,
    a_lease_lives_while_its_futures_are_dropped,
    a_snapshot_whose_futures_are_dropped_is_whole,
    calls_that_are_dropped_leave_the_connection_usable
);

/// How long any answer may take.
const LIMIT: Duration = Duration::from_secs(120);
/// After which time futures are dropped.
const SHORT: Duration = Duration::from_millis(2);

fn client(endpoint: &str) -> Client {
    let client = Client::new(&Config::new([endpoint])).expect("a good endpoint");
    client.with_timeout(LIMIT)
}

async fn put(client: &Client, key: String, value: Vec<u8>) -> i64 {
    let request = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    let answer = client.put(&request).await.expect("a put");
    answer.header.expect("answers have a header").revision
}

async fn value(client: &Client, key: &'static str) -> Option<Bytes> {
    let request = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    let answer = client.range(&request).await.expect("a range");
    answer.kvs.first().map(|kv| kv.value.clone())
}

fn examples_of_the_documentation_run(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let endpoint = server.endpoint();
    let client = client(&endpoint);
    block_on(async {
        let seen = first_steps::first_steps(&[&endpoint]).await;
        let expected = [
            "read b\"config/color\" = b\"blue\"",
            "saw b\"config/color\" = b\"blue\"",
        ];
        assert_eq!(seen.expect("it runs"), expected);
        let held = lock::alone(&client, async {
            let locks = KeyRange::prefix("jobs/backup/");
            let request = RangeRequest {
                key: locks.key,
                range_end: locks.range_end,
                ..RangeRequest::default()
            };
            client.range(&request).await.expect("a range").count
        });
        assert_eq!(held.await, Ok(1));
        let led = election::lead(&client, async {});
        assert_eq!(led.await, Ok(true));
        let lease = lease::register(&client, 2).await.expect("a lease");
        assert!(value(&client, "workers/host-1").await.is_some());
        client.lease_revoke(LeaseId(lease)).await.expect("it goes");
        let last = async {
            put(&client, "config/size".to_owned(), b"7".to_vec()).await;
        };
        let (copy, ()) = tokio::join!(mirror::follow(&client, "config/size"), last);
        let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
        let expected = [pair("config/color", "blue"), pair("config/size", "7")];
        assert_eq!(copy, Ok(BTreeMap::from(expected)));
        namespace::paint(&client).await.expect("it runs");
        assert_eq!(
            value(&client, "app/color").await.as_deref(),
            Some(&b"blue"[..])
        );
        let mut left = None;
        let file = snapshot::save(&client, |bytes| left = Some(bytes)).await;
        let file = file.expect("it runs");
        assert_eq!(left, Some(0));
        // A database of whole sectors and a checksum.
        assert_eq!(file.len() % 512, 32);
    });
}

fn a_watch_whose_futures_are_dropped_loses_and_repeats_nothing(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&server.endpoint());
    block_on(async {
        let range = KeyRange::prefix("k");
        let request = WatchCreateRequest {
            key: range.key,
            range_end: range.range_end,
            fragment: true,
            ..WatchCreateRequest::default()
        };
        let mut watcher = client.watch(request).await.expect("a watch");
        let writer = client.clone();
        let writer = tokio::spawn(async move {
            let mut written = Vec::new();
            for number in 0..60 {
                // Values that come in several pieces of the transport.
                written.push(put(&writer, format!("k/{number}"), vec![b'v'; 100_000]).await);
            }
            written
        });
        let end = Instant::now() + LIMIT;
        let (mut seen, mut dropped) = (Vec::new(), 0);
        while seen.len() < 60 {
            // The first one is dropped at once: nothing was written yet.
            let patience = [Duration::ZERO, SHORT][dropped % 2];
            let Ok(answer) = timeout(patience, watcher.next()).await else {
                dropped += 1;
                assert!(Instant::now() < end, "no event in time");
                continue;
            };
            let response = answer.expect("no error").expect("it goes on");
            let events = response.events.into_iter();
            seen.extend(events.filter_map(|event| Some(event.kv?.mod_revision)));
        }
        assert_eq!(seen, writer.await.expect("it writes"));
        assert!(dropped > 0, "no future was dropped");
    });
}

fn a_lease_lives_while_its_futures_are_dropped(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&server.endpoint());
    block_on(async {
        // A third of it passes between two renewals; the machine may stand still for the rest.
        const TTL_SECONDS: i64 = 9;
        let lease = LeaseId(client.lease_grant(TTL_SECONDS).await.expect("a lease").id);
        let mut keeper = client.lease_keep_alive(lease);
        let granted = Instant::now();
        let mut renewals = 0;
        // The first one comes at once. With the fifth it is older than its time.
        while renewals < 5 {
            if let Ok(answer) = timeout(SHORT, keeper.next()).await {
                assert!(answer.expect("no error").is_some(), "the lease is lost");
                renewals += 1;
            }
        }
        let age = granted.elapsed();
        assert!(
            age > Duration::from_secs(TTL_SECONDS.unsigned_abs()),
            "{age:?}"
        );
        let left = client.lease_time_to_live(lease, false).await;
        assert!(left.expect("an answer").ttl >= 0);
    });
}

fn a_snapshot_whose_futures_are_dropped_is_whole(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&server.endpoint());
    block_on(async {
        for number in 0..40 {
            put(&client, format!("k/{number}"), vec![b'v'; 200_000]).await;
        }
        let mut snapshot = client.snapshot().await.expect("a snapshot");
        let mut file = Vec::new();
        let end = Instant::now() + LIMIT;
        loop {
            // The shortest time that there is: what is not there already is asked for again.
            match timeout(Duration::ZERO, snapshot.next()).await {
                Ok(part) => match part.expect("no error") {
                    Some(bytes) => file.extend_from_slice(&bytes),
                    None => break,
                },
                Err(_) => {
                    assert!(Instant::now() < end, "no part in time");
                    tokio::task::yield_now().await;
                }
            }
        }
        assert!(file.len() > 40 * 200_000, "{} bytes", file.len());
        let (database, sum) = file.split_at(file.len() - 32);
        use sha2::{Digest as _, Sha256};
        assert_eq!(Sha256::digest(database)[..], *sum);
    });
}

fn calls_that_are_dropped_leave_the_connection_usable(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    let client = client(&server.endpoint());
    block_on(async {
        put(&client, "k".to_owned(), vec![b'v'; 1_000_000]).await;
        // More than a server lets one connection have open at once, if they were not given back.
        for _ in 0..300 {
            let request = RangeRequest {
                key: "k".into(),
                ..RangeRequest::default()
            };
            let _ = timeout(Duration::ZERO, client.range(&request)).await;
            let _ = timeout(Duration::from_micros(500), client.range(&request)).await;
        }
        assert_eq!(
            value(&client, "k").await.map(|value| value.len()),
            Some(1_000_000)
        );
    });
}

/// Asks in every way, and expects an error each time.
async fn assert_refused(endpoint: &str, what: &str) {
    let config = Config::new([endpoint]);
    let client = Client::new(&config).expect("a good endpoint");
    let client = client.with_timeout(Duration::from_millis(500));
    let request = RangeRequest {
        key: "k".into(),
        ..RangeRequest::default()
    };
    let answer = client.range(&request).await;
    assert!(answer.is_err(), "{what}: {answer:?}");
    let put = client.put(&PutRequest::default()).await;
    assert!(put.is_err(), "{what}: {put:?}");
    // What goes on for long tries again for ever, or says what is wrong.
    let limit = Duration::from_millis(300);
    let watch = timeout(limit, client.watch(WatchCreateRequest::default())).await;
    assert!(!matches!(watch, Ok(Ok(_))), "{what}: a watch");
    let kept = timeout(limit, client.lease_keep_alive_once(LeaseId(7))).await;
    assert!(!matches!(kept, Ok(Ok(_))), "{what}: {kept:?}");
    let snapshot = timeout(limit, client.snapshot()).await;
    if let Ok(Ok(mut snapshot)) = snapshot {
        let part: Result<_, Error> = snapshot.next().await;
        // An empty one is one that ends without a byte.
        assert!(!matches!(part, Ok(Some(_))), "{what}: {part:?}");
    }
}

#[test]
fn bytes_that_are_no_http_2_are_an_error() {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let frame = |kind: u8, stream: u8, body: &[u8]| {
        let head = [0, 0, body.len() as u8, kind, 0, 0, 0, 0, stream];
        [&SETTINGS[..], &head, body].concat()
    };
    let greetings: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0xff; 200],
        (0..=255).collect(),
        SETTINGS.to_vec(),
        // A frame of the largest length that a head can tell.
        [&SETTINGS[..], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        // Headers of a stream that nobody opened, and ones that cannot be decoded.
        frame(1, 9, &[0x88]),
        frame(1, 1, &[0xff; 20]),
        // It goes away.
        frame(7, 0, &[0, 0, 0, 0, 0, 0, 0, 11]),
        frame(6, 0, &[1, 2, 3]),
    ];
    block_on(async {
        for (number, greeting) in greetings.into_iter().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let endpoint = listener.local_addr().expect("an address").to_string();
            let server = tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let _ = stream.write_all(&greeting).await;
                    let mut buffer = [0; 1024];
                    let _ = timeout(Duration::from_millis(50), stream.read(&mut buffer)).await;
                }
            });
            assert_refused(&endpoint, &format!("greeting {number}")).await;
            server.abort();
        }
    });
}

/// An answer that a server of gRPC never gives.
#[derive(Clone)]
struct Nonsense {
    status: StatusCode,
    kind: Option<&'static str>,
    body: Bytes,
    trailers: Option<(&'static str, &'static [u8])>,
}

async fn answer(stream: TcpStream, nonsense: Nonsense) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (_request, mut respond) = request?;
        let mut head = Response::new(());
        *head.status_mut() = nonsense.status;
        if let Some(kind) = nonsense.kind {
            let kind = HeaderValue::from_static(kind);
            head.headers_mut().insert("content-type", kind);
        }
        let mut body = respond.send_response(head, false)?;
        body.send_data(nonsense.body.clone(), nonsense.trailers.is_none())?;
        if let Some((name, value)) = nonsense.trailers {
            let mut trailers = HeaderMap::new();
            let value = HeaderValue::from_bytes(value).expect("visible or opaque bytes");
            trailers.insert(name, value);
            body.send_trailers(trailers)?;
        }
    }
    Ok(())
}

#[test]
fn answers_that_are_no_grpc_are_an_error() {
    let frame = |flag: u8, length: u32, body: &[u8]| {
        let mut frame = BytesMut::new();
        frame.put_u8(flag);
        frame.put_u32(length);
        frame.put_slice(body);
        frame.freeze()
    };
    let good = Nonsense {
        status: StatusCode::OK,
        kind: Some("application/grpc"),
        body: Bytes::new(),
        trailers: Some(("grpc-status", b"0")),
    };
    let body = |body: Bytes| Nonsense {
        body,
        ..good.clone()
    };
    let trailers = |name, value: &'static [u8]| Nonsense {
        trailers: Some((name, value)),
        ..good.clone()
    };
    let answers = vec![
        // Success without a message.
        good.clone(),
        // A message cut off, longer than anything, compressed, or no message at all.
        body(frame(0, 10, b"short")),
        body(frame(0, u32::MAX, b"long")),
        body(frame(1, 3, b"abc")),
        body(frame(0, 6, &[0xff; 6])),
        body(Bytes::from_static(b"\0\0")),
        // No status, and ones that are no numbers.
        trailers("other", b"0"),
        trailers("grpc-status", b"-1"),
        trailers("grpc-status", b"99999999999999999999"),
        trailers("grpc-status", &[0xff, 0xfe]),
        Nonsense {
            trailers: None,
            ..good.clone()
        },
        Nonsense {
            status: StatusCode::NOT_FOUND,
            kind: Some("text/html"),
            body: Bytes::from_static(b"<html>not here</html>"),
            trailers: None,
        },
        Nonsense {
            kind: None,
            body: Bytes::from_static(b"{}"),
            trailers: None,
            ..good
        },
    ];
    block_on(async {
        for (number, nonsense) in answers.into_iter().enumerate() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let endpoint = listener.local_addr().expect("an address").to_string();
            let server = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream, nonsense.clone()));
                }
            });
            assert_refused(&endpoint, &format!("answer {number}")).await;
            server.abort();
        }
    });
}
