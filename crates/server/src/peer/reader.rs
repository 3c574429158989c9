//! The streams that a peer writes and this member reads: dialed from here, so that a member can be reached as soon as
//! it can reach out itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::contact;
use super::link::Link;
use super::wire::{Decoder, Frame, StreamKind, WireError};
use crate::transport::{AnswerBody, HttpConnection, IncomingResponse, OutgoingRequest};

/// Pause after a stream ended or was refused; it doubles with each failure up to [`RETRY_MAX`].
/// Source: etcd v3.7.1 `rafthttp/stream.go`, `streamReader.run` (100 ms each time).
const RETRY_MIN: Duration = Duration::from_millis(100);

/// Longest pause. A peer that comes back is heard of earlier: by its own call.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Longest text of a refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 4096;

/// Why a stream is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The peer cannot be reached, or the connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came makes no sense.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The peer ended the stream.
    #[error("EOF")]
    Ended,
    /// Nothing came for too long.
    #[error("i/o timeout")]
    Silent,
    /// This member was removed from the cluster, the peer says.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// The peer does not know this member yet.
    #[error("member not found")]
    Unknown,
    /// The peer is another member than expected, of another cluster or of an incompatible version.
    #[error("{0}")]
    Refused(String),
}

impl StreamError {
    /// Whether the peer's side has ended the connection.
    fn is_closed_by_peer(&self) -> bool {
        match self {
            Self::Ended => true,
            Self::Io(error) => error.kind() != io::ErrorKind::TimedOut,
            _ => false,
        }
    }
}

/// Reads one stream of a peer, again and again, until the link ends.
pub(super) async fn run(link: Arc<Link>, kind: StreamKind) {
    let mut pause = RETRY_MIN;
    loop {
        match open(&link, kind).await {
            Ok((connection, response)) => {
                pause = RETRY_MIN;
                link.status.activate();
                info!(
                    "stream-reader-type" = kind.name(),
                    "local-member-id" = %link.local().identity.member,
                    "remote-peer-id" = %link.id,
                    "established TCP streaming connection with remote peer"
                );
                let reading = Reading::begin(&link);
                let error = read(&link, kind, response).await;
                drop(connection);
                warn!(
                    "stream-reader-type" = kind.name(),
                    "remote-peer-id" = %link.id,
                    error = %error,
                    "lost TCP streaming connection with remote peer"
                );
                link.status.deactivate("read", &error);
                reading.end(&error);
            }
            Err(StreamError::Removed) => return link.local().member.removed_by_peers(),
            Err(error) => {
                link.status.deactivate("dial", &error);
                if let StreamError::Refused(reason) = &error {
                    warn!("remote-peer-id" = %link.id, error = reason, "request sent was ignored by remote peer");
                }
            }
        }
        // A call from the peer shows that it is there again.
        let _ = timeout(pause, link.heard_of.notified()).await;
        pause = (2 * pause).min(RETRY_MAX);
    }
}

/// Counts a stream that is read.
struct Reading<'a>(&'a Link);

impl<'a> Reading<'a> {
    fn begin(link: &'a Link) -> Self {
        link.reading_begins();
        Self(link)
    }

    fn end(self, error: &StreamError) {
        self.0.reading_ends(error.is_closed_by_peer());
    }
}

async fn open(
    link: &Link,
    kind: StreamKind,
) -> Result<(HttpConnection, IncomingResponse), StreamError> {
    let local = link.local();
    let mut connection = link.dial().await?;
    let request = OutgoingRequest {
        method: "GET",
        path: format!("{}/{}", kind.path(), local.identity.member),
        headers: contact::headers(local, Some(link.id)),
        body: AnswerBody::Whole(bytes::Bytes::new()),
    };
    let late = |_| StreamError::Silent;
    let response = timeout(local.read_timeout, connection.send(request))
        .await
        .map_err(late)??;
    match response.status {
        200 => Ok((connection, response)),
        410 => Err(StreamError::Removed),
        404 => Err(StreamError::Unknown),
        412 => {
            let body = response.body.whole(REFUSAL_BYTES_MAX);
            let text = timeout(local.read_timeout, body).await.map_err(late)?;
            let text = text.unwrap_or_default();
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            Err(StreamError::Refused(text))
        }
        status => Err(StreamError::Refused(format!(
            "unhandled status {status} of the stream"
        ))),
    }
}

/// Hands on what comes until the stream ends.
async fn read(link: &Link, kind: StreamKind, mut response: IncomingResponse) -> StreamError {
    let local = link.local();
    let mut decoder = Decoder::new(kind, link.id.0, local.identity.member.0);
    loop {
        let piece = match timeout(local.read_timeout, response.body.piece()).await {
            Err(_) => return StreamError::Silent,
            Ok(Err(error)) => return error.into(),
            Ok(Ok(None)) => return StreamError::Ended,
            Ok(Ok(Some(piece))) => piece,
        };
        link.received_bytes.add(piece.len() as u64);
        decoder.push(&piece);
        loop {
            match decoder.frame() {
                Ok(None) => break,
                Ok(Some(Frame::Heartbeat)) => {}
                Ok(Some(Frame::Message(message))) => link.arrived(message).await,
                Err(error) => return error.into(),
            }
        }
    }
}
