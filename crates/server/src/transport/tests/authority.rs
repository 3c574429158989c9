//! Requests with authorities that the HTTP/2 library does not take.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::client::{framed, run, start};
use super::encoder::{END_STREAM, Encoder, Framing, Request, Style, TABLE_BYTES, frame};
use crate::transport::authority::AuthorityGuard;
use crate::transport::frames::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, PADDED, PREFACE, PRIORITY, SETTINGS,
};

/// Authorities that clients send, and worse ones. The first three are valid.
const AUTHORITIES: [&str; 9] = [
    "localhost:2379",
    "[::1]:2379",
    "member-1.etcd.svc",
    "http://127.0.0.1:2379",
    "#initially=[http://10.0.0.1:2379;http://10.0.0.2:2379]",
    "/var/run/etcd.sock",
    "unix:%2Ftmp%2Fetcd",
    "schlüssel \" {}",
    "/",
];
const VALID_AUTHORITIES: usize = 3;

/// The start of a client's half of a connection.
fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// What the guard makes of `bytes` that arrive cut at `cuts`.
fn guarded(bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut guard = AuthorityGuard::default();
    let mut passed = Vec::new();
    let mut start = 0;
    let mut drain = |guard: &mut AuthorityGuard| {
        // A small buffer, so that the guard has to keep what does not fit.
        let mut space = [0; 100];
        let mut buffer = ReadBuf::new(&mut space);
        while guard.take(&mut buffer) {
            passed.extend_from_slice(buffer.filled());
            buffer.clear();
        }
    };
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        guard.feed(&bytes[start..cut]);
        drain(&mut guard);
        start = cut;
    }
    guard.finish();
    drain(&mut guard);
    passed
}

/// What the HTTP/2 library reads from `bytes`: the authority and the other fields of each request.
fn read_by_library(bytes: &[u8], requests: usize) -> Vec<(String, HeaderMap)> {
    let mut seen = Vec::new();
    run(async {
        let (mut client, server) = tokio::io::duplex(bytes.len() + 64 * 1024);
        client.write_all(bytes).await.unwrap();
        let mut connection = h2::server::handshake(server).await.unwrap();
        while seen.len() < requests {
            // All bytes are there, so nothing is worth waiting for.
            let accept = poll_fn(|cx| Poll::Ready(connection.poll_accept(cx)));
            let Poll::Ready(Some(request)) = tokio::task::unconstrained(accept).await else {
                panic!("a request is missing");
            };
            let (head, _) = request.expect("the library takes it").0.into_parts();
            let authority = head.uri.authority().map(ToString::to_string);
            seen.push((authority.unwrap_or_default(), head.headers));
        }
    });
    seen
}

fn expected(requests: &[Request]) -> Vec<(String, HeaderMap)> {
    let valid = &AUTHORITIES[..VALID_AUTHORITIES];
    let expect = |request: &Request| {
        let authority = if valid.contains(&request.authority) {
            request.authority.to_owned()
        } else {
            let keep = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
            let bytes = request.authority.bytes();
            bytes
                .map(|byte| if keep(byte) { char::from(byte) } else { '-' })
                .collect()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &request.fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        (authority, headers)
    };
    requests.iter().map(expect).collect()
}

fn style() -> impl Strategy<Value = Style> {
    (0..3_usize, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(literal, refer, huffman, spell)| Style {
            literal,
            refer,
            huffman,
            spell,
        },
    )
}

fn framing() -> impl Strategy<Value = Framing> {
    let fragment_bytes = prop_oneof![Just(16_000_usize), 20..100_usize];
    let table_bytes = select(vec![
        None,
        None,
        Some(0),
        Some(150),
        Some(300),
        Some(TABLE_BYTES),
    ]);
    (
        fragment_bytes,
        any::<Option<u8>>(),
        any::<bool>(),
        table_bytes,
    )
        .prop_map(|(fragment_bytes, padding, priority, table_bytes)| Framing {
            fragment_bytes,
            padding,
            priority,
            table_bytes,
        })
}

fn request(authorities: &'static [&'static str]) -> impl Strategy<Value = Request> {
    let name = select(vec![
        "te",
        "x-a",
        "x-name-that-is-long",
        "authorization",
        "x-bin",
    ]);
    let value = "[ -~]{0,3}|[a-z]{50}|trailers".prop_map(|value: String| value.trim().to_owned());
    let fields = proptest::collection::vec((name, value), 0..6);
    let styles = proptest::collection::vec(style(), 1..8);
    (select(authorities), fields, styles, framing()).prop_map(
        |(authority, fields, styles, framing)| Request {
            authority,
            fields: fields
                .into_iter()
                .filter(|(name, value)| *name != "te" || value == "trailers")
                .collect(),
            styles,
            framing,
        },
    )
}

fn encode(requests: &[Request]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut bytes = opening();
    for (number, request) in requests.iter().enumerate() {
        bytes.extend_from_slice(&encoder.request(request, number as u32 * 2 + 1));
    }
    bytes
}

proptest! {
    /// Whatever the compression and however the bytes are cut, the library reads the same fields, but for bad
    /// authorities: the dynamic tables of client and library stay in step.
    #[test]
    fn library_reads_what_the_client_wrote(
        first in request(&AUTHORITIES[VALID_AUTHORITIES..]),
        rest in proptest::collection::vec(request(&AUTHORITIES), 0..12),
        cuts in proptest::collection::vec(any::<Index>(), 0..20),
    ) {
        let requests = [vec![first], rest].concat();
        let bytes = encode(&requests);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let passed = guarded(&bytes, &cuts);
        assert_eq!(read_by_library(&passed, requests.len()), expected(&requests));
    }

    /// A connection whose first authority is valid passes as it is, whatever follows.
    #[test]
    fn valid_connection_passes_untouched(
        first in request(&AUTHORITIES[..VALID_AUTHORITIES]),
        rest in proptest::collection::vec(any::<u8>(), 0..500),
        cuts in proptest::collection::vec(any::<Index>(), 0..20),
    ) {
        let bytes = [encode(&[first]), rest].concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        assert_eq!(guarded(&bytes, &cuts), bytes);
    }

    /// Rubbish passes as well: it is for the library to judge.
    #[test]
    fn rubbish_is_passed_on(rest in proptest::collection::vec(any::<u8>(), 0..500)) {
        let bytes = [opening(), rest].concat();
        assert_eq!(guarded(&bytes, &[]), bytes);
    }
}

const PLAIN: Style = Style {
    literal: 0,
    refer: true,
    huffman: true,
    spell: false,
};

const ONE_FRAME: Framing = Framing {
    fragment_bytes: 16_000,
    padding: None,
    priority: false,
    table_bytes: None,
};

/// A gRPC request the way Go clients write it.
fn ordinary(authority: &'static str) -> Request {
    Request {
        authority,
        fields: vec![
            ("content-type", "application/grpc".to_owned()),
            ("te", "trailers".to_owned()),
        ],
        styles: vec![PLAIN],
        framing: ONE_FRAME,
    }
}

#[test]
fn torn_reads_make_no_difference() {
    let request = Request {
        framing: Framing {
            fragment_bytes: 30,
            padding: Some(3),
            priority: true,
            table_bytes: Some(100),
        },
        ..ordinary("http://127.0.0.1:2379")
    };
    let bytes = encode(&[request.clone(), request]);
    let whole = guarded(&bytes, &[]);
    assert_ne!(whole, bytes);
    for cut in 0..bytes.len() {
        assert_eq!(guarded(&bytes, &[cut]), whole, "cut at {cut}");
    }
    let everywhere: Vec<usize> = (0..bytes.len()).collect();
    assert_eq!(guarded(&bytes, &everywhere), whole);
    // A client that leaves in the middle: nothing is kept from the library.
    let half = &bytes[..bytes.len() - 1];
    assert!(guarded(half, &[]).ends_with(&half[half.len() - 5..]));
}

#[test]
fn blocks_that_cannot_be_read_pass_as_they_are() {
    let bad = Encoder::new().request(&ordinary("http://x"), 1);
    let fields = &bad[9..];
    let open = frame(HEADERS, 0, 1, fields);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "padding over the end",
            frame(HEADERS, END_HEADERS | PADDED, 1, b"\xffabc"),
        ),
        (
            "no room for a priority",
            frame(HEADERS, END_HEADERS | PRIORITY, 1, b"abc"),
        ),
        (
            "no room for a padding length",
            frame(HEADERS, END_HEADERS | PADDED, 1, b""),
        ),
        (
            "fields cut short",
            frame(HEADERS, END_HEADERS, 1, &fields[..fields.len() - 3]),
        ),
        (
            "continuation of another stream",
            [&open[..], &frame(CONTINUATION, END_HEADERS, 3, b"")].concat(),
        ),
        (
            "data in between",
            [&open[..], &frame(DATA, 0, 1, b"")].concat(),
        ),
        (
            "frame over the limit",
            frame(HEADERS, END_HEADERS, 1, &[0; 16 * 1024 + 1]),
        ),
        (
            "block over the limit",
            [
                &open[..],
                &frame(CONTINUATION, 0, 1, &[0; 16 * 1024]).repeat(16),
            ]
            .concat(),
        ),
        (
            "endless small frames",
            [&open[..], &frame(CONTINUATION, 0, 1, b"").repeat(40_000)].concat(),
        ),
    ];
    for (name, frames) in cases {
        let bytes = [opening(), frames].concat();
        assert_eq!(guarded(&bytes, &[]), bytes, "{name}");
    }
}

#[test]
fn long_authority_is_cut_into_frames_that_the_library_takes() {
    // Its code is shorter than itself: what fits one frame before does not after.
    let authority: &'static str = Box::leak(format!("//{}", "a".repeat(40_000)).into_boxed_str());
    let requests = [ordinary(authority), ordinary(authority)];
    let passed = guarded(&encode(&requests), &[]);
    run(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(&passed).await.unwrap();
        let mut builder = h2::server::Builder::new();
        let mut connection: h2::server::Connection<_, Bytes> = builder
            .max_header_list_size(1 << 20)
            .handshake(server)
            .await
            .unwrap();
        for _ in 0..2 {
            let (request, _) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().authority().unwrap().as_str().len(), 40_002);
        }
    });
}

#[test]
fn calls_with_any_authority_are_answered() {
    const CALLS: u32 = 3;
    run(async {
        let server = start(|_| {});
        for authority in AUTHORITIES {
            let mut encoder = Encoder::new();
            let mut socket = server.raw().await;
            socket.write_all(&opening()).await.unwrap();
            for stream in (0..CALLS).map(|number| number * 2 + 1) {
                let mut headers = encoder.request(&ordinary(authority), stream);
                // The body follows.
                headers[4] &= !END_STREAM;
                socket.write_all(&headers).await.unwrap();
                let data = frame(DATA, END_STREAM, stream, &framed(authority.as_bytes()));
                socket.write_all(&data).await.unwrap();
            }
            let echo = framed(authority.as_bytes());
            let mut answers = Vec::new();
            while answers
                .windows(echo.len())
                .filter(|part| *part == echo)
                .count()
                < CALLS as usize
            {
                let read = socket.read_buf(&mut answers).await.unwrap();
                assert!(
                    read > 0,
                    "no answer to {authority}: {}",
                    answers.escape_ascii()
                );
            }
        }
    });
}
