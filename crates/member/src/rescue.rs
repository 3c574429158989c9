//! A member goes on alone: its data is saved when the others are lost for good (`--force-new-cluster`).
//!
//! # Theory
//!
//! Nobody can say any more what a quorum had agreed on beyond the commit index that this member knows, so entries
//! behind it are dropped. Then one change of the membership for each other member stands in the log as if it had been
//! agreed on: the member comes out as the only voter, under its old id, in the cluster with the old id.
//!
//! The entries of a member that is the only voter already are committed by being durable, whether or not the log says
//! so. None of them is dropped: a flag that is left standing in a unit file must not lose what was acknowledged.
//!
//! The changes, and the commit index that covers them, are one group of the log. A crash leaves all of them or, when
//! the group was torn, none: then the flag does the same once more.
//!
//! Source: etcd v3.7.1 `server/etcdserver/bootstrap.go` (`bootstrapWALFromSnapshot`), `server/storage/util.go`
//! (`CreateConfigChangeEnts`).

use kvorum_proto::ids::MemberId;
use kvorum_proto::raftpb::{ConfChange, Entry, EntryType};
use kvorum_storage::wal::Recovered;
use prost::Message as _;

use crate::cluster::{Change, Member, Roster};

/// Why a member cannot go on alone. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RescueError {
    /// It has no vote of its own, so nobody would lead.
    #[error(
        "member {0} is a learner and cannot go on alone; force a new cluster with the data of a voter, \
         or restore a snapshot of this one"
    )]
    Learner(MemberId),
    /// The cluster, as far as this member knows, goes on without it.
    #[error(
        "member {0} is no member of the cluster in its data and cannot go on alone; force a new cluster with the data \
         of another member, or restore a snapshot of this one"
    )]
    Stranger(MemberId),
    /// An entry cannot be read.
    #[error("the membership change at index {0} cannot be read: {1}")]
    Change(u64, String),
}

/// What it takes for a member to go on alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rescue {
    /// What comes behind the recovered entries, to be made durable at once; empty when nobody else is there.
    pub changes: Vec<Entry>,
    /// How many entries were dropped, which nobody can know to be committed.
    pub discarded: usize,
    /// Who leaves, ascending.
    pub removed: Vec<MemberId>,
}

/// Drops what is not committed from a recovered log and says how `this` becomes the only member. `roster` stands at
/// the snapshot of the log.
///
/// # Errors
/// See [`RescueError`].
pub fn go_alone(
    this: MemberId,
    roster: &Roster,
    recovered: &mut Recovered,
) -> Result<Rescue, RescueError> {
    let mut roster = roster.clone();
    let mut kept = 0;
    for entry in &recovered.entries {
        let is_committed = entry.index() <= recovered.hard_state.commit();
        if !is_committed && !is_only_voter(&roster, this) {
            break;
        }
        change_roster(&mut roster, entry)?;
        kept += 1;
    }
    match roster.member(this) {
        Some(member) if !member.is_learner => {}
        Some(_) => return Err(RescueError::Learner(this)),
        None => return Err(RescueError::Stranger(this)),
    }
    let discarded = recovered.entries.len() - kept;
    recovered.entries.truncate(kept);
    let commit = recovered.snapshot.index() + kept as u64;
    recovered.hard_state.commit = Some(commit);
    let others = roster.members().map(Member::id).filter(|id| *id != this);
    let removed: Vec<MemberId> = others.collect();
    let term = recovered.hard_state.term();
    let changes = (commit + 1..).zip(&removed).map(|(index, id)| Entry {
        r#type: Some(EntryType::EntryConfChange as i32),
        term: Some(term),
        index: Some(index),
        data: Some(
            Change::Remove(*id)
                .to_wire(0, &roster)
                .encode_to_vec()
                .into(),
        ),
    });
    Ok(Rescue {
        changes: changes.collect(),
        discarded,
        removed,
    })
}

fn is_only_voter(roster: &Roster, this: MemberId) -> bool {
    let mut voters = roster.voters();
    voters.next().is_some_and(|voter| voter.id() == this) && voters.next().is_none()
}

/// What apply will make of an entry.
fn change_roster(roster: &mut Roster, entry: &Entry) -> Result<(), RescueError> {
    if entry.r#type() != EntryType::EntryConfChange {
        return Ok(());
    }
    let unreadable = |reason: String| RescueError::Change(entry.index(), reason);
    let change = ConfChange::decode(entry.data()).map_err(|error| unreadable(error.to_string()))?;
    let change = Change::from_wire(&change).map_err(|error| unreadable(error.to_string()))?;
    if roster.check(&change).is_ok() {
        roster.apply(change);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kvorum_proto::ids::ClusterId;
    use kvorum_proto::raftpb::HardState;
    use kvorum_proto::walpb::Snapshot;
    use kvorum_storage::wal::Metadata;

    use super::*;

    const THIS: MemberId = MemberId(2);

    fn member(id: u64, is_learner: bool) -> Member {
        Member::new(MemberId(id), vec![format!("http://m{id}")], is_learner)
    }

    fn roster(voters: &[u64], learners: &[u64]) -> Roster {
        let mut roster = Roster::new();
        let voters = voters.iter().map(|id| member(*id, false));
        for member in voters.chain(learners.iter().map(|id| member(*id, true))) {
            roster.apply(Change::Add(member));
        }
        roster
    }

    /// A log behind a snapshot at index 10, whose entries are changes of the membership or ordinary ones.
    fn recovered(entries: &[Option<Change>], commit: u64) -> Recovered {
        let entry = |(index, change): (u64, &Option<Change>)| {
            let change = change.as_ref();
            let data = change.map(|change| change.to_wire(9, &Roster::new()).encode_to_vec());
            let kind = match data {
                Some(_) => EntryType::EntryConfChange,
                None => EntryType::EntryNormal,
            };
            Entry {
                r#type: Some(kind as i32),
                term: Some(3),
                index: Some(index),
                data: data.map(Bytes::from),
            }
        };
        Recovered {
            metadata: Metadata {
                node: THIS,
                cluster: ClusterId(1),
            },
            hard_state: HardState {
                term: Some(4),
                vote: Some(1),
                commit: Some(commit),
            },
            snapshot: Snapshot {
                index: Some(10),
                term: Some(3),
                conf_state: None,
            },
            entries: (11..).zip(entries).map(entry).collect(),
        }
    }

    /// The entries kept, those dropped, and who leaves.
    fn check(
        roster: &Roster,
        entries: &[Option<Change>],
        commit: u64,
        (kept, discarded, removed): (usize, usize, &[u64]),
    ) {
        let mut log = recovered(entries, commit);
        let rescue = go_alone(THIS, roster, &mut log).expect("a voter");
        assert_eq!((log.entries.len(), rescue.discarded), (kept, discarded));
        let ids: Vec<u64> = rescue.removed.iter().map(|id| id.0).collect();
        assert_eq!(ids, removed);
        let end = 10 + kept as u64;
        assert_eq!(log.hard_state.commit(), end);
        for (place, change) in rescue.changes.iter().enumerate() {
            assert_eq!((change.index(), change.term()), (end + 1 + place as u64, 4));
            let wire = ConfChange::decode(change.data()).expect("a change");
            let left = Change::from_wire(&wire).expect("a change");
            assert_eq!(left, Change::Remove(rescue.removed[place]));
        }
        assert_eq!(rescue.changes.len(), removed.len());
    }

    #[test]
    fn what_is_not_committed_goes_and_so_do_the_others() {
        let three = roster(&[1, 2, 3], &[]);
        check(&three, &[], 10, (0, 0, &[1, 3]));
        check(&three, &[None, None, None], 12, (2, 1, &[1, 3]));
        // Changes that count are those that are committed.
        let remove = Some(Change::Remove(MemberId(1)));
        let add = Some(Change::Add(member(4, true)));
        let both = [remove, add, None];
        check(&three, &both, 11, (1, 2, &[3]));
        check(&three, &both, 12, (2, 1, &[3, 4]));
        // One that apply refuses changes nothing.
        let again = Some(Change::Add(member(3, true)));
        check(&three, &[again], 11, (1, 0, &[1, 3]));
    }

    #[test]
    fn the_only_voter_keeps_all_it_has() {
        check(&roster(&[2], &[]), &[None, None], 10, (2, 0, &[]));
        check(&roster(&[2], &[7]), &[None, None], 10, (2, 0, &[7]));
        // From the second voter on its own copy decides nothing.
        let second = Some(Change::Add(member(5, false)));
        check(&roster(&[2], &[]), &[None, second, None], 10, (2, 1, &[5]));
    }

    #[test]
    fn who_has_no_vote_is_refused() {
        let refused = |roster: &Roster| {
            let mut log = recovered(&[], 10);
            go_alone(THIS, roster, &mut log).expect_err("no vote")
        };
        assert_eq!(refused(&roster(&[1], &[2])), RescueError::Learner(THIS));
        assert_eq!(refused(&roster(&[1], &[])), RescueError::Stranger(THIS));
    }
}
