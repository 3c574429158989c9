//! The leadership changes hands: because an operator asks for it, or because the process ends; and the first election of all.
//!
//! Source: etcd v3.7.1 `server/etcdserver/server.go` (`moveLeader`, `TryTransferLeadershipOnShutdown`).

use std::time::{Duration, Instant};

use kvorum_member::core;
use kvorum_proto::ids::MemberId;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Member, reconfigure};

/// Pause before it is looked again who leads.
/// Source: as above, `interval` is a heartbeat; a hand-over takes a round trip and a sync.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Time that a process which ends gives its hand-over.
const ENDING_LIMIT: Duration = Duration::from_millis(500);

/// How long the first election waits for peers to be shortened, and how often it is looked for them.
/// Source: etcd v3.7.1 `server/etcdserver/server.go`, `adjustTicks`.
const PEERS_WAIT_MAX: Duration = Duration::from_secs(5);
const PEERS_LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Hands the leadership to `to` and waits until another member leads. It has no limit of its own.
pub(crate) async fn transfer(member: &Member, to: MemberId) {
    let started = Instant::now();
    let from = member.identity().member;
    info!("local-member-id" = %from, "current-leader-member-id" = %from, "transferee-member-id" = %to, "leadership transfer starting");
    member.transfer_leader(to);
    // Who leads is told by the machines, which tell nobody else.
    while member.is_leader() || !member.has_leader() {
        sleep(LOOK_AGAIN).await;
    }
    let took = started.elapsed();
    info!("local-member-id" = %from, "old-leader-member-id" = %from, "new-leader-member-id" = %member.leader(), took = %format_args!("{took:?}"), "leadership transfer finished");
}

/// Gives the leadership away, if this member has it, before its process ends.
pub(crate) async fn hand_over(member: &Member) {
    if !member.is_leader() {
        return info!("skipped leadership transfer; local server is not leader");
    }
    let Some(to) = successor(member).await else {
        return info!("skipped leadership transfer for single voting member cluster");
    };
    if timeout(ENDING_LIMIT, transfer(member, to)).await.is_err() {
        warn!("leadership transfer failed");
    }
}

/// The voter that is reached and has most of the log.
async fn successor(member: &Member) -> Option<MemberId> {
    let progress = reconfigure::progress(member).await.ok()?;
    let local = member.identity().member;
    let voters = progress
        .iter()
        .filter(|peer| !peer.is_learner && peer.member != local);
    let reached = |id| member.peers().is_some_and(|peers| peers.is_connected(id));
    voters
        .filter(|peer| reached(peer.member))
        .max_by_key(|peer| peer.matched)
        .map(|peer| peer.member)
}

/// Shortens the wait for the first election, once enough peers are there to hold it.
pub(crate) async fn advance_election(member: Member) {
    let end = Instant::now() + PEERS_WAIT_MAX;
    while Instant::now() < end && !member.has_leader() {
        let view = member.read_view();
        let voters: Vec<_> = view
            .cluster
            .roster
            .voters()
            .map(|voter| voter.id())
            .collect();
        let reached = |id: &&MemberId| member.peers().is_some_and(|peers| peers.is_connected(**id));
        let connected = 1 + voters.iter().filter(reached).count();
        if voters.len() > 1 && connected > voters.len() / 2 {
            info!(
                connected,
                voters = voters.len(),
                "initialized peer connections; fast-forwarding election ticks"
            );
            return member.peer_news(core::Input::AdvanceElection);
        }
        sleep(PEERS_LOOK_AGAIN).await;
    }
}
