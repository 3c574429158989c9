//! Configuration changes as log entries carry them, turned into one checked type.

use kvorum_proto::ids::MemberId;
use kvorum_proto::raftpb::{ConfChange, ConfChangeType};

use super::Member;
use super::member::ChangeContext;

/// A change of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member, with or without a vote.
    Add(Member),
    /// A learner gets a vote.
    Promote(MemberId),
    /// A member gets the peer addresses that stand here. Raft takes no part in it.
    Update(Member),
    /// A member leaves, and its id with it.
    Remove(MemberId),
}

/// A configuration change that no member can have proposed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The kind is none of the four.
    #[error("unknown kind of configuration change {0}")]
    Kind(i32),
    /// The context is not the JSON of a member.
    #[error("context of a configuration change is not a member: {0}")]
    Context(#[from] serde_json::Error),
    /// The context speaks of another member than the change.
    #[error("configuration change of member {change} carries member {context}")]
    Differs {
        /// The member named by the change.
        change: MemberId,
        /// The member in its context.
        context: MemberId,
    },
}

impl Change {
    /// Reads a change from a log entry.
    ///
    /// # Errors
    /// See [`ChangeError`]; each of them is a broken invariant of the log.
    pub fn from_wire(change: &ConfChange) -> Result<Self, ChangeError> {
        let id = MemberId(change.node_id());
        let number = change.r#type.unwrap_or_default();
        let kind = ConfChangeType::try_from(number).map_err(|_| ChangeError::Kind(number))?;
        if kind == ConfChangeType::ConfChangeRemoveNode {
            return Ok(Self::Remove(id));
        }
        let context: ChangeContext = serde_json::from_slice(change.context())?;
        let mut member = context.member;
        if member.id() != id {
            return Err(ChangeError::Differs {
                change: id,
                context: member.id(),
            });
        }
        Ok(match kind {
            ConfChangeType::ConfChangeUpdateNode => Self::Update(member),
            _ if context.is_promote => Self::Promote(id),
            _ => {
                member.is_learner = kind == ConfChangeType::ConfChangeAddLearnerNode;
                Self::Add(member)
            }
        })
    }

    /// The log form of this change, for the request with the number `request`.
    pub fn to_wire(&self, request: u64, roster: &super::Roster) -> ConfChange {
        let (kind, context) = match self {
            Self::Add(member) if member.is_learner => (
                ConfChangeType::ConfChangeAddLearnerNode,
                member.change_context(false),
            ),
            Self::Add(member) => (
                ConfChangeType::ConfChangeAddNode,
                member.change_context(false),
            ),
            Self::Promote(id) => {
                let mut member = roster
                    .member(*id)
                    .cloned()
                    .unwrap_or_else(|| Member::new(*id, Vec::new(), false));
                member.is_learner = false;
                (
                    ConfChangeType::ConfChangeAddNode,
                    member.change_context(true),
                )
            }
            Self::Update(member) => (ConfChangeType::ConfChangeUpdateNode, member.context()),
            Self::Remove(_) => (ConfChangeType::ConfChangeRemoveNode, Vec::new()),
        };
        ConfChange {
            id: Some(request),
            r#type: Some(kind as i32),
            node_id: Some(self.id().0),
            context: (!context.is_empty()).then(|| context.into()),
        }
    }

    /// The member it is about.
    pub fn id(&self) -> MemberId {
        match self {
            Self::Add(member) | Self::Update(member) => member.id(),
            Self::Promote(id) | Self::Remove(id) => *id,
        }
    }
}
