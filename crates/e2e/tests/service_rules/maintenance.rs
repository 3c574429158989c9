//! Care of one member: leadership, downgrades, alarms, status, hashes.

use kvorum_e2e::grpc::{Connection, Failure, block_on};
use kvorum_e2e::http::get;
use kvorum_e2e::on_each_server;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::etcdserverpb::downgrade_request::DowngradeAction;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, AuthStatusRequest, AuthStatusResponse,
    DefragmentRequest, DefragmentResponse, DowngradeInfo, DowngradeRequest, DowngradeResponse,
    HashRequest, HashResponse, MoveLeaderRequest, MoveLeaderResponse, StatusRequest,
    StatusResponse,
};

use crate::{connect, put, refused};

on_each_server!(
    only_a_member_that_votes_can_lead,
    a_downgrade_is_checked_begun_and_cancelled,
    alarms_are_raised_listed_and_cleared,
    status_tells_versions_indexes_and_alarms,
    the_quota_is_told_as_it_is_set,
    the_hash_follows_the_data,
    a_member_without_users_says_so,
);

async fn status(connection: &Connection) -> StatusResponse {
    let method = "etcdserverpb.Maintenance/Status";
    let answer = connection.call(method, &StatusRequest {}).await;
    answer.expect("status")
}

/// Waits for the end of a start: official etcd serves before it knows the versions of cluster and
/// storage.
fn settle(server: &Server) {
    server.wait("settled versions", || {
        let page = get(server.port(), "/version").expect("a page");
        let is_settled = page.body.contains(r#""etcdcluster":"3.7.0""#)
            && page.body.contains(r#""storage":"3.7.0""#);
        is_settled.then_some(())
    });
}

fn only_a_member_that_votes_can_lead(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let move_to = async |target_id| -> Result<MoveLeaderResponse, Failure> {
            let request = MoveLeaderRequest { target_id };
            let method = "etcdserverpb.Maintenance/MoveLeader";
            connection.call(method, &request).await
        };
        let leader = status(&connection).await.leader;
        let moved = MoveLeaderResponse { header: None };
        assert_eq!(move_to(leader).await, Ok(moved));
        let bad = || refused(9, "etcdserver: bad leader transferee");
        assert_eq!(move_to(leader + 1).await, bad());
        assert_eq!(move_to(0).await, bad());
    });
}

fn a_downgrade_is_checked_begun_and_cancelled(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    settle(&server);
    block_on(async {
        let connection = connect(&server).await;
        let ask = async |action: i32, version: &str| -> Result<String, Failure> {
            let version = version.to_owned();
            let method = "etcdserverpb.Maintenance/Downgrade";
            let request = DowngradeRequest { action, version };
            let answer: DowngradeResponse = connection.call(method, &request).await?;
            assert_ne!(answer.header.expect("header").revision, 0);
            Ok(answer.version)
        };
        let [validate, enable, cancel] = [
            DowngradeAction::Validate as i32,
            DowngradeAction::Enable as i32,
            DowngradeAction::Cancel as i32,
        ];
        let none = DowngradeInfo::default();
        assert_eq!(status(&connection).await.downgrade_info, Some(none.clone()));

        let now = || Ok("3.7".to_owned());
        for target in ["3.6", "3.6.0", "3.6.9"] {
            assert_eq!(ask(validate, target).await, now(), "{target}");
        }
        for action in [validate, enable] {
            for target in ["3.5", "3.7", "3.8", "2.6"] {
                let expected = refused(3, "etcdserver: invalid downgrade target version");
                assert_eq!(ask(action, target).await, expected, "{target}");
            }
            for target in ["", "3", "x.y", "3.6.x"] {
                let expected = refused(3, "etcdserver: wrong downgrade target version format");
                assert_eq!(ask(action, target).await, expected, "{target}");
            }
        }
        let unknown = refused(2, "etcdserver: unknown method");
        assert_eq!(ask(9, "3.6").await, unknown);
        assert_eq!(
            ask(cancel, "").await,
            now(),
            "nothing to cancel is no error"
        );

        assert_eq!(ask(enable, "3.6").await, now());
        let begun = status(&connection).await.downgrade_info.expect("the state");
        assert!(begun.enabled);
        assert_eq!(begun.target_version, "3.6.0");
        // Some seconds later official etcd is at 3.6 and refuses the target before it looks further.
        let in_progress = refused(9, "etcdserver: cluster has a downgrade job in progress");
        let already = refused(3, "etcdserver: invalid downgrade target version");
        for action in [validate, enable] {
            let told = ask(action, "3.6").await;
            let late = subject == Subject::Official371 && told == already;
            assert!(told == in_progress || late, "{told:?}");
        }
        ask(cancel, "ignored").await.expect("cancel");
        assert_eq!(status(&connection).await.downgrade_info, Some(none));
    });
}

/// Kind of an alarm and the member that it names.
type Listed = (i32, u64);

/// What an alarm call lists, in order.
async fn alarm(
    connection: &Connection,
    action: AlarmAction,
    member_id: u64,
    kind: AlarmType,
) -> Vec<Listed> {
    let request = AlarmRequest {
        action: action as i32,
        member_id,
        alarm: kind as i32,
    };
    let method = "etcdserverpb.Maintenance/Alarm";
    let answer: AlarmResponse = connection.call(method, &request).await.expect("alarm");
    assert_ne!(answer.header.expect("header").revision, 0);
    let alarms = answer.alarms.into_iter();
    let mut alarms: Vec<_> = alarms.map(|alarm| (alarm.alarm, alarm.member_id)).collect();
    alarms.sort_unstable();
    alarms
}

fn alarms_are_raised_listed_and_cleared(subject: Subject) {
    use AlarmAction::{Activate, Deactivate, Get};
    use AlarmType::{Corrupt, None as Any, Nospace};
    /// An id that no member has: alarms are notes, not members.
    const NOBODY: u64 = 42;
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let this = status(&connection).await.leader;
        let (mine, other) = ((Nospace as i32, this), (Nospace as i32, NOBODY));
        let damage = (Corrupt as i32, NOBODY);
        let turns: &[(AlarmAction, u64, AlarmType, &[Listed])] = &[
            (Get, 0, Any, &[]),
            (Deactivate, this, Nospace, &[]),
            (Activate, this, Nospace, &[mine]),
            (Activate, this, Nospace, &[mine]),
            (Activate, NOBODY, Nospace, &[other]),
            (Activate, NOBODY, Corrupt, &[damage]),
            // No kind is nothing to raise or clear.
            (Activate, this, Any, &[]),
            (Deactivate, this, Any, &[]),
            // A list goes by kind, whatever member it names.
            (Get, 0, Any, &[other, mine, damage]),
            (Get, this, Any, &[other, mine, damage]),
            (Get, this, Nospace, &[other, mine]),
            (Get, 0, Corrupt, &[damage]),
            (Deactivate, this, Corrupt, &[]),
            (Deactivate, NOBODY, Corrupt, &[damage]),
            (Deactivate, NOBODY, Corrupt, &[]),
            (Deactivate, this, Nospace, &[mine]),
            (Get, 0, Any, &[other]),
            (Deactivate, NOBODY, Nospace, &[other]),
            (Get, 0, Any, &[]),
        ];
        for (number, (action, member, kind, expected)) in turns.iter().enumerate() {
            let listed = alarm(&connection, *action, *member, *kind).await;
            assert_eq!(listed, *expected, "turn {number}: {action:?} {kind:?}");
        }
        put(&connection, "k", "the alarms are off").await;
    });
}

fn status_tells_versions_indexes_and_alarms(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    settle(&server);
    block_on(async {
        let connection = connect(&server).await;
        let revision = put(&connection, "k", "v").await;
        let told = status(&connection).await;
        let header = told.header.expect("header");
        assert_eq!((told.leader, header.revision), (header.member_id, revision));
        assert_eq!(told.raft_term, header.raft_term);
        assert!(told.raft_applied_index <= told.raft_index, "{told:?}");
        let version = (&told.version[..], &told.storage_version[..]);
        assert_eq!(version, ("3.7.1", "3.7.0"));
        assert!(!told.is_learner);
        assert_eq!(told.errors, Vec::<String>::new());
        assert!(told.db_size > 0 && told.db_size_in_use > 0, "{told:?}");
        assert!(told.db_size_in_use <= told.db_size, "{told:?}");

        let on = AlarmAction::Activate;
        alarm(&connection, on, header.member_id, AlarmType::Nospace).await;
        alarm(&connection, on, 42, AlarmType::Corrupt).await;
        let mut errors = status(&connection).await.errors;
        errors.sort();
        // The library that prints them puts one blank or two between the fields, by build.
        let errors: Vec<_> = errors.iter().map(|e| e.replace("  ", " ")).collect();
        let mine = format!("memberID:{} alarm:NOSPACE", header.member_id);
        assert_eq!(errors, [mine, "memberID:42 alarm:CORRUPT".to_owned()]);
    });
}

fn the_quota_is_told_as_it_is_set(subject: Subject) {
    for (flag, told) in [
        ("0", 2_147_483_648),
        ("1000000", 1_000_000),
        ("9000000000", 9_000_000_000),
        ("-1", -1),
    ] {
        let Some(server) = Server::start(subject, &["--quota-backend-bytes", flag]) else {
            return;
        };
        let status = block_on(async { status(&connect(&server).await).await });
        assert_eq!(status.db_size_quota, told, "--quota-backend-bytes={flag}");
    }
}

fn the_hash_follows_the_data(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let hash = async || -> (u32, i64) {
            let method = "etcdserverpb.Maintenance/Hash";
            let answer = connection.call(method, &HashRequest {}).await;
            let answer: HashResponse = answer.expect("hash");
            (answer.hash, answer.header.expect("header").revision)
        };
        let revision = put(&connection, "k", "v").await;
        let first = hash().await;
        assert_eq!(first.1, revision);
        assert_eq!(hash().await, first);
        let revision = put(&connection, "k", "v").await;
        let second = hash().await;
        assert_eq!(second.1, revision);
        assert_ne!(second.0, first.0);

        let method = "etcdserverpb.Maintenance/Defragment";
        let done = connection.call(method, &DefragmentRequest {}).await;
        assert_eq!(done, Ok(DefragmentResponse { header: None }));
        assert_eq!(
            hash().await,
            second,
            "defragmenting moves nothing that counts"
        );
    });
}

fn a_member_without_users_says_so(subject: Subject) {
    let Some(server) = Server::start(subject, &[]) else {
        return;
    };
    block_on(async {
        let connection = connect(&server).await;
        let revision = put(&connection, "k", "v").await;
        let method = "etcdserverpb.Auth/AuthStatus";
        let answer = connection.call(method, &AuthStatusRequest {}).await;
        let answer: AuthStatusResponse = answer.expect("auth status");
        assert_eq!((answer.enabled, answer.auth_revision), (false, 1));
        assert_eq!(answer.header.expect("header").revision, revision);
    });
}
