//! The order of effects, reads, gaps in the log.

use kvorum_proto::ids::{LogIndex, Term};

use super::*;
use crate::consensus::ReadToken;

fn kinds(apply: &mut Apply) -> Vec<&'static str> {
    let kind = |effect| match effect {
        Effect::Published(_) => "published",
        Effect::Events(_) => "events",
        Effect::Reply { .. } => "reply",
        Effect::ReadReady(_) => "read",
        Effect::Applied(_) => "applied",
        Effect::Stop(_) => "stop",
        _ => "other",
    };
    std::iter::from_fn(|| apply.take_effect())
        .map(kind)
        .collect()
}

fn put_entry(index: u64) -> raftpb::Entry {
    let id = RequestId(FIRST.0 + index);
    entry(
        index,
        EntryType::EntryNormal,
        request(id, Payload::Put(put("a", "1"))),
    )
}

#[test]
fn a_batch_publishes_once_and_before_everything_that_rests_on_it() {
    let mut apply = Apply::new(local());
    apply.input(Input::Committed(vec![put_entry(1), put_entry(2)]));
    let expected = ["published", "events", "reply", "events", "reply", "applied"];
    assert_eq!(kinds(&mut apply), expected);
}

#[test]
fn the_noop_of_a_leader_moves_index_and_term_alone() {
    let mut world = World::new();
    world.entry(EntryType::EntryNormal, Vec::new());
    let view = world.apply.read_view();
    assert_eq!((view.applied, view.term), (LogIndex(1), Term(2)));
    assert_eq!(view.keys.current_revision(), 1);
    assert!(world.news().is_empty());
}

#[test]
fn a_read_waits_for_its_index() {
    let mut apply = Apply::new(local());
    let read = |index| Input::ReadAt {
        tokens: vec![ReadToken(index)],
        index: LogIndex(index),
    };
    apply.input(read(0));
    assert_eq!(kinds(&mut apply), ["read"]);
    apply.input(read(2));
    apply.input(read(1));
    assert!(kinds(&mut apply).is_empty());
    apply.input(Input::Committed(vec![put_entry(1)]));
    assert_eq!(
        kinds(&mut apply),
        ["published", "events", "reply", "read", "applied"]
    );
    apply.input(Input::Committed(vec![put_entry(2)]));
    assert_eq!(
        kinds(&mut apply),
        ["published", "events", "reply", "read", "applied"]
    );
}

#[test]
fn a_gap_or_a_repetition_in_the_log_stops_the_process() {
    for second in [1, 3] {
        let mut apply = Apply::new(local());
        apply.input(Input::Committed(vec![put_entry(1), put_entry(second)]));
        let kinds = kinds(&mut apply);
        assert_eq!(kinds, ["published", "events", "reply", "applied", "stop"]);
        assert_eq!(apply.applied(), LogIndex(1));
    }
}

#[test]
fn replies_are_only_for_requests_of_this_run() {
    let other_member = RequestId(0xabce << 48 | 5_000);
    let last_run = RequestId(FIRST.0 - 1);
    for (id, waits) in [(FIRST, true), (last_run, false), (other_member, false)] {
        assert_eq!(local().waits_for(id), waits);
        let mut world = World::new();
        let data = request(id, Payload::Put(put("a", "1")));
        assert_eq!(world.entry(EntryType::EntryNormal, data).is_some(), waits);
        // Older releases wrote the id beside the header.
        let plain = InternalRaftRequest {
            id: id.0,
            payload: Some(Payload::Put(put("a", "1"))),
            header: None,
        };
        assert_eq!(
            world
                .entry(EntryType::EntryNormal, plain.encode_to_vec())
                .is_some(),
            waits
        );
    }
}

#[test]
fn the_reported_size_follows_after_a_defragmentation() {
    use kvorum_proto::etcdserverpb::CompactionRequest;
    let mut world = World::new();
    for _ in 0..3 {
        world.done(Payload::Put(put("a", &"x".repeat(1_000))));
    }
    let full = world.apply.sizes();
    world.done(Payload::Compaction(CompactionRequest {
        revision: 4,
        physical: false,
    }));
    let compacted = world.apply.sizes();
    assert!(compacted.in_use_bytes < full.in_use_bytes);
    assert_eq!(compacted.total_bytes, full.total_bytes);
    world.input(Input::Defragment);
    assert_eq!(world.apply.sizes().total_bytes, compacted.in_use_bytes);
}
