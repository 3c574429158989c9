//! What a member answers on its peer port.
//!
//! Source: etcd v3.7.1 `server/etcdserver/api/rafthttp/http.go`, `api/etcdhttp/peer.go`,
//! `server/lease/leasehttp/http.go`.

use std::sync::Arc;

use bytes::Bytes;
use kvorum_member::apply::RequestError;
use kvorum_member::cluster::{SERVER_VERSION, Version};
use kvorum_member::core::Input;
use kvorum_member::lease;
use kvorum_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse, ResponseHeader,
};
use kvorum_proto::ids::{LeaseId, MemberId};
use kvorum_proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use kvorum_proto::raftpb;
use prost::Message as _;
use tracing::warn;

use super::snapshot::Form;
use super::wire::{self, StreamKind};
use super::{Peers, contact, probe, snapshot};
use crate::api::http::{HttpPort, reply};
use crate::process::version;
use crate::runtime::reconfigure;
use crate::transport::{
    AnswerBody, BodyError, HttpAnswer, HttpBody, HttpExchange, HttpHandler, HttpReply, HttpRequest,
    HttpResponse,
};

/// Longest message that comes by a request of its own, in bytes: as long as one on a stream.
const MESSAGE_BYTES_MAX: usize = wire::MESSAGE_BYTES_MAX as usize;

/// Longest request about a lease, in bytes.
/// Source: etcd v3.7.1 `server/lease/leasehttp/http.go`, `ServeHTTP`.
const LEASE_BYTES_MAX: usize = 64 * 1024;

/// Longest request for a hash, in bytes.
const HASH_BYTES_MAX: usize = 4 * 1024;

/// Answers the requests of peers.
pub(crate) struct PeerPort {
    peers: Peers,
    /// Answers what peers and clients ask alike.
    common: Arc<HttpPort>,
}

impl PeerPort {
    /// The port of a member with these peers.
    pub(crate) fn new(peers: Peers, common: Arc<HttpPort>) -> Self {
        Self { peers, common }
    }
}

impl HttpHandler for PeerPort {
    fn handle(&self, request: HttpRequest) -> HttpReply {
        self.common.handle(request)
    }

    fn exchange(&self, request: HttpRequest, body: HttpBody) -> HttpExchange {
        let peers = self.peers.clone();
        match request.path.as_str() {
            "/version" => {
                let reply = self.common.handle(request);
                Box::pin(async move { reply.await.into() })
            }
            _ => Box::pin(async move { route(&peers, &request, body).await }),
        }
    }
}

async fn route(peers: &Peers, request: &HttpRequest, body: HttpBody) -> HttpAnswer {
    let path = request.path.as_str();
    let response = match path {
        "/raft" => message(peers, request, body).await,
        "/raft/snapshot" => snapshot::receive(peers, request, body, Form::Database).await,
        snapshot::FILES_PATH if request.method == "GET" => snapshot::forms(peers),
        snapshot::FILES_PATH => snapshot::receive(peers, request, body, Form::Files).await,
        probe::PATH => probing(request),
        "/members" => only("GET", request, || members(peers)),
        "/members/hashkv" => hash_kv(peers, request, body).await,
        "/leases" => keep_alive(peers, request, body).await,
        "/leases/internal" => time_to_live(peers, request, body).await,
        "/downgrade/enabled" => only("GET", request, || downgrade_enabled(peers)),
        _ if path.starts_with("/raft/") => return stream(peers, request),
        _ if path.starts_with("/members/promote/") => promote(peers, request).await,
        _ => reply::not_found(),
    };
    response.into()
}

fn only(
    method: &str,
    request: &HttpRequest,
    answer: impl FnOnce() -> HttpResponse,
) -> HttpResponse {
    if request.method == method {
        answer()
    } else {
        reply::method_not_allowed(method)
    }
}

/// Adds the header that says which cluster answers.
pub(super) fn of_cluster(peers: &Peers, mut response: HttpResponse) -> HttpResponse {
    let cluster = peers.local().identity.cluster.to_string();
    response.headers.push(("X-Etcd-Cluster-ID", cluster));
    response
}

/// Checks that the sender speaks for this cluster in a version that both understand.
pub(super) fn check_sender(peers: &Peers, request: &HttpRequest) -> Result<(), HttpResponse> {
    let local = peers.local();
    let sender = request.header("x-server-from").unwrap_or_default();
    let stated = |name| request.header(name).unwrap_or("2.0.0").parse::<Version>();
    let (theirs, their_least) = (stated("x-server-version"), stated("x-min-cluster-version"));
    let ours_least: Result<Version, _> = contact::MIN_CLUSTER_VERSION.parse();
    let compatible = matches!(
        (theirs, their_least, ours_least),
        (Ok(theirs), Ok(their_least), Ok(ours_least))
            if theirs.of_cluster() >= ours_least && SERVER_VERSION >= their_least
    );
    let refuse = |text: &str| {
        warn!(
            "remote-peer-server-name" = sender,
            error = text,
            "request from remote peer refused"
        );
        Err(of_cluster(peers, reply::error(412, text)))
    };
    if !compatible {
        return refuse("incompatible version");
    }
    let cluster = request.header("x-etcd-cluster-id").unwrap_or_default();
    if cluster != local.identity.cluster.to_string() {
        return refuse("cluster ID mismatch");
    }
    Ok(())
}

/// Whether a message may come from who it says and is for this member.
pub(super) fn check_message(peers: &Peers, message: &raftpb::Message) -> Result<(), HttpResponse> {
    let local = peers.local();
    let from = MemberId(message.from());
    if local.member.read_view().cluster.roster.is_removed(from) {
        warn!("removed-member-id" = %from, "rejected Raft message from removed member");
        let body = "{\"message\":\"cannot process message from removed member\"}";
        let mut response = reply::ok("application/json", body);
        response.status = 403;
        return Err(of_cluster(peers, response));
    }
    if local.identity.member.0 != message.to() {
        warn!("mismatch-member-id" = %MemberId(message.to()), "rejected Raft message to mismatch member");
        let response = reply::error(500, "error processing raft message");
        return Err(of_cluster(peers, response));
    }
    Ok(())
}

async fn message(peers: &Peers, request: &HttpRequest, body: HttpBody) -> HttpResponse {
    if request.method != "POST" {
        return reply::method_not_allowed("POST");
    }
    if let Err(refused) = check_sender(peers, request) {
        return refused;
    }
    let refuse = |text| of_cluster(peers, reply::error(400, text));
    let Ok(bytes) = body.whole(MESSAGE_BYTES_MAX).await else {
        return refuse("error reading raft message");
    };
    let length = bytes.len() as u64;
    let Ok(message) = raftpb::Message::decode(bytes) else {
        return refuse("error unmarshalling raft message");
    };
    let local = peers.local();
    let label = MemberId(message.from()).to_string();
    let metrics = local.member.metrics();
    metrics.peer_received_bytes.with(&[&label]).add(length);
    if let Err(refused) = check_message(peers, &message) {
        metrics.peer_received_failures.with(&[&label]).increment();
        return refused;
    }
    match peers.link(MemberId(message.from())) {
        Some(link) => {
            link.heard_of.notify_waiters();
            link.arrived(Box::new(message)).await;
        }
        // A member that the log has not told of yet.
        None => local.member.peer_message(Box::new(message), None),
    }
    of_cluster(peers, empty(204))
}

pub(super) fn empty(status: u16) -> HttpResponse {
    HttpResponse {
        status,
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

fn probing(request: &HttpRequest) -> HttpResponse {
    only("GET", request, || {
        let now = crate::log::timestamp();
        reply::ok(
            "application/json",
            format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n"),
        )
    })
}

/// A peer asks for one of its two streams.
fn stream(peers: &Peers, request: &HttpRequest) -> HttpAnswer {
    let refuse = |response: HttpResponse| -> HttpAnswer {
        let mut response = of_cluster(peers, response);
        let version = SERVER_VERSION.to_string();
        response.headers.push(("X-Server-Version", version));
        response.into()
    };
    if request.method != "GET" {
        return refuse(reply::method_not_allowed("GET"));
    }
    if let Err(refused) = check_sender(peers, request) {
        return refused.into();
    }
    let (directory, name) = request.path.rsplit_once('/').unwrap_or_default();
    let kind = StreamKind::ALL
        .into_iter()
        .find(|kind| kind.path() == directory);
    let Some(kind) = kind else {
        return refuse(reply::error(404, "invalid path"));
    };
    let Ok(from) = u64::from_str_radix(name, 16).map(MemberId) else {
        return refuse(reply::error(404, "invalid from"));
    };
    let local = peers.local();
    if local.member.read_view().cluster.roster.is_removed(from) {
        warn!("remote-peer-id-stream-handler" = %local.identity.member, "remote-peer-id-from" = %from, "rejected stream from remote peer because it was removed");
        return refuse(empty(410));
    }
    let Some(link) = peers.link(from) else {
        warn!("remote-peer-id-from" = %from, "failed to find remote peer in cluster");
        return refuse(reply::error(404, "error sender not found"));
    };
    if request.header("x-raft-to") != Some(local.identity.member.to_string().as_str()) {
        return refuse(reply::error(412, "to field mismatch"));
    }
    HttpAnswer {
        status: 200,
        headers: vec![
            ("X-Etcd-Cluster-ID", local.identity.cluster.to_string()),
            ("X-Server-Version", SERVER_VERSION.to_string()),
        ],
        body: AnswerBody::Pieces(Box::new(link.attach(kind))),
    }
}

fn members(peers: &Peers) -> HttpResponse {
    let view = peers.local().member.read_view();
    let members: Vec<_> = view.cluster.roster.members().collect();
    // A list of strings and numbers has no way to fail.
    let mut body = serde_json::to_string(&members).unwrap_or_default();
    body.push('\n');
    of_cluster(peers, reply::ok("application/json", body))
}

fn downgrade_enabled(peers: &Peers) -> HttpResponse {
    let enabled = peers
        .local()
        .member
        .read_view()
        .cluster
        .downgrade
        .target
        .is_some();
    of_cluster(peers, reply::text(enabled.to_string()))
}

/// The request of a promotion that another member passes on to the leader.
async fn promote(peers: &Peers, request: &HttpRequest) -> HttpResponse {
    if request.method != "POST" {
        return reply::method_not_allowed("POST");
    }
    let name = request.path.trim_start_matches("/members/promote/");
    let Ok(id) = name.parse().map(MemberId) else {
        let text = format!("member {name} not found in cluster");
        return of_cluster(peers, reply::error(404, &text));
    };
    let response = match reconfigure::promote_here(&peers.local().member, id).await {
        Ok(_) => return members(peers),
        Err(RequestError::MemberNotFound) => reply::error(404, "membership: ID not found"),
        Err(RequestError::MemberNotLearner) => {
            reply::error(412, "membership: can only promote a learner member")
        }
        Err(RequestError::LearnerNotReady) => reply::error(
            412,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
        Err(error) => {
            warn!("member-id" = %id, %error, "failed to promote a member");
            let body = "{\"message\":\"Internal Server Error\"}";
            let mut response = reply::ok("application/json", body);
            response.status = 500;
            response
        }
    };
    of_cluster(peers, response)
}

/// Decodes a request about a lease.
async fn lease_request<M: prost::Message + Default>(
    request: &HttpRequest,
    body: HttpBody,
) -> Result<M, HttpResponse> {
    if request.method != "POST" {
        return Err(reply::method_not_allowed("POST"));
    }
    let bytes = body
        .whole(LEASE_BYTES_MAX)
        .await
        .map_err(|error| match error {
            BodyError::TooLong(_) => reply::error(413, "request body too large"),
            BodyError::Broken(_) => reply::error(400, "error reading body"),
        })?;
    M::decode(bytes).map_err(|_| reply::error(400, "error unmarshalling request"))
}

fn protobuf(message: &impl prost::Message) -> HttpResponse {
    reply::ok("application/protobuf", message.encode_to_vec())
}

async fn keep_alive(peers: &Peers, request: &HttpRequest, body: HttpBody) -> HttpResponse {
    let asked: LeaseKeepAliveRequest = match lease_request(request, body).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let id = LeaseId(asked.id);
    let ask = |token, id| Input::KeepAlive { token, id };
    match peers.local().member.lease_answer(id, ask).await {
        Ok(lease::Output::KeptAlive { ttl_seconds: 0, .. }) => reply::error(404, "lease not found"),
        Ok(lease::Output::KeptAlive { ttl_seconds, .. }) => {
            peers.local().member.metrics().lease_renewed.increment();
            protobuf(&LeaseKeepAliveResponse {
                header: Some(ResponseHeader::default()),
                id: id.0,
                ttl: ttl_seconds,
            })
        }
        Ok(_) => reply::error(400, "not a primary lessor"),
        Err(_) => reply::error(
            408,
            "waiting for node to catch up its applied index has timed out",
        ),
    }
}

async fn time_to_live(peers: &Peers, request: &HttpRequest, body: HttpBody) -> HttpResponse {
    let asked: LeaseInternalRequest = match lease_request(request, body).await {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let Some(asked) = asked.lease_time_to_live_request else {
        return reply::error(400, "error unmarshalling request");
    };
    let member = &peers.local().member;
    let id = LeaseId(asked.id);
    let ask = |token, id| Input::TimeToLive { token, id };
    let (ttl, granted_ttl) = match member.lease_answer(id, ask).await {
        Ok(lease::Output::TimeToLive {
            ttl_seconds: -1, ..
        }) => {
            return reply::error(404, "lease not found");
        }
        Ok(lease::Output::TimeToLive {
            ttl_seconds,
            granted_seconds,
            ..
        }) => (ttl_seconds, granted_seconds),
        Ok(_) => return reply::error(500, "not a primary lessor"),
        Err(_) => {
            return reply::error(
                408,
                "waiting for node to catch up its applied index has timed out",
            );
        }
    };
    let keys = if asked.keys {
        member.lease_keys(id).await
    } else {
        Vec::new()
    };
    protobuf(&LeaseInternalResponse {
        lease_time_to_live_response: Some(LeaseTimeToLiveResponse {
            header: Some(ResponseHeader::default()),
            id: id.0,
            ttl,
            granted_ttl,
            keys,
        }),
    })
}

async fn hash_kv(peers: &Peers, request: &HttpRequest, body: HttpBody) -> HttpResponse {
    if request.method != "GET" {
        return reply::method_not_allowed("GET");
    }
    let local = peers.local();
    let cluster = request.header("x-etcd-cluster-id").unwrap_or_default();
    if !cluster.is_empty() && cluster != local.identity.cluster.to_string() {
        return of_cluster(peers, reply::error(412, "cluster ID mismatch"));
    }
    let Ok(bytes) = body.whole(HASH_BYTES_MAX).await else {
        return of_cluster(peers, reply::error(400, "error reading body"));
    };
    let asked = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
    let asked = asked.and_then(|asked| asked.get("revision").map_or(Some(0), |it| it.as_i64()));
    let Some(revision) = asked else {
        return of_cluster(peers, reply::error(400, "error unmarshalling request"));
    };
    let view = local.member.view();
    let response = match view.hash_kv(revision) {
        Ok(hash) => {
            let body = format!(
                "{{\"header\":{{\"cluster_id\":{},\"member_id\":{},\"revision\":{}}},\"hash\":{},\"compact_revision\":{},\"hash_revision\":{}}}\n",
                local.identity.cluster.0,
                local.identity.member.0,
                view.current_revision(),
                hash.hash,
                hash.compact_revision,
                hash.revision,
            );
            let mut response = reply::ok("application/json", body);
            let version = ("X-Server-Version", version::ETCD.to_owned());
            response.headers.push(version);
            response
        }
        Err(error) => {
            let text = match RequestError::from(error) {
                RequestError::Compacted { .. } => "mvcc: required revision has been compacted",
                _ => "mvcc: required revision is a future revision",
            };
            reply::error(400, text)
        }
    };
    of_cluster(peers, response)
}
