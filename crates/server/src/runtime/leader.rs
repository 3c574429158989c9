//! Questions that only the leader can answer, asked of it on behalf of a client of this member.
//!
//! Source: etcd v3.7.1 `server/etcdserver/v3_server.go` (`LeaseRenew`, `LeaseTimeToLive`).

use std::time::Duration;

use kvorum_member::apply::RequestError;
use kvorum_member::core::Input;
use kvorum_member::lease;
use kvorum_proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use kvorum_proto::ids::LeaseId;
use tokio::time::{sleep, timeout};

use super::{Member, reconfigure};
use crate::peer::ask::{self, LeaseError};

/// Pause before the leader is looked for again. Source: as above, `LeaseRenew`.
const RETRY: Duration = Duration::from_millis(50);

/// Time for one question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps a lease alive: its lifetime in seconds, 0 when there is no such lease.
///
/// # Errors
/// No leader had an answer in time.
pub(crate) async fn keep_alive(member: &Member, id: LeaseId) -> Result<i64, RequestError> {
    let dialer = member.dialer();
    let asked = async {
        loop {
            if member.is_leader() {
                let ask = |token, id| Input::KeepAlive { token, id };
                if let lease::Output::KeptAlive { ttl_seconds, .. } =
                    member.lease_answer(id, ask).await?
                {
                    return Ok(ttl_seconds);
                }
            }
            for url in urls(member) {
                match ask::keep_alive(&dialer, &url, id, ANSWER_TIMEOUT).await {
                    Ok(ttl) => return Ok(ttl),
                    Err(LeaseError::NotFound) => return Ok(0),
                    Err(LeaseError::Other) => {}
                }
            }
            sleep(RETRY).await;
        }
    };
    bounded(member, asked).await
}

/// How long a lease has to live; a lifetime of -1 when there is no such lease.
///
/// # Errors
/// No leader had an answer in time.
pub(crate) async fn time_to_live(
    member: &Member,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, RequestError> {
    let id = LeaseId(request.id);
    let unknown = LeaseTimeToLiveResponse {
        id: id.0,
        ttl: -1,
        ..LeaseTimeToLiveResponse::default()
    };
    let dialer = member.dialer();
    let asked = async {
        loop {
            if member.is_leader() {
                return here(member, &request).await;
            }
            for url in urls(member) {
                match ask::time_to_live(&dialer, &url, request, ANSWER_TIMEOUT).await {
                    Ok(found) => return Ok(found),
                    Err(LeaseError::NotFound) => return Ok(unknown),
                    Err(LeaseError::Other) => {}
                }
            }
            sleep(RETRY).await;
        }
    };
    bounded(member, asked).await
}

/// The leadership came here while the question was under way.
async fn here(
    member: &Member,
    request: &LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse, RequestError> {
    let id = LeaseId(request.id);
    let ask = |token, id| Input::TimeToLive { token, id };
    let lease::Output::TimeToLive {
        ttl_seconds,
        granted_seconds,
        ..
    } = member.lease_answer(id, ask).await?
    else {
        return Err(RequestError::LeaderChanged);
    };
    let keys = if request.keys {
        member.lease_keys(id).await
    } else {
        Vec::new()
    };
    Ok(LeaseTimeToLiveResponse {
        header: None,
        id: id.0,
        ttl: ttl_seconds,
        granted_ttl: granted_seconds,
        keys,
    })
}

fn urls(member: &Member) -> Vec<String> {
    if member.is_leader() {
        return Vec::new();
    }
    reconfigure::leader_urls(member)
}

async fn bounded<T>(
    member: &Member,
    asked: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    let limit = member.settings().request_timeout;
    timeout(limit, asked)
        .await
        .unwrap_or(Err(RequestError::Timeout))
}
