//! One member, and the JSON form it has inside configuration changes.

use kvorum_proto::etcdserverpb;
use kvorum_proto::ids::MemberId;
use serde::{Deserialize, Deserializer, Serialize};

/// A member as the cluster knows it.
///
/// The field names and what is left out when empty are etcd's JSON, which stands in log entries.
/// Source: etcd v3.7.1 server/etcdserver/api/membership/member.go (Member, ConfigChangeContext).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The id; never 0 in a roster.
    #[serde(default)]
    id: u64,
    /// Where other members reach it, in the order given.
    #[serde(rename = "peerURLs", default, deserialize_with = "null_is_empty")]
    pub peer_urls: Vec<String>,
    /// Whether it has no vote.
    #[serde(
        rename = "isLearner",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub is_learner: bool,
    /// Its name; empty until it has published itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where clients reach it; empty until it has published itself.
    #[serde(
        rename = "clientURLs",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub client_urls: Vec<String>,
}

impl Member {
    /// A member that has not published itself yet.
    pub fn new(id: MemberId, peer_urls: Vec<String>, is_learner: bool) -> Self {
        Self {
            id: id.0,
            peer_urls,
            is_learner,
            ..Self::default()
        }
    }

    /// Its id.
    pub fn id(&self) -> MemberId {
        MemberId(self.id)
    }

    /// Whether it has published itself.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The context of a configuration change that adds this member at bootstrap or updates it.
    pub fn context(&self) -> Vec<u8> {
        // A struct of strings and numbers has no way to fail.
        serde_json::to_vec(self).expect("a member always has a JSON form")
    }

    /// The context of a configuration change that adds this member to a running cluster, or
    /// promotes it.
    pub fn change_context(&self, is_promote: bool) -> Vec<u8> {
        let context = ChangeContext {
            member: self.clone(),
            is_promote,
        };
        serde_json::to_vec(&context).expect("a member always has a JSON form")
    }

    /// The form clients see.
    pub fn to_wire(&self) -> etcdserverpb::Member {
        etcdserverpb::Member {
            id: self.id,
            name: self.name.clone(),
            peer_ur_ls: self.peer_urls.clone(),
            client_ur_ls: self.client_urls.clone(),
            is_learner: self.is_learner,
        }
    }
}

/// The context of a configuration change: a member, and whether it stands there to be promoted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ChangeContext {
    #[serde(flatten)]
    pub(super) member: Member,
    #[serde(rename = "isPromote", default)]
    pub(super) is_promote: bool,
}

/// Go writes a list that was never made as `null`.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
