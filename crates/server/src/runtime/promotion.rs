//! Learners that have caught up get a vote without being asked for (`--experimental-kvorum-promote-learners`).
//!
//! The leader looks after its learners in steady intervals. One that answers and is close behind the end of the log
//! in two looks one after the other is promoted, with the same checks as by `member promote`. What is refused is tried
//! again at the next look. Closer than for a promotion by hand: nobody watches this one, and a voter that is far behind
//! makes the cluster wait.

use std::collections::BTreeSet;
use std::time::Duration;

use kvorum_member::consensus::PeerProgress;
use kvorum_proto::ids::{LogIndex, MemberId};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Member, reconfigure};

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Entries that a learner may be behind the leader.
const ENTRIES_BEHIND_MAX: u64 = 1000;

/// Promotes learners until the member stops.
pub(crate) async fn promote_learners(member: Member) {
    let mut ready = BTreeSet::new();
    while !member.is_stopping() {
        sleep(LOOK_AGAIN).await;
        let Ok(progress) = reconfigure::progress(&member).await else {
            // Another member leads and looks after them.
            ready.clear();
            continue;
        };
        let before = std::mem::replace(&mut ready, caught_up(&progress, member.identity().member));
        for &learner in ready.intersection(&before) {
            match reconfigure::promote_counted(&member, learner).await {
                Ok(_) => {
                    info!("promoted-member-id" = %learner, "a learner that had caught up was promoted");
                }
                Err(error) => {
                    warn!("learner-member-id" = %learner, %error, "a learner has caught up and cannot be promoted");
                }
            }
        }
    }
}

/// The learners that are close behind the leader.
fn caught_up(progress: &[PeerProgress], leader: MemberId) -> BTreeSet<MemberId> {
    let end = progress.iter().find(|peer| peer.member == leader);
    let end = end.map_or(LogIndex(0), |leader| leader.matched);
    let learners = progress
        .iter()
        .filter(|peer| peer.is_learner && peer.is_active && peer.matched > LogIndex(0));
    learners
        .filter(|learner| end.0.saturating_sub(learner.matched.0) <= ENTRIES_BEHIND_MAX)
        .map(|learner| learner.member)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learner_that_answers_and_is_close_behind_has_caught_up() {
        let peer = |id, is_learner, matched, is_active| PeerProgress {
            member: MemberId(id),
            is_learner,
            matched: LogIndex(matched),
            is_active,
        };
        let check = |learner: PeerProgress, expected: bool| {
            let progress = [
                peer(1, false, 5000, true),
                peer(3, false, 5000, true),
                learner,
            ];
            let found = caught_up(&progress, MemberId(1));
            let wanted = expected.then_some(learner.member).into_iter().collect();
            assert_eq!(found, wanted, "{learner:?}");
        };
        check(peer(2, true, 4000, true), true);
        check(peer(2, true, 3999, true), false);
        check(peer(2, true, 5000, false), false);
        // One that was never heard of, in a short log.
        let progress = [peer(1, false, 9, true), peer(2, true, 0, true)];
        assert_eq!(caught_up(&progress, MemberId(1)), BTreeSet::new());
    }
}
