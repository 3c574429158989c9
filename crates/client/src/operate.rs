//! Calls of operators: members, and the state of one server.
//!
//! Status, hash, defragmentation and leadership are matters of one member: give the client that
//! member's endpoint alone.

use kvorum_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, MemberAddRequest,
    MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse, MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
    alarm_request::AlarmAction, downgrade_request::DowngradeAction,
};
use kvorum_proto::ids::MemberId;

use crate::client::{Client, Method, Retry};
use crate::error::Error;

const MEMBER_LIST: Method<MemberListRequest, MemberListResponse> =
    Method::new("/etcdserverpb.Cluster/MemberList", Retry::Repeatable);
const MEMBER_ADD: Method<MemberAddRequest, MemberAddResponse> =
    Method::new("/etcdserverpb.Cluster/MemberAdd", Retry::Once);
const MEMBER_REMOVE: Method<MemberRemoveRequest, MemberRemoveResponse> =
    Method::new("/etcdserverpb.Cluster/MemberRemove", Retry::Once);
const MEMBER_UPDATE: Method<MemberUpdateRequest, MemberUpdateResponse> =
    Method::new("/etcdserverpb.Cluster/MemberUpdate", Retry::Once);
const MEMBER_PROMOTE: Method<MemberPromoteRequest, MemberPromoteResponse> =
    Method::new("/etcdserverpb.Cluster/MemberPromote", Retry::Once);
const ALARM: Method<AlarmRequest, AlarmResponse> =
    Method::new("/etcdserverpb.Maintenance/Alarm", Retry::Repeatable);
const DOWNGRADE: Method<DowngradeRequest, DowngradeResponse> =
    Method::new("/etcdserverpb.Maintenance/Downgrade", Retry::Once);
const STATUS: Method<StatusRequest, StatusResponse> =
    Method::new("/etcdserverpb.Maintenance/Status", Retry::Repeatable);
const HASH_KV: Method<HashKvRequest, HashKvResponse> =
    Method::new("/etcdserverpb.Maintenance/HashKV", Retry::Repeatable);
const DEFRAGMENT: Method<DefragmentRequest, DefragmentResponse> =
    Method::new("/etcdserverpb.Maintenance/Defragment", Retry::Once);
const MOVE_LEADER: Method<MoveLeaderRequest, MoveLeaderResponse> =
    Method::new("/etcdserverpb.Maintenance/MoveLeader", Retry::Repeatable);

impl Client {
    /// The members. Not `linearizable`: as the member that is asked knows them.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        self.call(&MEMBER_LIST, &MemberListRequest { linearizable })
            .await
    }

    /// Adds a member, as a learner or a voter.
    ///
    /// # Errors
    /// What the server refuses. When the connection broke it is unknown whether it was added.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<MemberAddResponse, Error> {
        let request = MemberAddRequest {
            peer_ur_ls: peer_urls,
            is_learner,
        };
        self.call(&MEMBER_ADD, &request).await
    }

    /// Removes a member.
    ///
    /// # Errors
    /// As [`Client::member_add`].
    pub async fn member_remove(&self, member: MemberId) -> Result<MemberRemoveResponse, Error> {
        self.call(&MEMBER_REMOVE, &MemberRemoveRequest { id: member.0 })
            .await
    }

    /// Replaces the peer URLs of a member.
    ///
    /// # Errors
    /// As [`Client::member_add`].
    pub async fn member_update(
        &self,
        member: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<MemberUpdateResponse, Error> {
        let request = MemberUpdateRequest {
            id: member.0,
            peer_ur_ls: peer_urls,
        };
        self.call(&MEMBER_UPDATE, &request).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// As [`Client::member_add`].
    pub async fn member_promote(&self, member: MemberId) -> Result<MemberPromoteResponse, Error> {
        self.call(&MEMBER_PROMOTE, &MemberPromoteRequest { id: member.0 })
            .await
    }

    /// The active alarms of all members.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn alarm_list(&self) -> Result<AlarmResponse, Error> {
        self.alarm(AlarmAction::Get, AlarmMember::default()).await
    }

    /// Ends one alarm; the answer names it if it was active.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn alarm_disarm(&self, alarm: AlarmMember) -> Result<AlarmResponse, Error> {
        self.alarm(AlarmAction::Deactivate, alarm).await
    }

    async fn alarm(&self, action: AlarmAction, alarm: AlarmMember) -> Result<AlarmResponse, Error> {
        let request = AlarmRequest {
            action: action.into(),
            member_id: alarm.member_id,
            alarm: alarm.alarm,
        };
        self.call(&ALARM, &request).await
    }

    /// Version, sizes and raft state of a member.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.call(&STATUS, &StatusRequest {}).await
    }

    /// Hash of a member's keys and their history up to `revision`, 0 for all.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        self.call(&HASH_KV, &HashKvRequest { revision }).await
    }

    /// Gives free space of a member back to the system.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn defragment(&self) -> Result<DefragmentResponse, Error> {
        self.call(&DEFRAGMENT, &DefragmentRequest {}).await
    }

    /// Hands leadership to another member. Only the leader does that.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn move_leader(&self, target: MemberId) -> Result<MoveLeaderResponse, Error> {
        self.call(
            &MOVE_LEADER,
            &MoveLeaderRequest {
                target_id: target.0,
            },
        )
        .await
    }

    /// Checks, starts or stops a downgrade of the cluster to `version`, as `X.Y`; to stop needs no
    /// version.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn downgrade(
        &self,
        action: DowngradeAction,
        version: &str,
    ) -> Result<DowngradeResponse, Error> {
        let request = DowngradeRequest {
            action: action.into(),
            version: version.to_owned(),
        };
        self.call(&DOWNGRADE, &request).await
    }
}
