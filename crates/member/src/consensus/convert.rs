//! Between etcd's raft messages (our generated types) and the raft crate's own.
//!
//! The two families look alike and are not: the crate panics at enum values it does not know,
//! numbers configuration changes in another way (its 2 adds a learner, which is 3 in etcd, where 2
//! updates a member), and uses message fields 13 to 16 for things of its own. So nothing that came
//! from a disk or a network reaches the crate before it was checked here, and the crate never
//! decodes such bytes.
//!
//! The crate does decode one thing, the data of a configuration change that is proposed to a
//! leader, and only to learn whether it leaves a joint configuration. It gets a stand-in with that
//! one property ([`stand_in`]); the true bytes travel in the crate's `context` field, which etcd
//! does not have. On the way out they become the data again.

use bytes::Bytes;
use kvorum_proto::{raftpb, walpb};
use prost::Message as _;
use raft::eraftpb;

/// A change that is not empty, as the crate encodes it: one change with all fields at zero.
const STAND_IN_CHANGE: &[u8] = &[0x12, 0x00];

/// What makes a message or an entry unfit for the raft crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// An entry has a type that etcd does not define.
    #[error("unknown entry type {0}")]
    EntryType(i32),
    /// A message has a type that etcd does not define or that never travels between members.
    #[error("message type {0} is unknown or local to a member")]
    MessageType(i32),
    /// A configuration change has a type that etcd does not define.
    #[error("unknown configuration change type {0}")]
    ConfChangeType(i32),
    /// A configuration change has a transition that etcd does not define.
    #[error("unknown configuration change transition {0}")]
    Transition(i32),
    /// The data of a configuration change entry does not parse.
    #[error("malformed configuration change in entry {0}")]
    ConfChange(u64),
    /// A message lacks the sender.
    #[error("message without sender")]
    Sender,
    /// A message type that carries entries has none, or another number than it must have.
    #[error("message type {kind} with {entries} entries")]
    EntryCount {
        /// The number of the message type.
        kind: i32,
        /// How many entries it has.
        entries: usize,
    },
    /// Entries do not follow one another.
    #[error("entry with index {found} and term {term} where index {expected} was expected")]
    EntryOrder {
        /// The index that should come.
        expected: u64,
        /// The index that came.
        found: u64,
        /// The term that came.
        term: u64,
    },
    /// A message carries a snapshot where none may come, or lacks it where one must come.
    #[error("a snapshot without its state, or none where one belongs")]
    Snapshot,
    /// The configuration of a snapshot is none that members agree on one change at a time.
    #[error("snapshot with an impossible configuration")]
    Configuration,
}

/// A checked entry in the crate's form.
///
/// # Errors
/// An unknown type, or a configuration change that does not parse or has unknown values.
pub(crate) fn entry_in(entry: raftpb::Entry) -> Result<eraftpb::Entry, ConvertError> {
    let kind = entry.r#type.unwrap_or_default();
    let mut out = eraftpb::Entry {
        term: entry.term(),
        index: entry.index(),
        ..Default::default()
    };
    let data = entry.data.unwrap_or_default();
    out.entry_type = match raftpb::EntryType::try_from(kind) {
        Ok(raftpb::EntryType::EntryNormal) => {
            out.data = data;
            return Ok(out);
        }
        Ok(raftpb::EntryType::EntryConfChange) => eraftpb::EntryType::EntryConfChange,
        Ok(raftpb::EntryType::EntryConfChangeV2) => eraftpb::EntryType::EntryConfChangeV2,
        Err(_) => return Err(ConvertError::EntryType(kind)),
    };
    out.data = stand_in(out.entry_type, &data, out.index)?;
    out.context = data;
    Ok(out)
}

/// An entry of the crate in etcd's form. Fields are written even when zero, as etcd does; data is
/// left out when empty.
pub(crate) fn entry_out(entry: eraftpb::Entry) -> raftpb::Entry {
    let (kind, data) = match entry.entry_type {
        eraftpb::EntryType::EntryNormal => (raftpb::EntryType::EntryNormal, entry.data),
        eraftpb::EntryType::EntryConfChange => (raftpb::EntryType::EntryConfChange, entry.context),
        eraftpb::EntryType::EntryConfChangeV2 => {
            (raftpb::EntryType::EntryConfChangeV2, entry.context)
        }
    };
    raftpb::Entry {
        r#type: Some(kind as i32),
        term: Some(entry.term),
        index: Some(entry.index),
        data: (!data.is_empty()).then_some(data),
    }
}

/// What the crate sees instead of the bytes of a configuration change: as empty or not empty as the
/// true one. The bytes are checked on the way.
fn stand_in(kind: eraftpb::EntryType, data: &Bytes, index: u64) -> Result<Bytes, ConvertError> {
    if kind == eraftpb::EntryType::EntryConfChange {
        let change = raftpb::ConfChange::decode(data.clone())
            .map_err(|_| ConvertError::ConfChange(index))?;
        check_change(change.r#type)?;
        // The crate takes every change of the first kind for one that is not empty.
        return Ok(Bytes::new());
    }
    let change =
        raftpb::ConfChangeV2::decode(data.clone()).map_err(|_| ConvertError::ConfChange(index))?;
    let transition = change.transition.unwrap_or_default();
    if raftpb::ConfChangeTransition::try_from(transition).is_err() {
        return Err(ConvertError::Transition(transition));
    }
    for single in &change.changes {
        check_change(single.r#type)?;
    }
    let empty = change.changes.is_empty();
    Ok(if empty {
        Bytes::new()
    } else {
        Bytes::from_static(STAND_IN_CHANGE)
    })
}

fn check_change(kind: Option<i32>) -> Result<raftpb::ConfChangeType, ConvertError> {
    let kind = kind.unwrap_or_default();
    raftpb::ConfChangeType::try_from(kind).map_err(|_| ConvertError::ConfChangeType(kind))
}

/// A committed configuration change in the crate's form; `None` where the set of voters and
/// learners stays as it is: an update of a member's addresses, and a change that apply refused (its
/// member is then 0).
///
/// # Errors
/// An unknown change type.
pub(crate) fn change_in(
    change: &raftpb::ConfChange,
) -> Result<Option<eraftpb::ConfChange>, ConvertError> {
    let kind = match check_change(change.r#type)? {
        raftpb::ConfChangeType::ConfChangeUpdateNode => return Ok(None),
        raftpb::ConfChangeType::ConfChangeAddNode => eraftpb::ConfChangeType::AddNode,
        raftpb::ConfChangeType::ConfChangeRemoveNode => eraftpb::ConfChangeType::RemoveNode,
        raftpb::ConfChangeType::ConfChangeAddLearnerNode => eraftpb::ConfChangeType::AddLearnerNode,
    };
    if change.node_id() == 0 {
        return Ok(None);
    }
    let mut out = eraftpb::ConfChange {
        node_id: change.node_id(),
        ..Default::default()
    };
    out.set_change_type(kind);
    Ok(Some(out))
}

/// The hard state in etcd's form, all fields written.
pub(crate) fn hard_state_out(state: &eraftpb::HardState) -> raftpb::HardState {
    raftpb::HardState {
        term: Some(state.term),
        vote: Some(state.vote),
        commit: Some(state.commit),
    }
}

/// The configuration in etcd's form, every list ascending: the crate's own order depends on a hash.
pub(crate) fn conf_state_out(state: &eraftpb::ConfState) -> raftpb::ConfState {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    raftpb::ConfState {
        voters: sorted(&state.voters),
        learners: sorted(&state.learners),
        voters_outgoing: sorted(&state.voters_outgoing),
        learners_next: sorted(&state.learners_next),
        auto_leave: Some(state.auto_leave),
    }
}

/// A configuration in the crate's form.
pub(crate) fn conf_state_in(state: &raftpb::ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave(),
        ..Default::default()
    }
}

/// A checked message from a peer in the crate's form.
///
/// # Errors
/// Whatever would make the crate panic or misread: see [`ConvertError`].
pub(crate) fn message_in(message: raftpb::Message) -> Result<eraftpb::Message, ConvertError> {
    let number = message.r#type.unwrap_or_default();
    let kind = message_type_in(number)?;
    if message.from() == 0 {
        return Err(ConvertError::Sender);
    }
    if kind == eraftpb::MessageType::MsgSnapshot {
        return Err(ConvertError::Snapshot);
    }
    let mut out = eraftpb::Message {
        msg_type: kind,
        to: message.to(),
        from: message.from(),
        term: message.term(),
        log_term: message.log_term(),
        index: message.index(),
        commit: message.commit(),
        reject: message.reject(),
        reject_hint: message.reject_hint(),
        ..Default::default()
    };
    check_entries(kind, number, &message)?;
    let entries: Vec<_> = message
        .entries
        .into_iter()
        .map(entry_in)
        .collect::<Result<_, ConvertError>>()?;
    out.set_entries(entries.into());
    out.context = message.context.unwrap_or_default();
    Ok(out)
}

/// A checked message with a snapshot in the crate's form. The crate sees where the snapshot stands,
/// never what is in it.
///
/// # Errors
/// Whatever would make the crate panic or misread: see [`ConvertError`].
pub(crate) fn snapshot_in(message: &raftpb::Message) -> Result<eraftpb::Message, ConvertError> {
    if message.r#type.unwrap_or_default() != raftpb::MessageType::MsgSnap as i32 {
        return Err(ConvertError::Snapshot);
    }
    if message.from() == 0 {
        return Err(ConvertError::Sender);
    }
    let metadata = message
        .snapshot
        .as_ref()
        .and_then(|snapshot| snapshot.metadata.as_ref())
        .ok_or(ConvertError::Snapshot)?;
    let conf_state = metadata.conf_state.clone().unwrap_or_default();
    if metadata.index() == 0 || metadata.term() == 0 || metadata.term() > message.term() {
        return Err(ConvertError::Snapshot);
    }
    check_configuration(&conf_state)?;
    let mut inside = eraftpb::SnapshotMetadata {
        index: metadata.index(),
        term: metadata.term(),
        ..Default::default()
    };
    inside.set_conf_state(conf_state_in(&conf_state));
    let mut snapshot = eraftpb::Snapshot::default();
    snapshot.set_metadata(inside);
    let mut out = eraftpb::Message {
        msg_type: eraftpb::MessageType::MsgSnapshot,
        to: message.to(),
        from: message.from(),
        term: message.term(),
        ..Default::default()
    };
    out.set_snapshot(snapshot);
    Ok(out)
}

/// Somebody votes, nobody twice, nobody is 0, and no change is half done.
fn check_configuration(state: &raftpb::ConfState) -> Result<(), ConvertError> {
    let mut members: Vec<u64> = [&state.voters[..], &state.learners[..]].concat();
    members.sort_unstable();
    let is_simple = state.voters_outgoing.is_empty() && state.learners_next.is_empty();
    let unique = members.windows(2).all(|pair| pair[0] != pair[1]);
    if is_simple && unique && !state.voters.is_empty() && members[0] != 0 {
        Ok(())
    } else {
        Err(ConvertError::Configuration)
    }
}

/// Checks number and order of the entries of a message.
fn check_entries(
    kind: eraftpb::MessageType,
    number: i32,
    message: &raftpb::Message,
) -> Result<(), ConvertError> {
    let entries = message.entries.len();
    let fits = match kind {
        eraftpb::MessageType::MsgPropose => entries > 0,
        eraftpb::MessageType::MsgReadIndex | eraftpb::MessageType::MsgReadIndexResp => entries == 1,
        eraftpb::MessageType::MsgAppend => {
            return check_order(message.index(), message.log_term(), &message.entries);
        }
        _ => entries == 0,
    };
    if fits {
        Ok(())
    } else {
        Err(ConvertError::EntryCount {
            kind: number,
            entries,
        })
    }
}

/// Checks that entries follow `index` without a gap and that terms never fall.
///
/// # Errors
/// [`ConvertError::EntryOrder`] with the first entry out of order.
pub(crate) fn check_order(
    index: u64,
    term: u64,
    entries: &[raftpb::Entry],
) -> Result<(), ConvertError> {
    let (mut index, mut term) = (index, term);
    for entry in entries {
        let expected = index.saturating_add(1);
        if entry.index() != expected || entry.term() < term {
            let (found, term) = (entry.index(), entry.term());
            return Err(ConvertError::EntryOrder {
                expected,
                found,
                term,
            });
        }
        (index, term) = (entry.index(), entry.term());
    }
    Ok(())
}

/// The numbers up to 18 mean the same on both sides; of the rest and of the types that a member
/// only sends to itself none may come from a peer.
fn message_type_in(number: i32) -> Result<eraftpb::MessageType, ConvertError> {
    use eraftpb::MessageType as Theirs;
    use raftpb::MessageType as Ours;
    let Ok(kind) = Ours::try_from(number) else {
        return Err(ConvertError::MessageType(number));
    };
    Ok(match kind {
        Ours::MsgProp => Theirs::MsgPropose,
        Ours::MsgApp => Theirs::MsgAppend,
        Ours::MsgAppResp => Theirs::MsgAppendResponse,
        Ours::MsgVote => Theirs::MsgRequestVote,
        Ours::MsgVoteResp => Theirs::MsgRequestVoteResponse,
        Ours::MsgSnap => Theirs::MsgSnapshot,
        Ours::MsgHeartbeat => Theirs::MsgHeartbeat,
        Ours::MsgHeartbeatResp => Theirs::MsgHeartbeatResponse,
        Ours::MsgTransferLeader => Theirs::MsgTransferLeader,
        Ours::MsgTimeoutNow => Theirs::MsgTimeoutNow,
        Ours::MsgReadIndex => Theirs::MsgReadIndex,
        Ours::MsgReadIndexResp => Theirs::MsgReadIndexResp,
        Ours::MsgPreVote => Theirs::MsgRequestPreVote,
        Ours::MsgPreVoteResp => Theirs::MsgRequestPreVoteResponse,
        Ours::MsgHup
        | Ours::MsgBeat
        | Ours::MsgUnreachable
        | Ours::MsgSnapStatus
        | Ours::MsgCheckQuorum
        | Ours::MsgStorageAppend
        | Ours::MsgStorageAppendResp
        | Ours::MsgStorageApply
        | Ours::MsgStorageApplyResp
        | Ours::MsgForgetLeader => return Err(ConvertError::MessageType(number)),
    })
}

/// A snapshot of the crate in etcd's form, without its state.
fn snapshot_out(snapshot: &eraftpb::Snapshot) -> raftpb::Snapshot {
    let metadata = snapshot.get_metadata();
    raftpb::Snapshot {
        data: None,
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(conf_state_out(metadata.get_conf_state())),
            index: Some(metadata.index),
            term: Some(metadata.term),
        }),
    }
}

/// The same as the log records it.
pub(crate) fn snapshot_record(snapshot: &eraftpb::Snapshot) -> walpb::Snapshot {
    let metadata = snapshot.get_metadata();
    walpb::Snapshot {
        index: Some(metadata.index),
        term: Some(metadata.term),
        conf_state: Some(conf_state_out(metadata.get_conf_state())),
    }
}

/// A message of the crate in etcd's form; its private fields (priority, term of the commit index,
/// snapshot request) stay behind.
pub(crate) fn message_out(mut message: eraftpb::Message) -> raftpb::Message {
    let entries: Vec<_> = message.take_entries().into();
    let context = message.take_context();
    let is_snapshot = message.msg_type == eraftpb::MessageType::MsgSnapshot;
    let snapshot = is_snapshot.then(|| snapshot_out(message.get_snapshot()));
    raftpb::Message {
        r#type: Some(message.msg_type as i32),
        to: Some(message.to),
        from: Some(message.from),
        term: Some(message.term),
        log_term: Some(message.log_term),
        index: Some(message.index),
        entries: entries.into_iter().map(entry_out).collect(),
        commit: Some(message.commit),
        snapshot,
        reject: Some(message.reject),
        reject_hint: Some(message.reject_hint),
        context: (!context.is_empty()).then_some(context),
        vote: None,
        responses: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change_entry(kind: raftpb::EntryType, data: Vec<u8>) -> raftpb::Entry {
        raftpb::Entry {
            r#type: Some(kind as i32),
            term: Some(1),
            index: Some(1),
            data: (!data.is_empty()).then(|| data.into()),
        }
    }

    fn conf_change(kind: i32, node: u64) -> raftpb::ConfChange {
        raftpb::ConfChange {
            id: Some(7),
            r#type: Some(kind),
            node_id: Some(node),
            context: None,
        }
    }

    fn message(kind: i32, entries: Vec<raftpb::Entry>) -> raftpb::Message {
        raftpb::Message {
            r#type: Some(kind),
            from: Some(2),
            to: Some(1),
            entries,
            ..Default::default()
        }
    }

    #[test]
    fn entries_come_back_as_they_went() {
        let v2 = raftpb::ConfChangeV2 {
            changes: vec![raftpb::ConfChangeSingle {
                r#type: Some(3),
                node_id: Some(9),
            }],
            ..Default::default()
        };
        for entry in [
            change_entry(raftpb::EntryType::EntryNormal, vec![]),
            change_entry(raftpb::EntryType::EntryNormal, b"put".to_vec()),
            change_entry(
                raftpb::EntryType::EntryConfChange,
                conf_change(2, 5).encode_to_vec(),
            ),
            change_entry(raftpb::EntryType::EntryConfChangeV2, v2.encode_to_vec()),
            change_entry(raftpb::EntryType::EntryConfChangeV2, vec![]),
        ] {
            let inside = entry_in(entry.clone()).expect("known types");
            assert_eq!(entry_out(inside), entry);
        }
    }

    #[test]
    fn unknown_enum_values_are_errors() {
        let normal = |kind| raftpb::Entry {
            r#type: Some(kind),
            ..Default::default()
        };
        assert_eq!(entry_in(normal(3)), Err(ConvertError::EntryType(3)));
        assert_eq!(entry_in(normal(-1)), Err(ConvertError::EntryType(-1)));
        let bad = change_entry(
            raftpb::EntryType::EntryConfChange,
            conf_change(4, 5).encode_to_vec(),
        );
        assert_eq!(entry_in(bad), Err(ConvertError::ConfChangeType(4)));
        let torn = change_entry(raftpb::EntryType::EntryConfChange, vec![0x22, 0xff]);
        assert_eq!(entry_in(torn), Err(ConvertError::ConfChange(1)));
        let v2 = raftpb::ConfChangeV2 {
            transition: Some(3),
            ..Default::default()
        };
        let bad = change_entry(raftpb::EntryType::EntryConfChangeV2, v2.encode_to_vec());
        assert_eq!(entry_in(bad), Err(ConvertError::Transition(3)));
        for kind in [24, -1, 0, 1, 10, 11, 12, 19, 20, 21, 22, 23] {
            assert_eq!(
                message_in(message(kind, vec![])),
                Err(ConvertError::MessageType(kind))
            );
        }
        assert_eq!(
            change_in(&conf_change(9, 5)),
            Err(ConvertError::ConfChangeType(9))
        );
    }

    #[test]
    fn messages_that_would_panic_are_errors() {
        for (kind, count) in [(2, 0), (15, 0), (15, 2), (8, 1)] {
            let entries = vec![raftpb::Entry::default(); count];
            assert_eq!(
                message_in(message(kind, entries)),
                Err(ConvertError::EntryCount {
                    kind,
                    entries: count
                })
            );
        }
        let gap = vec![raftpb::Entry {
            index: Some(2),
            term: Some(1),
            ..Default::default()
        }];
        assert_eq!(
            message_in(message(3, gap)),
            Err(ConvertError::EntryOrder {
                expected: 1,
                found: 2,
                term: 1
            })
        );
        let sender = raftpb::Message {
            from: None,
            ..message(8, vec![])
        };
        assert_eq!(message_in(sender), Err(ConvertError::Sender));
    }

    #[test]
    fn conf_changes_are_numbered_as_etcd_numbers_them() {
        let kind = |number, node| {
            change_in(&conf_change(number, node))
                .expect("known type")
                .map(|c| c.change_type)
        };
        assert_eq!(kind(0, 5), Some(eraftpb::ConfChangeType::AddNode));
        assert_eq!(kind(1, 5), Some(eraftpb::ConfChangeType::RemoveNode));
        assert_eq!(kind(2, 5), None, "an update changes the roster only");
        assert_eq!(kind(3, 5), Some(eraftpb::ConfChangeType::AddLearnerNode));
        assert_eq!(kind(0, 0), None, "a refused change changes nothing");
    }
}
