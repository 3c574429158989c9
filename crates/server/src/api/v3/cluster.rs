//! Members and users, as far as a lone member without users is asked about them.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::etcdserverpb::{AuthStatusRequest, MemberListRequest, MemberListResponse};

use super::{Api, body, decode_or_answer, status};
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

pub(super) fn auth_status(api: &Arc<Api>, message: Bytes, reply: ReplySink) {
    let request: AuthStatusRequest = decode_or_answer!(message, reply);
    api.member.propose(
        Payload::AuthStatus(request),
        api.limits.request_bytes_max,
        reply,
    );
}
