//! Members, and users as far as a cluster without users is asked about them.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_member::apply::RequestError;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{
    AuthStatusRequest, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use kvorum_proto::ids::MemberId;

use super::{Api, body, decode_or_answer, status};
use crate::config::Url;
use crate::runtime::reconfigure;
use crate::transport::ReplySink;

pub(super) fn member_list(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: MemberListRequest = decode_or_answer!(message, reply);
    let member = api.member.clone();
    let answer = move || {
        body(&MemberListResponse {
            // Headers of this service carry no revision.
            header: Some(member.header(0)),
            members: member.read_view().cluster.roster.to_wire(),
        })
    };
    if !request.linearizable {
        return reply.send(answer());
    }
    api.member.read_index(move |confirmed| match confirmed {
        Ok(()) => reply.send(answer()),
        Err(error) => reply.send(Err(status(error))),
    });
}

pub(super) fn member_add(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: MemberAddRequest = decode_or_answer!(message, reply);
    let urls = request.peer_ur_ls.iter().map(|url| Url::parse(url));
    let urls: Result<Vec<Url>, _> = urls.collect();
    let urls: Vec<String> = match urls {
        Ok(urls) if !urls.is_empty() => urls.iter().map(Url::to_string).collect(),
        _ => return reply.send(Err(status(RequestError::MemberBadUrls))),
    };
    let member = api.member.clone();
    api.answer_by_task(reply, async move {
        let outcome = reconfigure::add(&member, urls, request.is_learner).await;
        let (added, members) = outcome.map_err(status)?;
        body(&MemberAddResponse {
            header: Some(member.header(0)),
            member: Some(added),
            members,
        })
    });
}

pub(super) fn member_remove(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: MemberRemoveRequest = decode_or_answer!(message, reply);
    let member = api.member.clone();
    api.answer_by_task(reply, async move {
        let outcome = reconfigure::remove(&member, MemberId(request.id)).await;
        body(&MemberRemoveResponse {
            header: Some(member.header(0)),
            members: outcome.map_err(status)?,
        })
    });
}

pub(super) fn member_update(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: MemberUpdateRequest = decode_or_answer!(message, reply);
    // Official servers commit anything here, and their peers crash on it.
    let urls = &request.peer_ur_ls;
    if urls.is_empty() || urls.iter().any(|url| Url::parse(url).is_err()) {
        return reply.send(Err(status(RequestError::MemberBadUrls)));
    }
    let member = api.member.clone();
    api.answer_by_task(reply, async move {
        let id = MemberId(request.id);
        let outcome = reconfigure::update(&member, id, request.peer_ur_ls).await;
        body(&MemberUpdateResponse {
            header: Some(member.header(0)),
            members: outcome.map_err(status)?,
        })
    });
}

pub(super) fn member_promote(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: MemberPromoteRequest = decode_or_answer!(message, reply);
    let member = api.member.clone();
    api.answer_by_task(reply, async move {
        let outcome = reconfigure::promote(&member, MemberId(request.id)).await;
        body(&MemberPromoteResponse {
            header: Some(member.header(0)),
            members: outcome.map_err(status)?,
        })
    });
}

pub(super) fn auth_status(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: AuthStatusRequest = decode_or_answer!(message, reply);
    api.member.propose(
        Payload::AuthStatus(request),
        api.limits.request_bytes_max,
        reply,
    );
}
