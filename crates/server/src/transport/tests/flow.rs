//! Bounds on what slow readers and eager writers may cost.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};

use super::client::{collect, framed, next_message, run, start};
use super::echo::{FLOOD_MESSAGE_BYTES, HERE_BYTES};
use crate::transport::connection::UNSENT_BYTES_MAX;
use crate::transport::{Body, Room, STREAM_QUEUED_BYTES_MAX, STREAM_QUEUED_MESSAGES_MAX};
use crate::transport::{STREAM_REQUESTS_MAX, StreamSink};

/// What HTTP/2 itself may hold for a stream: the client's window, and what waits to be written.
const BELOW_BYTES: usize = 64 * 1024 + 128 * 1024;

#[test]
fn stream_that_never_reads_costs_bounded_memory() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let (response, mut body) = client.begin("Flood", &[]).await.unwrap();
        body.send_data(framed(b""), true).unwrap();
        let mut replies = response.await.unwrap().into_body();
        // Other calls go on beside it; small ones, since the client's connection window is used up.
        let other = server.connect().await;
        for _ in 0..100 {
            other.assert_usable().await;
        }
        let flooded = server.seen.flooded.load(Ordering::SeqCst);
        let bound = STREAM_QUEUED_BYTES_MAX + BELOW_BYTES + 2 * FLOOD_MESSAGE_BYTES;
        assert!(
            flooded >= STREAM_QUEUED_BYTES_MAX && flooded <= bound,
            "{flooded}"
        );
        // A reader that wakes up gets everything, and room returns.
        let mut left = BytesMut::new();
        for _ in 0..1000 {
            let message = next_message(&mut replies, &mut left).await.unwrap();
            assert_eq!(message.len(), FLOOD_MESSAGE_BYTES);
        }
        assert!(server.seen.room_calls.load(Ordering::SeqCst) > 1);
        drop((replies, body));
        client.assert_usable().await;
        assert_eq!(server.seen.closed.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn large_answers_wait_for_their_reader_and_reads_behind_them_are_put_off() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let mut pending = Vec::new();
        for _ in 0..60 {
            let (response, mut body) = client.begin("Large", &[]).await.unwrap();
            body.send_data(framed(b"1000000"), true).unwrap();
            pending.push(tokio::spawn(collect(response)));
        }
        for answer in pending {
            assert_eq!(answer.await.unwrap().unwrap().message().len(), 1_000_000);
        }
    });
}

#[test]
fn answers_made_at_once_are_no_more_than_may_wait() {
    run(async {
        let server = start(|_| {});
        let (client, other) = (server.connect().await, server.connect().await);
        let mut responses = Vec::new();
        for _ in 0..60 {
            let (response, mut body) = client.begin("Here", &[]).await.unwrap();
            body.send_data(framed(b""), true).unwrap();
            responses.push(response);
        }
        // Nobody reads, so what was made waits.
        let made = || server.seen.ran_here.load(Ordering::SeqCst);
        while made() * HERE_BYTES <= UNSENT_BYTES_MAX {
            other.assert_usable().await;
        }
        other.assert_usable().await;
        assert!(
            made() * HERE_BYTES <= UNSENT_BYTES_MAX + 2 * HERE_BYTES,
            "{} are made",
            made()
        );
        let reading: Vec<_> = responses
            .into_iter()
            .map(|response| tokio::spawn(collect(response)))
            .collect();
        for answer in reading {
            let answer = answer.await.unwrap().unwrap();
            assert_eq!(answer.message().len(), HERE_BYTES);
        }
        assert_eq!(made(), 60);
    });
}

#[test]
fn requests_beyond_the_credit_wait_in_the_connection() {
    run(async {
        let server = start(|_| {});
        let client = server.connect().await;
        let (_response, mut requests) = client.begin("Greedy", &[]).await.unwrap();
        let sent = STREAM_REQUESTS_MAX + 50;
        for _ in 0..sent {
            requests.send_data(framed(b"request"), false).unwrap();
        }
        requests.send_data(Bytes::new(), true).unwrap();
        client.assert_usable().await;
        let credits = std::mem::take(&mut *server.seen.credits.lock().unwrap());
        assert_eq!(credits.len(), STREAM_REQUESTS_MAX);
        assert_eq!(server.seen.finished.load(Ordering::SeqCst), 0);
        drop(credits);
        while server.seen.finished.load(Ordering::SeqCst) == 0 {
            client.assert_usable().await;
        }
        assert_eq!(server.seen.credits.lock().unwrap().len(), 50);
    });
}

#[test]
fn room_counts_down_and_is_none_when_either_limit_is_reached() {
    let full = Room {
        bytes: 0,
        messages: 0,
    };
    let (sink, output) = StreamSink::detached();
    let all = Room {
        bytes: STREAM_QUEUED_BYTES_MAX,
        messages: STREAM_QUEUED_MESSAGES_MAX,
    };
    assert_eq!(sink.room(), all);
    sink.send(Body::from_encoded(Bytes::from_static(b"12345")));
    let less = Room {
        bytes: all.bytes - 10,
        messages: all.messages - 1,
    };
    assert_eq!(sink.room(), less);
    sink.send(Body::from_encoded(vec![0; STREAM_QUEUED_BYTES_MAX].into()));
    assert_eq!(sink.room(), full);
    assert_eq!(output.take().unwrap().unwrap(), "12345");
    assert_eq!(
        output.take().unwrap().unwrap().len(),
        STREAM_QUEUED_BYTES_MAX
    );
    assert_eq!(sink.room(), all);
    for _ in 0..STREAM_QUEUED_MESSAGES_MAX {
        sink.send(Body::from_encoded(Bytes::new()));
    }
    assert_eq!(sink.room(), full);
    output.close();
    assert!(sink.is_closed());
    assert!(output.take().is_none());
}

#[test]
fn sink_dropped_without_an_end_ends_with_internal() {
    let (sink, output) = StreamSink::detached();
    let twin = sink.clone();
    drop(sink);
    assert!(output.take().is_none());
    drop(twin);
    let status = output.take().unwrap().unwrap_err().unwrap_err();
    assert_eq!(status.code(), crate::transport::Code::Internal);
}
