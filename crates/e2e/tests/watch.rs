//! Conversations on one watch stream, response by response. What official etcd 3.7.1 answers was
//! learnt from it, and ours must answer the same.

use std::fmt::Write as _;

use kvorum_e2e::grpc::{Connection, Failure, Stream, block_on};
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest, PutResponse, RequestOp, TxnRequest,
    TxnResponse, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchResponse,
};
use kvorum_proto::mvccpb::KeyValue;

on_each_server!(
    watches_answer_as_official_ones,
    long_history_comes_whole_and_in_pieces_only_when_asked,
    keep_alive_of_an_unknown_lease_says_ttl_0,
    a_thousand_watchers_on_one_stream_all_see_every_event,
);

/// One turn of a conversation: what is done, and every response that it brings.
type Turn = (Act, &'static [&'static str]);

#[derive(Clone)]
enum Act {
    Create(WatchCreateRequest),
    Cancel(i64),
    Progress,
    Nothing,
    Put(&'static str, &'static str),
    Delete(&'static str),
    /// Puts of one revision.
    Puts(&'static [&'static str]),
    Compact(i64),
}

fn watch(key: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        ..WatchCreateRequest::default()
    }
}

fn from(key: &'static str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..watch(key)
    }
}

fn turns() -> Vec<Turn> {
    let all = WatchCreateRequest {
        range_end: "\0".into(),
        ..watch("\0")
    };
    vec![
        // Revisions 2 to 5.
        (Act::Put("a", "1"), &[]),
        (Act::Put("b", "1"), &[]),
        (Act::Put("a", "2"), &[]),
        (Act::Delete("b"), &[]),
        // Numbers are given from 0, or chosen.
        (Act::Create(watch("a")), &["watch 0 at 5: created"]),
        (
            Act::Create(WatchCreateRequest {
                watch_id: 7,
                ..watch("b")
            }),
            &["watch 7 at 5: created"],
        ),
        (
            Act::Create(WatchCreateRequest {
                watch_id: 7,
                ..watch("c")
            }),
            &[
                "watch -1 at 5: created cancelled \"mvcc: duplicate watch ID provided on the WatchStream\"",
            ],
        ),
        (Act::Put("a", "3"), &["watch 0 at 6: PUT a=3@6"]),
        (Act::Put("b", "3"), &["watch 7 at 7: PUT b=3@7"]),
        (Act::Cancel(0), &["watch 0 at 7: cancelled"]),
        (Act::Cancel(0), &[]),
        (Act::Cancel(99), &[]),
        (Act::Put("a", "4"), &[]),
        // History, earlier pairs, filters.
        (
            Act::Create(WatchCreateRequest {
                prev_kv: true,
                ..from("a", 1)
            }),
            &[
                "watch 1 at 8: created",
                "watch 1 at 8: PUT a=1@2, PUT a=2@4 over 1@2, PUT a=3@6 over 2@4, PUT a=4@8 over 3@6",
            ],
        ),
        (
            Act::Create(WatchCreateRequest {
                filters: vec![0],
                prev_kv: true,
                ..from("b", 1)
            }),
            &[
                "watch 2 at 8: created",
                "watch 2 at 8: DELETE b=@5 over 1@3",
            ],
        ),
        (
            Act::Create(WatchCreateRequest {
                filters: vec![1],
                ..from("b", 1)
            }),
            &[
                "watch 3 at 8: created",
                "watch 3 at 8: PUT b=1@3, PUT b=3@7",
            ],
        ),
        (
            Act::Create(WatchCreateRequest {
                filters: vec![0, 1],
                ..from("b", 1)
            }),
            &["watch 4 at 8: created"],
        ),
        (
            Act::Create(WatchCreateRequest {
                filters: vec![9],
                ..from("b", 8)
            }),
            &["watch 5 at 8: created"],
        ),
        // The future is waited for.
        (Act::Create(from("f", 11)), &["watch 6 at 8: created"]),
        (Act::Put("f", "9"), &[]),
        (Act::Put("f", "10"), &[]),
        (Act::Put("f", "11"), &["watch 6 at 11: PUT f=11@11"]),
        // A transaction is one response.
        (
            Act::Create(WatchCreateRequest {
                watch_id: 20,
                ..all
            }),
            &["watch 20 at 11: created"],
        ),
        (
            Act::Puts(&["x", "y"]),
            &["watch 20 at 12: PUT x=x@12, PUT y=y@12"],
        ),
        (Act::Cancel(20), &["watch 20 at 12: cancelled"]),
        // Nothing fits into an interval with its ends reversed.
        (
            Act::Create(WatchCreateRequest {
                range_end: "a".into(),
                ..watch("z")
            }),
            &["watch -1 at 12: created cancelled \"mvcc: watcher range is empty\""],
        ),
        (
            Act::Create(from("a", -5)),
            &[
                "watch -1 at 12: created cancelled \"etcdserver: mvcc: required revision has been compacted\"",
            ],
        ),
        // Official etcd drops a request for progress while a watch reads history: wait for one.
        (
            Act::Create(from("f", 9)),
            &[
                "watch 8 at 12: created",
                "watch 8 at 12: PUT f=9@9, PUT f=10@10, PUT f=11@11",
            ],
        ),
        (Act::Progress, &["watch -1 at 12:"]),
        // What is compacted cannot be watched; the compacted revision itself can.
        (Act::Compact(6), &[]),
        (
            Act::Create(from("a", 5)),
            &[
                "watch 9 at 12: created",
                "watch 9 at 0: cancelled compacted 6",
            ],
        ),
        (
            Act::Create(from("a", 6)),
            &[
                "watch 10 at 12: created",
                "watch 10 at 12: PUT a=3@6, PUT a=4@8",
            ],
        ),
        (Act::Nothing, &[]),
        // A watch of no key is a watch of key zero.
        (Act::Create(watch("")), &["watch 11 at 12: created"]),
    ]
}

fn line(response: &WatchResponse) -> String {
    let revision = response.header.as_ref().map_or(0, |header| header.revision);
    let mut line = format!("watch {} at {revision}:", response.watch_id);
    for (flag, word) in [
        (response.created, " created"),
        (response.canceled, " cancelled"),
        (response.fragment, " fragment"),
    ] {
        line.push_str(if flag { word } else { "" });
    }
    if response.compact_revision != 0 {
        let _ = write!(line, " compacted {}", response.compact_revision);
    }
    if !response.cancel_reason.is_empty() {
        let _ = write!(line, " {:?}", response.cancel_reason);
    }
    let events: Vec<String> = response.events.iter().map(event).collect();
    if !events.is_empty() {
        let _ = write!(line, " {}", events.join(", "));
    }
    line
}

fn event(event: &kvorum_proto::mvccpb::Event) -> String {
    let text = |pair: &KeyValue| {
        format!(
            "{}@{}",
            String::from_utf8_lossy(&pair.value),
            pair.mod_revision
        )
    };
    let pair = event.kv.clone().unwrap_or_default();
    let kind = if event.r#type == 0 { "PUT" } else { "DELETE" };
    let over = event
        .prev_kv
        .as_ref()
        .map(|pair| format!(" over {}", text(pair)));
    let key = String::from_utf8_lossy(&pair.key);
    format!("{kind} {key}={}{}", text(&pair), over.unwrap_or_default())
}

fn wrap(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

async fn act(connection: &Connection, stream: &mut Stream, act: Act) -> Result<(), Failure> {
    let put = |key: &str, value: &str| PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    };
    match act {
        Act::Create(request) => stream.send(&wrap(RequestUnion::CreateRequest(request))),
        Act::Cancel(watch_id) => {
            stream.send(&wrap(RequestUnion::CancelRequest(WatchCancelRequest {
                watch_id,
            })))
        }
        Act::Progress => stream.send(&wrap(RequestUnion::ProgressRequest(
            WatchProgressRequest {},
        ))),
        Act::Nothing => stream.send(&WatchRequest::default()),
        Act::Put(key, value) => {
            let answer = connection
                .call("etcdserverpb.KV/Put", &put(key, value))
                .await;
            answer.map(|_: PutResponse| ())
        }
        Act::Delete(key) => {
            let request = DeleteRangeRequest {
                key: key.into(),
                ..DeleteRangeRequest::default()
            };
            let answer = connection
                .call("etcdserverpb.KV/DeleteRange", &request)
                .await;
            answer.map(|_: DeleteRangeResponse| ())
        }
        Act::Puts(keys) => {
            let one = |key: &&str| RequestOp {
                request: Some(Request::RequestPut(put(key, key))),
            };
            let success = keys.iter().map(one).collect();
            let request = TxnRequest {
                success,
                ..TxnRequest::default()
            };
            let answer = connection.call("etcdserverpb.KV/Txn", &request).await;
            answer.map(|_: TxnResponse| ())
        }
        Act::Compact(revision) => {
            let request = CompactionRequest {
                revision,
                physical: true,
            };
            let answer = connection.call("etcdserverpb.KV/Compact", &request).await;
            answer.map(|_: CompactionResponse| ())
        }
    }
}

fn watches_answer_as_official_ones(subject: Subject) {
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let mut stream = connection
            .start("etcdserverpb.Watch/Watch", &[])
            .await
            .expect("opens");
        let mut seen = Vec::new();
        let mut expected = Vec::new();
        for (what, answers) in turns() {
            act(&connection, &mut stream, what).await.expect("is taken");
            for answer in answers {
                expected.push((*answer).to_owned());
                match stream.next::<WatchResponse>().await {
                    Ok(Some(response)) => seen.push(line(&response)),
                    other => panic!("after {seen:#?}: {other:?}"),
                }
            }
        }
        assert_eq!(seen, expected);
    });
}

/// History that is more than a request may be comes whole, in as many responses as the server
/// likes; pieces of a response come only when asked for.
fn long_history_comes_whole_and_in_pieces_only_when_asked(subject: Subject) {
    const KEYS: usize = 6;
    const VALUE_BYTES: usize = 600_000;
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        for number in 0..KEYS {
            let put = PutRequest {
                key: number.to_string().into(),
                value: vec![b'x'; VALUE_BYTES].into(),
                ..PutRequest::default()
            };
            let answer = connection.call("etcdserverpb.KV/Put", &put).await;
            answer.map(|_: PutResponse| ()).expect("put");
        }
        for fragment in [false, true] {
            let create = WatchCreateRequest {
                range_end: "\0".into(),
                fragment,
                ..from("\0", 2)
            };
            let request = wrap(RequestUnion::CreateRequest(create));
            let stream = connection
                .open_stream("etcdserverpb.Watch/Watch", &request)
                .await;
            let mut stream = stream.expect("opens");
            stream.next::<WatchResponse>().await.expect("created");
            let mut seen = Vec::new();
            while seen.len() < KEYS {
                let response = stream.next::<WatchResponse>().await.expect("answered");
                let response = response.expect("open");
                assert!(
                    fragment || !response.fragment,
                    "a piece that nobody asked for"
                );
                let pairs = response.events.iter().filter_map(|event| event.kv.as_ref());
                seen.extend(pairs.map(|pair| pair.mod_revision));
            }
            assert_eq!(seen, (2..2 + KEYS as i64).collect::<Vec<_>>());
        }
    });
}

/// Ours once fell silent here: a stream that had filled its window was drained to less than half without anybody
/// telling the watchers.
fn a_thousand_watchers_on_one_stream_all_see_every_event(subject: Subject) {
    const WATCHERS: usize = 1000;
    const EVENTS: usize = 300;
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let mut stream = connection
            .start("etcdserverpb.Watch/Watch", &[])
            .await
            .expect("opens");
        for _ in 0..WATCHERS {
            let create = wrap(RequestUnion::CreateRequest(watch("k")));
            stream.send(&create).expect("is sent");
            let created: WatchResponse = stream.next().await.expect("answers").expect("is open");
            assert!(created.created);
        }
        let writer = Connection::open(server.port()).await.expect("connects");
        for number in 0..EVENTS {
            let put = PutRequest {
                key: "k".into(),
                value: number.to_string().into(),
                ..PutRequest::default()
            };
            let _: PutResponse = writer
                .call("etcdserverpb.KV/Put", &put)
                .await
                .expect("is put");
            // Responses may carry several revisions; each watcher is to see each of them.
            let mut seen = 0;
            while seen < WATCHERS {
                let response: WatchResponse = stream.next().await.expect("comes").expect("is open");
                seen += response.events.len();
            }
            assert_eq!(seen, WATCHERS, "event {number}");
        }
    });
}

fn keep_alive_of_an_unknown_lease_says_ttl_0(subject: Subject) {
    let Some(server) = Server::start(subject, &["--unsafe-no-fsync"]) else {
        return;
    };
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let request = LeaseKeepAliveRequest { id: 404 };
        let stream = connection
            .open_stream("etcdserverpb.Lease/LeaseKeepAlive", &request)
            .await;
        let mut stream = stream.expect("opens");
        for id in [404, 405] {
            let answer = stream.next::<LeaseKeepAliveResponse>().await;
            let answer = answer.expect("answered").expect("open");
            assert_eq!((answer.id, answer.ttl), (id, 0));
            stream
                .send(&LeaseKeepAliveRequest { id: id + 1 })
                .expect("is taken");
        }
        stream.finish().expect("ends");
        stream
            .next::<LeaseKeepAliveResponse>()
            .await
            .expect("answered");
        assert_eq!(stream.next::<LeaseKeepAliveResponse>().await, Ok(None));
    });
}
