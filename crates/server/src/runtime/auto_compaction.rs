//! Turns the machine of automatic compaction: gives it the time, proposes what it wants, and says so.
//!
//! Source: etcd v3.7.1 `server/etcdserver/api/v3compactor/periodic.go` and `revision.go` (log lines), `server.go`
//! (`updateLeadership`: only the leader compacts).

use std::time::Instant;

use kvorum_member::apply::RequestError;
use kvorum_member::auto_compaction::{AutoCompaction, Retention};
use kvorum_proto::etcdserverpb::CompactionRequest;
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Clock, Member};
use crate::config::Span;

/// Compacts by this retention until the member stops.
pub(crate) async fn run(member: Member, retention: Retention) {
    let clock = Clock::start();
    let revision = |member: &Member| member.read_view().keys.current_revision();
    let mut machine = AutoCompaction::new(retention, clock.now(), revision(&member));
    while !member.is_stopping() {
        let Some(deadline) = machine.deadline() else {
            return;
        };
        sleep(clock.until(deadline)).await;
        let wanted = machine.step(clock.now(), revision(&member), member.is_leader());
        if let Some(wanted) = wanted {
            let went = compact(&member, retention, wanted).await;
            machine.done(clock.now(), wanted, went, revision(&member));
        }
    }
}

/// Whether history up to `revision` is out of reach now.
async fn compact(member: &Member, retention: Retention, revision: i64) -> bool {
    let started = Instant::now();
    match retention {
        Retention::Time(period) => info!(
            revision,
            "compact-period" = %Span::from(period),
            "starting auto periodic compaction"
        ),
        Retention::Revisions(kept) => info!(
            revision,
            "revision-compaction-retention" = kept,
            "starting auto revision compaction"
        ),
    }
    let outcome = propose(member, revision).await;
    let took = Span::from(started.elapsed());
    let retry = Span::from(retention.interval());
    match (retention, outcome) {
        // Somebody else was faster.
        (Retention::Time(period), Ok(()) | Err(RequestError::Compacted { .. })) => info!(
            revision,
            "compact-period" = %Span::from(period),
            took = %took,
            "completed auto periodic compaction"
        ),
        (Retention::Revisions(kept), Ok(()) | Err(RequestError::Compacted { .. })) => info!(
            revision,
            "revision-compaction-retention" = kept,
            took = %took,
            "completed auto revision compaction"
        ),
        (Retention::Time(period), Err(error)) => {
            warn!(
                revision,
                "compact-period" = %Span::from(period),
                "retry-interval" = %retry,
                %error,
                "failed auto periodic compaction"
            );
            return false;
        }
        (Retention::Revisions(kept), Err(error)) => {
            warn!(
                revision,
                "revision-compaction-retention" = kept,
                "retry-interval" = %retry,
                %error,
                "failed auto revision compaction"
            );
            return false;
        }
    }
    true
}

async fn propose(member: &Member, revision: i64) -> Result<(), RequestError> {
    let request = CompactionRequest {
        revision,
        physical: false,
    };
    let (sender, receiver) = oneshot::channel();
    let done = move |outcome| _ = sender.send(outcome);
    member.propose_inside(Payload::Compaction(request), done);
    let outcome: Result<_, RequestError> = receiver.await.unwrap_or(Err(RequestError::Stopped));
    outcome.map(drop)
}
