//! The ways between worlds: directories and snapshots of official servers come in, ours go out, and
//! the hash of the history says that nothing changed on the way.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kvorum_e2e::cluster::Cluster;
use kvorum_e2e::folder;
use kvorum_e2e::grpc::{Connection, block_on};
use kvorum_e2e::official;
use kvorum_e2e::peers::{self, Subject, peer};
use kvorum_e2e::process::{Outcome, run};
use kvorum_e2e::server::{Server, new_folder};
use kvorum_proto::etcdserverpb::alarm_request::AlarmAction;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AuthEnableRequest, AuthEnableResponse, AuthUserAddRequest,
    AuthUserAddResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest,
    AuthUserListResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, MemberListRequest, MemberListResponse,
};

const LIMIT: Duration = Duration::from_secs(120);
const TAKEN: &str = "took over the data directory of an official etcd server";

#[test]
fn a_directory_of_3_4_comes_in_and_goes_out() {
    there_and_back(Subject::Official3423, "3.4");
}

#[test]
fn a_directory_of_3_5_comes_in_and_goes_out() {
    there_and_back(Subject::Official351, "3.5.1");
}

#[test]
fn a_directory_of_3_7_comes_in_and_goes_out() {
    there_and_back(Subject::Official371, "3.7.1");
}

/// What a server holds, as far as its clients can see.
#[derive(Debug, PartialEq)]
struct Seen {
    hash: (u32, i64, i64),
    /// Leases with their keys.
    leases: Vec<(i64, usize)>,
    alarms: usize,
    member: u64,
}

fn look(server: &Server) -> Seen {
    let port = server.port();
    block_on(async {
        let connection = Connection::open(port).await.expect("connects");
        let hash = official::hash_kv(port).await.expect("a hash");
        let method = "etcdserverpb.Lease/LeaseLeases";
        let leases = LeaseLeasesRequest {};
        let leases: LeaseLeasesResponse = connection.call(method, &leases).await.expect("leases");
        let mut ids: Vec<i64> = leases.leases.iter().map(|lease| lease.id).collect();
        ids.sort_unstable();
        let mut seen = Vec::new();
        for id in ids {
            let asked = LeaseTimeToLiveRequest { id, keys: true };
            let method = "etcdserverpb.Lease/LeaseTimeToLive";
            let told: LeaseTimeToLiveResponse =
                connection.call(method, &asked).await.expect("a lease");
            seen.push((id, told.keys.len()));
        }
        let alarm = AlarmRequest {
            action: AlarmAction::Get as i32,
            ..AlarmRequest::default()
        };
        let method = "etcdserverpb.Maintenance/Alarm";
        let alarms: AlarmResponse = connection.call(method, &alarm).await.expect("alarms");
        let asked = MemberListRequest::default();
        let method = "etcdserverpb.Cluster/MemberList";
        let members: MemberListResponse = connection.call(method, &asked).await.expect("members");
        Seen {
            hash,
            leases: seen,
            alarms: alarms.alarms.len(),
            member: members.members[0].id,
        }
    })
}

/// Users that an official server knows.
fn users(server: &Server) -> Vec<String> {
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let method = "etcdserverpb.Auth/UserList";
        let asked = AuthUserListRequest {};
        let users: AuthUserListResponse = connection.call(method, &asked).await.expect("users");
        users.users
    })
}

fn etcdutl(arguments: &[&str]) -> Outcome {
    run(Command::new(peers::etcdutl()).args(arguments), "", LIMIT)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours is text")
}

/// A killed official server with a torn log comes to ours, and ours goes back to it.
fn there_and_back(subject: Subject, version: &str) {
    let Some(mut theirs) = Server::start(subject, &["--snapshot-count", "15"]) else {
        return;
    };
    block_on(official::fill(theirs.port())).expect("the server takes the content");
    block_on(official::raise_alarm(theirs.port())).expect("an alarm");
    let before = look(&theirs);
    theirs.kill();
    official::tear(&theirs.last_wal());

    let mut ours = Server::prepare(Subject::Kvorum, &[]).expect("ours is always there");
    folder::copy(&theirs.data_directory(), &ours.data_directory());
    ours.launch();
    ours.wait_ready();
    assert!(ours.logs(TAKEN, LIMIT));
    let member = ours.data_directory().join("member");
    assert!(member.join("official-1/db").exists());
    assert!(!member.join("snap").exists());
    assert_eq!(look(&ours), before);
    // What came in is as durable as what is written here.
    ours.restart();
    assert_eq!(look(&ours), before);
    disarm(&ours, before.member);
    block_on(async {
        let connection = Connection::open(ours.port()).await.expect("connects");
        let put = official::put_one(&connection, "by-ours", vec![7; 100]);
        put.await.expect("a put");
    });
    let before = look(&ours);
    let data = ours.data_directory();
    let line = ["migrate", "--data-dir", text(&data), "--to-etcd", version];
    let busy = etcdutl(&line);
    assert_eq!(busy.code, Some(1), "a server runs on it: {busy:?}");
    ours.terminate();
    let outcome = etcdutl(&line);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");

    let mut back = Server::prepare(subject, &[]).expect("it was there before");
    folder::copy(&data, &back.data_directory());
    back.launch();
    back.wait_ready();
    assert_eq!(look(&back), before);
    assert_eq!(users(&back), [official::USER]);
    back.terminate();

    // And in again, from a directory in which both have been.
    let mut again = Server::prepare(Subject::Kvorum, &[]).expect("ours is always there");
    folder::copy(&back.data_directory(), &again.data_directory());
    again.launch();
    again.wait_ready();
    assert_eq!(look(&again), before);
}

fn disarm(server: &Server, member_id: u64) {
    block_on(async {
        let connection = Connection::open(server.port()).await.expect("connects");
        let alarm = AlarmRequest {
            action: AlarmAction::Deactivate as i32,
            member_id,
            alarm: 1,
        };
        let method = "etcdserverpb.Maintenance/Alarm";
        let _: AlarmResponse = connection.call(method, &alarm).await.expect("disarmed");
    });
}

/// The same snapshot and the same flags give the same member, whichever tool made it.
#[test]
fn a_snapshot_is_restored_as_by_the_official_tool() {
    let Some(official_tool) = peer("etcd-3.7.1", "etcdutl") else {
        return;
    };
    for subject in [
        Subject::Official3423,
        Subject::Official351,
        Subject::Official371,
    ] {
        let Some(mut server) = Server::start(subject, &[]) else {
            continue;
        };
        block_on(official::fill(server.port())).expect("the server takes the content");
        let saved = server.data_directory().with_file_name("saved");
        let file = block_on(official::snapshot(server.port())).expect("a snapshot");
        fs::write(&saved, file).expect("the disk takes it");
        server.terminate();
        let database = server.data_directory().join("member/snap/db");
        for (file, flags) in [
            (&saved, &[][..]),
            (&saved, &["--bump-revision", "1000", "--mark-compacted"]),
            (&database, &["--skip-hash-check"]),
            (
                &saved,
                &[
                    "--name=m",
                    "--initial-cluster=m=http://127.0.0.1:7,m=http://127.0.0.1:6",
                    "--initial-advertise-peer-urls=http://127.0.0.1:6,http://127.0.0.1:7",
                    "--initial-cluster-token=other",
                ],
            ),
        ] {
            let restored = |subject, tool: &Path| {
                let mut server = Server::prepare(subject, &[]).expect("it is there");
                let data = server.data_directory();
                let line = ["snapshot", "restore", text(file), "--data-dir", text(&data)];
                let line = [&line[..], flags].concat();
                let outcome = run(Command::new(tool).args(line), "", LIMIT);
                assert_eq!(outcome.code, Some(0), "{outcome:?}");
                server.launch();
                server.wait_ready();
                let seen = look(&server);
                server.terminate();
                seen
            };
            let expected = restored(Subject::Official371, &official_tool);
            let found = restored(Subject::Kvorum, &peers::etcdutl());
            assert_eq!(found, expected, "{subject:?} {flags:?}");
            // Official servers' directories come in, restored ones too.
            let theirs = restored(Subject::Kvorum, &official_tool);
            assert_eq!(theirs, expected, "{subject:?} {flags:?}");
        }
    }
}

/// Each member is restored by itself, ours by our tool and official ones by theirs; together they
/// are a cluster with the content of the snapshot.
#[test]
fn members_restored_from_one_snapshot_are_a_cluster() {
    use Subject::{Kvorum, Official371};
    let Some(official_tool) = peer("etcd-3.7.1", "etcdutl") else {
        return;
    };
    let Some(mut source) = Server::start(Official371, &[]) else {
        return;
    };
    block_on(official::fill(source.port())).expect("the server takes the content");
    let (hash, revision, _) = block_on(official::hash_kv(source.port())).expect("a hash");
    let saved = source.data_directory().with_file_name("saved");
    let file = block_on(official::snapshot(source.port())).expect("a snapshot");
    fs::write(&saved, file).expect("the disk takes it");
    source.terminate();
    for subjects in [[Kvorum; 3], [Kvorum, Official371, Kvorum]] {
        let Some(mut cluster) = Cluster::prepare(&subjects, &[]) else {
            return;
        };
        let list = cluster.list();
        for (place, subject) in subjects.into_iter().enumerate() {
            let data = cluster.data_directory(place);
            let (name, url) = (format!("n{place}"), cluster.peer_url(place));
            let mut command = Command::new(match subject {
                Kvorum => peers::etcdutl(),
                _ => official_tool.clone(),
            });
            command.args([
                "snapshot",
                "restore",
                text(&saved),
                "--data-dir",
                text(&data),
            ]);
            command.args(["--name", &name, "--initial-cluster", &list]);
            command.args(["--initial-advertise-peer-urls", &url]);
            let outcome = run(&mut command, "", LIMIT);
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
            cluster.launch(place);
        }
        for place in 0..subjects.len() {
            cluster.wait_ready(place);
        }
        assert_eq!(
            cluster.same_hash(),
            (u64::from(hash), revision),
            "{subjects:?}"
        );
        cluster.put("after", "restore");
        cluster.restart(0);
        assert_eq!(cluster.same_hash().1, revision + 1, "{subjects:?}");
        let members = cluster.must(&["member", "list"]);
        assert_eq!(members.matches(", started, ").count(), 3, "{members}");
    }
}

/// Each member is stopped and started as one of ours on the same directory, and one goes back, while
/// the others serve.
#[test]
fn members_of_a_cluster_come_in_and_go_out_one_by_one() {
    let Some(mut cluster) = Cluster::start(&[Subject::Official371; 3], &[]) else {
        return;
    };
    let put = |cluster: &Cluster, key: &str| cluster.put(key, "value");
    for place in 0..3 {
        put(&cluster, &format!("before/{place}"));
        cluster.terminate(place);
        put(&cluster, &format!("meanwhile/{place}"));
        cluster
            .replace_binary(place, Subject::Kvorum)
            .expect("ours is always there");
        cluster.launch(place);
        cluster.wait_ready(place);
        assert!(cluster.logs(place, TAKEN, LIMIT));
        cluster.same_hash();
    }
    cluster.terminate(0);
    let data = cluster.data_directory(0);
    let outcome = etcdutl(&["migrate", "--data-dir", text(&data), "--to-etcd", "3.7"]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    put(&cluster, "last");
    cluster
        .replace_binary(0, Subject::Official371)
        .expect("it was there before");
    cluster.launch(0);
    cluster.wait_ready(0);
    // Seven keys, beginning with revision 2.
    assert_eq!(cluster.same_hash().1, 8);
    let members = cluster.must(&["member", "list"]);
    assert_eq!(members.matches(", started, ").count(), 3, "{members}");
}

#[test]
fn a_restore_that_is_refused_leaves_nothing_behind() {
    let Some(server) = Server::start(Subject::Official371, &[]) else {
        return;
    };
    let folder = new_folder();
    let tool = peer("etcd-3.7.1", "etcdutl").expect("its server is there");
    let saved = block_on(official::snapshot(server.port())).expect("a snapshot");
    fs::write(folder.join("saved"), &saved).expect("the disk takes it");
    fs::write(folder.join("bare"), &saved[..saved.len() - 32]).expect("the disk takes it");
    let mut flipped = saved.clone();
    flipped[saved.len() / 2] ^= 1;
    fs::write(folder.join("flipped"), flipped).expect("the disk takes it");
    fs::write(folder.join("empty"), "").expect("the disk takes it");
    fs::create_dir(folder.join("full")).expect("a folder");
    fs::write(folder.join("full/file"), "").expect("the disk takes it");
    for line in [
        "flipped",
        "bare",
        "empty",
        "nofile",
        "saved --data-dir full",
        "saved --wal-dir full",
        "saved --name other",
        "saved --bump-revision 3",
        "saved --mark-compacted",
        "saved --initial-cluster x",
        "saved --initial-cluster default=nourl",
        "saved --initial-cluster=",
        "saved --initial-cluster default=http://127.0.0.1:1",
        "saved --initial-advertise-peer-urls http://localhost",
        "saved --initial-advertise-peer-urls http://localhost:2380,http://localhost:1",
        "saved other",
        "",
    ] {
        let words = ["snapshot", "restore"]
            .into_iter()
            .chain(line.split_whitespace());
        let words: Vec<&str> = words.collect();
        let call = |tool: &Path| {
            let mut command = Command::new(tool);
            let outcome = run(command.current_dir(&folder).args(&words), "", LIMIT);
            let last = outcome.stderr.trim_end().lines().last();
            let left = folder.join("default.etcd").exists();
            let _ = fs::remove_dir_all(folder.join("default.etcd"));
            ((outcome.code, last.unwrap_or_default().to_owned()), left)
        };
        let (official, _) = call(&tool);
        let (ours, left) = call(&peers::etcdutl());
        assert_eq!(ours, official, "{line}");
        assert!(!left, "{line}");
    }
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn a_directory_with_users_in_force_is_refused() {
    let Some(mut theirs) = Server::start(Subject::Official371, &[]) else {
        return;
    };
    block_on(async {
        let server = Connection::open(theirs.port()).await.expect("connects");
        let user = AuthUserAddRequest {
            name: "root".to_owned(),
            password: "secret".to_owned(),
            ..AuthUserAddRequest::default()
        };
        let added: Result<AuthUserAddResponse, _> =
            server.call("etcdserverpb.Auth/UserAdd", &user).await;
        added.expect("a user");
        let grant = AuthUserGrantRoleRequest {
            user: "root".to_owned(),
            role: "root".to_owned(),
        };
        let method = "etcdserverpb.Auth/UserGrantRole";
        let granted: Result<AuthUserGrantRoleResponse, _> = server.call(method, &grant).await;
        granted.expect("a role");
        let method = "etcdserverpb.Auth/AuthEnable";
        let enabled: Result<AuthEnableResponse, _> =
            server.call(method, &AuthEnableRequest {}).await;
        enabled.expect("switched on");
    });
    theirs.terminate();
    check_refused(&theirs, "authentication is on");
}

/// What a server did not write into its database before it was killed is in its log alone.
#[test]
fn changes_of_users_behind_the_database_wait_for_the_official_server() {
    // 3.7 also writes its database whenever it has set the storage version.
    for subject in [Subject::Official3423, Subject::Official351] {
        // The database is written once in an hour.
        let flags = ["--backend-batch-interval", "1h"];
        let Some(mut theirs) = Server::start(subject, &flags) else {
            continue;
        };
        block_on(async {
            // A compaction in the middle writes the database.
            official::fill(theirs.port()).await.expect("content");
            let connection = Connection::open(theirs.port()).await.expect("connects");
            let added = official::add_user_named(&connection, "late").await;
            added.expect("a user");
        });
        let before = look(&theirs);
        theirs.kill();
        check_refused(&theirs, "changes users or roles");
        // The remedy that the text names.
        theirs.launch();
        theirs.wait_ready();
        // It says that it is ready before it takes signals.
        assert_eq!(look(&theirs), before, "{subject:?}");
        theirs.terminate();
        let mut ours = Server::prepare(Subject::Kvorum, &[]).expect("ours is always there");
        folder::copy(&theirs.data_directory(), &ours.data_directory());
        ours.launch();
        ours.wait_ready();
        assert!(ours.logs("users-and-roles\":3", LIMIT), "{subject:?}");
        assert_eq!(look(&ours), before, "{subject:?}");
    }
}

/// The log may lie elsewhere, with ours as with official servers.
#[test]
fn a_directory_with_its_log_elsewhere_goes_out() {
    let folder = new_folder();
    let log = folder.join("log");
    let flags = ["--wal-dir", text(&log)];
    let mut ours = Server::start(Subject::Kvorum, &flags).expect("ours is always there");
    block_on(async {
        let connection = Connection::open(ours.port()).await.expect("connects");
        let put = official::put_one(&connection, "by-ours", vec![7; 100]);
        put.await.expect("a put");
    });
    let before = look(&ours);
    ours.terminate();
    let data = ours.data_directory();
    let line = ["migrate", "--data-dir", text(&data), "--to-etcd", "3.7"];
    let outcome = etcdutl(&line);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome.stderr.contains("give the server's --wal-dir"),
        "{outcome:?}"
    );
    let outcome = etcdutl(&[&line[..], &flags].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    if let Some(mut back) = Server::prepare(Subject::Official371, &flags) {
        folder::copy(&data, &back.data_directory());
        back.launch();
        back.wait_ready();
        assert_eq!(look(&back), before);
    }
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn a_damaged_database_is_refused_with_file_and_offset() {
    let Some(mut theirs) = Server::start(Subject::Official371, &[]) else {
        return;
    };
    block_on(official::fill(theirs.port())).expect("the server takes the content");
    theirs.terminate();
    let database = theirs.data_directory().join("member/snap/db");
    let mut bytes = fs::read(&database).expect("the database");
    for at in (2 * 4096..bytes.len()).step_by(4096) {
        bytes[at] ^= 0x55;
    }
    fs::write(&database, bytes).expect("the disk takes it");
    check_refused(&theirs, "member/snap/db: page ");
}

/// Ours ends with this text, and the official files are as they were.
fn check_refused(theirs: &Server, expected: &str) {
    let ours = Server::prepare(Subject::Kvorum, &[]).expect("ours is always there");
    folder::copy(&theirs.data_directory(), &ours.data_directory());
    let member = ours.data_directory().join("member");
    let before = folder::print(&member.join("snap"));
    let Outcome { code, stderr, .. } = run(&mut ours.command(ours.port()), "", LIMIT);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(expected), "{stderr}");
    assert_eq!(folder::print(&member.join("snap")), before);
    assert!(!member.join("state").join("manifest").exists());
}
