//! The hurried pre-votes after a leader has died.
//!
//! A leader that ends, by whatever signal, closes its connections, and every peer sees that within
//! a round trip. Waiting for the election time-out would waste a second. But if all members asked
//! for votes at once, none would win, so they take turns: the voters that are left, in the order of
//! their ids and beginning at a place that the term decides, have two ticks each. A member whose log
//! is behind loses its turn and the next one wins.
//!
//! Only pre-votes are hurried. A leader that lives on, and has merely lost a connection, is not
//! disturbed: the others still hear of it and do not answer.

use kvorum_proto::ids::{MemberId, Term};

/// How many ticks a member has before it is the turn of the next: the second one repeats a question
/// that came before the other members knew.
const TURN_TICKS: u64 = 2;

/// How often everybody gets a turn; then election time-outs decide.
const ROUNDS: u64 = 3;

/// One member's turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hurry {
    /// The term whose leader is gone.
    pub(super) term: Term,
    began: u64,
    rank: u64,
    voters: u64,
}

impl Hurry {
    /// The turns of `member` among `voters` (ascending) from tick `now` on; none for who has no
    /// vote.
    pub(super) fn new(
        now: u64,
        term: Term,
        member: MemberId,
        gone: MemberId,
        voters: &[u64],
    ) -> Option<Self> {
        let left: Vec<u64> = voters.iter().copied().filter(|id| *id != gone.0).collect();
        let place = left.iter().position(|id| *id == member.0)? as u64;
        let voters = left.len() as u64;
        Some(Hurry {
            term,
            began: now,
            rank: (place + term.0) % voters,
            voters,
        })
    }

    /// Whether it is this member's turn at tick `now`.
    pub(super) fn is_turn(&self, now: u64) -> bool {
        let turn = (now - self.began) / TURN_TICKS;
        !self.is_over(now) && turn % self.voters == self.rank
    }

    /// Whether everybody has had all turns.
    pub(super) fn is_over(&self, now: u64) -> bool {
        (now - self.began) / TURN_TICKS >= ROUNDS * self.voters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_at_a_time_has_a_turn_and_each_has_three() {
        let voters = [1, 2, 3, 4, 5];
        let turns = |member| Hurry::new(7, Term(4), MemberId(member), MemberId(3), &voters);
        assert_eq!(turns(3), None, "who is gone");
        assert_eq!(turns(9), None, "who has no vote");
        let all: Vec<Hurry> = [1, 2, 4, 5].into_iter().filter_map(turns).collect();
        for now in 7..7 + 24 {
            let asking = all.iter().filter(|turn| turn.is_turn(now)).count();
            assert_eq!(asking, 1, "tick {now}");
        }
        assert!(all.iter().all(|turn| turn.is_over(31) && !turn.is_turn(31)));
    }
}
