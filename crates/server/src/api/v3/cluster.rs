//! Members and users, as far as a lone member without users is asked about them.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_proto::etcdserverpb::{
    AuthStatusRequest, AuthStatusResponse, MemberListRequest, MemberListResponse,
};

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
    let _request: AuthStatusRequest = decode_or_answer!(message, reply);
    let view = api.member.read_view();
    reply.send(body(&AuthStatusResponse {
        header: Some(api.member.header(view.keys.current_revision())),
        enabled: view.cluster.auth.enabled,
        auth_revision: view.cluster.auth.revision,
    }));
}
