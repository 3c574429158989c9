//! One of three goes on alone.

use kvorum_proto::raftpb::{Entry, EntryType, Message, MessageType};

use super::*;
use crate::rescue;

pub(super) const LEADER: u64 = 2;

pub(super) fn three() -> Vec<InitialMember> {
    let member = |id| cluster::Member::new(MemberId(id), vec![format!("http://m{id}")], false);
    let initial = |id| InitialMember {
        id: MemberId(id),
        context: member(id).context().into(),
    };
    (1..=3).map(initial).collect()
}

/// The entry of a put, by the request that asked for it.
pub(super) fn put_entry(index: u64, request: u64, key: &str) -> Entry {
    let request = InternalRaftRequest {
        header: Some(RequestHeader {
            id: request,
            ..Default::default()
        }),
        payload: Some(Payload::Put(PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        })),
        ..Default::default()
    };
    Entry {
        r#type: Some(EntryType::EntryNormal as i32),
        term: Some(2),
        index: Some(index),
        data: Some(request.encode_to_vec().into()),
    }
}

/// A follower that has `a` and `b` from its leader, and of `c` only the entry.
pub(super) fn follower() -> World {
    let disk = MemoryDisk::default();
    let metadata = Metadata {
        node: MEMBER,
        cluster: ClusterId(9),
    };
    let opened = wal::create(&disk, Path::new(WAL), metadata, OPTIONS).expect("an empty disk");
    let mut world = World::begin(0, disk, opened, |_, log, apply, lease| {
        Core::bootstrap(config(), &three(), log, apply, lease)
    });
    world.settle();
    let put = |(index, key): (u64, &str)| put_entry(index, 77 + index, key);
    let message = Message {
        r#type: Some(MessageType::MsgApp as i32),
        to: Some(MEMBER.0),
        from: Some(LEADER),
        term: Some(2),
        log_term: Some(1),
        index: Some(3),
        entries: (4..).zip(["a", "b", "c"]).map(put).collect(),
        commit: Some(5),
        ..Default::default()
    };
    world.core.input(Input::Message(Box::new(message)));
    world.settle();
    // The commit index goes to the disk when the log has been quiet from one tick to the next.
    for _ in 0..2 {
        world.core.input(Input::Tick);
        world.settle();
    }
    world
}

/// Starts again after a loss of power, alone.
fn force(world: World, run: u64) -> (World, rescue::Rescue) {
    let (disk, opened) = world.lose_power();
    let mut forced = None;
    let world = World::begin(run, disk, opened, |mut recovered, log, apply, lease| {
        let roster = &apply.cluster().roster;
        let rescue = rescue::go_alone(MEMBER, roster, &mut recovered).expect("a voter");
        let changes = forced.insert(rescue).changes.clone();
        Core::restore_alone(config(), recovered, changes, log, apply, lease)
    });
    (world, forced.expect("it was asked"))
}

fn members(world: &World) -> Vec<u64> {
    let roster = &world.core.apply().cluster().roster;
    roster.members().map(|member| member.id().0).collect()
}

#[test]
fn one_of_three_goes_on_alone_with_what_was_committed() {
    let world = follower();
    assert_eq!(world.core.status().committed, LogIndex(5));
    let (mut world, rescue) = force(world, 1);
    assert_eq!(rescue.discarded, 1);
    assert_eq!(rescue.removed, [MemberId(2), MemberId(3)]);
    world.settle();
    assert_eq!(members(&world), [MEMBER.0]);
    assert!(world.core.status().leadership.alone);
    let present = |world: &World, key| world.value(key).is_some();
    assert!(present(&world, "a") && present(&world, "b") && !present(&world, "c"));
    let id = world.put("d", "1");
    world.settle();
    assert!(matches!(world.replies[&id], Ok(Response::Put(_))));

    // It stays so without the flag, and the flag left standing loses nothing.
    let mut world = world.crash(2);
    world.settle();
    assert_eq!(members(&world), [MEMBER.0]);
    let id = world.put("e", "1");
    world.settle();
    assert!(matches!(world.replies[&id], Ok(Response::Put(_))));
    let (mut world, rescue) = force(world, 3);
    assert_eq!(rescue, rescue::Rescue::default());
    world.settle();
    assert!(present(&world, "d") && present(&world, "e"));
}

#[test]
fn power_lost_before_the_changes_are_durable_leaves_three_members() {
    let (mut world, _) = force(follower(), 1);
    world.run();
    assert_eq!(world.jobs.len(), 1, "the changes are on their way");
    assert!(!world.core.status().leadership.alone);
    let mut world = world.crash(2);
    world.settle();
    assert_eq!(members(&world), [1, 2, 3]);
    // Once more.
    let (mut world, rescue) = force(world, 3);
    assert_eq!(rescue.changes.len(), 2);
    world.settle();
    assert_eq!(members(&world), [MEMBER.0]);
}
