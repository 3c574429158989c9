//! How a member without a log begins: with others that the flags name, or in a cluster that runs already.
//!
//! Members of a new cluster are not asked for their consent: each computes the same ids from the same flags. But one
//! that answers already and knows this member as started tells that this one had a log and lost it. It must not begin
//! again under its old id, because it may have promised what it now forgets.
//!
//! Source: etcd v3.7.1 `server/etcdserver/bootstrap.go` (`bootstrapNewClusterNoWAL`,
//! `bootstrapExistingClusterNoWAL`), `cluster_util.go` (`isMemberBootstrapped`, `getClusterFromRemotePeers`,
//! `isCompatibleWithCluster`), `api/membership/cluster.go` (`ValidateClusterAndAssignIDs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use kvorum_member::cluster::identity::{cluster_id, initial_member_id};
use kvorum_member::cluster::{Member as RosterMember, SERVER_VERSION};
use kvorum_proto::ids::{ClusterId, MemberId};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::{StartError, discovery, election_timeout};
use crate::config::{Config, Url, resolve};
use crate::peer::{Dialer, MIN_CLUSTER_VERSION, ask};
use crate::runtime::Identity;

/// Why the other members do not let this one in.
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// A running member knows this one as started.
    #[error(
        "member {0} has already been bootstrapped; its data directory was lost or is another one than before: remove the member from the cluster, add it again and start it with --initial-cluster-state=existing"
    )]
    Bootstrapped(MemberId),
    /// No member of the running cluster answers.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
    )]
    NoAnswer,
    /// The flags name other members than the running cluster has.
    #[error("error validating peerURLs {cluster}: {reason}")]
    Differs {
        /// The running cluster.
        cluster: String,
        /// What differs.
        reason: String,
    },
    /// The running cluster speaks a version that this release does not.
    #[error("incompatible with current running cluster")]
    Incompatible,
}

/// How a member begins.
#[derive(Debug)]
pub(super) struct Birth {
    /// Who it will be.
    pub(super) identity: Identity,
    pub(super) way: Way,
}

#[derive(Debug)]
pub(super) enum Way {
    /// With these members, this one among them.
    Found(Vec<RosterMember>),
    /// In a cluster of these members, this one among them.
    Join(Vec<RosterMember>),
}

impl Birth {
    /// Members to be spoken to before the log tells of any.
    pub(super) fn introduced(&self) -> BTreeMap<MemberId, Vec<String>> {
        match &self.way {
            Way::Found(_) => BTreeMap::new(),
            Way::Join(members) => {
                let others = members.iter();
                let others = others.filter(|member| member.id() != self.identity.member);
                others
                    .map(|member| (member.id(), member.peer_urls.clone()))
                    .collect()
            }
        }
    }
}

/// Finds out how the member begins.
///
/// # Errors
/// The flags contradict each other or what running members say.
pub(super) async fn find(config: &Config, dialer: &Dialer) -> Result<Birth, StartError> {
    let config = &with_list(config).await?;
    let listed = config.founding_members()?;
    let limit = Duration::from_secs(1) + election_timeout(config);
    let members: Vec<RosterMember> = listed
        .iter()
        .map(|(name, urls)| named_member(name, urls, &config.initial_cluster_token))
        .collect();
    let others: BTreeSet<String> = members
        .iter()
        .filter(|member| member.name != config.name)
        .flat_map(|member| member.peer_urls.clone())
        .collect();
    if config.initial_cluster_state == "existing" {
        return Ok(join((config, dialer), &members, &others, limit).await?);
    }
    let own = members.iter().find(|member| member.name == config.name);
    // Checked with the flags: the own name is in the list.
    let own = own.map(RosterMember::id).unwrap_or_default();
    if let Some((_, running)) = Answers::ask(dialer, &others, limit).next().await
        && is_started(&running, own)
    {
        return Err(BirthError::Bootstrapped(own).into());
    }
    let cluster = cluster_id(members.iter().map(RosterMember::id));
    let identity = Identity {
        cluster,
        member: own,
    };
    Ok(Birth {
        identity,
        way: Way::Found(members),
    })
}

/// The configuration with the list of members, wherever that comes from.
async fn with_list(config: &Config) -> Result<Config, StartError> {
    let mut config = config.clone();
    if !config.discovery.srv.is_empty() {
        config.initial_cluster = discovery::by_records(&config).await?;
    } else if !config.discovery.endpoints.is_empty() {
        config
            .initial_cluster_token
            .clone_from(&config.discovery.token);
        let urls = &config.initial_advertise_peer_urls;
        let own = named_member(&config.name, urls, &config.initial_cluster_token);
        config.initial_cluster = discovery::by_service(&config, own.id()).await?;
    }
    Ok(config)
}

fn named_member(name: &str, urls: &[Url], token: &str) -> RosterMember {
    let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
    let id = initial_member_id(&urls, token);
    let mut member = RosterMember::new(id, urls, false);
    name.clone_into(&mut member.name);
    member
}

/// Whether a member has published itself, which it does with a log in its hands.
fn is_started(running: &[RosterMember], id: MemberId) -> bool {
    let known = running.iter().find(|member| member.id() == id);
    known.is_some_and(|member| !member.client_urls.is_empty())
}

/// What members say of the cluster, as it comes in. All are asked at once: members that found a cluster together wait for
/// each other, since none answers before it knows how it begins, and each waits once.
struct Answers(JoinSet<Result<Answer, (String, io::Error)>>);

type Answer = (ClusterId, Vec<RosterMember>);

impl Answers {
    fn ask(dialer: &Dialer, urls: &BTreeSet<String>, limit: Duration) -> Self {
        let mut asked = JoinSet::new();
        for url in urls.clone() {
            let dialer = dialer.clone();
            asked.spawn(async move {
                let answer = ask::members(&dialer, &url, limit).await;
                answer.map_err(|error| (format!("{url}/members"), error))
            });
        }
        Self(asked)
    }

    /// The next one; none when nobody is left who might answer.
    async fn next(&mut self) -> Option<Answer> {
        loop {
            match self.0.join_next().await?.expect("asking does not panic") {
                Ok(answer) => return Some(answer),
                Err((address, error)) => warn!(address, %error, "failed to get cluster response"),
            }
        }
    }

    /// The first one that has the listed members, with their names. A member that is behind does not know yet of
    /// one that was just added, so that another one's answer is waited for.
    async fn fitting(
        mut self,
        listed: &[RosterMember],
    ) -> Result<(Answer, BTreeMap<MemberId, String>), BirthError> {
        let mut why = BirthError::NoAnswer;
        while let Some((cluster, running)) = self.next().await {
            match match_members(listed, &running) {
                Ok(names) => return Ok(((cluster, running), names)),
                Err(reason) => {
                    why = BirthError::Differs {
                        cluster: print(cluster, &running),
                        reason,
                    };
                }
            }
        }
        Err(why)
    }
}

async fn join(
    (config, dialer): (&Config, &Dialer),
    listed: &[RosterMember],
    others: &BTreeSet<String>,
    limit: Duration,
) -> Result<Birth, BirthError> {
    let answers = Answers::ask(dialer, others, limit);
    let ((cluster, mut running), names) = answers.fitting(listed).await?;
    let own = names.iter().find(|(_, name)| **name == config.name);
    // Each listed name has found its member, and the own name is listed.
    let own = own.map(|(id, _)| *id).unwrap_or_default();
    if is_started(&running, own) {
        return Err(BirthError::Bootstrapped(own));
    }
    check_versions(dialer, &running, own, limit).await?;
    for member in &mut running {
        if let Some(name) = names.get(&member.id()) {
            member.name.clone_from(name);
        }
    }
    info!(cluster_id = %cluster, members = running.len(), "joining a running cluster");
    Ok(Birth {
        identity: Identity {
            cluster,
            member: own,
        },
        way: Way::Join(running),
    })
}

/// The listed name of each member: members are the same when their peer URLs are, literally or by address.
fn match_members(
    listed: &[RosterMember],
    running: &[RosterMember],
) -> Result<BTreeMap<MemberId, String>, String> {
    if listed.len() != running.len() {
        return Err("member count is unequal".to_owned());
    }
    let mut left: Vec<&RosterMember> = listed.iter().collect();
    let mut names = BTreeMap::new();
    for member in running {
        let place = left
            .iter()
            .position(|other| same_urls(&member.peer_urls, &other.peer_urls));
        let Some(place) = place else {
            return Err(format!(
                "PeerURLs: no match found for existing member ({}, [{}]), last resolver error (<nil>)",
                member.id(),
                member.peer_urls.join(" ")
            ));
        };
        names.insert(member.id(), left.remove(place).name.clone());
    }
    Ok(names)
}

fn same_urls(one: &[String], other: &[String]) -> bool {
    let sorted = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<_>>();
    if sorted(one) == sorted(other) {
        return true;
    }
    let parse = |urls: &[String]| -> Option<Vec<Url>> {
        urls.iter().map(|url| Url::parse(url).ok()).collect()
    };
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => resolve(&one) == resolve(&other),
        _ => false,
    }
}

/// Whether every member that answers can live with this release, and this release with the cluster.
async fn check_versions(
    dialer: &Dialer,
    running: &[RosterMember],
    own: MemberId,
    limit: Duration,
) -> Result<(), BirthError> {
    let mut answered = false;
    for member in running.iter().filter(|member| member.id() != own) {
        for url in &member.peer_urls {
            let Ok(versions) = ask::versions(dialer, url, limit).await else {
                continue;
            };
            let newer = versions
                .cluster
                .is_some_and(|cluster| cluster > SERVER_VERSION.of_cluster());
            let least = MIN_CLUSTER_VERSION.parse();
            if newer || least.is_ok_and(|least| versions.server < least) {
                warn!(
                    "remote-peer-id" = %member.id(),
                    server = %versions.server,
                    "the running cluster has another version"
                );
                return Err(BirthError::Incompatible);
            }
            answered = true;
            break;
        }
    }
    if answered || running.len() == 1 {
        Ok(())
    } else {
        Err(BirthError::Incompatible)
    }
}

/// A cluster as official servers print it in errors.
fn print(cluster: ClusterId, members: &[RosterMember]) -> String {
    let mut text = format!("{{ClusterID:{cluster} Members:[");
    for (place, member) in members.iter().enumerate() {
        let gap = if place == 0 { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{gap}&{{ID:{} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
            member.id(),
            member.peer_urls.join(" "),
            member.is_learner,
            member.name,
            member.client_urls.join(" "),
        );
    }
    text.push_str("] RemovedMemberIDs:[]}");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use kvorum_member::cluster::Member;
    use kvorum_proto::ids::{ClusterId, MemberId};
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::{Answers, BirthError, match_members};
    use crate::peer::Dialer;

    const LIMIT: Duration = Duration::from_secs(3600);

    fn member(id: u64, name: &str, url: &str) -> Member {
        let mut member = Member::new(MemberId(id), vec![url.to_owned()], false);
        name.clone_into(&mut member.name);
        member
    }

    async fn listen() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.expect("a port")
    }

    fn url(listener: &TcpListener) -> String {
        format!("http://{}", listener.local_addr().expect("an address"))
    }

    /// Says of the cluster what is given, to the first who asks.
    async fn answer(listener: TcpListener, members: &str) -> TcpStream {
        let (mut stream, _) = listener.accept().await.expect("a caller");
        let length = members.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: ab\r\nContent-Length: {length}\r\n\r\n{members}"
        );
        let written = stream.write_all(answer.as_bytes()).await;
        written.expect("it reads");
        // Whoever closes with a request unread takes the answer back.
        stream
    }

    /// Asked in turn, the one that is silent would be waited for, for an hour.
    #[tokio::test]
    async fn who_is_silent_does_not_keep_another_from_answering() {
        let mut listeners = [listen().await, listen().await];
        listeners.sort_by_key(url);
        let urls: BTreeSet<String> = listeners.iter().map(url).collect();
        let [_silent, talker] = listeners;
        let _open = tokio::spawn(answer(talker, "[]"));
        let answer = Answers::ask(&Dialer::default(), &urls, LIMIT).next().await;
        assert_eq!(answer, Some((ClusterId(0xab), Vec::new())));
    }

    /// It was added a moment ago, and the first that answers has not heard of it.
    #[tokio::test]
    async fn a_member_that_is_behind_keeps_nobody_from_joining() {
        let (behind, ahead) = (listen().await, listen().await);
        let urls = BTreeSet::from([url(&behind), url(&ahead)]);
        let listed = [
            member(0, "a", "http://127.0.0.1:1"),
            member(0, "b", "http://127.0.0.1:2"),
        ];
        let known = r#"{"id":7,"peerURLs":["http://127.0.0.1:1"],"name":"a"}"#;
        let added = r#"{"id":8,"peerURLs":["http://127.0.0.1:2"]}"#;
        let answers = Answers::ask(&Dialer::default(), &urls, LIMIT);
        tokio::spawn(async move {
            let _open = answer(behind, &format!("[{known}]")).await;
            let _open = answer(ahead, &format!("[{known},{added}]")).await;
            std::future::pending::<()>().await;
        });
        let (_, names) = answers.fitting(&listed).await.expect("one of them fits");
        assert_eq!(names[&MemberId(8)], "b");
    }

    #[tokio::test]
    async fn members_that_all_name_others_are_told() {
        let listeners = [listen().await, listen().await];
        let urls: BTreeSet<String> = listeners.iter().map(url).collect();
        let _open = listeners.map(|listener| tokio::spawn(answer(listener, "[]")));
        let answers = Answers::ask(&Dialer::default(), &urls, LIMIT);
        let listed = [member(0, "a", "http://127.0.0.1:1")];
        let refused = answers.fitting(&listed).await.expect_err("none fits");
        assert!(matches!(refused, BirthError::Differs { .. }), "{refused}");
        let nobody = Answers::ask(&Dialer::default(), &BTreeSet::new(), LIMIT);
        let refused = nobody.fitting(&listed).await.expect_err("none answers");
        assert!(matches!(refused, BirthError::NoAnswer), "{refused}");
    }

    #[test]
    fn members_are_the_same_when_their_urls_are() {
        let listed = [
            member(0, "a", "http://127.0.0.1:1"),
            member(0, "b", "http://localhost:2"),
        ];
        let running = [
            member(7, "", "http://127.0.0.1:2"),
            member(8, "x", "http://127.0.0.1:1"),
        ];
        let names = match_members(&listed, &running).expect("the same members");
        assert_eq!(names[&MemberId(7)], "b");
        assert_eq!(names[&MemberId(8)], "a");
    }

    #[test]
    fn other_members_are_told_with_the_texts_of_etcd() {
        let one = [member(0, "a", "http://127.0.0.1:1")];
        let check = |running: &[Member], text: &str| {
            assert_eq!(match_members(&one, running).unwrap_err(), text);
        };
        check(&[], "member count is unequal");
        check(
            &[member(0x1f, "a", "http://127.0.0.1:3")],
            "PeerURLs: no match found for existing member (1f, [http://127.0.0.1:3]), last resolver error (<nil>)",
        );
    }
}
