//! `.snap` files: raft snapshots of official servers.
//!
//! Up to 3.7 an official server keeps the state of the version 2 API in them: who the members are,
//! and keys of users if anybody still had some. The newest that the log names is read at a start.
//!
//! A file is a message of a CRC-32C and bytes; the bytes are a raft snapshot, whose data is JSON.
//!
//! Source: etcd v3.7.1, `server/etcdserver/api/snap/snapshotter.go`,
//! `server/etcdserver/api/v2store/store.go` (`Save`, `Recovery`).

use std::collections::BTreeMap;

use bytes::Bytes;
use kvorum_proto::ids::{LogIndex, Term};
use kvorum_proto::raftpb;
use prost::Message;
use serde_json::{Value, json};

use crate::apply::ClusterState;

/// The end of the name of a file.
pub(super) const SUFFIX: &str = ".snap";
/// What a node says that never expires.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Places for events in the history, all of which stand in the file.
const EVENTS: usize = 1000;

/// The message that a file is.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(uint32, optional, tag = "1")]
    crc: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    data: Option<Bytes>,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum SnapDamage {
    /// It is no message, or its snapshot is none.
    #[error("offset 0: {0}")]
    Message(#[from] prost::DecodeError),
    /// Its bytes are not those that were written.
    #[error("offset 0: checksum {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// That of the bytes.
        found: u32,
        /// What the file says.
        expected: u32,
    },
    /// The state of the version 2 API is no JSON.
    #[error("state of the version 2 API: {0}")]
    Json(#[from] serde_json::Error),
}

/// The name of the file at this entry.
pub(super) fn file_name(term: Term, index: LogIndex) -> String {
    format!("{:016x}-{:016x}{SUFFIX}", term.0, index.0)
}

/// The name of a database that was received from a leader and not taken up yet.
pub(super) fn received_name(index: LogIndex) -> String {
    format!("{:016x}.snap.db", index.0)
}

/// Whether users stored keys through the version 2 API.
///
/// # Errors
///
/// [`SnapDamage`].
pub(super) fn has_user_keys(file: Bytes) -> Result<bool, SnapDamage> {
    let envelope = Envelope::decode(file)?;
    let data = envelope.data.unwrap_or_default();
    let (found, expected) = (crc32c(&data), envelope.crc.unwrap_or_default());
    if found != expected {
        return Err(SnapDamage::Checksum { found, expected });
    }
    let snapshot = raftpb::Snapshot::decode(data)?;
    let state: Value = serde_json::from_slice(&snapshot.data.unwrap_or_default())?;
    let children = &state["Root"]["Children"]["1"]["Children"];
    Ok(children.as_object().is_some_and(|keys| !keys.is_empty()))
}

/// A file that says who the members are.
pub(super) fn encode(
    index: LogIndex,
    term: Term,
    conf_state: raftpb::ConfState,
    cluster: &ClusterState,
) -> Vec<u8> {
    let metadata = raftpb::SnapshotMetadata {
        conf_state: Some(conf_state),
        index: Some(index.0),
        term: Some(term.0),
    };
    let snapshot = raftpb::Snapshot {
        data: Some(members(cluster).to_string().into_bytes().into()),
        metadata: Some(metadata),
    };
    let data = snapshot.encode_to_vec();
    let envelope = Envelope {
        crc: Some(crc32c(&data)),
        data: Some(data.into()),
    };
    envelope.encode_to_vec()
}

/// The state of the version 2 API: members and cluster version below `/0`, no keys of users
/// below `/1`, and nothing that happened.
fn members(cluster: &ClusterState) -> Value {
    let mut below_members = BTreeMap::new();
    for member in cluster.roster.members() {
        let path = format!("/0/members/{:x}", member.id().0);
        let mut raft = json!({ "peerURLs": member.peer_urls });
        if member.is_learner {
            raft["isLearner"] = true.into();
        }
        let mut leaves = BTreeMap::new();
        leaves.insert("raftAttributes", leaf(&path, "raftAttributes", raft));
        if member.is_started() {
            let attributes = json!({ "name": member.name, "clientURLs": member.client_urls });
            leaves.insert("attributes", leaf(&path, "attributes", attributes));
        }
        below_members.insert(format!("{:x}", member.id().0), node(&path, json!(leaves)));
    }
    let mut below_cluster = BTreeMap::from([("members", node("/0/members", json!(below_members)))]);
    if let Some(version) = cluster.version {
        let version = text_leaf("/0/version", version.to_string());
        below_cluster.insert("version", version);
    }
    let mut removed = BTreeMap::new();
    for id in cluster.roster.removed() {
        let id = format!("{:x}", id.0);
        let path = format!("/0/removed_members/{id}");
        removed.insert(id, text_leaf(&path, String::new()));
    }
    if !removed.is_empty() {
        below_cluster.insert(
            "removed_members",
            node("/0/removed_members", json!(removed)),
        );
    }
    let root = json!({ "0": node("/0", json!(below_cluster)), "1": node("/1", json!({})) });
    json!({
        "Root": node("/", root),
        "WatcherHub": { "EventHistory": {
            "Queue": { "Events": vec![(); EVENTS], "Size": 0, "Front": 0, "Back": 0, "Capacity": EVENTS },
            "StartIndex": 0, "LastIndex": 0,
        } },
        "CurrentIndex": 0,
        "Stats": {},
        "CurrentVersion": 2,
    })
}

fn leaf(above: &str, name: &str, value: Value) -> Value {
    text_leaf(&format!("{above}/{name}"), value.to_string())
}

fn text_leaf(path: &str, value: String) -> Value {
    let mut leaf = node(path, Value::Null);
    leaf["Value"] = value.into();
    leaf
}

fn node(path: &str, children: Value) -> Value {
    json!({
        "Path": path, "CreatedIndex": 0, "ModifiedIndex": 0, "ExpireTime": NEVER, "Value": "",
        "Children": children,
    })
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[cfg(test)]
mod tests {
    use kvorum_proto::ids::MemberId;

    use super::*;
    use crate::cluster::{CLUSTER_VERSION, Change, Member};

    #[test]
    fn a_file_names_the_members_and_has_no_keys_of_users() {
        let mut cluster = ClusterState::default();
        let mut member = Member::new(MemberId(0xab), vec!["http://p:1".to_owned()], false);
        member.name = "m".to_owned();
        cluster.roster.apply(Change::Add(member));
        cluster.version = Some(CLUSTER_VERSION);
        let conf_state = raftpb::ConfState {
            voters: vec![0xab],
            ..raftpb::ConfState::default()
        };
        let file = encode(LogIndex(9), Term(2), conf_state, &cluster);
        assert!(!has_user_keys(file.clone().into()).unwrap());
        let text = String::from_utf8_lossy(&file);
        for part in [
            r#""Path":"/0/members/ab/raftAttributes""#,
            r#"{\"peerURLs\":[\"http://p:1\"]}"#,
            r#""Value":"3.7.0""#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let mut flipped = file.clone();
        let last = flipped.len() - 1;
        flipped[last] ^= 1;
        let damage = has_user_keys(flipped.into()).unwrap_err();
        assert!(damage.to_string().contains("checksum"), "{damage}");
    }

    #[test]
    fn keys_of_users_are_found() {
        let check = |below: &str, expected: bool| {
            let state =
                format!(r#"{{"Root":{{"Children":{{"0":{{}},"1":{{"Children":{below}}}}}}}}}"#);
            let snapshot = raftpb::Snapshot {
                data: Some(state.into_bytes().into()),
                metadata: None,
            };
            let data = snapshot.encode_to_vec();
            let envelope = Envelope {
                crc: Some(crc32c(&data)),
                data: Some(data.into()),
            };
            assert_eq!(
                has_user_keys(envelope.encode_to_vec().into()).unwrap(),
                expected
            );
        };
        check("{}", false);
        check("null", false);
        check(r#"{"a":{"Value":"b"}}"#, true);
    }

    #[test]
    fn names_are_those_of_official_servers() {
        assert_eq!(
            file_name(Term(2), LogIndex(0x15)),
            "0000000000000002-0000000000000015.snap"
        );
        assert_eq!(received_name(LogIndex(0x15)), "0000000000000015.snap.db");
    }
}
