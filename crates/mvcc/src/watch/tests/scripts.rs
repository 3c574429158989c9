//! Scripts: commands, and below each what the hub said to it. The files are in `testdata`.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::WatchCreateRequest;
use kvorum_proto::ids::Term;

use super::super::{Input, Room, StreamId};
use super::world::{Change, World};

#[test]
fn creating() {
    check(include_str!("../testdata/creating.txt"));
}

#[test]
fn events() {
    check(include_str!("../testdata/events.txt"));
}

#[test]
fn room() {
    check(include_str!("../testdata/room.txt"));
}

#[test]
fn compaction() {
    check(include_str!("../testdata/compaction.txt"));
}

#[test]
fn progress() {
    check(include_str!("../testdata/progress.txt"));
}

#[test]
fn fragments() {
    check(include_str!("../testdata/fragments.txt"));
}

#[test]
fn leader() {
    check(include_str!("../testdata/leader.txt"));
}

/// Runs a script and compares. Lines with `> ` are commands, lines with `# ` comments; the others
/// are what was said. To write a script, write the commands and take the rest from the failure.
fn check(script: &str) {
    let mut world = World::new();
    let mut actual = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(actual, "{line}").unwrap();
            run(&mut world, command, &mut actual);
            for seen in world.drain() {
                writeln!(actual, "{seen}").unwrap();
            }
            world.hub.check_invariants();
        } else if line.starts_with('#') || line.is_empty() {
            writeln!(actual, "{line}").unwrap();
        }
    }
    assert!(
        actual == script,
        "the script says otherwise than the hub:\n{actual}"
    );
}

fn run(world: &mut World, command: &str, said: &mut String) {
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    let words: Vec<_> = rest.split_whitespace().collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let stream = || StreamId(number(0));
    let option = |name: &str| {
        words
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let room = |unset: usize| Room {
        messages: option("messages").map_or(unset, |value| value.parse().unwrap()),
        bytes: option("bytes").map_or(unset, |value| value.parse().unwrap()),
    };
    match verb {
        "open" => world.step(Input::StreamOpened {
            stream: stream(),
            window: room(1 << 30),
            requires_leader: words.contains(&"leader"),
        }),
        "close" => world.step(Input::StreamClosed { stream: stream() }),
        "create" => {
            let view = world.store.view();
            let denied = option("denied");
            let request = create_request(&words[1..]);
            world.step(Input::Create {
                stream: stream(),
                request,
                view,
                denied,
            });
        }
        "cancel" => {
            world.step(Input::Cancel {
                stream: stream(),
                watch_id: words[1].parse().unwrap(),
            });
        }
        "progress" => world.step(Input::Progress { stream: stream() }),
        "room" => world.step(Input::Room {
            stream: stream(),
            gone: room(0),
        }),
        "txn" => world.publish(&changes(&words)),
        "unheard" => drop(world.change(&changes(&words))),
        // As `txn`, but the same revision is told twice.
        "twice" => {
            let batch = world.change(&changes(&words)).unwrap();
            for _ in 0..2 {
                let view = world.store.view();
                world.step(Input::Events {
                    batches: vec![batch.clone()],
                    view,
                });
            }
        }
        "compact" => {
            world.store.compact(words[0].parse().unwrap()).unwrap();
            world.step(Input::Compacted {
                view: world.store.view(),
            });
        }
        "tick" => {
            world.now = world.now + Duration::from_secs(number(0));
            world.step(Input::Tick);
        }
        "leader" => {
            world.step(Input::Leadership {
                term: Term(number(0)),
                has_leader: words[1] == "known",
            });
        }
        "poll" => {
            let budget = words
                .first()
                .map_or(usize::MAX, |budget| budget.parse().unwrap());
            if world.hub.poll(budget) {
                writeln!(said, "more to do").unwrap();
            }
        }
        "counts" => {
            let counts = world.hub.counts();
            let (streams, watchers, slow) = (counts.streams, counts.watchers, counts.slow_watchers);
            let events = counts.events_total;
            writeln!(
                said,
                "streams={streams} watchers={watchers} slow={slow} events={events}"
            )
            .unwrap();
        }
        other => panic!("no such command: {other}"),
    }
}

/// Reads `KEY`, `KEY..END` or `KEY..` and options.
fn create_request(words: &[&str]) -> WatchCreateRequest {
    let mut request = WatchCreateRequest::default();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "start" => request.start_revision = value.parse().unwrap(),
            "id" => request.watch_id = value.parse().unwrap(),
            "prev" => request.prev_kv = true,
            "notify" => request.progress_notify = true,
            "fragment" => request.fragment = true,
            "noput" => request.filters.push(0),
            "nodelete" => request.filters.push(1),
            "unknown-filter" => request.filters.push(9),
            "denied" => {}
            keys => {
                let (key, end) = keys.split_once("..").unwrap_or((keys, "none"));
                request.key = Bytes::copy_from_slice(key.as_bytes());
                request.range_end = match end {
                    "none" => Bytes::new(),
                    "" => Bytes::from_static(&[0]),
                    end => Bytes::copy_from_slice(end.as_bytes()),
                };
            }
        }
    }
    request
}

/// Reads `KEY=VALUE` as a put (`KEY=*N` with a value of N bytes) and `-KEY` as a delete.
fn changes(words: &[&str]) -> Vec<Change> {
    let change = |word: &&str| match word.split_once('=') {
        Some((key, value)) => {
            let value = match value.strip_prefix('*') {
                Some(length) => "x".repeat(length.parse().unwrap()),
                None => value.to_owned(),
            };
            Change::Put(key.to_owned(), value)
        }
        None => Change::Delete(word.strip_prefix('-').unwrap().to_owned()),
    };
    words.iter().map(change).collect()
}
