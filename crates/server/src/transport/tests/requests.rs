//! Requests however clients write them.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::sample::{Index, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{framed, run, start};
use super::echo::Echo;
use super::encoder::{Encoder, Framing, Request, Style, TABLE_BYTES, frame};
use crate::transport::frames::{DATA, END_STREAM, PREFACE, SETTINGS};
use crate::transport::head::Head;
use crate::transport::http2::{Event, Http2};
use crate::transport::routes::Routes;

/// Authorities that clients send, and worse ones. The first three are valid by the rules of URIs.
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

/// The start of a client's half of a connection.
fn opening() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// The metadata of each request in `bytes` that arrive cut at `cuts`, in order.
fn read(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<(String, String)>> {
    let routes = Routes::new(&Echo::new());
    let mut http2 = Http2::new(u32::MAX);
    let mut requests = Vec::new();
    let mut torn = Vec::new();
    let mut start = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        torn.extend_from_slice(&bytes[start..cut]);
        start = cut;
        let mut rest = &torn[..];
        while let Some(event) = http2.next(&mut rest, &routes).expect("nothing is wrong") {
            let Event::Call {
                stream,
                head,
                ended,
            } = event
            else {
                panic!("nothing but calls");
            };
            let Head::Call(call) = &*head else {
                panic!("{head:?}");
            };
            http2.open(stream, ended, ());
            requests.push(call.metadata.to_pairs());
        }
        torn = rest.to_vec();
    }
    requests
}

fn expected(requests: &[Request]) -> Vec<Vec<(String, String)>> {
    let pairs = |request: &Request| {
        let fields = request.fields.iter();
        fields
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    };
    requests.iter().map(pairs).collect()
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
                .filter(|(name, _)| *name != "x-bin")
                .chain([("content-type", "application/grpc".to_owned())])
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
    /// Whatever the compression and however the bytes are cut, what a client wrote is what is read: the dynamic
    /// tables of both stay in step.
    #[test]
    fn what_a_client_wrote_is_read(
        requests in proptest::collection::vec(request(&AUTHORITIES), 1..12),
        cuts in proptest::collection::vec(any::<Index>(), 0..20),
    ) {
        let bytes = encode(&requests);
        let frames = bytes.len() - PREFACE.len();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(frames)).collect();
        cuts.sort_unstable();
        assert_eq!(read(&bytes[PREFACE.len()..], &cuts), expected(&requests));
    }

    /// Rubbish ends the connection or is waited for; nothing panics.
    #[test]
    fn rubbish_is_judged(rest in proptest::collection::vec(any::<u8>(), 0..500)) {
        let routes = Routes::new(&Echo::new());
        let mut http2: Http2<()> = Http2::new(u32::MAX);
        let bytes = [frame(SETTINGS, 0, 0, &[]), rest].concat();
        let mut rest = &bytes[..];
        while let Ok(Some(_)) = http2.next(&mut rest, &routes) {}
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
