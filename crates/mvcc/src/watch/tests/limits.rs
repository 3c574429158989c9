//! Bounds: memory for those who do not read, work per step, what is shared.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::WatchCreateRequest;

use super::super::live::PAGE_BYTES_MAX;
use super::super::{Output, Room};
use super::world::{Change, Seen, World};

/// A request for all keys.
fn everything() -> WatchCreateRequest {
    let zero = Bytes::from_static(&[0]);
    WatchCreateRequest {
        key: zero.clone(),
        range_end: zero,
        ..WatchCreateRequest::default()
    }
}

/// The sizes of messages, and how many events each stream got.
fn take(world: &mut World, held: &mut [Room; 2], events: &mut [usize; 2]) {
    for seen in world.drain() {
        let Seen::Response {
            stream,
            bytes,
            response,
            ..
        } = seen
        else {
            panic!("a message")
        };
        held[stream as usize].messages += 1;
        held[stream as usize].bytes += bytes;
        events[stream as usize] += response.events.len();
    }
}

#[test]
fn a_stream_that_never_reads_holds_its_window_and_delays_nobody() {
    const EVENTS: usize = 100_000;
    const WINDOW_BYTES: usize = 64 * 1024;
    let mut world = World::new();
    world.open(0, usize::MAX, WINDOW_BYTES);
    world.open(1, usize::MAX, usize::MAX);
    world.create(0, everything());
    world.create(1, everything());
    let (mut held, mut events) = ([Room::default(); 2], [0; 2]);
    let value = "v".repeat(100);
    for count in 1..=EVENTS {
        world.put(&format!("key-{}", count % 100), &value);
        assert!(
            !world.hub.poll(1),
            "nothing to do for a stream without room"
        );
        take(&mut world, &mut held, &mut events);
        assert_eq!(events[1], count, "who reads gets each event at once");
    }
    assert!(held[0].bytes < WINDOW_BYTES + 1024, "{held:?}");
    assert_eq!(world.hub.counts().slow_watchers, 1);

    // It reads at last, message by message, and gets all of it, a page at a time.
    let mut largest = 0;
    while events[0] < EVENTS {
        let gone = std::mem::take(&mut held[0]);
        largest = largest.max(gone.bytes);
        world.give_room(0, gone.messages, gone.bytes);
        while world.hub.poll(1) {}
        take(&mut world, &mut held, &mut events);
    }
    assert_eq!(events[0], EVENTS);
    assert!(largest < WINDOW_BYTES + 2 * PAGE_BYTES_MAX, "{largest}");
    world.hub.check_invariants();
}

#[test]
fn a_watcher_far_behind_is_sent_a_thousand_revisions_at_a_time() {
    let mut world = World::new();
    (0..2500).for_each(|_| world.put("k", ""));
    world.open(0, usize::MAX, usize::MAX);
    world.create(
        0,
        WatchCreateRequest {
            start_revision: 2,
            ..everything()
        },
    );
    world.drain();
    let mut sizes = Vec::new();
    loop {
        let more = world.hub.poll(1);
        for seen in world.drain() {
            let Seen::Response { response, .. } = seen else {
                panic!("a message")
            };
            sizes.push(response.events.len());
        }
        if !more {
            break;
        }
    }
    assert_eq!(sizes, [1000, 1000, 500]);
}

#[test]
fn a_flood_of_watchers_behind_does_not_hold_up_another_stream() {
    let mut world = World::new();
    (0..3000).for_each(|count| world.put(&format!("k{}", count % 7), ""));
    world.open(0, usize::MAX, usize::MAX);
    world.open(1, usize::MAX, usize::MAX);
    for _ in 0..3000 {
        world.create(
            0,
            WatchCreateRequest {
                start_revision: 2,
                ..everything()
            },
        );
    }
    world.create(
        1,
        WatchCreateRequest {
            start_revision: 3000,
            ..everything()
        },
    );
    world.drain();
    let steps = (1..).find(|_| {
        world.hub.poll(1);
        world
            .drain()
            .iter()
            .any(|seen| matches!(seen, Seen::Response { stream: 1, .. }))
    });
    assert!(
        steps.unwrap() <= 2,
        "the other stream waits for one step at most"
    );
    assert!(world.hub.has_work(), "the flood is not through yet");
}

#[test]
fn an_event_reaches_those_who_match_among_very_many() {
    let mut world = World::new();
    for stream in 0..100 {
        world.open(stream, usize::MAX, usize::MAX);
        for watcher in 0..300 {
            let key = format!("/{stream}/{watcher}");
            let range_end = match watcher % 3 {
                0 => Bytes::new(),
                _ => Bytes::from(format!("{key}0")),
            };
            let request = WatchCreateRequest {
                key: key.into(),
                range_end,
                ..WatchCreateRequest::default()
            };
            world.create(stream, request);
        }
    }
    world.create(
        7,
        WatchCreateRequest {
            key: "/42/".into(),
            range_end: "/420".into(),
            ..everything()
        },
    );
    world.drain();
    world.publish(&[
        Change::Put("/42/30".to_owned(), String::new()),
        Change::Put("/42/31/x".to_owned(), String::new()),
    ]);
    let seen: Vec<_> = world.drain().iter().map(ToString::to_string).collect();
    assert_eq!(
        seen,
        [
            "42/30 rev=2 [/42/30=@2]",
            "42/31 rev=2 [/42/31/x=@2]",
            "7/300 rev=2 [/42/30=@2] [/42/31/x=@2]",
        ]
    );
    world.hub.check_invariants();
}

#[test]
fn a_large_event_is_held_once_for_all_its_watchers() {
    let mut world = World::new();
    world.open(0, usize::MAX, usize::MAX);
    (0..3).for_each(|_| world.create(0, everything()));
    world.drain();
    world.put("k", &"v".repeat(100_000));
    let bodies: Vec<_> = std::iter::from_fn(|| world.hub.take_output())
        .map(|output| match output {
            Output::Message(message) => message.body,
            other => panic!("{other:?}: there is a leader, and no damage"),
        })
        .collect();
    assert_eq!(bodies.len(), 3);
    assert!(
        bodies
            .iter()
            .all(|body| body.as_ptr() == bodies[0].as_ptr())
    );
}
