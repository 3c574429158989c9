//! Ids are hashes, so that members started with the same words agree on them without talking.
//!
//! Source: etcd v3.7.1 server/etcdserver/api/membership/member.go (computeMemberID), cluster.go
//! (genID).

use kvorum_proto::ids::{ClusterId, MemberId};
use sha1::{Digest, Sha1};

/// The id of a member that is there from the beginning: the peer addresses in sorted order, then
/// the token of the cluster.
pub fn initial_member_id(peer_urls: &[String], cluster_token: &str) -> MemberId {
    member_id(peer_urls, cluster_token, "")
}

/// The id of a member that is added to a running cluster, at a time in whole seconds since 1970.
pub fn added_member_id(peer_urls: &[String], unix_seconds: i64) -> MemberId {
    member_id(peer_urls, "", &unix_seconds.to_string())
}

/// The id of a cluster with these first members.
pub fn cluster_id(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
    let mut ids: Vec<u64> = members.into_iter().map(|id| id.0).collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    ClusterId(first_eight(hash))
}

fn member_id(peer_urls: &[String], cluster_token: &str, time: &str) -> MemberId {
    let mut urls: Vec<&String> = peer_urls.iter().collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(cluster_token);
    hash.update(time);
    MemberId(first_eight(hash))
}

fn first_eight(hash: Sha1) -> u64 {
    hash.finalize()
        .iter()
        .take(8)
        .fold(0, |id, byte| id << 8 | u64::from(*byte))
}
