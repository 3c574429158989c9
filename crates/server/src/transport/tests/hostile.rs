//! Clients that are broken or mean harm.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::{HANG, exchange, framed, run, start};
use crate::transport::frames::PREFACE;

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// The start of a client's half of a connection, then `frames` again and again.
fn opened(frames: &[u8], times: usize) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend_from_slice(SETTINGS);
    for _ in 0..times {
        bytes.extend_from_slice(frames);
    }
    bytes
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn rubbish_closes_the_connection_and_nothing_else() {
    run(async {
        // Long enough for a client that means well, on a machine that is busy with something else.
        let server = start(|settings| settings.sniff_timeout = Duration::from_secs(3));
        let client = server.connect().await;
        client.assert_usable().await;
        let cases: &[&[u8]] = &[
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\0\0\0\0\0\0\0\0",
            b"hello",
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            // Those below stop in the middle and are closed when their time is up.
            b"PRI * HTTP",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GE",
            b"",
        ];
        let mut exchanges = Vec::new();
        for bytes in cases {
            exchanges.push((bytes, tokio::spawn(exchange(server.raw().await, bytes))));
        }
        for (bytes, answer) in exchanges {
            let answer = answer.await.unwrap();
            assert!(!contains(&answer, b"200 OK"), "{}", bytes.escape_ascii());
            client.assert_usable().await;
        }
    });
}

#[test]
fn broken_frames_close_their_connection() {
    run(async {
        let server = start(|_| {});
        let cases: &[&[u8]] = &[
            // A frame larger than allowed, data on a stream that is not open, a header block that is none.
            &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
            &[0, 0, 1, 0, 0, 0, 0, 0, 5, 42],
            &[0, 0, 3, 1, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff],
            &[0, 0, 3, 6, 0, 0, 0, 0, 0, 1, 2, 3],
        ];
        for frame in cases {
            let answer = exchange(server.raw().await, &opened(frame, 1)).await;
            // Type 7 is GOAWAY.
            assert!(
                contains(&answer, &[7, 0, 0, 0, 0, 0]),
                "{}",
                frame.escape_ascii()
            );
            server.connect().await.assert_usable().await;
        }
    });
}

#[test]
fn client_that_pings_too_often_is_sent_away() {
    run(async {
        let server = start(|_| {});
        let answer = exchange(server.raw().await, &opened(PING, 100)).await;
        assert!(contains(&answer, b"\0\0\0\x0btoo_many_pings"));
        let server = start(|settings| settings.keepalive_min_time = Duration::ZERO);
        let client = server.connect().await;
        client.assert_usable().await;
    });
}

#[test]
fn flood_of_settings_is_answered_without_growth() {
    run(async {
        let server = start(|_| {});
        let mut bytes = opened(SETTINGS, 10_000);
        // A frame that ends the connection, so that the exchange ends.
        bytes.extend_from_slice(&[0, 0, 3, 6, 0, 0, 0, 0, 0, 1, 2, 3]);
        let answer = exchange(server.raw().await, &bytes).await;
        assert!(contains(&answer, SETTINGS_ACK));
        server.connect().await.assert_usable().await;
    });
}

#[test]
fn flood_of_resets_leaves_the_server_alive() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let attacker = server.connect().await;
        for _ in 0..20_000 {
            let Ok((response, mut body)) = attacker.begin("Hold", &[]).await else {
                break;
            };
            // The attacker's connection may be gone by now.
            let _ = body.send_data(framed(b"x"), true);
            drop(response);
        }
        client.assert_usable().await;
        let held = std::mem::take(&mut *server.seen.held.lock().unwrap());
        drop(held);
        server.connect().await.assert_usable().await;
    });
}

#[test]
fn too_large_headers_are_refused_and_the_connection_stays() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let large = "x".repeat(15_000);
        let names: Vec<String> = (0..20).map(|number| format!("large-{number}")).collect();
        let headers: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), large.as_str()))
            .collect();
        match client.send("Echo", &headers, framed(b"x")).await {
            Ok(answer) => assert_eq!(answer.http_status, 431),
            // The refusal may be a reset.
            Err(error) => assert!(error.is_reset(), "{error}"),
        }
        client.assert_usable().await;
    });
}

/// Answers pings of the server, one after the other.
async fn answer_pings(mut socket: TcpStream, count: usize) {
    const HEAD_BYTES: usize = 9;
    const PING_KIND: u8 = 6;
    const ACK: u8 = 1;
    socket.write_all(&opened(b"", 0)).await.unwrap();
    let mut answered = 0;
    while answered < count {
        let mut head = [0; HEAD_BYTES];
        socket.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut content = vec![0; length as usize];
        socket.read_exact(&mut content).await.unwrap();
        if head[3] == PING_KIND && head[4] & ACK == 0 {
            head[4] |= ACK;
            socket
                .write_all(&[&head, &content[..]].concat())
                .await
                .unwrap();
            answered += 1;
        }
    }
}

#[test]
fn dead_client_is_found_by_pings() {
    let often = |timeout| {
        start(move |settings| {
            settings.keepalive_interval = Duration::from_millis(20);
            settings.keepalive_timeout = timeout;
        })
    };
    run(async {
        // It never answers the ping, so the server closes.
        let server = often(Duration::from_millis(20));
        let answer = exchange(server.raw().await, &opened(b"", 0)).await;
        assert!(contains(&answer, &[0, 0, 8, 6, 0, 0, 0, 0, 0]));
        // A living one stays: the next ping is for one whose answer to the last one came. It has all the time that it
        // takes for that, since the machine may be busy with something else.
        let server = often(HANG);
        answer_pings(server.raw().await, 10).await;
        server.connect().await.assert_usable().await;
    });
}

#[test]
fn streams_over_the_limit_are_refused() {
    run(async {
        let server = start(|settings| settings.max_concurrent_streams = 2);
        let client = server.connect().await;
        client.assert_usable().await;
        assert_eq!(client.sender.current_max_send_streams(), 2);
    });
}
