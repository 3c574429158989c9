//! Care of one member.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kvorum_member::apply::RequestError;
use kvorum_member::check;
use kvorum_member::cluster::{self, STORAGE_VERSION};
use kvorum_proto::etcdserverpb::downgrade_request::DowngradeAction;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{
    AlarmRequest, AlarmType, DefragmentRequest, DefragmentResponse, DowngradeRequest,
    DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse, MoveLeaderRequest,
    MoveLeaderResponse, StatusRequest, StatusResponse,
};
use kvorum_proto::ids::MemberId;
use kvorum_proto::membershippb::DowngradeInfoSetRequest;

use super::{Api, body, decode_or_answer, status as to_status};
use crate::process::version;
use crate::runtime::handover;
use crate::transport::ReplySink;

pub(super) fn alarm(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: AlarmRequest = decode_or_answer!(message, reply);
    match check::alarm(&request) {
        Ok(()) => api
            .member
            .propose(Payload::Alarm(request), api.limits.request_bytes_max, reply),
        Err(error) => reply.send(Err(to_status(error))),
    }
}

pub(super) fn status(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let _request: StatusRequest = decode_or_answer!(message, reply);
    let member = api.member.clone();
    api.member.inspect(move |_, consensus| {
        let view = member.read_view();
        let sizes = view.keys.sizes();
        let leader = consensus.leadership.leader;
        let no_leader =
            (leader == MemberId(0)).then(|| super::text(RequestError::NoLeader).to_owned());
        let alarms = view.cluster.alarms.list(AlarmType::None as i32);
        let alarms = alarms.iter().map(|alarm| {
            let kind =
                AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
            format!("memberID:{} alarm:{kind}", alarm.member_id)
        });
        reply.send(body(&StatusResponse {
            header: Some(member.header(view.keys.current_revision())),
            version: version::ETCD.to_owned(),
            db_size: sizes.total_bytes as i64,
            leader: leader.0,
            raft_index: consensus.committed.0,
            raft_term: consensus.leadership.term.0,
            raft_applied_index: view.applied.0,
            errors: no_leader.into_iter().chain(alarms).collect(),
            db_size_in_use: sizes.in_use_bytes as i64,
            is_learner: member.is_learner(),
            storage_version: STORAGE_VERSION.to_string(),
            db_size_quota: member.quota().shown(),
            downgrade_info: Some(view.cluster.downgrade.to_wire()),
        }));
    });
}

pub(super) fn defragment(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let _request: DefragmentRequest = decode_or_answer!(message, reply);
    let started = Instant::now();
    let member = api.member.clone();
    api.member.defragment(move || {
        member
            .metrics()
            .backend_defrag
            .observe_duration(started.elapsed());
        reply.send(body(&DefragmentResponse { header: None }));
    });
}

pub(super) fn hash(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let _request: HashRequest = decode_or_answer!(message, reply);
    let member = api.member.clone();
    reply.run(move || {
        let started = Instant::now();
        let view = member.view();
        let hash = view.hash_kv(0).map_err(|error| to_status(error.into()))?;
        member.metrics().hash.observe_duration(started.elapsed());
        body(&HashResponse {
            header: Some(member.header(view.current_revision())),
            hash: hash.hash,
        })
    });
}

pub(super) fn hash_kv(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: HashKvRequest = decode_or_answer!(message, reply);
    let member = api.member.clone();
    reply.run(move || {
        let started = Instant::now();
        let view = member.view();
        let hash = view
            .hash_kv(request.revision)
            .map_err(|error| to_status(error.into()))?;
        member
            .metrics()
            .hash_revision
            .observe_duration(started.elapsed());
        body(&HashKvResponse {
            header: Some(member.header(view.current_revision())),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.revision,
        })
    });
}

pub(super) fn move_leader(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: MoveLeaderRequest = decode_or_answer!(message, reply);
    let member = &api.member;
    let roster = &member.read_view().cluster.roster;
    let this = member.identity().member;
    match cluster::move_leader(roster, this, member.leader(), MemberId(request.target_id)) {
        Ok(true) => reply.send(body(&MoveLeaderResponse { header: None })),
        Ok(false) => {
            let member = member.clone();
            api.answer_by_task(reply, async move {
                let limit = member.settings().request_timeout;
                let moved = handover::transfer(&member, MemberId(request.target_id));
                if tokio::time::timeout(limit, moved).await.is_err() {
                    return Err(to_status(RequestError::TimeoutLeaderTransfer));
                }
                body(&MoveLeaderResponse { header: None })
            });
        }
        Err(error) => reply.send(Err(to_status(error))),
    }
}

pub(super) fn downgrade(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: DowngradeRequest = decode_or_answer!(message, reply);
    let member = api.member.clone();
    let Ok(action) = DowngradeAction::try_from(request.action) else {
        return reply.send(Err(to_status(RequestError::UnknownMethod)));
    };
    api.member.read_index(move |confirmed| {
        let view = member.read_view();
        let checked = confirmed.and_then(|()| match action {
            DowngradeAction::Cancel => Ok(None),
            DowngradeAction::Validate | DowngradeAction::Enable => {
                let target = cluster::downgrade_target(&request.version)?;
                let state = &view.cluster;
                cluster::check_downgrade(state.version, &state.downgrade, target)?;
                Ok(Some(target.to_string()))
            }
        });
        let target = match checked {
            Ok(target) => target,
            Err(error) => return reply.send(Err(to_status(error))),
        };
        let version = view
            .cluster
            .version
            .map(cluster::Version::short)
            .unwrap_or_default();
        let answer = {
            let member = member.clone();
            move || {
                let header = Some(member.header(member.view().current_revision()));
                body(&DowngradeResponse { header, version })
            }
        };
        if action == DowngradeAction::Validate {
            return reply.send(answer());
        }
        let set = DowngradeInfoSetRequest {
            enabled: action == DowngradeAction::Enable,
            ver: target.unwrap_or_default(),
        };
        member.propose_inside(
            Payload::DowngradeInfoSet(set),
            move |outcome| match outcome {
                Ok(_) => reply.send(answer()),
                Err(error) => reply.send(Err(to_status(error))),
            },
        );
    });
}
