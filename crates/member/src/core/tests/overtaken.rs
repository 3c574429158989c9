//! The state of the leader overtakes a follower whose clients wait for entries that are in it.

use kvorum_proto::raftpb::{Message, MessageType, Snapshot};

use super::alone::{LEADER, follower, put_entry, three};
use super::*;
use crate::backend::Backend;

/// The last entry in the state that comes.
const STATE_AT: u64 = 8;

/// A message from the leader.
fn message(kind: MessageType) -> Message {
    Message {
        r#type: Some(kind as i32),
        to: Some(MEMBER.0),
        from: Some(LEADER),
        term: Some(2),
        ..Message::default()
    }
}

/// The leader's state, with all that this member has and the put of this request, and the message before it.
fn state(world: &World, request: u64) -> Input {
    let (mut entries, _) = consensus::initial_entries(&three());
    let puts = ["a", "b", "c"].into_iter().zip(4..);
    entries.extend(puts.map(|(key, index)| put_entry(index, 77 + index, key)));
    entries.push(put_entry(7, request, "overtaken"));
    entries.push(put_entry(STATE_AT, 85, "d"));
    let mut state = Apply::new(world.core.apply().local());
    state.input(apply::Input::Committed(entries));
    while state.take_effect().is_some() {}
    let metadata = Backend::new(&state).metadata();
    let received = checkpoint::receive(&world.state, &mut state);
    assert!(received.expect("the disk works"), "it is new");
    let snapshot = Snapshot {
        data: None,
        metadata: Some(metadata),
    };
    Input::Snapshot {
        message: Box::new(Message {
            snapshot: Some(snapshot),
            ..message(MessageType::MsgSnap)
        }),
        state: Box::new(state),
    }
}

/// How often it was said by now that answers are lost.
fn lost(world: &World) -> usize {
    let lines = world.trace.iter();
    lines.filter(|line| *line == "AnswersLost").count()
}

#[test]
fn who_waits_for_what_a_state_holds_is_told_when_what_follows_it_is_answered() {
    let mut world = follower();
    let (overtaken, behind) = (world.put("overtaken", "1"), world.put("behind", "1"));
    world.settle();
    let state = state(&world, overtaken);
    world.core.input(state);
    world.settle();
    assert_eq!(world.core.apply().applied(), LogIndex(STATE_AT));
    assert!(world.value("overtaken").is_some(), "it was done");
    assert_eq!((lost(&world), world.replies.len()), (0, 0), "too early");

    // What the leader had committed by then is one entry more than the state.
    let asks = |it: &&Message| it.r#type() == MessageType::MsgReadIndex;
    let question = world.sent.iter().find(asks).expect("it asks");
    let answer = Message {
        entries: question.entries.clone(),
        index: Some(STATE_AT + 1),
        ..message(MessageType::MsgReadIndexResp)
    };
    world.core.input(Input::Message(Box::new(answer)));
    world.settle();
    assert_eq!(
        lost(&world),
        0,
        "before the entry behind the state is applied"
    );
    let append = Message {
        log_term: Some(2),
        index: Some(STATE_AT),
        commit: Some(STATE_AT + 1),
        entries: vec![put_entry(STATE_AT + 1, behind, "behind")],
        ..message(MessageType::MsgApp)
    };
    world.core.input(Input::Message(Box::new(append)));
    world.settle();
    let ids: Vec<u64> = world.replies.keys().copied().collect();
    assert_eq!((ids, lost(&world)), (vec![behind], 1));
    let place = |start: &str| world.trace.iter().position(|line| line.starts_with(start));
    assert!(place("Reply") < place("AnswersLost"));
}

#[test]
fn without_a_leader_who_waits_is_told_in_the_end() {
    let mut world = follower();
    let overtaken = world.put("overtaken", "1");
    world.settle();
    let state = state(&world, overtaken);
    world.core.input(state);
    world.settle();
    for _ in 0..2 * config().request_timeout_ticks {
        world.core.input(Input::Tick);
        world.settle();
    }
    assert_eq!((lost(&world), world.replies.len()), (1, 0));
}
