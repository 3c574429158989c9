//! Why a proposal was not answered in time, as far as this member can tell.
//!
//! Source: etcd v3.7.1 `server/etcdserver/server.go` (`parseProposeCtxErr`), `util.go` (`isConnectedToQuorumSince`).

use std::time::{Duration, Instant};

use kvorum_member::apply::RequestError;
use kvorum_member::cluster::Member as RosterMember;
use kvorum_proto::ids::MemberId;

use super::Member;

/// Says why a proposal that came at `since` has run out of time. `elected` is when the present leader was, if there
/// was any.
pub(super) fn reason(
    member: &Member,
    since: Instant,
    elected: Option<Instant>,
    election_timeout: Duration,
) -> RequestError {
    let reached = |id: MemberId| {
        let active = member.peers().and_then(|peers| peers.active_since(id));
        active.is_some_and(|active| active < since)
    };
    let leader = member.leader();
    if came_between_leaders(since, elected, election_timeout) {
        RequestError::TimeoutDueToLeaderFail
    } else if leader == MemberId(0) {
        RequestError::Timeout
    } else if leader == member.identity().member {
        let view = member.read_view();
        let members = view.cluster.roster.members().map(RosterMember::id);
        let members: Vec<MemberId> = members.collect();
        let connected = members.iter().filter(|id| **id == leader || reached(**id));
        if connected.count() > members.len() / 2 {
            RequestError::Timeout
        } else {
            RequestError::TimeoutDueToConnectionLost
        }
    } else if reached(leader) {
        RequestError::Timeout
    } else {
        RequestError::TimeoutDueToConnectionLost
    }
}

/// Whether the proposal came when the leader before was probably lost already.
fn came_between_leaders(
    since: Instant,
    elected: Option<Instant>,
    election_timeout: Duration,
) -> bool {
    elected.is_some_and(|elected| {
        since < elected && elected.saturating_duration_since(since) < 2 * election_timeout
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_election_timeouts_before_the_election_belong_to_the_leader_before() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let check = |since, elected: Option<u64>, expected: bool| {
            let found = came_between_leaders(at(since), elected.map(at), Duration::from_secs(1));
            assert_eq!(found, expected, "{since} {elected:?}");
        };
        check(10, None, false);
        check(10, Some(9), false);
        check(10, Some(10), false);
        check(10, Some(11), true);
        check(10, Some(12), false);
    }
}
