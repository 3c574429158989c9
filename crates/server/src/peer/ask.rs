//! Questions to other members beside raft: who belongs to the cluster, which version they are, leases, promotions.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use kvorum_member::apply::RequestError;
use kvorum_member::cluster::{Member, Version};
use kvorum_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use kvorum_proto::ids::{ClusterId, LeaseId, MemberId};
use kvorum_proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use prost::Message as _;
use tokio::time::timeout;

use super::Dialer;
use crate::transport::{AnswerBody, IncomingResponse, OutgoingRequest};

/// Longest answer, in bytes: a list of members, or the keys of a lease.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A member's answer.
struct Answer {
    status: u16,
    cluster: Option<ClusterId>,
    body: Bytes,
}

/// Sends one request on a connection of its own; at most `limit` until the whole answer is there.
async fn ask(
    dialer: &Dialer,
    url: &str,
    method: &'static str,
    path: String,
    body: Vec<u8>,
    limit: Duration,
) -> io::Result<Answer> {
    let asked = async {
        let mut connection = dialer.dial(url, limit).await?;
        let mut headers = Vec::new();
        if !body.is_empty() {
            headers.push(("Content-Type", "application/protobuf".to_owned()));
        }
        let request = OutgoingRequest {
            method,
            path,
            headers,
            body: AnswerBody::Whole(body.into()),
        };
        let response = connection.send(request).await?;
        let (status, cluster) = (response.status, cluster_of(&response));
        let body = response.body.whole(ANSWER_BYTES_MAX).await;
        Ok(Answer {
            status,
            cluster,
            body: body.map_err(io::Error::other)?,
        })
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(limit, asked).await.map_err(late)?
}

fn cluster_of(response: &IncomingResponse) -> Option<ClusterId> {
    let id = response.header("x-etcd-cluster-id")?;
    u64::from_str_radix(id, 16).ok().map(ClusterId)
}

fn unexpected(answer: &Answer) -> io::Error {
    let text = String::from_utf8_lossy(&answer.body);
    io::Error::other(format!("status {}: {}", answer.status, text.trim()))
}

/// The members as the one at `url` knows them, and the cluster.
///
/// # Errors
/// It cannot be reached or answers something else.
pub(crate) async fn members(
    dialer: &Dialer,
    url: &str,
    limit: Duration,
) -> io::Result<(ClusterId, Vec<Member>)> {
    let answer = ask(dialer, url, "GET", "/members".to_owned(), Vec::new(), limit).await?;
    match (answer.status, answer.cluster) {
        (200, Some(cluster)) => Ok((cluster, serde_json::from_slice(&answer.body)?)),
        (200, None) => Err(io::Error::other("an answer without the id of a cluster")),
        _ => Err(unexpected(&answer)),
    }
}

/// What a member says of its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    /// Of the server.
    pub(crate) server: Version,
    /// Of its cluster, when it is decided.
    pub(crate) cluster: Option<Version>,
}

/// Asks for the versions of the member at `url`.
///
/// # Errors
/// It cannot be reached or answers something else.
pub(crate) async fn versions(dialer: &Dialer, url: &str, limit: Duration) -> io::Result<Versions> {
    let answer = ask(dialer, url, "GET", "/version".to_owned(), Vec::new(), limit).await?;
    if answer.status != 200 {
        return Err(unexpected(&answer));
    }
    let fields: serde_json::Value = serde_json::from_slice(&answer.body)?;
    let version = |name: &str| fields.get(name)?.as_str()?.parse::<Version>().ok();
    let server = version("etcdserver").ok_or_else(|| io::Error::other("no version in the answer"));
    Ok(Versions {
        server: server?,
        cluster: version("etcdcluster"),
    })
}

/// Why a question about a lease has no answer.
#[derive(Debug)]
pub(crate) enum LeaseError {
    /// The member does not know the lease, and it counts.
    NotFound,
    /// Another member may know better.
    Other,
}

impl From<io::Error> for LeaseError {
    fn from(_: io::Error) -> Self {
        Self::Other
    }
}

async fn ask_about_lease<M: prost::Message + Default>(
    dialer: &Dialer,
    url: &str,
    path: &str,
    body: Vec<u8>,
    limit: Duration,
) -> Result<M, LeaseError> {
    let answer = ask(dialer, url, "POST", path.to_owned(), body, limit).await?;
    match answer.status {
        200 => M::decode(answer.body).map_err(|_| LeaseError::Other),
        404 => Err(LeaseError::NotFound),
        _ => Err(LeaseError::Other),
    }
}

/// Keeps a lease alive at the member at `url`: its lifetime in seconds.
///
/// # Errors
/// See [`LeaseError`].
pub(crate) async fn keep_alive(
    dialer: &Dialer,
    url: &str,
    id: LeaseId,
    limit: Duration,
) -> Result<i64, LeaseError> {
    let body = LeaseKeepAliveRequest { id: id.0 }.encode_to_vec();
    let answer: LeaseKeepAliveResponse =
        ask_about_lease(dialer, url, "/leases", body, limit).await?;
    Ok(answer.ttl)
}

/// Asks the member at `url` how long a lease has to live.
///
/// # Errors
/// See [`LeaseError`].
pub(crate) async fn time_to_live(
    dialer: &Dialer,
    url: &str,
    request: LeaseTimeToLiveRequest,
    limit: Duration,
) -> Result<LeaseTimeToLiveResponse, LeaseError> {
    let body = LeaseInternalRequest {
        lease_time_to_live_request: Some(request),
    };
    let body = body.encode_to_vec();
    let answer: LeaseInternalResponse =
        ask_about_lease(dialer, url, "/leases/internal", body, limit).await?;
    answer.lease_time_to_live_response.ok_or(LeaseError::Other)
}

/// Passes a promotion on to the leader at `url`; `None` when it has no answer that counts.
pub(crate) async fn promote(
    dialer: &Dialer,
    url: &str,
    id: MemberId,
    limit: Duration,
) -> Option<Result<Vec<Member>, RequestError>> {
    let path = format!("/members/promote/{}", id.0);
    let answer = ask(dialer, url, "POST", path, Vec::new(), limit)
        .await
        .ok()?;
    let text = String::from_utf8_lossy(&answer.body);
    match answer.status {
        200 => serde_json::from_slice(&answer.body).ok().map(Ok),
        404 => Some(Err(RequestError::MemberNotFound)),
        412 if text.contains("in sync with leader") => Some(Err(RequestError::LearnerNotReady)),
        412 => Some(Err(RequestError::MemberNotLearner)),
        _ => None,
    }
}
