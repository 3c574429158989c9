//! What is asked before a change is proposed, so that the cluster keeps a quorum of members that
//! have really started.
//!
//! Source: etcd v3.7.1 server/etcdserver/api/membership/cluster.go (IsReadyToAddVotingMember,
//! IsReadyToRemoveVotingMember, IsReadyToPromoteMember), server/etcdserver/server.go (moveLeader).

use kvorum_proto::ids::MemberId;

use super::{Member, Roster};
use crate::apply::RequestError;

/// Whether the started voters are still a quorum when a voter that has not started comes in. One
/// lone started voter may always get a second.
pub fn ready_to_add_voter(roster: &Roster) -> bool {
    let (started, voters) = count(roster.voters());
    (started == 1 && voters == 1) || started >= quorum(voters + 1)
}

/// Whether the started voters that remain are a quorum of the remaining ones.
pub fn ready_to_remove_voter(roster: &Roster, leaving: MemberId) -> bool {
    let (started, voters) = count(roster.voters().filter(|member| member.id() != leaving));
    started >= quorum(voters)
}

/// Whether the started voters, the learner counted among them, are a quorum.
pub fn ready_to_promote(roster: &Roster, learner: MemberId) -> bool {
    let counted = roster
        .members()
        .filter(|member| !member.is_learner || member.id() == learner);
    let (started, voters) = count(counted);
    started >= quorum(voters)
}

/// Answers a request to hand the leadership over, where `this` member got it; true when nothing
/// is to be done because the leader itself is meant.
///
/// # Errors
/// `NotLeader` when another member leads, `BadLeaderTransferee` when the target is no voter.
pub fn move_leader(
    roster: &Roster,
    this: MemberId,
    leader: MemberId,
    target: MemberId,
) -> Result<bool, RequestError> {
    if this != leader {
        return Err(RequestError::NotLeader);
    }
    match roster.member(target) {
        Some(member) if !member.is_learner => Ok(target == leader),
        _ => Err(RequestError::BadLeaderTransferee),
    }
}

fn count<'a>(voters: impl Iterator<Item = &'a Member>) -> (usize, usize) {
    voters.fold((0, 0), |(started, all), member| {
        (started + usize::from(member.is_started()), all + 1)
    })
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}
