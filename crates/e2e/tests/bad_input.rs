//! Requests that no well-meaning client sends: the same code and text as official etcd, nothing
//! half done, and the connection good for the next request.

use bytes::{BufMut as _, Bytes, BytesMut};
use kvorum_e2e::grpc::{Connection, Failure, block_on, frame};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::compare::TargetUnion;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use prost::Message;

const RANGE: &str = "etcdserverpb.KV/Range";
const STREAM: &str = "etcdserverpb.KV/RangeStream";
const PUT: &str = "etcdserverpb.KV/Put";
const DELETE: &str = "etcdserverpb.KV/DeleteRange";
const TXN: &str = "etcdserverpb.KV/Txn";
const COMPACT: &str = "etcdserverpb.KV/Compact";
const GRANT: &str = "etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "etcdserverpb.Lease/LeaseRevoke";
const HASH: &str = "etcdserverpb.Maintenance/HashKV";

const MEBIBYTE: usize = 1 << 20;

on_each_server!(
    requests_that_mean_nothing_are_refused_by_name,
    bytes_that_are_no_request_are_refused_and_the_connection_lives,
);

/// A server with a short history: 20 puts, compacted at 10.
fn server(subject: Subject) -> Option<Server> {
    let server = Server::start(subject, &["--unsafe-no-fsync"])?;
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        for number in 0..20 {
            let put = PutRequest {
                key: key("k"),
                value: vec![number].into(),
                ..PutRequest::default()
            };
            connection
                .call_bytes(PUT, &put.encode_to_vec())
                .await
                .expect("put");
        }
        let compaction = CompactionRequest {
            revision: 10,
            physical: true,
        };
        connection
            .call_bytes(COMPACT, &compaction.encode_to_vec())
            .await
            .expect("compact");
    });
    Some(server)
}

fn key(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn put(name: &'static str) -> PutRequest {
    PutRequest {
        key: key(name),
        value: key("v"),
        ..PutRequest::default()
    }
}

fn range(name: &'static str) -> RangeRequest {
    RangeRequest {
        key: key(name),
        ..RangeRequest::default()
    }
}

fn delete(name: &'static str, end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key(name),
        range_end: key(end),
        prev_kv: false,
    }
}

fn all(requests: Vec<Request>) -> TxnRequest {
    let success = requests
        .into_iter()
        .map(|request| RequestOp {
            request: Some(request),
        })
        .collect();
    TxnRequest {
        success,
        ..TxnRequest::default()
    }
}

fn when(compare: Compare) -> TxnRequest {
    TxnRequest {
        compare: vec![compare],
        ..TxnRequest::default()
    }
}

/// What came back, in one line: `ok`, or code and text.
fn line<T>(answer: Result<T, Failure>) -> String {
    match answer {
        Ok(_) => "ok".to_owned(),
        Err(Failure::Status { code, message }) => format!("{code} {message}"),
        Err(Failure::Transport(text)) => text,
    }
}

/// Compares, with `*` at the end of what is expected for any ending.
fn fits(expected: &str, seen: &str) -> bool {
    match expected.strip_suffix('*') {
        Some(start) => seen.starts_with(start),
        None => seen == expected,
    }
}

/// Names the cases that were answered otherwise, all at once.
fn assert_all(cases: &[(String, &str, String)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(_, expected, seen)| !fits(expected, seen))
        .map(|(name, expected, seen)| format!("{name}\n  expected {expected}\n  seen     {seen}"))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

const EMPTY_KEY: &str = "3 etcdserver: key is not provided";
const NO_KEY: &str = "3 etcdserver: key not found";
const FUTURE: &str = "11 etcdserver: mvcc: required revision is a future revision";
const COMPACTED: &str = "11 etcdserver: mvcc: required revision has been compacted";
const BAD_SORT: &str = "3 etcdserver: invalid sort option";
const TOO_MANY: &str = "3 etcdserver: too many operations in txn request";
const TWICE: &str = "3 etcdserver: duplicate key given in txn request";
const TOO_LARGE: &str = "3 etcdserver: request is too large";
const NO_LEASE: &str = "5 etcdserver: requested lease not found";
const LONG_LEASE: &str = "11 etcdserver: too large lease TTL";

const NO_REQUEST: &str =
    "13 cardinality violation: received no request message from non-client-streaming RPC";

type Case = (&'static str, &'static str, Vec<u8>, &'static str);

fn case(
    name: &'static str,
    method: &'static str,
    request: impl Message,
    expected: &'static str,
) -> Case {
    (name, method, request.encode_to_vec(), expected)
}

fn key_cases() -> Vec<Case> {
    let none = RangeRequest::default;
    vec![
        case("range of no key", RANGE, none(), EMPTY_KEY),
        case("stream of no key", STREAM, none(), EMPTY_KEY),
        case("put of no key", PUT, put(""), EMPTY_KEY),
        case("delete of no key", DELETE, delete("", "z"), EMPTY_KEY),
        case("delete with ends reversed", DELETE, delete("z", "a"), "ok"),
        case(
            "range with ends reversed",
            RANGE,
            RangeRequest {
                range_end: key("a"),
                ..range("z")
            },
            "ok",
        ),
        case(
            "range with equal ends",
            RANGE,
            RangeRequest {
                range_end: key("k"),
                ..range("k")
            },
            "ok",
        ),
        case(
            "range of the future",
            RANGE,
            RangeRequest {
                revision: 1000,
                ..range("k")
            },
            FUTURE,
        ),
        case(
            "range of the compacted past",
            RANGE,
            RangeRequest {
                revision: 9,
                ..range("k")
            },
            COMPACTED,
        ),
        case(
            "range at a negative revision",
            RANGE,
            RangeRequest {
                revision: -9,
                ..range("k")
            },
            "ok",
        ),
        case(
            "range with a negative limit",
            RANGE,
            RangeRequest {
                limit: -9,
                ..range("k")
            },
            "ok",
        ),
        case(
            "unknown sort order",
            RANGE,
            RangeRequest {
                sort_order: 9,
                ..range("k")
            },
            BAD_SORT,
        ),
        case(
            "unknown sort target",
            RANGE,
            RangeRequest {
                sort_target: 9,
                ..range("k")
            },
            BAD_SORT,
        ),
        case(
            "negative sort target",
            RANGE,
            RangeRequest {
                sort_target: -1,
                ..range("k")
            },
            BAD_SORT,
        ),
        case(
            "put with an unknown lease",
            PUT,
            PutRequest {
                lease: 404,
                ..put("k")
            },
            NO_LEASE,
        ),
        case(
            "put that keeps a value and has one",
            PUT,
            PutRequest {
                ignore_value: true,
                ..put("k")
            },
            "3 etcdserver: value is provided",
        ),
        case(
            "put that keeps a lease and has one",
            PUT,
            PutRequest {
                ignore_lease: true,
                lease: 1,
                ..put("k")
            },
            "3 etcdserver: lease is provided",
        ),
        case(
            "put that keeps the lease of no key",
            PUT,
            PutRequest {
                ignore_lease: true,
                ..put("none")
            },
            NO_KEY,
        ),
        case(
            "compact the future",
            COMPACT,
            CompactionRequest {
                revision: 1000,
                physical: false,
            },
            FUTURE,
        ),
        case(
            "compact again",
            COMPACT,
            CompactionRequest {
                revision: 10,
                physical: false,
            },
            COMPACTED,
        ),
        case(
            "compact at a negative revision",
            COMPACT,
            CompactionRequest {
                revision: -1,
                physical: true,
            },
            COMPACTED,
        ),
        case(
            "hash of the future",
            HASH,
            HashKvRequest { revision: 1000 },
            FUTURE,
        ),
        case(
            "hash of the compacted past",
            HASH,
            HashKvRequest { revision: 9 },
            COMPACTED,
        ),
    ]
}

fn transaction_cases() -> Vec<Case> {
    let puts = |count: usize| {
        let one = |number: usize| PutRequest {
            key: number.to_string().into(),
            ..PutRequest::default()
        };
        all((0..count)
            .map(|number| Request::RequestPut(one(number)))
            .collect())
    };
    let nested = all(vec![Request::RequestTxn(puts(128))]);
    let compare = |target, union| Compare {
        target,
        key: key("k"),
        target_union: union,
        ..Compare::default()
    };
    vec![
        case("128 operations", TXN, puts(128), "ok"),
        case("129 operations", TXN, puts(129), TOO_MANY),
        case("129 operations in all, nested", TXN, nested, TOO_MANY),
        case(
            "129 compares",
            TXN,
            TxnRequest {
                compare: vec![compare(0, None); 129],
                ..TxnRequest::default()
            },
            TOO_MANY,
        ),
        case(
            "one key put twice",
            TXN,
            all(vec![
                Request::RequestPut(put("a")),
                Request::RequestPut(put("a")),
            ]),
            TWICE,
        ),
        case(
            "put inside of a delete",
            TXN,
            all(vec![
                Request::RequestPut(put("b")),
                Request::RequestDeleteRange(delete("a", "c")),
            ]),
            TWICE,
        ),
        case(
            "one key deleted twice",
            TXN,
            all(vec![
                Request::RequestDeleteRange(delete("a", "")),
                Request::RequestDeleteRange(delete("a", "")),
            ]),
            "ok",
        ),
        case(
            "operation that is none",
            TXN,
            TxnRequest {
                success: vec![RequestOp::default()],
                ..TxnRequest::default()
            },
            NO_KEY,
        ),
        case(
            "put of no key inside",
            TXN,
            all(vec![Request::RequestPut(put(""))]),
            EMPTY_KEY,
        ),
        case(
            "compare of no key",
            TXN,
            when(Compare::default()),
            EMPTY_KEY,
        ),
        case("compare without a value", TXN, when(compare(0, None)), "ok"),
        case(
            "compare with a value of another kind",
            TXN,
            when(compare(3, Some(TargetUnion::Version(1)))),
            "ok",
        ),
        case(
            "compare of an unknown target",
            TXN,
            when(compare(9, None)),
            "ok",
        ),
        case(
            "compare by an unknown relation",
            TXN,
            when(Compare {
                result: 9,
                ..compare(0, Some(TargetUnion::Version(20)))
            }),
            "ok",
        ),
        case(
            "future inside",
            TXN,
            all(vec![Request::RequestRange(RangeRequest {
                revision: 1000,
                ..range("k")
            })]),
            FUTURE,
        ),
        case(
            "past inside",
            TXN,
            all(vec![
                Request::RequestPut(put("half")),
                Request::RequestRange(RangeRequest {
                    revision: 9,
                    ..range("k")
                }),
            ]),
            COMPACTED,
        ),
        case(
            "unknown lease inside, after a put",
            TXN,
            all(vec![
                Request::RequestPut(put("half")),
                Request::RequestPut(PutRequest {
                    lease: 404,
                    ..put("other")
                }),
            ]),
            NO_LEASE,
        ),
        case(
            "kept value of no key inside",
            TXN,
            all(vec![Request::RequestPut(PutRequest {
                ignore_value: true,
                value: Bytes::new(),
                ..put("none")
            })]),
            NO_KEY,
        ),
    ]
}

fn lease_and_size_cases() -> Vec<Case> {
    let large = |size: usize| PutRequest {
        key: key("big"),
        value: vec![b'x'; size].into(),
        ..PutRequest::default()
    };
    vec![
        case(
            "lease of no time",
            GRANT,
            LeaseGrantRequest { ttl: 0, id: 1 },
            "ok",
        ),
        case(
            "lease of negative time",
            GRANT,
            LeaseGrantRequest { ttl: -7, id: 2 },
            "ok",
        ),
        case(
            "lease too long",
            GRANT,
            LeaseGrantRequest {
                ttl: 9_000_000_001,
                id: 3,
            },
            LONG_LEASE,
        ),
        case(
            "lease much too long",
            GRANT,
            LeaseGrantRequest {
                ttl: i64::MAX,
                id: 3,
            },
            LONG_LEASE,
        ),
        case(
            "longest lease",
            GRANT,
            LeaseGrantRequest {
                ttl: 9_000_000_000,
                id: 4,
            },
            "ok",
        ),
        case(
            "lease with an ID in use",
            GRANT,
            LeaseGrantRequest { ttl: 100, id: 4 },
            "9 etcdserver: lease already exists",
        ),
        case(
            "revoke of no lease",
            REVOKE,
            LeaseRevokeRequest { id: 404 },
            NO_LEASE,
        ),
        case(
            "revoke of lease 0",
            REVOKE,
            LeaseRevokeRequest { id: 0 },
            NO_LEASE,
        ),
        case(
            "largest put",
            PUT,
            large(MEBIBYTE + MEBIBYTE / 2 - 1000),
            "ok",
        ),
        case(
            "put over 1.5 MiB",
            PUT,
            large(MEBIBYTE + MEBIBYTE / 2 + 1),
            TOO_LARGE,
        ),
        case(
            "put over what is received",
            PUT,
            large(3 * MEBIBYTE),
            "8 grpc: received message larger than max (3145738 vs. 2097152)",
        ),
    ]
}

fn requests_that_mean_nothing_are_refused_by_name(subject: Subject) {
    let Some(server) = server(subject) else {
        return;
    };
    let cases = [key_cases(), transaction_cases(), lease_and_size_cases()].concat();
    let seen = block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let mut seen = Vec::new();
        for (name, method, request, expected) in cases {
            seen.push((
                name.to_owned(),
                expected,
                line(connection.call_bytes(method, &request).await),
            ));
            let after = line(connection.call::<RangeResponse>(RANGE, &range("k")).await);
            seen.push((format!("{name}: the next request"), "ok", after));
        }
        let half: RangeResponse = connection.call(RANGE, &range("half")).await.expect("range");
        seen.push((
            "keys of refused transactions".to_owned(),
            "0",
            half.count.to_string(),
        ));
        seen
    });
    assert_all(&seen);
}

/// What one stream of any bytes brings.
struct Raw {
    name: &'static str,
    method: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    expected: &'static str,
}

fn raw(name: &'static str, body: impl Into<Bytes>, expected: &'static str) -> Raw {
    Raw {
        name,
        method: RANGE,
        headers: Vec::new(),
        body: body.into(),
        expected,
    }
}

/// A frame that claims another length or another flag than it has.
fn false_frame(flag: u8, length: u32, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(flag);
    bytes.put_u32(length);
    bytes.put_slice(body);
    bytes.freeze()
}

/// What is answered to a field whose wire type is not its own. Official etcd takes it for an unknown
/// field; Kvorum refuses on purpose: the request asks for something, and it is not known what.
fn wrong_wire_type(subject: Subject) -> &'static str {
    match subject {
        Subject::Kvorum => "13 grpc: error unmarshalling request: *",
        _ => "ok",
    }
}

fn raw_cases(subject: Subject) -> Vec<Raw> {
    let good = || frame(&range("k").encode_to_vec());
    let with = |name, header, value: &str, expected| Raw {
        headers: vec![(header, value.to_owned())],
        ..raw(name, good(), expected)
    };
    let to = |name, method, expected| Raw {
        method,
        ..raw(name, good(), expected)
    };
    vec![
        raw(
            "not protobuf",
            frame(b"\xff\xff\xff\xff"),
            "13 grpc: error unmarshalling request: *",
        ),
        raw(
            "length past the end of the message",
            frame(b"\x0a\x7fk"),
            "13 grpc: error unmarshalling request: *",
        ),
        raw(
            "field of the wrong wire type",
            frame(b"\x0d\x01\x02\x03\x04\x0a\x01k"),
            wrong_wire_type(subject),
        ),
        raw("unknown fields", frame(b"\x0a\x01k\xf8\x3f\x01"), "ok"),
        raw("no message at all", Bytes::new(), "2 EOF"),
        raw("part of a head", Bytes::from_static(b"\0\0\0"), "2 EOF"),
        raw(
            "a head and no more",
            false_frame(0, 100, b""),
            "2 unexpected EOF",
        ),
        Raw {
            method: STREAM,
            ..raw(
                "part of a head of a stream",
                Bytes::from_static(b"\0\0\0"),
                NO_REQUEST,
            )
        },
        Raw {
            method: STREAM,
            ..raw("no message in a stream", Bytes::new(), NO_REQUEST)
        },
        Raw {
            method: STREAM,
            ..raw(
                "message of a stream that ends early",
                false_frame(0, 100, b"\x0a\x01k"),
                "13 unexpected EOF",
            )
        },
        Raw {
            method: "etcdserverpb.Lease/LeaseKeepAlive",
            ..raw(
                "part of a head among keep-alives",
                Bytes::from_static(b"\0\0\0"),
                "ok",
            )
        },
        raw(
            "message that ends early",
            false_frame(0, 100, b"\x0a\x01k"),
            "2 unexpected EOF",
        ),
        raw(
            "message of 4 GiB announced",
            false_frame(0, u32::MAX, b"\x0a\x01k"),
            "8 grpc: received message larger than max (4294967295 vs. 2097152)",
        ),
        raw("two messages", [good(), good()].concat(), "ok"),
        raw(
            "compressed without saying how",
            false_frame(1, 3, b"\x0a\x01k"),
            "13 grpc: compressed flag set with identity or empty encoding",
        ),
        raw(
            "flag that nobody knows",
            false_frame(7, 3, b"\x0a\x01k"),
            "13 grpc: received unexpected payload format 7",
        ),
        Raw {
            headers: vec![("grpc-encoding", "rot13".to_owned())],
            ..raw(
                "unknown compression",
                false_frame(1, 3, b"\x0a\x01k"),
                "12 grpc: Decompressor is not installed for grpc-encoding \"rot13\"",
            )
        },
        to(
            "unknown method",
            "etcdserverpb.KV/Nothing",
            "12 unknown method Nothing for service etcdserverpb.KV",
        ),
        to(
            "unknown service",
            "etcdserverpb.Nothing/Range",
            "12 unknown service etcdserverpb.Nothing",
        ),
        to(
            "path without a method",
            "etcdserverpb.KV",
            "12 malformed method name: \"/etcdserverpb.KV\"",
        ),
        with(
            "content type with a suffix",
            "content-type",
            "application/grpc+proto",
            "ok",
        ),
        with(
            "content type of a page",
            "content-type",
            "text/html",
            "3 invalid gRPC request content-type \"text/html\"",
        ),
        with(
            "content type that only begins alike",
            "content-type",
            "application/grpcx",
            "3 invalid gRPC request content-type \"application/grpcx\"",
        ),
        with(
            "deadline that is no time",
            "grpc-timeout",
            "soon",
            "13 malformed grpc-timeout: strconv.ParseUint: parsing \"soo\": invalid syntax",
        ),
        with(
            "deadline with an unknown unit",
            "grpc-timeout",
            "1X",
            "13 malformed grpc-timeout: transport: timeout unit is not recognized: \"1X\"",
        ),
        with(
            "deadline of nine digits",
            "grpc-timeout",
            "123456789S",
            "13 malformed grpc-timeout: transport: timeout string is too long: \"123456789S\"",
        ),
        Raw {
            method: "etcdserverpb.KV/Nothing",
            headers: vec![("grpc-encoding", "rot13".to_owned())],
            ..raw(
                "unknown compression for an unknown method",
                good(),
                "12 unknown method Nothing for service etcdserverpb.KV",
            )
        },
        with(
            "deadline of no time at all",
            "grpc-timeout",
            "0S",
            "4 context deadline exceeded",
        ),
        with(
            "deadline that has passed",
            "grpc-timeout",
            "1n",
            "4 context deadline exceeded",
        ),
        with(
            "metadata of 100 KiB",
            "x-long",
            &"x".repeat(100 << 10),
            "ok",
        ),
        with(
            "token of a user while there are none",
            "authorization",
            "nobody.1",
            "ok",
        ),
        with(
            "binary metadata that is not base64",
            "x-bin",
            "Zm9v*",
            "13 malformed binary metadata \"Zm9v*\" in header \"x-bin\": illegal base64 data at input byte 4",
        ),
    ]
}

/// Where ours answers otherwise on purpose. A field that has the wrong wire type is unknown to the
/// official decoder and so passed over; ours refuses the message, which hides no mistake.
const ON_PURPOSE: [(&str, &str); 1] = [(
    "field of the wrong wire type",
    "13 grpc: error unmarshalling request: *",
)];

fn expected(subject: Subject, case: &Raw) -> &'static str {
    let ours = ON_PURPOSE.iter().find(|(name, _)| *name == case.name);
    match ours {
        Some((_, expected)) if subject == Subject::Kvorum => expected,
        _ => case.expected,
    }
}

fn bytes_that_are_no_request_are_refused_and_the_connection_lives(subject: Subject) {
    let Some(server) = server(subject) else {
        return;
    };
    let seen = block_on(async {
        let mut seen = Vec::new();
        for case in raw_cases(subject) {
            let connection = Connection::open(server.port()).await.expect("connects");
            seen.push((
                case.name.to_owned(),
                expected(subject, &case),
                line(exchange(&connection, &case).await),
            ));
            let after = line(connection.call::<RangeResponse>(RANGE, &range("k")).await);
            seen.push((format!("{}: the next request", case.name), "ok", after));
        }
        seen
    });
    assert_all(&seen);
}

async fn exchange(connection: &Connection, case: &Raw) -> Result<Option<Bytes>, Failure> {
    let headers: Vec<(&str, &str)> = case.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let mut stream = connection.start(case.method, &headers).await?;
    // The server may have answered and closed already, which the answer shows.
    let _ = stream.send_raw(case.body.clone(), true);
    let first = stream.next_bytes().await?;
    stream.next_bytes().await?;
    Ok(first)
}
