//! How a log begins, and what is checked before an old one is taken up again.

use bytes::Bytes;
use kvorum_proto::ids::MemberId;
use kvorum_proto::raftpb;
use prost::Message as _;
use raft::eraftpb;

use super::convert::{self, ConvertError};

/// A member of a cluster that is about to be born.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// The member.
    pub id: MemberId,
    /// The member as JSON, the context of its configuration change.
    pub context: Bytes,
}

/// Why a recovered log cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The log has no raft state: the member stopped before its first write was durable. Nothing
    /// was promised to anybody, so the cluster may be bootstrapped again over what is there.
    #[error("the log ends before its bootstrap was finished")]
    Unfinished,
    /// The recorded commit index is not covered by the entries.
    #[error("commit index {commit} is outside the log, which has entries {first} to {last}")]
    Commit {
        /// The recorded commit index.
        commit: u64,
        /// The first index of the log.
        first: u64,
        /// The last index of the log.
        last: u64,
    },
    /// An entry cannot be used.
    #[error(transparent)]
    Entry(#[from] ConvertError),
    /// The raft crate refused the configuration.
    #[error("raft refused its set-up: {0}")]
    Raft(String),
}

/// The first entries and the raft state of a new cluster: one change per member that adds it, all
/// at term 1 and committed by definition. Every member of the cluster writes the same, so the order
/// is by id.
/// Source: raft 3.6 `bootstrap.go`, `RawNode.Bootstrap`.
pub fn initial_entries(members: &[InitialMember]) -> (Vec<raftpb::Entry>, raftpb::HardState) {
    let mut members: Vec<&InitialMember> = members.iter().collect();
    members.sort_by_key(|member| member.id);
    let entries: Vec<_> = (1..)
        .zip(members)
        .map(|(index, member)| add(index, member))
        .collect();
    let hard_state = raftpb::HardState {
        term: Some(1),
        vote: Some(0),
        commit: Some(entries.len() as u64),
    };
    (entries, hard_state)
}

fn add(index: u64, member: &InitialMember) -> raftpb::Entry {
    let change = raftpb::ConfChange {
        id: Some(0),
        r#type: Some(raftpb::ConfChangeType::ConfChangeAddNode as i32),
        node_id: Some(member.id.0),
        context: Some(member.context.clone()),
    };
    raftpb::Entry {
        r#type: Some(raftpb::EntryType::EntryConfChange as i32),
        term: Some(1),
        index: Some(index),
        data: Some(change.encode_to_vec().into()),
    }
}

/// Entries and raft state in the crate's form, checked as far as the crate would panic.
///
/// # Errors
/// See [`RestoreError`].
pub(super) fn check(
    trimmed: (u64, u64),
    entries: Vec<raftpb::Entry>,
    hard_state: raftpb::HardState,
) -> Result<(Vec<eraftpb::Entry>, eraftpb::HardState), RestoreError> {
    if hard_state.term() == 0 {
        return Err(RestoreError::Unfinished);
    }
    convert::check_order(trimmed.0, trimmed.1, &entries)?;
    let last = trimmed.0 + entries.len() as u64;
    let commit = hard_state.commit();
    if commit < trimmed.0 || commit > last {
        return Err(RestoreError::Commit {
            commit,
            first: trimmed.0 + 1,
            last,
        });
    }
    let entries = entries
        .into_iter()
        .map(convert::entry_in)
        .collect::<Result<Vec<_>, _>>()?;
    let hard_state = eraftpb::HardState {
        term: hard_state.term(),
        vote: hard_state.vote(),
        commit,
        ..Default::default()
    };
    Ok((entries, hard_state))
}
