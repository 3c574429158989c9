//! Changes of the membership, with the checks that come before they are proposed.
//!
//! Source: etcd v3.7.1 `server/etcdserver/server.go` (`mayAddMember`, `mayRemoveMember`, `mayPromoteMember`,
//! `PromoteMember`), `server/etcdserver/cluster_util.go` and `util.go` (`isConnectedFullySince`,
//! `numConnectedSince`).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kvorum_member::apply::{RequestError, Response};
use kvorum_member::cluster::identity::added_member_id;
use kvorum_member::cluster::{self, Change, Member as RosterMember, Roster};
use kvorum_member::consensus::PeerProgress;
use kvorum_proto::etcdserverpb;
use kvorum_proto::ids::MemberId;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::Member;
use crate::peer::ask;

/// How long all members must have been reached before the membership may change.
/// Source: etcd v3.7.1 `server/etcdserver/server.go`, `HealthInterval`.
const HEALTHY_FOR: Duration = Duration::from_secs(5);

/// A learner is in sync when it has this share of what the leader has, in percent.
/// Source: etcd v3.7.1 `server/etcdserver/server.go`, `readyPercentThreshold`.
const READY_PERCENT: u128 = 90;

/// Pause before the leader is looked for again.
const LEADER_RETRY: Duration = Duration::from_millis(50);

/// Time for the leader to answer a question that is passed on.
const PASS_ON_TIMEOUT: Duration = Duration::from_secs(5);

/// The members after a change.
pub(crate) type Members = Vec<etcdserverpb::Member>;

/// Adds a member, which begins as a learner or with a vote at once: the new member and all members.
///
/// # Errors
/// What the checks or the log say against it.
pub(crate) async fn add(
    member: &Member,
    urls: Vec<String>,
    is_learner: bool,
) -> Result<(etcdserverpb::Member, Members), RequestError> {
    // The id is made of the time, so that a member added again gets another one.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.unwrap_or_default().as_secs();
    let mut sorted = urls;
    sorted.sort();
    let id = added_member_id(&sorted, i64::try_from(seconds).unwrap_or(i64::MAX));
    let added = RosterMember::new(id, sorted, is_learner);
    let view = member.read_view();
    let roster = &view.cluster.roster;
    if is_learner {
        roster.check_learners(member.settings().learners_max)?;
    }
    may_add(member, roster, is_learner)?;
    match member.propose_change(Change::Add(added)).await? {
        Response::MemberAdd { member, members } => Ok((member, members)),
        other => Err(unexpected(&other)),
    }
}

fn may_add(member: &Member, roster: &Roster, is_learner: bool) -> Result<(), RequestError> {
    if !member.settings().strict_reconfig_check {
        return Ok(());
    }
    if !is_learner && !cluster::ready_to_add_voter(roster) {
        warn!("rejecting member add request; not enough healthy members");
        return Err(RequestError::MemberNotEnoughStarted);
    }
    let with_new = roster.voters().count() + 1;
    if connected(member, roster) < with_new / 2 + 1 && with_new > 2 {
        warn!(
            "rejecting member add request; local member has not been connected to all peers, reconfigure breaks active quorum"
        );
        return Err(RequestError::Unhealthy);
    }
    Ok(())
}

/// How many voters were reached for long enough, this member among them.
fn connected(member: &Member, roster: &Roster) -> usize {
    let local = member.identity().member;
    let since = Instant::now().checked_sub(HEALTHY_FOR);
    let reached = |id: MemberId| {
        let active = member.peers().and_then(|peers| peers.active_since(id));
        active.is_some_and(|active| since.is_some_and(|since| active <= since))
    };
    let voters = roster.voters().map(RosterMember::id);
    voters.filter(|id| *id == local || reached(*id)).count()
}

/// Removes a member.
///
/// # Errors
/// What the checks or the log say against it.
pub(crate) async fn remove(member: &Member, id: MemberId) -> Result<Members, RequestError> {
    let view = member.read_view();
    may_remove(member, &view.cluster.roster, id)?;
    members(member.propose_change(Change::Remove(id)).await?)
}

fn may_remove(member: &Member, roster: &Roster, id: MemberId) -> Result<(), RequestError> {
    let is_voter = roster.member(id).is_some_and(|found| !found.is_learner);
    if !member.settings().strict_reconfig_check || !is_voter {
        return Ok(());
    }
    if !cluster::ready_to_remove_voter(roster, id) {
        warn!("requested-member-remove-id" = %id, "rejecting member remove request; not enough healthy members");
        return Err(RequestError::MemberNotEnoughStarted);
    }
    let local = member.identity().member;
    let reached = member.peers().and_then(|peers| peers.active_since(id));
    if reached.is_none() && id != local {
        // It is down already: without it the quorum is only easier to reach.
        return Ok(());
    }
    let voters = roster.voters().count();
    let active = connected(member, roster);
    if active.saturating_sub(1) < 1 + voters.saturating_sub(1) / 2 && voters > 1 {
        warn!("requested-member-remove" = %id, "rejecting member remove request; local member has not been connected to all peers, reconfigure breaks active quorum");
        return Err(RequestError::Unhealthy);
    }
    Ok(())
}

/// Gives a member other peer addresses.
///
/// # Errors
/// What the log says against it.
pub(crate) async fn update(
    member: &Member,
    id: MemberId,
    urls: Vec<String>,
) -> Result<Members, RequestError> {
    let updated = RosterMember::new(id, urls, false);
    members(member.propose_change(Change::Update(updated)).await?)
}

/// Gives a learner a vote. Only the leader knows whether it is in sync, so the request is passed on to it.
///
/// # Errors
/// What the checks or the log say against it.
pub(crate) async fn promote(member: &Member, id: MemberId) -> Result<Members, RequestError> {
    let outcome = match promote_here(member, id).await {
        Err(RequestError::NotLeader) => promote_there(member, id).await,
        outcome => outcome,
    };
    count_promotion(member, &outcome);
    outcome
}

fn count_promotion(member: &Member, outcome: &Result<Members, RequestError>) {
    match outcome {
        Ok(_) => member.metrics().promote_successes.increment(),
        Err(error) => {
            let reason = crate::api::v3::text(*error);
            let failures = &member.metrics().promote_failures;
            failures.with(&[reason]).increment();
        }
    }
}

/// Gives a learner a vote, if this member leads, on this member's own account.
///
/// # Errors
/// As for [`promote_here`].
pub(crate) async fn promote_counted(
    member: &Member,
    id: MemberId,
) -> Result<Members, RequestError> {
    let outcome = promote_here(member, id).await;
    count_promotion(member, &outcome);
    outcome
}

/// Gives a learner a vote, if this member leads.
///
/// # Errors
/// `NotLeader`, and what the checks or the log say against it.
pub(crate) async fn promote_here(member: &Member, id: MemberId) -> Result<Members, RequestError> {
    check_in_sync(&progress(member).await?, member.identity().member, id)?;
    let view = member.read_view();
    let roster = &view.cluster.roster;
    if member.settings().strict_reconfig_check && !cluster::ready_to_promote(roster, id) {
        warn!("requested-member-promote-id" = %id, "rejecting member promote request; not enough healthy members");
        return Err(RequestError::MemberNotEnoughStarted);
    }
    let members = members(member.propose_change(Change::Promote(id)).await?)?;
    info!("promoted-member-id" = %id, "promoted a learner member");
    Ok(members)
}

async fn promote_there(member: &Member, id: MemberId) -> Result<Members, RequestError> {
    let dialer = member.dialer();
    let passed_on = async {
        loop {
            for url in leader_urls(member) {
                if let Some(outcome) = ask::promote(&dialer, &url, id, PASS_ON_TIMEOUT).await {
                    let members = outcome?;
                    return Ok(members.iter().map(RosterMember::to_wire).collect());
                }
            }
            // The leader may be another one by now.
            sleep(LEADER_RETRY).await;
        }
    };
    timeout(member.settings().request_timeout, passed_on)
        .await
        .unwrap_or(Err(RequestError::Timeout))
}

/// Where the leader's peers reach it; empty while there is none.
pub(crate) fn leader_urls(member: &Member) -> Vec<String> {
    let view = member.read_view();
    let leader = view.cluster.roster.member(member.leader());
    leader
        .map(|leader| leader.peer_urls.clone())
        .unwrap_or_default()
}

/// How far each member is, as the leader knows.
///
/// # Errors
/// `NotLeader` on any other member.
pub(crate) async fn progress(member: &Member) -> Result<Vec<PeerProgress>, RequestError> {
    let (sender, receiver) = oneshot::channel();
    member.inspect(move |core, _| _ = sender.send(core.progress()));
    let progress = receiver.await.map_err(|_| RequestError::Stopped)?;
    if progress.is_empty() {
        return Err(RequestError::NotLeader);
    }
    Ok(progress)
}

/// Whether a learner has nearly all that the leader has.
pub(crate) fn check_in_sync(
    progress: &[PeerProgress],
    leader: MemberId,
    learner: MemberId,
) -> Result<(), RequestError> {
    let matched = |id: MemberId| {
        let found = progress.iter().find(|peer| peer.member == id);
        found.map(|peer| u128::from(peer.matched.0))
    };
    let has = matched(learner).ok_or(RequestError::MemberNotFound)?;
    let all = matched(leader).unwrap_or_default();
    if has * 100 < all * READY_PERCENT {
        return Err(RequestError::LearnerNotReady);
    }
    Ok(())
}

fn members(response: Response) -> Result<Members, RequestError> {
    match response {
        Response::Members(members) | Response::MemberAdd { members, .. } => Ok(members),
        other => Err(unexpected(&other)),
    }
}

/// A change is answered with members; anything else would be a fault of ours.
fn unexpected(response: &Response) -> RequestError {
    warn!(
        ?response,
        "a membership change was answered with something else"
    );
    RequestError::UnknownMethod
}

#[cfg(test)]
mod tests {
    use kvorum_member::apply::RequestError;
    use kvorum_member::consensus::PeerProgress;
    use kvorum_proto::ids::{LogIndex, MemberId};

    use super::check_in_sync;

    #[test]
    fn a_learner_is_ready_at_nine_tenths() {
        let peer = |id, matched| PeerProgress {
            member: MemberId(id),
            is_learner: id != 1,
            matched: LogIndex(matched),
            is_active: true,
        };
        let check = |matched| {
            let progress = [peer(1, 1000), peer(2, matched)];
            check_in_sync(&progress, MemberId(1), MemberId(2))
        };
        assert_eq!(check(899), Err(RequestError::LearnerNotReady));
        assert_eq!(check(900), Ok(()));
        let unknown = check_in_sync(&[peer(1, 10)], MemberId(1), MemberId(2));
        assert_eq!(unknown, Err(RequestError::MemberNotFound));
    }
}
