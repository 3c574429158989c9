//! The members of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use kvorum_proto::etcdserverpb;
use kvorum_proto::ids::MemberId;

use super::{Change, Member};
use crate::apply::RequestError;

/// The members and the removed ids.
///
/// Invariants: a member stands under its own id; no id is both present and removed; a removed id
/// stays removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    members: BTreeMap<MemberId, Member>,
    removed: BTreeSet<MemberId>,
}

impl Roster {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// The member with this id.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The members by ascending id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The voters by ascending id.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| !member.is_learner)
    }

    /// Whether this id once belonged to a member that was removed.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// The removed ids, ascending.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// The members as clients see them, by ascending id.
    pub fn to_wire(&self) -> Vec<etcdserverpb::Member> {
        self.members().map(Member::to_wire).collect()
    }

    /// Says whether a change fits what is there.
    ///
    /// How many learners are allowed is each member's own setting and therefore no part of this:
    /// see [`Roster::check_learners`].
    ///
    /// # Errors
    /// `MemberNotFound`, `MemberExist`, `PeerUrlExist` or `MemberNotLearner`.
    ///
    /// Source: etcd v3.7.1 server/etcdserver/api/membership/cluster.go
    /// (ValidateConfigurationChange).
    pub fn check(&self, change: &Change) -> Result<(), RequestError> {
        let id = change.id();
        if self.is_removed(id) {
            return Err(RequestError::MemberNotFound);
        }
        let present = self.members.get(&id);
        match change {
            Change::Add(member) if present.is_none() => self.check_urls(member),
            Change::Add(_) => Err(RequestError::MemberExist),
            Change::Promote(_) if present.is_some_and(|member| !member.is_learner) => {
                Err(RequestError::MemberNotLearner)
            }
            _ if present.is_none() => Err(RequestError::MemberNotFound),
            Change::Update(member) => self.check_urls(member),
            Change::Promote(_) | Change::Remove(_) => Ok(()),
        }
    }

    /// Says, before a learner is proposed, whether there may be one more.
    ///
    /// # Errors
    /// `TooManyLearners` when `learners_max` are there.
    pub fn check_learners(&self, learners_max: usize) -> Result<(), RequestError> {
        let learners = self.members().filter(|member| member.is_learner).count();
        if learners < learners_max {
            Ok(())
        } else {
            Err(RequestError::TooManyLearners)
        }
    }

    /// Carries a change out. It was checked against this roster.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Add(member) => {
                self.members.insert(member.id(), member);
            }
            Change::Promote(id) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.is_learner = false;
                }
            }
            Change::Update(update) => {
                if let Some(member) = self.members.get_mut(&update.id()) {
                    member.peer_urls = update.peer_urls;
                }
            }
            Change::Remove(id) => {
                self.members.remove(&id);
                self.removed.insert(id);
            }
        }
    }

    /// Writes down what a member published about itself; false when nobody has this id. For a
    /// removed id nothing happens.
    pub fn publish(&mut self, id: MemberId, name: String, client_urls: Vec<String>) -> bool {
        match self.members.get_mut(&id) {
            Some(member) => {
                member.name = name;
                member.client_urls = client_urls;
                true
            }
            None => self.is_removed(id),
        }
    }

    /// No other member may have one of these peer addresses.
    fn check_urls(&self, wanted: &Member) -> Result<(), RequestError> {
        let others = self.members().filter(|other| other.id() != wanted.id());
        let taken: BTreeSet<&String> = others.flat_map(|other| &other.peer_urls).collect();
        if wanted.peer_urls.iter().any(|url| taken.contains(url)) {
            return Err(RequestError::PeerUrlExist);
        }
        Ok(())
    }
}
