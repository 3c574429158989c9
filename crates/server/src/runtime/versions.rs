//! The version of the cluster: the lowest of its members, found out and published by the leader.
//!
//! It only rises here. A member that does not answer holds it where it is; when there is none yet, it becomes the
//! lowest that any member can have been.
//!
//! Source: etcd v3.7.1 `server/etcdserver/version/monitor.go` (`UpdateClusterVersionIfNeeded`), `server.go`
//! (`monitorVersions`).

use std::time::Duration;

use kvorum_member::cluster::{SERVER_VERSION, Version};
use kvorum_proto::etcdserverpb::internal_raft_request::Payload;
use kvorum_proto::ids::MemberId;
use kvorum_proto::membershippb::ClusterVersionSetRequest;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::warn;

use super::Member;
use crate::peer::{MIN_CLUSTER_VERSION, ask};

/// Pause while the members' versions are not all known, or another member leads.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Pause while there is no version at all.
const FIRST_LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Pause when nothing is to be done. Source: as above, `monitorVersionInterval`.
const QUIET: Duration = Duration::from_secs(5);

/// Time for a member to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks after the version until the member stops.
pub(crate) async fn monitor(member: Member) {
    while !member.is_stopping() {
        let pause = look(&member).await;
        sleep(pause).await;
    }
}

async fn look(member: &Member) -> Duration {
    let decided = member.read_view().cluster.version;
    let pause = match decided {
        None => FIRST_LOOK_AGAIN,
        Some(version) if version < SERVER_VERSION.of_cluster() => LOOK_AGAIN,
        Some(_) => QUIET,
    };
    let lowering = member.read_view().cluster.downgrade.target.is_some();
    if !member.is_leader() || lowering || pause == QUIET {
        return pause;
    }
    let wanted = decide(decided, &versions(member).await);
    if let Some(version) = wanted.filter(|wanted| decided != Some(*wanted)) {
        publish(member, version).await;
    }
    pause.max(FIRST_LOOK_AGAIN)
}

/// What the cluster's version has to be; `None` to leave it.
fn decide(decided: Option<Version>, members: &[Option<Version>]) -> Option<Version> {
    let least = MIN_CLUSTER_VERSION.parse().ok();
    let all: Option<Vec<Version>> = members.iter().copied().collect();
    let lowest = all
        .and_then(|all| all.into_iter().min())
        .map(Version::of_cluster);
    match (decided, lowest) {
        (None, None) => least,
        (None, lowest) => lowest,
        (Some(decided), Some(lowest)) if decided < lowest => Some(lowest),
        _ => None,
    }
}

/// The version of each member; `None` for one that does not answer.
async fn versions(member: &Member) -> Vec<Option<Version>> {
    let view = member.read_view();
    let mut versions = Vec::new();
    for other in view.cluster.roster.members() {
        versions.push(version_of(member, other.id(), &other.peer_urls).await);
    }
    versions
}

async fn version_of(member: &Member, id: MemberId, urls: &[String]) -> Option<Version> {
    if id == member.identity().member {
        return Some(SERVER_VERSION);
    }
    for url in urls {
        match ask::versions(&member.dialer(), url, ANSWER_TIMEOUT).await {
            Ok(versions) => return Some(versions.server),
            Err(error) => {
                warn!("remote-member-id" = %id, %error, "failed to get version");
            }
        }
    }
    None
}

async fn publish(member: &Member, version: Version) {
    let request = ClusterVersionSetRequest {
        ver: version.to_string(),
    };
    let (sender, receiver) = oneshot::channel();
    let done = move |outcome| _ = sender.send(outcome);
    member.propose_inside(Payload::ClusterVersionSet(request), done);
    if let Ok(Err(error)) = receiver.await {
        warn!(%error, "failed to update cluster version");
    }
}

#[cfg(test)]
mod tests {
    use kvorum_member::cluster::Version;

    use super::decide;

    #[test]
    fn the_lowest_version_counts_and_it_only_rises() {
        let version = |text: &str| text.parse::<Version>().expect("a version");
        let check = |decided: Option<&str>, members: &[&str], wanted: Option<&str>| {
            let members: Vec<_> = members.iter().map(|text| text.parse().ok()).collect();
            let found = decide(decided.map(version), &members);
            assert_eq!(found, wanted.map(version), "{decided:?} {members:?}");
        };
        check(None, &["3.7.1", "3.6.9"], Some("3.6.0"));
        check(None, &["3.7.1", "?"], Some("3.0.0"));
        check(Some("3.0.0"), &["3.7.1", "?"], None);
        check(Some("3.0.0"), &["3.7.1", "3.7.0"], Some("3.7.0"));
        check(Some("3.6.0"), &["3.6.2", "3.7.1"], None);
        check(Some("3.7.0"), &["3.6.2", "3.7.1"], None);
    }
}
