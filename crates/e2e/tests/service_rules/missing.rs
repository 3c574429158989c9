//! What this release does not do yet is refused by name, so that nobody takes it for a mistake of
//! his own.

use kvorum_e2e::grpc::block_on;
use kvorum_e2e::peers::Subject;
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::{MemberListRequest, MemberListResponse};

use crate::{answer, begin, connect, put, refused};

const AUTH: &str = "authentication is not supported by this release";

#[test]
fn missing_calls_are_refused_by_name() {
    let unimplemented = [
        ("etcdserverpb.Auth/AuthEnable", AUTH),
        ("etcdserverpb.Auth/AuthDisable", AUTH),
        ("etcdserverpb.Auth/Authenticate", AUTH),
        ("etcdserverpb.Auth/UserAdd", AUTH),
        ("etcdserverpb.Auth/UserGet", AUTH),
        ("etcdserverpb.Auth/UserList", AUTH),
        ("etcdserverpb.Auth/UserDelete", AUTH),
        ("etcdserverpb.Auth/UserChangePassword", AUTH),
        ("etcdserverpb.Auth/UserGrantRole", AUTH),
        ("etcdserverpb.Auth/UserRevokeRole", AUTH),
        ("etcdserverpb.Auth/RoleAdd", AUTH),
        ("etcdserverpb.Auth/RoleGet", AUTH),
        ("etcdserverpb.Auth/RoleList", AUTH),
        ("etcdserverpb.Auth/RoleDelete", AUTH),
        ("etcdserverpb.Auth/RoleGrantPermission", AUTH),
        ("etcdserverpb.Auth/RoleRevokePermission", AUTH),
    ];
    let server = Server::start(Subject::Kvorum, &[]).expect("ours is always there");
    block_on(async {
        let connection = connect(&server).await;
        for (method, text) in unimplemented {
            // A member of a message that all of them can read: the empty one.
            let mut call = begin(&connection, method, &()).await;
            let told = answer::<()>(&mut call).await;
            assert_eq!(told, refused(12, text), "{method}");
        }
        put(&connection, "k", "the connection lives").await;
        let request = MemberListRequest { linearizable: true };
        let list = connection.call("etcdserverpb.Cluster/MemberList", &request);
        let list: MemberListResponse = list.await.expect("members");
        assert_eq!(list.members.len(), 1);
    });
}
