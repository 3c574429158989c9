//! A server and clients over real sockets in one process.

mod client;
pub(super) mod echo;
mod encoder;
mod flow;
mod hostile;
mod requests;

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use super::{Address, Body, Code, Metadata};
use client::{HANG, collect, exchange, framed, next_message, run, start, start_at, trailers};

#[test]
fn thousand_calls_at_once_are_answered_from_another_thread() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let calls: Vec<_> = (0..1000)
            .map(|number| (number, format!("message {number}")))
            .collect();
        let mut pending = Vec::new();
        for (_, message) in &calls {
            let (response, mut body) = client.begin("Thread", &[]).await.unwrap();
            body.send_data(framed(message.as_bytes()), true).unwrap();
            pending.push(response);
        }
        for (response, (_, message)) in pending.into_iter().zip(&calls) {
            assert_eq!(
                collect(response).await.unwrap().message(),
                message.as_bytes()
            );
        }
        let text = server.metrics.render();
        let labels = r#"grpc_method="Thread",grpc_service="test.Echo",grpc_type="unary""#;
        for line in [
            format!("grpc_server_started_total{{{labels}}} 1000\n"),
            format!("grpc_server_handled_total{{grpc_code=\"OK\",{labels}}} 1000\n"),
            format!("grpc_server_msg_received_total{{{labels}}} 1000\n"),
            format!("grpc_server_msg_sent_total{{{labels}}} 1000\n"),
        ] {
            assert!(text.contains(&line), "{line}");
        }
    });
}

#[test]
fn messages_of_every_size_pass_in_both_directions() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        for length in [
            0, 1, 2_000, 2_048, 5_000, 16_384, 65_535, 100_000, 1_500_000,
        ] {
            let message: Vec<u8> = (0..length).map(|number| number as u8).collect();
            let answer = client.call("Echo", &message).await;
            assert!(answer.message() == message, "{length} bytes");
            let answer = client.call("Large", length.to_string().as_bytes()).await;
            assert_eq!(answer.message().len(), length);
        }
    });
}

#[test]
fn request_may_come_byte_by_byte() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let (response, mut body) = client.begin("Echo", &[]).await.unwrap();
        for byte in framed(b"slow") {
            body.send_data(Bytes::copy_from_slice(&[byte]), false)
                .unwrap();
            client.assert_usable().await;
        }
        // The answer does not wait for the end of the request, so the stream may be over.
        let _ = body.send_data(Bytes::new(), true);
        assert_eq!(collect(response).await.unwrap().message(), b"slow");
    });
}

#[test]
fn failures_carry_code_and_text_and_leave_the_connection_usable() {
    run(async {
        let server = start(|settings| settings.max_request_bytes = 1000);
        let client = server.connect().await;
        let hello = framed(b"hello");
        let large = framed(&[0; 525_289]);
        type Case<'a> = (
            &'a str,
            &'a [(&'a str, &'a str)],
            &'a Bytes,
            (&'a str, &'a str),
        );
        let cases: &[Case<'_>] = &[
            (
                "Echo",
                &[("fail", "1")],
                &hello,
                ("14", "etcdserver: 100%25 gone"),
            ),
            (
                "Drop",
                &[],
                &hello,
                ("13", "the server dropped the call without an answer"),
            ),
            (
                "Echo",
                &[],
                &large,
                (
                    "8",
                    "grpc: received message larger than max (525289 vs. 525288)",
                ),
            ),
            (
                "Nothing",
                &[],
                &hello,
                ("12", "unknown method Nothing for service test.Echo"),
            ),
            (
                "/other.Service/Echo",
                &[],
                &hello,
                ("12", "unknown service other.Service"),
            ),
            (
                "/Echo",
                &[],
                &hello,
                ("12", "malformed method name: \"/Echo\""),
            ),
            (
                "Echo",
                &[("grpc-encoding", "gzip")],
                &hello,
                (
                    "12",
                    "grpc: Decompressor is not installed for grpc-encoding \"gzip\"",
                ),
            ),
            (
                "Echo",
                &[],
                &Bytes::from_static(b"\0\0\0\0\x01"),
                ("2", "unexpected EOF"),
            ),
            ("Echo", &[], &Bytes::new(), ("2", "EOF")),
            (
                "Flood",
                &[],
                &Bytes::new(),
                (
                    "13",
                    "cardinality violation: received no request message from non-client-streaming RPC",
                ),
            ),
            (
                "Bidi",
                &[],
                &Bytes::from_static(b"\0\0\0\0\x01"),
                ("13", "unexpected EOF"),
            ),
            ("Bidi", &[], &framed(b"fail"), ("11", "told to fail")),
            (
                "Bidi",
                &[],
                &large,
                (
                    "8",
                    "grpc: received message larger than max (525289 vs. 525288)",
                ),
            ),
        ];
        for (name, headers, data, expected) in cases {
            let answer = client.send(name, headers, (*data).clone()).await.unwrap();
            assert_eq!(
                (answer.http_status, answer.status()),
                (200, *expected),
                "{name}"
            );
            client.assert_usable().await;
        }
        let answer = client
            .send("Echo", &[("content-type", "text/html")], hello.clone())
            .await
            .unwrap();
        assert_eq!((answer.http_status, answer.code.as_str()), (415, "3"));
        client.assert_usable().await;
    });
}

#[test]
fn refused_requests_do_not_use_up_the_windows() {
    run(async {
        let server = start(|settings| settings.max_request_bytes = 2_000_000);
        let client = server.connect().await;
        // Together several times the receive window of the connection.
        let large = framed(&vec![0; 3_000_000]);
        for _ in 0..5 {
            let answer = client.send("Echo", &[], large.clone()).await.unwrap();
            assert_eq!(answer.code, "8");
        }
        let answer = client.call("Echo", &vec![1; 2_000_000]).await;
        assert_eq!(answer.message().len(), 2_000_000);
    });
}

#[test]
fn deadline_is_answered_by_the_transport() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        // Long enough that the calls reach the service on a machine that is busy with something else.
        let late = async |name: &str| {
            let request = client.send(name, &[("grpc-timeout", "3S")], framed(b"x"));
            let answer = request.await.unwrap();
            assert_eq!(
                answer.status(),
                ("4", "context deadline exceeded"),
                "{name}"
            );
        };
        tokio::join!(late("Hold"), late("Greedy"), late("Flood"));
        for timeout in ["0S", "1n"] {
            let answer = client
                .send("Hold", &[("grpc-timeout", timeout)], framed(b"x"))
                .await
                .unwrap();
            assert_eq!(answer.status(), ("4", "context deadline exceeded"));
        }
        let mut held = std::mem::take(&mut *server.seen.held.lock().unwrap());
        assert_eq!(held.len(), 1, "a call that nobody waits for has not run");
        let (call, sink) = held.pop().unwrap();
        assert!(call.deadline.is_some() && sink.deadline() == call.deadline);
        sink.closed().await;
        // An answer that comes late is ignored.
        sink.send(Ok(Body::from_encoded(Bytes::new())));
        client.assert_usable().await;
        assert_eq!(server.seen.closed.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn cancelled_call_is_seen_by_the_service() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let (response, mut body) = client.begin("Hold", &[]).await.unwrap();
        body.send_data(framed(b"x"), true).unwrap();
        client.assert_usable().await;
        let (_, sink) = server.seen.held.lock().unwrap().pop().unwrap();
        let mut closed = Box::pin(sink.closed());
        client.assert_usable().await;
        let still = std::future::poll_fn(|cx| Poll::Ready(closed.as_mut().poll(cx)));
        assert!(still.await.is_pending());
        drop((response, body));
        closed.await;
        sink.closed().await;
        drop(sink);
        client.assert_usable().await;
        let cancelled = r#"grpc_server_handled_total{grpc_code="Canceled",grpc_method="Hold""#;
        let text = server.metrics.render();
        assert!(
            text.lines()
                .any(|line| line.starts_with(cancelled) && line.ends_with(" 1"))
        );
    });
}

#[test]
fn lost_connection_closes_its_calls() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let (unary, mut body) = client.begin("Hold", &[]).await.unwrap();
        body.send_data(framed(b"x"), true).unwrap();
        let (stream, _requests) = client.begin("Bidi", &[]).await.unwrap();
        client.assert_usable().await;
        client.ended.abort();
        drop((unary, stream, client.sender));
        let other = server.connect().await;
        let closed = server.seen.held.lock().unwrap()[0].1.closed();
        closed.await;
        while server.seen.closed.load(Ordering::SeqCst) == 0 {
            other.assert_usable().await;
        }
    });
}

#[test]
fn bidi_stream_echoes_until_the_client_is_done() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let (response, mut requests) = client.begin("Bidi", &[]).await.unwrap();
        requests.send_data(framed(b"one"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        let mut left = BytesMut::new();
        assert_eq!(next_message(&mut body, &mut left).await.unwrap(), "one");
        let mut two = BytesMut::from(&framed(b"two")[..]);
        two.extend_from_slice(&framed(b"three"));
        requests.send_data(two.freeze(), false).unwrap();
        assert_eq!(next_message(&mut body, &mut left).await.unwrap(), "two");
        assert_eq!(next_message(&mut body, &mut left).await.unwrap(), "three");
        requests.send_data(Bytes::new(), true).unwrap();
        assert_eq!(next_message(&mut body, &mut left).await, None);
        assert_eq!(trailers(&mut body).await.unwrap()["grpc-status"], "0");
        client.assert_usable().await;
        assert_eq!(server.seen.finished.load(Ordering::SeqCst), 1);
        assert_eq!(server.seen.closed.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn one_port_speaks_grpc_and_http1() {
    run(async {
        let server = start(|_| {});
        let request = b"GET /health?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = exchange(server.raw().await, request).await;
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(
            answer.starts_with("http/1.1 200 ok\r\n") && answer.ends_with("\r\n\r\n/health"),
            "{answer}"
        );
        assert!(answer.contains("x-test: yes\r\n") && answer.contains("content-length: 7\r\n"));
        server.connect().await.assert_usable().await;
    });
}

#[test]
fn unix_socket_replaces_a_stale_file_and_leaves_none() {
    run(async {
        let folder = std::env::temp_dir().join(format!("kvorum-transport-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("localhost:20000");
        std::fs::write(&path, b"stale").unwrap();
        let server = start_at(Address::Unix(path.clone()), |_| {});
        let mut socket = UnixStream::connect(&path).await.unwrap();
        socket.write_all(b"GET /x HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("/x"), "{answer}");
        server.server.shutdown().await;
        assert!(!path.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    });
}

#[test]
fn shutdown_drains_calls() {
    run(async {
        // However long the machine takes: nothing is cut.
        let server = start(|settings| settings.drain_timeout = HANG);
        let (finishing, idle) = (server.connect().await, server.connect().await);
        let (finished, mut body) = finishing.begin("Hold", &[]).await.unwrap();
        body.send_data(framed(b"x"), true).unwrap();
        finishing.assert_usable().await;
        idle.assert_usable().await;
        let stopping = tokio::spawn(server.server.shutdown());
        assert!(
            idle.ended.await.unwrap().is_none(),
            "an idle connection ends without an error"
        );
        let (_, sink) = server.seen.held.lock().unwrap().remove(0);
        sink.send(Ok(Body::from_encoded(Bytes::from_static(b"done"))));
        assert_eq!(collect(finished).await.unwrap().message(), b"done");
        stopping.await.unwrap();
    });
}

#[test]
fn shutdown_cuts_calls_that_hang() {
    run(async {
        let server = start(|settings| settings.drain_timeout = Duration::from_millis(100));
        let hanging = server.connect().await;
        let (hung, mut body) = hanging.begin("Hold", &[]).await.unwrap();
        body.send_data(framed(b"y"), true).unwrap();
        hanging.assert_usable().await;
        let mut http = server.raw().await;
        http.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 4];
        http.read_exact(&mut first).await.unwrap();
        server.server.shutdown().await;
        assert!(collect(hung).await.is_err());
        let mut rest = Vec::new();
        http.read_to_end(&mut rest).await.unwrap();
        // The port is free for a successor at once.
        TcpListener::bind(&server.address).await.unwrap();
    });
}

#[test]
fn connections_over_the_limit_wait() {
    run(async {
        let server = start(|settings| settings.max_connections = 1);
        let first = server.connect().await;
        first.assert_usable().await;
        let mut second = server.raw().await;
        second
            .write_all(b"GET /second HTTP/1.0\r\n\r\n")
            .await
            .unwrap();
        first.assert_usable().await;
        assert!(
            second.try_read(&mut [0; 16]).is_err(),
            "nothing comes while the first lives"
        );
        drop(first.sender);
        let mut answer = String::new();
        second.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("/second"));
    });
}

#[test]
fn metadata_is_read_as_text_bytes_and_base64() {
    let metadata =
        Metadata::from_pairs(&[("token", "abc"), ("id-bin", "AAE"), ("token", "second")]);
    assert_eq!(metadata.text("token"), Some("abc"));
    assert_eq!(metadata.binary("id-bin").unwrap(), &[0, 1][..]);
    assert_eq!(metadata.bytes("absent"), None);
}

#[test]
fn code_numbers_are_their_places() {
    for (number, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(usize::from(code.number()), number);
    }
}
