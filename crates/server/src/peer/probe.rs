//! How long a question to a peer takes, for the metrics and for the log.
//!
//! Source: etcd v3.7.1 `server/etcdserver/api/rafthttp/probing_status.go`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::link::Link;
use crate::transport::{AnswerBody, HttpConnection, OutgoingRequest};

/// Where probes are answered.
pub(super) const PATH: &str = "/raft/probing";

/// Time between two probes. Source: as above, `ConnReadTimeout - time.Second`.
const INTERVAL: Duration = Duration::from_secs(4);

/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Probes until the link ends.
pub(super) async fn run(link: Arc<Link>) {
    let mut kept: Option<HttpConnection> = None;
    loop {
        // Nothing but time makes a probe due.
        sleep(INTERVAL).await;
        let asked = timeout(link.local().read_timeout, probe(&link, &mut kept)).await;
        match asked {
            Ok(Ok(took)) => link.round_trip.observe_duration(took),
            Ok(Err(_)) | Err(_) => kept = None,
        }
    }
}

async fn probe(link: &Link, kept: &mut Option<HttpConnection>) -> io::Result<Duration> {
    let mut connection = match kept.take().filter(HttpConnection::is_open) {
        Some(connection) => connection,
        None => link.dial().await?,
    };
    let started = Instant::now();
    let request = OutgoingRequest {
        method: "GET",
        path: PATH.to_owned(),
        headers: Vec::new(),
        body: AnswerBody::Whole(bytes::Bytes::new()),
    };
    let response = connection.send(request).await?;
    let whole = response.body.whole(ANSWER_BYTES_MAX).await;
    whole.map_err(io::Error::other)?;
    *kept = Some(connection);
    Ok(started.elapsed())
}
