use kvorum_proto::ids::{ClusterId, MemberId};
use kvorum_proto::raftpb::{ConfChange, ConfChangeType};

use super::identity::{added_member_id, cluster_id, initial_member_id};
use super::*;
use crate::apply::RequestError;

fn url(port: u16) -> Vec<String> {
    vec![format!("http://127.0.0.1:{port}")]
}

fn member(id: u64, name: &str, is_learner: bool) -> Member {
    let mut member = Member::new(MemberId(id), url(id as u16), is_learner);
    name.clone_into(&mut member.name);
    member
}

fn roster(members: &[Member]) -> Roster {
    let mut roster = Roster::new();
    for member in members {
        roster.apply(Change::Add(member.clone()));
    }
    roster
}

#[test]
fn ids_are_those_of_official_members() {
    let token = "etcd-cluster";
    let check = |urls: &[&str], members: &[u64], cluster: u64| {
        let ids: Vec<_> = urls
            .iter()
            .map(|url| initial_member_id(&[(*url).to_owned()], token))
            .collect();
        assert_eq!(
            ids,
            members.iter().map(|id| MemberId(*id)).collect::<Vec<_>>()
        );
        assert_eq!(cluster_id(ids), ClusterId(cluster));
    };
    check(
        &["http://localhost:2380"],
        &[0x8e9e_05c5_2164_694d],
        0xcdf8_1819_4e3a_8c32,
    );
    check(
        &["http://127.0.0.1:2580", "http://127.0.0.1:2480"],
        &[0x2daa_54f1_7ef0_1167, 0x11bf_f47b_8baf_3ee9],
        0x8ad3_302d_c2f0_1c61,
    );
    check(
        &["http://127.0.0.1:12380"],
        &[0xddd6_7b31_2462_fd7b],
        0xa7ef_944b_9571_1739,
    );
}

#[test]
fn an_added_member_id_depends_on_time_and_not_on_the_order_of_urls() {
    let urls = ["http://a:1".to_owned(), "http://b:1".to_owned()];
    let turned = [urls[1].clone(), urls[0].clone()];
    assert_eq!(added_member_id(&urls, 5), added_member_id(&turned, 5));
    assert_ne!(added_member_id(&urls, 5), added_member_id(&urls, 6));
    assert_eq!(added_member_id(&urls, 5), initial_member_id(&urls, "5"));
}

#[test]
fn contexts_have_the_official_json() {
    let mut full = member(15, "m1", true);
    full.client_urls = vec!["http://c:1".to_owned()];
    let bare = Member::new(MemberId(15), url(15), false);
    let check = |found: Vec<u8>, expected: &str| {
        assert_eq!(String::from_utf8(found).unwrap(), expected);
    };
    check(
        bare.context(),
        r#"{"id":15,"peerURLs":["http://127.0.0.1:15"]}"#,
    );
    check(
        full.context(),
        r#"{"id":15,"peerURLs":["http://127.0.0.1:15"],"isLearner":true,"name":"m1","clientURLs":["http://c:1"]}"#,
    );
    check(
        bare.change_context(false),
        r#"{"id":15,"peerURLs":["http://127.0.0.1:15"],"isPromote":false}"#,
    );
}

#[test]
fn changes_read_back_what_they_wrote() {
    let mut known = roster(&[member(1, "a", false), member(2, "b", true)]);
    known.apply(Change::Remove(MemberId(9)));
    let mut update = member(1, "", false);
    update.peer_urls = url(77);
    for change in [
        Change::Add(member(3, "", false)),
        Change::Add(member(3, "", true)),
        Change::Promote(MemberId(2)),
        Change::Update(update),
        Change::Remove(MemberId(1)),
    ] {
        let wire = change.to_wire(42, &known);
        assert_eq!(wire.id(), 42);
        assert_eq!(Change::from_wire(&wire).unwrap(), change);
    }
}

#[test]
fn a_change_nobody_can_have_proposed_is_an_error() {
    let change = |kind: i32, node: u64, context: &'static str| ConfChange {
        id: Some(1),
        r#type: Some(kind),
        node_id: Some(node),
        context: Some(context.into()),
    };
    let add = ConfChangeType::ConfChangeAddNode as i32;
    let read = |wire| Change::from_wire(&wire);
    assert!(matches!(
        read(change(9, 1, "{}")),
        Err(ChangeError::Kind(9))
    ));
    assert!(matches!(
        read(change(add, 1, "{")),
        Err(ChangeError::Context(_))
    ));
    assert!(matches!(
        read(change(add, 1, r#"{"id":2}"#)),
        Err(ChangeError::Differs { .. })
    ));
    let nulls = read(change(
        add,
        2,
        r#"{"id":2,"peerURLs":null,"clientURLs":null}"#,
    ))
    .unwrap();
    assert_eq!(
        nulls,
        Change::Add(Member::new(MemberId(2), Vec::new(), false))
    );
}

#[test]
fn changes_are_refused_with_the_official_errors() {
    let mut known = roster(&[
        member(1, "a", false),
        member(2, "b", true),
        member(7, "c", false),
    ]);
    known.apply(Change::Remove(MemberId(7)));
    let at = |id: u64, port: u16| Member::new(MemberId(id), url(port), false);
    let check = |change: Change, expected: Result<(), RequestError>| {
        assert_eq!(known.check(&change), expected, "{change:?}");
    };
    check(Change::Add(at(3, 3)), Ok(()));
    check(Change::Add(at(1, 3)), Err(RequestError::MemberExist));
    check(Change::Add(at(3, 2)), Err(RequestError::PeerUrlExist));
    check(Change::Add(at(3, 7)), Ok(()));
    check(Change::Add(at(7, 3)), Err(RequestError::MemberNotFound));
    check(Change::Promote(MemberId(2)), Ok(()));
    check(
        Change::Promote(MemberId(1)),
        Err(RequestError::MemberNotLearner),
    );
    check(
        Change::Promote(MemberId(3)),
        Err(RequestError::MemberNotFound),
    );
    check(Change::Update(at(1, 1)), Ok(()));
    check(Change::Update(at(1, 2)), Err(RequestError::PeerUrlExist));
    check(Change::Update(at(3, 3)), Err(RequestError::MemberNotFound));
    check(Change::Remove(MemberId(1)), Ok(()));
    check(
        Change::Remove(MemberId(3)),
        Err(RequestError::MemberNotFound),
    );
    check(
        Change::Remove(MemberId(7)),
        Err(RequestError::MemberNotFound),
    );
    assert_eq!(known.check_learners(1), Err(RequestError::TooManyLearners));
    assert_eq!(known.check_learners(2), Ok(()));
}

#[test]
fn publishing_reaches_members_and_ignores_removed_ones() {
    let mut known = roster(&[member(1, "", false), member(7, "c", false)]);
    known.apply(Change::Remove(MemberId(7)));
    assert!(known.publish(MemberId(1), "n".to_owned(), url(9)));
    assert!(known.member(MemberId(1)).unwrap().is_started());
    assert!(known.publish(MemberId(7), "n".to_owned(), url(9)));
    assert!(known.member(MemberId(7)).is_none());
    assert!(!known.publish(MemberId(3), "n".to_owned(), url(9)));
}

#[test]
fn changes_keep_a_quorum_of_started_members() {
    let alone = roster(&[member(1, "a", false)]);
    assert!(ready_to_add_voter(&alone), "a lone member may get a second");
    assert!(!ready_to_remove_voter(&alone, MemberId(1)));
    assert!(!ready_to_add_voter(&roster(&[member(1, "", false)])));
    let two = roster(&[member(1, "a", false), member(2, "", false)]);
    assert!(!ready_to_add_voter(&two));
    assert!(ready_to_remove_voter(&two, MemberId(2)));
    assert!(!ready_to_remove_voter(&two, MemberId(1)));
    let learning = roster(&[member(1, "a", false), member(2, "b", true)]);
    assert!(ready_to_promote(&learning, MemberId(2)));
    let silent = roster(&[member(1, "a", false), member(2, "", true)]);
    assert!(!ready_to_promote(&silent, MemberId(2)));
}

#[test]
fn leadership_moves_only_from_the_leader_to_a_voter() {
    let known = roster(&[
        member(1, "a", false),
        member(2, "b", true),
        member(3, "c", false),
    ]);
    let check =
        |this: u64, target: u64| move_leader(&known, MemberId(this), MemberId(1), MemberId(target));
    assert_eq!(check(1, 1), Ok(true));
    assert_eq!(check(1, 3), Ok(false));
    assert_eq!(check(1, 2), Err(RequestError::BadLeaderTransferee));
    assert_eq!(check(1, 9), Err(RequestError::BadLeaderTransferee));
    assert_eq!(check(3, 1), Err(RequestError::NotLeader));
}

#[test]
fn downgrades_go_one_minor_down() {
    let none = Downgrade::default();
    let running = Downgrade {
        target: Some("3.6.0".to_owned()),
    };
    let check = |text: &str, cluster: Option<Version>, running: &Downgrade| {
        check_downgrade(cluster, running, downgrade_target(text)?)
    };
    let ours = Some(CLUSTER_VERSION);
    assert_eq!(check("3.6", ours, &none), Ok(()));
    assert_eq!(check("3.6.4", ours, &none), Ok(()));
    assert_eq!(
        check("3.6", None, &none),
        Err(RequestError::ClusterVersionUnavailable)
    );
    for bad in ["3.7", "3.5", "2.6", "4.6.0"] {
        assert_eq!(
            check(bad, ours, &running),
            Err(RequestError::InvalidDowngradeTargetVersion)
        );
    }
    assert_eq!(
        check("3.6", ours, &running),
        Err(RequestError::DowngradeInProcess)
    );
    for bad in ["", "3", "3.x", "3.6.1.2", "+3.6.0", "3..6"] {
        assert_eq!(
            check(bad, ours, &none),
            Err(RequestError::WrongDowngradeVersionFormat)
        );
    }
    assert_eq!(SERVER_VERSION.to_string(), "3.7.1");
    assert_eq!(CLUSTER_VERSION.short(), "3.7");
    assert_eq!("3.7.0-rc.1+x".parse(), Ok(CLUSTER_VERSION));
}
