//! Frames in, events and frames out. Source of the rules: RFC 9113; the section stands beside each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ErrorCode, FrameHeader, GOAWAY, HEADER_BYTES,
    HEADERS, INITIAL_WINDOW_SIZE, PADDED, PING, PRIORITY, PRIORITY_FRAME, PUSH_PROMISE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, write,
};
use super::super::head::Head;
use super::super::routes::Routes;
use super::super::tests::echo::Echo;
use super::super::{Body, Code, Status};
use super::{Broken, Event, Http2, OUTBOX_BYTES_MAX};

/// A POST to `/test.Echo/Echo` that changes no table.
const REQUEST: &[u8] = b"\x83\x86\x04\x0f/test.Echo/Echo\x0f\x10\x10application/grpc";

/// The answer to an empty message, after the first of a connection, and its trailers.
const ANSWER: &[u8] = b"\x88\xc0";
const TRAILERS: &[u8] = b"\xbf\xbe";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, kind, flags, stream, payload);
    bytes
}

fn request(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, REQUEST)
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    let payload = [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

fn reset(stream: u32, code: ErrorCode) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &(code as u32).to_be_bytes())
}

/// A connection with a client, whose opening words are spoken.
struct World {
    http2: Http2<()>,
    routes: Routes,
}

impl World {
    fn new() -> Self {
        Self::with_streams_max(u32::MAX)
    }

    fn with_streams_max(streams_max: u32) -> Self {
        let mut world = Self {
            http2: Http2::new(streams_max),
            routes: Routes::new(&Echo::new()),
        };
        assert_eq!(world.send(&frame(SETTINGS, 0, 0, &[])), Ok(vec![]));
        world.take();
        world
    }

    /// What happens when the client sends these bytes. All calls are taken in.
    fn send(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, Broken> {
        let mut events = Vec::new();
        while let Some(event) = self.http2.next(&mut bytes, &self.routes)? {
            events.push(match event {
                Event::Call {
                    stream,
                    head,
                    ended,
                } => {
                    assert!(matches!(&*head, Head::Call(_)));
                    self.http2.open(stream, ended, ());
                    format!("call {stream} {ended}")
                }
                Event::Data {
                    stream,
                    data,
                    ended,
                } => {
                    self.http2.release(stream, data.len());
                    format!("data {stream} {} {ended}", data.len())
                }
                Event::Reset(()) => "reset".to_owned(),
                Event::Ping => "ping".to_owned(),
            });
            self.http2.check_invariants();
        }
        assert!(bytes.is_empty(), "tests send whole frames");
        Ok(events)
    }

    /// Everything that waits to be written.
    fn take(&mut self) -> Vec<u8> {
        self.http2.pump();
        self.http2.check_invariants();
        let bytes = self.http2.outbox.unwritten().to_vec();
        self.http2.outbox.written(bytes.len());
        bytes
    }

    /// The headers of the frames that wait to be written.
    fn take_frames(&mut self) -> Vec<FrameHeader> {
        let bytes = self.take();
        let mut rest = &bytes[..];
        let mut frames = Vec::new();
        while let Some((header, more)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let header = FrameHeader::parse(*header);
            rest = &more[header.length..];
            frames.push(header);
        }
        frames
    }

    /// Bytes of data that wait to be written.
    fn take_data(&mut self) -> usize {
        let frames = self.take_frames();
        let data = frames.iter().filter(|frame| frame.kind == DATA);
        data.map(|frame| frame.length).sum()
    }
}

fn body(bytes: usize) -> Body {
    Body::from_encoded(vec![7; bytes].into())
}

#[test]
fn frames_that_break_the_rules_end_the_connection() {
    let open = request(1, 0);
    let ended = request(1, END_STREAM);
    let first_half = frame(HEADERS, 0, 1, REQUEST);
    let cases: Vec<(&str, Vec<Vec<u8>>, ErrorCode)> = vec![
        (
            "4.2 too large",
            vec![frame(DATA, 0, 1, &[0; 16_385])],
            ErrorCode::FrameSize,
        ),
        (
            "4.3 no header block",
            vec![frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff")],
            ErrorCode::Compression,
        ),
        (
            "5.1 data on an idle stream",
            vec![frame(DATA, 0, 1, b"x")],
            ErrorCode::Protocol,
        ),
        (
            "5.1 reset of an idle stream",
            vec![reset(1, ErrorCode::None)],
            ErrorCode::Protocol,
        ),
        (
            "5.1 window of an idle stream",
            vec![window_update(1, 1)],
            ErrorCode::Protocol,
        ),
        (
            "5.1 data after the end",
            vec![ended.clone(), frame(DATA, 0, 1, b"x")],
            ErrorCode::StreamClosed,
        ),
        (
            "5.1 headers after the end",
            vec![ended.clone(), ended.clone()],
            ErrorCode::StreamClosed,
        ),
        (
            "5.1.1 even number",
            vec![request(2, 0)],
            ErrorCode::Protocol,
        ),
        ("5.1.1 number 0", vec![request(0, 0)], ErrorCode::Protocol),
        (
            "6.1 data without a stream",
            vec![frame(DATA, 0, 0, b"x")],
            ErrorCode::Protocol,
        ),
        (
            "6.1 too much padding",
            vec![open.clone(), frame(DATA, PADDED, 1, b"\x02x")],
            ErrorCode::Protocol,
        ),
        (
            "6.2 too much padding",
            vec![frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09x")],
            ErrorCode::Protocol,
        ),
        (
            "6.2 torn priority",
            vec![frame(HEADERS, END_HEADERS | PRIORITY, 1, b"abc")],
            ErrorCode::FrameSize,
        ),
        (
            "6.3 priority without a stream",
            vec![frame(PRIORITY_FRAME, 0, 0, b"abcde")],
            ErrorCode::Protocol,
        ),
        (
            "6.3 short priority",
            vec![frame(PRIORITY_FRAME, 0, 1, b"abcd")],
            ErrorCode::FrameSize,
        ),
        (
            "6.4 short reset",
            vec![open.clone(), frame(RST_STREAM, 0, 1, b"abc")],
            ErrorCode::FrameSize,
        ),
        (
            "6.4 reset without a stream",
            vec![reset(0, ErrorCode::None)],
            ErrorCode::Protocol,
        ),
        (
            "6.5 settings of a stream",
            vec![frame(SETTINGS, 0, 1, &[])],
            ErrorCode::Protocol,
        ),
        (
            "6.5 torn settings",
            vec![frame(SETTINGS, 0, 0, b"abc")],
            ErrorCode::FrameSize,
        ),
        (
            "6.5 settings in an answer",
            vec![frame(SETTINGS, ACK, 0, b"abcdef")],
            ErrorCode::FrameSize,
        ),
        ("6.5.2 push", vec![setting(2, 2)], ErrorCode::Protocol),
        (
            "6.5.2 window",
            vec![setting(INITIAL_WINDOW_SIZE, 1 << 31)],
            ErrorCode::FlowControl,
        ),
        (
            "6.5.2 small frames",
            vec![setting(5, 16_383)],
            ErrorCode::Protocol,
        ),
        (
            "6.5.2 large frames",
            vec![setting(5, 1 << 24)],
            ErrorCode::Protocol,
        ),
        (
            "6.6 push by a client",
            vec![frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 8])],
            ErrorCode::Protocol,
        ),
        (
            "6.7 short ping",
            vec![frame(PING, 0, 0, b"abc")],
            ErrorCode::FrameSize,
        ),
        (
            "6.7 ping of a stream",
            vec![frame(PING, 0, 1, &[0; 8])],
            ErrorCode::Protocol,
        ),
        (
            "6.8 goaway of a stream",
            vec![frame(GOAWAY, 0, 1, &[0; 8])],
            ErrorCode::Protocol,
        ),
        (
            "6.8 short goaway",
            vec![frame(GOAWAY, 0, 0, &[0; 7])],
            ErrorCode::FrameSize,
        ),
        (
            "6.9 no window",
            vec![window_update(0, 0)],
            ErrorCode::Protocol,
        ),
        (
            "6.9 short window",
            vec![frame(WINDOW_UPDATE, 0, 0, b"abc")],
            ErrorCode::FrameSize,
        ),
        (
            "6.9.1 large window",
            vec![window_update(0, 0x7fff_ffff)],
            ErrorCode::FlowControl,
        ),
        (
            "6.9.2 large windows",
            vec![
                window_update(0, 1),
                open.clone(),
                window_update(1, 0x7fff_0000 - 1),
                setting(INITIAL_WINDOW_SIZE, 0x7fff_ffff),
            ],
            ErrorCode::FlowControl,
        ),
        (
            "6.10 continuation of nothing",
            vec![frame(CONTINUATION, END_HEADERS, 1, &[])],
            ErrorCode::Protocol,
        ),
        (
            "6.10 continuation of another",
            vec![first_half.clone(), frame(CONTINUATION, END_HEADERS, 3, &[])],
            ErrorCode::Protocol,
        ),
        (
            "6.10 data in between",
            vec![first_half.clone(), frame(DATA, 0, 1, &[])],
            ErrorCode::Protocol,
        ),
        (
            "6.10 unknown in between",
            vec![first_half.clone(), frame(77, 0, 1, &[])],
            ErrorCode::Protocol,
        ),
        (
            "8.1 trailers that end nothing",
            vec![open.clone(), open.clone()],
            ErrorCode::Protocol,
        ),
        (
            "endless block",
            vec![first_half, frame(CONTINUATION, 0, 1, &[]).repeat(60_000)],
            ErrorCode::EnhanceYourCalm,
        ),
        (
            "endless empty data",
            vec![open.clone(), frame(DATA, 0, 1, &[]).repeat(1025)],
            ErrorCode::EnhanceYourCalm,
        ),
        (
            "endless errors",
            (0..1025)
                .map(|n| frame(HEADERS, 5, 2 * n + 1, b"\x83"))
                .collect(),
            ErrorCode::EnhanceYourCalm,
        ),
    ];
    for (name, frames, code) in cases {
        let mut world = World::new();
        let result = frames
            .iter()
            .try_for_each(|frame| world.send(frame).map(drop));
        assert_eq!(result, Err(Broken(code)), "{name}");
    }
    let mut unopened: Http2<()> = Http2::new(u32::MAX);
    let early = request(1, 0);
    let early = unopened.next(&mut &early[..], &Routes::new(&Echo::new()));
    assert!(matches!(early, Err(Broken(ErrorCode::Protocol))), "3.4");
}

#[test]
fn frames_that_may_come_are_taken() {
    let padded = [&b"\x03\0\0\0\0\x10"[..], REQUEST, &[0; 3]].concat();
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("unknown frame", frame(77, 0xff, 9, b"anything"), &[]),
        ("unknown setting", setting(77, 1), &[]),
        ("priority", frame(PRIORITY_FRAME, 0, 9, &[0; 5]), &[]),
        ("goaway", frame(GOAWAY, 0, 0, &[0; 8]), &[]),
        ("ping", frame(PING, 0, 0, &[1; 8]), &["ping"]),
        ("answer to a ping", frame(PING, ACK, 0, &[1; 8]), &[]),
        ("call", request(1, 0), &["call 1 false"]),
        (
            "padded call",
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 1, &padded),
            &["call 1 false"],
        ),
        (
            "call in pieces",
            [
                frame(HEADERS, END_STREAM, 1, &REQUEST[..9]),
                frame(CONTINUATION, 0, 1, &[]),
                frame(CONTINUATION, END_HEADERS, 1, &REQUEST[9..]),
            ]
            .concat(),
            &["call 1 true"],
        ),
        (
            "padded data",
            [
                request(1, 0),
                frame(DATA, PADDED | END_STREAM, 1, b"\x02xyz\0\0"),
            ]
            .concat(),
            &["call 1 false", "data 1 3 true"],
        ),
        (
            "trailers",
            [
                request(1, 0),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x01a\x01b"),
            ]
            .concat(),
            &["call 1 false", "data 1 0 true"],
        ),
        (
            "frames for a stream that was reset",
            [
                request(1, 0),
                reset(1, ErrorCode::None),
                frame(DATA, END_STREAM, 1, b"late"),
                window_update(1, 5),
                reset(1, ErrorCode::None),
                request(1, END_STREAM),
            ]
            .concat(),
            &["call 1 false", "reset"],
        ),
        (
            "window update of nothing on a stream",
            [request(1, 0), window_update(1, 0), request(3, 0)].concat(),
            &["call 1 false", "reset", "call 3 false"],
        ),
    ];
    for (name, bytes, expected) in cases {
        let events = World::new().send(&bytes);
        assert_eq!(
            events.as_deref(),
            Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{name}"
        );
    }
}

#[test]
fn malformed_calls_are_reset_and_foreign_ones_refused() {
    let mut world = World::new();
    assert_eq!(world.send(&frame(HEADERS, 5, 1, b"\x83\x86")), Ok(vec![]));
    assert_eq!(world.take(), reset(1, ErrorCode::Protocol));
    // A GET is no call, whatever else it says; its body is not wanted.
    assert_eq!(
        world.send(&frame(HEADERS, 4, 3, b"\x82\x86\x84")),
        Ok(vec![])
    );
    let kinds: Vec<_> = world
        .take_frames()
        .iter()
        .map(|frame| (frame.kind, frame.flags))
        .collect();
    assert_eq!(
        kinds,
        [(HEADERS, END_HEADERS | END_STREAM), (RST_STREAM, 0)]
    );
    let mut world = World::with_streams_max(1);
    assert_eq!(world.send(&request(1, 0)).unwrap(), ["call 1 false"]);
    assert_eq!(world.send(&request(3, 0)), Ok(vec![]));
    assert_eq!(world.take(), reset(3, ErrorCode::RefusedStream));
}

#[test]
fn small_answers_are_three_frames_in_few_bytes() {
    let mut world = World::new();
    let bytes = [
        request(1, END_STREAM),
        request(3, END_STREAM),
        request(5, 0),
    ]
    .concat();
    world.send(&bytes).unwrap();
    assert!(world.http2.answer(1, body(0)).is_some());
    world.take();
    assert!(world.http2.answer(3, body(0)).is_some());
    let expected = [
        frame(HEADERS, END_HEADERS, 3, ANSWER),
        frame(DATA, 0, 3, &[0; 5]),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, TRAILERS),
    ];
    assert_eq!(world.take(), expected.concat());
    // A client that still sends is told that nobody reads it.
    assert!(world.http2.answer(5, body(0)).is_some());
    assert!(world.take().ends_with(&reset(5, ErrorCode::None)));
    assert!(!world.http2.has_streams());
    assert!(
        world.http2.answer(7, body(0)).is_none(),
        "a call that is over"
    );
    assert!(world.take().is_empty());
}

#[test]
fn messages_of_a_stream_share_a_frame() {
    let mut world = World::new();
    world.send(&request(1, 0)).unwrap();
    world.http2.begin_answer(1);
    for _ in 0..3 {
        world.http2.push(1, body(5));
    }
    let data = world.take_frames();
    assert_eq!((data[1].kind, data[1].length, data.len()), (DATA, 30, 2));
    world.http2.push(1, body(20_000));
    let lengths: Vec<_> = world
        .take_frames()
        .iter()
        .map(|frame| frame.length)
        .collect();
    assert_eq!(lengths, [16_384, 3_621]);
}

#[test]
fn data_waits_for_both_windows_and_streams_take_turns() {
    let mut world = World::new();
    world.send(&setting(INITIAL_WINDOW_SIZE, 50_000)).unwrap();
    world
        .send(&[request(1, END_STREAM), request(3, END_STREAM)].concat())
        .unwrap();
    for stream in [1, 3] {
        assert!(world.http2.answer(stream, body(59_995)).is_none());
    }
    // The connection's window is 65,535; both streams send while it lasts.
    let frames = world.take_frames();
    let streams: Vec<_> = frames
        .iter()
        .filter(|frame| frame.kind == DATA)
        .map(|frame| frame.stream)
        .collect();
    assert_eq!(streams, [1, 3, 1, 3]);
    assert_eq!(world.http2.unsent(), 120_000 - 65_535);
    // Larger windows of streams let nothing out; that of the connection does.
    world
        .send(&[window_update(1, 10_000), window_update(3, 9_999)].concat())
        .unwrap();
    assert_eq!(world.take_data(), 0);
    world.send(&window_update(0, 100_000)).unwrap();
    assert_eq!(world.take_data(), 120_000 - 65_535 - 1);
    assert_eq!(world.http2.call(1), None);
    assert_eq!(world.http2.unsent(), 1);
    world.send(&setting(INITIAL_WINDOW_SIZE, 50_001)).unwrap();
    assert_eq!(world.take_data(), 1);
    assert!(!world.http2.has_streams());
}

#[test]
fn a_large_reply_is_made_as_the_client_takes_it() {
    const PIECE: usize = 10_000;
    const PIECES: usize = 100;
    /// The prefix of the message stands before them.
    const ALL: usize = 5 + PIECES * PIECE;
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let pieces = (0..PIECES).map(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Bytes::from(vec![7; PIECE])
    });
    let mut world = World::new();
    world.send(&request(1, END_STREAM)).unwrap();
    let reply = Body::in_pieces(PIECES * PIECE, pieces);
    assert!(world.http2.answer(1, reply).is_none());
    assert_eq!(made.load(Ordering::Relaxed), 0);
    assert_eq!(world.take_data(), 65_535);
    assert_eq!(world.http2.unsent(), ALL - 65_535);
    assert_eq!(made.load(Ordering::Relaxed), 7);
    let more = u32::try_from(ALL).unwrap();
    let windows = [window_update(0, more), window_update(1, more)].concat();
    world.send(&windows).unwrap();
    let mut taken = 65_535;
    while world.http2.has_streams() {
        let before = made.load(Ordering::Relaxed);
        taken += world.take_data();
        let now = made.load(Ordering::Relaxed) - before;
        assert!(
            now * PIECE <= OUTBOX_BYTES_MAX + 2 * PIECE + 16_384,
            "{now} pieces at once"
        );
    }
    assert_eq!(taken, ALL);
}

#[test]
fn a_reply_that_is_too_long_is_refused_before_it_is_made() {
    let length = 10_000_000_000;
    let reply = Body::in_pieces(length, std::iter::from_fn(|| panic!("nobody may make it")));
    let refused = reply.check_size().expect_err("it is too long");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("10000000000 vs. 2147483647"),
        "{refused:?}"
    );
}

#[test]
fn a_window_may_shrink_below_nothing() {
    let mut world = World::new();
    world.send(&request(1, END_STREAM)).unwrap();
    assert!(world.http2.answer(1, body(69_995)).is_none());
    assert_eq!(world.take_data(), 65_535);
    world
        .send(&[setting(INITIAL_WINDOW_SIZE, 0), window_update(0, 100_000)].concat())
        .unwrap();
    world.send(&window_update(1, 65_535)).unwrap();
    assert_eq!(world.take_data(), 0);
    world.send(&window_update(1, 1)).unwrap();
    assert_eq!(world.take_data(), 1);
    world.send(&reset(1, ErrorCode::None)).unwrap();
    assert_eq!(world.http2.unsent(), 0);
}

#[test]
fn a_stream_ends_after_what_waits() {
    let mut world = World::new();
    world.send(&request(1, END_STREAM)).unwrap();
    world.http2.begin_answer(1);
    world.http2.push(1, body(69_995));
    let failed = Status::new(Code::Aborted, "text");
    assert!(world.http2.finish(1, Err(failed)).is_none());
    world.take();
    assert!(!world.http2.is_drained(1));
    world
        .send(&[window_update(1, 9_999), window_update(0, 9_999)].concat())
        .unwrap();
    let frames = world.take_frames();
    assert_eq!(
        (frames[0].kind, frames[1].kind, frames[1].flags),
        (DATA, HEADERS, END_HEADERS | END_STREAM)
    );
    // One that does not end is told of instead.
    world.send(&request(3, END_STREAM)).unwrap();
    world.http2.begin_answer(3);
    world.http2.push(3, body(9_000));
    world.take();
    assert!(world.http2.take_drained().is_empty());
    world.send(&window_update(0, 9_999)).unwrap();
    world.take();
    assert_eq!(world.http2.take_drained(), [3]);
}

#[test]
fn a_client_that_does_not_read_fills_the_outbox_and_no_more() {
    let mut world = World::new();
    world
        .send(
            &[
                setting(INITIAL_WINDOW_SIZE, 0x7fff_ffff),
                window_update(0, 0x7000_0000),
            ]
            .concat(),
        )
        .unwrap();
    world.take();
    for stream in (1..200).step_by(2) {
        world.send(&request(stream, END_STREAM)).unwrap();
        let _ = world.http2.answer(stream, body(100_000));
    }
    world.http2.pump();
    assert!(world.http2.outbox.unwritten().len() < OUTBOX_BYTES_MAX + 150_000);
    assert!(!world.http2.outbox.has_room());
    let mut sent = 0;
    while world.http2.has_streams() {
        sent += world.take_data();
    }
    assert_eq!(sent + world.take_data(), 100 * 100_005);
}

#[test]
fn what_a_client_may_send_is_told_as_it_is_worked_off() {
    let mut world = World::new();
    world.send(&request(1, 0)).unwrap();
    let full = frame(DATA, 0, 1, &[0; 16_384]);
    let mut told = 0;
    for _ in 0..1000 {
        world.send(&full).unwrap();
        told += world.take_frames().len();
    }
    // 1 MiB per stream in halves, 4 MiB per connection in halves.
    assert_eq!(told, 1000 / 32 + 1000 / 128);
    // What is not worked off is not given back, and then the client may not send.
    let mut world = World::new();
    let bytes = [request(1, 0), full.repeat(65)].concat();
    let mut bytes = &bytes[..];
    let result = loop {
        match world.http2.next(&mut bytes, &world.routes) {
            Ok(Some(Event::Call { stream, ended, .. })) => world.http2.open(stream, ended, ()),
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(result, Err(Broken(ErrorCode::FlowControl))));
}

#[test]
fn shutdown_takes_what_is_on_its_way_and_nothing_later() {
    let mut world = World::new();
    world.http2.start_shutdown();
    world.http2.start_shutdown();
    let asked = world.take();
    assert!(asked.starts_with(&frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])));
    assert!(asked.ends_with(&frame(PING, 0, 0, b"shutdown")));
    assert_eq!(
        world.send(&request(1, END_STREAM)).unwrap(),
        ["call 1 true"]
    );
    assert!(!world.http2.is_finished());
    world.send(&frame(PING, ACK, 0, b"shutdown")).unwrap();
    assert_eq!(world.take(), frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
    assert_eq!(world.send(&request(3, END_STREAM)), Ok(vec![]));
    assert!(!world.http2.is_finished());
    assert!(
        world
            .http2
            .answer(1, Body::from_encoded(Bytes::new()))
            .is_some()
    );
    assert!(world.http2.is_finished());
}

#[test]
fn blocks_are_remembered_while_they_mean_the_same() {
    let mut world = World::new();
    world.send(&request(1, END_STREAM)).unwrap();
    assert_eq!(world.http2.heads.len(), 1);
    world.send(&request(3, END_STREAM)).unwrap();
    assert_eq!(world.http2.heads.len(), 1);
    // The path enters the table and is referred to; then another one takes its number.
    let by_table = b"\x83\x86\xbe\x0f\x10\x10application/grpc";
    for (stream, path) in [(5, &b"/test.Echo/Hold"[..]), (9, b"/test.Echo/Drop")] {
        let entering = [b"\x83\x86\x44\x0f", path, b"\x0f\x10\x10application/grpc"].concat();
        world.send(&frame(HEADERS, 5, stream, &entering)).unwrap();
        let bytes = frame(HEADERS, 5, stream + 2, by_table);
        let mut bytes = &bytes[..];
        let event = world.http2.next(&mut bytes, &world.routes).unwrap();
        let Some(Event::Call { head, .. }) = event else {
            panic!("{event:?}");
        };
        let Head::Call(call) = &*head else {
            panic!("{head:?}")
        };
        assert_eq!(call.method.path.as_bytes(), path);
    }
}
