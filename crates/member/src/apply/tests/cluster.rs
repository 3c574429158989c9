//! Membership, versions, downgrades, the state of users.

use kvorum_proto::etcdserverpb::{AuthStatusRequest, AuthUserAddRequest};
use kvorum_proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};

use super::*;
use crate::auth;
use crate::cluster::{CLUSTER_VERSION, Change, Member, Roster};

fn member(id: u64) -> Member {
    Member::new(MemberId(id), vec![format!("http://127.0.0.1:{id}")], false)
}

fn wire(change: &Change) -> ConfChange {
    change.to_wire(0, &Roster::new())
}

/// Hands an entry in that no correct member proposes; returns the reason for the stop.
#[track_caller]
fn stops(world: &mut World, kind: EntryType, data: Vec<u8>) -> String {
    let applied = world.apply.applied();
    assert_eq!(world.entry(kind, data), None);
    assert_eq!(world.apply.applied(), applied, "the entry is not applied");
    let Some(Effect::Stop(reason)) = world.news().pop() else {
        panic!("no stop")
    };
    reason
}

#[test]
fn membership_changes_are_answered_with_all_members() {
    let mut world = World::new();
    let added = world.conf_change(&wire(&Change::Add(member(2))));
    let Ok(Response::MemberAdd {
        member: new,
        members,
    }) = added
    else {
        panic!("{added:?}")
    };
    assert_eq!((new.id, members.len()), (2, 1));
    world.conf_change(&wire(&Change::Add(member(1)))).unwrap();
    let removed = world.conf_change(&wire(&Change::Remove(MemberId(2))));
    let Ok(Response::Members(members)) = removed else {
        panic!("{removed:?}")
    };
    assert_eq!(members[0].id, 1);
    let again = world.conf_change(&wire(&Change::Add(member(2))));
    assert_eq!(
        again,
        Err(RequestError::MemberNotFound),
        "a removed id never comes back"
    );
    let news = world.news();
    let last = &news[news.len() - 1];
    assert!(
        matches!(last, Effect::ConfChanged { change, .. } if change.node_id() == 0),
        "{last:?}"
    );
    let told = news
        .iter()
        .filter(|effect| matches!(effect, Effect::ConfChanged { .. }));
    assert_eq!(
        told.count(),
        4,
        "consensus hears of every change, refused or not"
    );
}

#[test]
fn a_member_hears_of_its_own_removal() {
    let mut world = World::new();
    world
        .conf_change(&wire(&Change::Add(member(THIS.0))))
        .unwrap();
    world.conf_change(&wire(&Change::Remove(THIS))).unwrap();
    assert!(
        world
            .news()
            .iter()
            .any(|effect| matches!(effect, Effect::Removed))
    );
}

#[test]
fn members_publish_themselves() {
    let mut world = World::new();
    world.conf_change(&wire(&Change::Add(member(1)))).unwrap();
    let attributes = Attributes {
        name: "m1".to_owned(),
        client_urls: vec!["http://c".to_owned()],
    };
    let publish = |member_id| {
        let member_attributes = Some(attributes.clone());
        Payload::ClusterMemberAttrSet(ClusterMemberAttrSetRequest {
            member_id,
            member_attributes,
        })
    };
    assert_eq!(world.done(publish(1)), Response::Done { revision: 1 });
    assert!(
        world
            .apply
            .cluster()
            .roster
            .member(MemberId(1))
            .unwrap()
            .is_started()
    );
    let reason = stops(
        &mut world,
        EntryType::EntryNormal,
        request(FIRST, publish(9)),
    );
    assert_eq!(
        reason,
        "log entry 3: member 9 publishes itself and is unknown"
    );
}

#[test]
fn versions_and_downgrades_are_written_down() {
    let mut world = World::new();
    let version = |text: &str| {
        Payload::ClusterVersionSet(ClusterVersionSetRequest {
            ver: text.to_owned(),
        })
    };
    world.done(version("3.7.0"));
    assert_eq!(world.apply.cluster().version, Some(CLUSTER_VERSION));
    let downgrade = |enabled| {
        Payload::DowngradeInfoSet(DowngradeInfoSetRequest {
            enabled,
            ver: "3.6.0".to_owned(),
        })
    };
    world.done(downgrade(true));
    assert_eq!(
        world.apply.cluster().downgrade.target.as_deref(),
        Some("3.6.0")
    );
    world.done(downgrade(false));
    assert_eq!(world.apply.cluster().downgrade.target, None);
    for (text, reason) in [
        (
            "3.8.0",
            "the cluster has version 3.8.0, and this member only 3.7.1",
        ),
        (
            "seven",
            r#"cluster version "seven" is not a version of three numbers"#,
        ),
    ] {
        let mut world = World::new();
        let data = request(FIRST, version(text));
        let expected = format!("log entry 1: {reason}");
        assert_eq!(stops(&mut world, EntryType::EntryNormal, data), expected);
    }
}

#[test]
fn users_are_not_asked_for() {
    let status = auth::Status {
        enabled: false,
        revision: 1,
    };
    let response = World::new().done(Payload::AuthStatus(AuthStatusRequest {}));
    assert_eq!(
        response,
        Response::AuthStatus {
            revision: 1,
            status
        }
    );
}

#[test]
fn entries_that_no_correct_member_proposes_stop_the_process() {
    use EntryType::{EntryConfChange, EntryConfChangeV2, EntryNormal};
    let user = request(FIRST, Payload::AuthUserAdd(AuthUserAddRequest::default()));
    let empty = InternalRaftRequest {
        id: 5,
        ..InternalRaftRequest::default()
    }
    .encode_to_vec();
    let no_json = ConfChange {
        context: Some("{".into()),
        ..ConfChange::default()
    };
    for (kind, data, start) in [
        (EntryNormal, vec![0xff; 4], "request does not decode"),
        (EntryNormal, empty, "the request is unknown"),
        (EntryNormal, user, "the request changes users or roles"),
        (
            EntryConfChange,
            vec![0xff; 4],
            "configuration change does not decode",
        ),
        (
            EntryConfChange,
            no_json.encode_to_vec(),
            "context of a configuration change",
        ),
        (EntryConfChangeV2, vec![1], "kind 2 of entry is unknown"),
    ] {
        let mut world = World::new();
        let reason = stops(&mut world, kind, data);
        let expected = format!("log entry 1: {start}");
        assert!(reason.starts_with(&expected), "{reason}");
        world
            .apply
            .input(Input::Committed(vec![entry(1, EntryNormal, Vec::new())]));
        assert!(
            world.apply.take_effect().is_none(),
            "nothing is taken after a stop"
        );
    }
}

#[test]
fn members_of_old_releases_publish_themselves_without_an_envelope() {
    use kvorum_proto::etcdserverpb::Request;
    let request = |method: &str, path: &str, val: &str| Request {
        id: 7,
        method: method.to_owned(),
        path: path.to_owned(),
        val: val.to_owned(),
        ..Request::default()
    };
    let mut world = World::new();
    world.conf_change(&wire(&Change::Add(member(0xa)))).unwrap();
    let attributes = r#"{"name":"ten","clientURLs":["http://c:1"]}"#;
    for request in [
        request("PUT", "/0/members/a/attributes", attributes),
        request("PUT", "/0/version", "3.4.0"),
        request("SYNC", "", ""),
    ] {
        let applied = world.apply.applied();
        world.entry(EntryType::EntryNormal, request.encode_to_vec());
        assert!(world.apply.applied() > applied, "{request:?}");
    }
    let cluster = world.apply.cluster();
    let ten = cluster.roster.member(MemberId(0xa)).unwrap();
    assert_eq!((ten.name.as_str(), ten.client_urls.len()), ("ten", 1));
    assert_eq!(cluster.version.unwrap().to_string(), "3.4.0");
    let user_key = request("PUT", "/1/a", "b").encode_to_vec();
    let reason = stops(&mut world, EntryType::EntryNormal, user_key);
    assert!(reason.contains("version 2 API"), "{reason}");
}
