//! Messages to a peer that has not opened its streams: one request each.
//!
//! Source: etcd v3.7.1 `server/etcdserver/api/rafthttp/pipeline.go`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kvorum_proto::raftpb;
use prost::Message as _;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tracing::warn;

use super::contact;
use super::link::Link;
use crate::transport::{AnswerBody, HttpConnection, OutgoingRequest};

/// Messages that may wait. Source: as above, `pipelineBufSize`.
pub(super) const QUEUED_MESSAGES_MAX: usize = 64;

/// Requests that are under way at once.
pub(super) const CONNECTIONS: usize = 2;

/// Time for a request to be answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest text of a refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 4096;

pub(super) type Queue = Arc<Mutex<mpsc::Receiver<Box<raftpb::Message>>>>;

/// Sends what is queued, one message after another, until the link ends.
pub(super) async fn run(link: Arc<Link>, queue: Queue) {
    let mut kept: Option<HttpConnection> = None;
    loop {
        let Some(message) = queue.lock().await.recv().await else {
            return;
        };
        match post(&link, &mut kept, &message).await {
            Ok(()) => link.status.activate(),
            Err(error) => {
                kept = None;
                link.sent_failures.increment();
                link.status.deactivate("write", &error);
                link.unreachable();
            }
        }
    }
}

async fn post(
    link: &Link,
    kept: &mut Option<HttpConnection>,
    message: &raftpb::Message,
) -> io::Result<()> {
    let mut connection = match kept.take().filter(HttpConnection::is_open) {
        Some(connection) => connection,
        None => link.dial().await?,
    };
    let local = link.local();
    let body = message.encode_to_vec();
    let length = body.len() as u64;
    let mut headers = contact::headers(local, None);
    headers.push(("Content-Type", "application/protobuf".to_owned()));
    let request = OutgoingRequest {
        method: "POST",
        path: "/raft".to_owned(),
        headers,
        body: AnswerBody::Whole(body.into()),
    };
    let answered = async {
        let response = connection.send(request).await?;
        let status = response.status;
        let text = response.body.whole(REFUSAL_BYTES_MAX).await;
        io::Result::Ok((status, text.unwrap_or_default()))
    };
    let (status, text) = timeout(ANSWER_TIMEOUT, answered)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    check(link, status, &text)?;
    link.sent_bytes.add(length);
    *kept = Some(connection);
    Ok(())
}

/// Whether the answer to a message or a snapshot says that it was taken.
pub(super) fn check(link: &Link, status: u16, text: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    match status {
        204 => Ok(()),
        412 => {
            warn!("remote-peer-id" = %link.id, error = text, "request sent was ignored by remote peer");
            Err(io::Error::other(text.to_owned()))
        }
        403 if text.contains("removed member") => {
            link.local().member.removed_by_peers();
            Err(io::Error::other(
                "the member has been permanently removed from the cluster",
            ))
        }
        status => Err(io::Error::other(format!(
            "unexpected http status {status} while posting: {text}"
        ))),
    }
}
