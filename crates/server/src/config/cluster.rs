//! The founding members of a cluster, as `--initial-cluster` lists them.
//!
//! The list counts only where a member has no log yet: a member that was started before knows its
//! cluster from its log, whatever the flags say.
//!
//! Source: v3.7.1 `client/pkg/types/urlsmap.go` (`NewURLsMap`), `server/config/config.go`
//! (`VerifyBootstrap`, `advertiseMatchesCluster`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs as _};

use super::settings::Config;
use super::url::{Url, UrlError};

/// Names of members with their peer URLs, sorted.
pub type InitialCluster = BTreeMap<String, Vec<Url>>;

/// Why a member cannot be founded from its flags; the text is etcd's where etcd has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// A URL in the list is none.
    #[error("error setting up initial cluster: {0}")]
    Url(#[from] UrlError),
    /// The member's own name is not in the list.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NotListed(String),
    /// The list names a peer URL of this member that it does not advertise.
    #[error("--initial-cluster has {listed} but missing from --initial-advertise-peer-urls={own}")]
    NotAdvertised {
        /// `name=url` of each such URL.
        listed: String,
        /// What the member advertises.
        own: String,
    },
    /// The member advertises a peer URL that the list does not name.
    #[error("--initial-advertise-peer-urls has {own} but missing from --initial-cluster={listed}")]
    NotInCluster {
        /// The URLs in question.
        own: String,
        /// The list.
        listed: String,
    },
    /// Two members share a URL.
    #[error("initial cluster {0} has duplicate url")]
    Duplicate(String),
}

/// Reads a list such as `a=http://h1:2380,b=http://h2:2380`; a name may repeat.
///
/// # Errors
/// A part is no URL.
pub fn parse_initial_cluster(text: &str) -> Result<InitialCluster, UrlError> {
    let mut cluster = InitialCluster::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        cluster
            .entry(name.to_owned())
            .or_default()
            .push(Url::parse(url)?);
    }
    for urls in cluster.values_mut() {
        urls.sort_by_cached_key(Url::to_string);
    }
    Ok(cluster)
}

/// Prints a list the way the log and the errors show it: sorted `name=url` parts.
#[must_use]
pub fn print_initial_cluster(cluster: &InitialCluster) -> String {
    let mut parts: Vec<String> = cluster
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
        .collect();
    parts.sort();
    parts.join(",")
}

impl Config {
    /// The founding members, checked. To be asked only when there is no log.
    ///
    /// Names of hosts may be looked up, when the URLs of the list and the advertised ones differ
    /// in their text.
    ///
    /// # Errors
    /// The flags contradict each other.
    pub fn founding_members(&self) -> Result<InitialCluster, BootstrapError> {
        let cluster = parse_initial_cluster(&self.initial_cluster)?;
        let listed = cluster
            .get(&self.name)
            .ok_or_else(|| BootstrapError::NotListed(self.name.clone()))?;
        // Who joins takes what the running cluster says of it.
        if self.initial_cluster_state != "existing" {
            self.check_advertised(listed)?;
        }
        let mut seen = BTreeSet::new();
        if !cluster
            .values()
            .flatten()
            .all(|url| seen.insert(url.to_string()))
        {
            return Err(BootstrapError::Duplicate(print_initial_cluster(&cluster)));
        }
        Ok(cluster)
    }

    fn check_advertised(&self, listed: &[Url]) -> Result<(), BootstrapError> {
        let own = &self.initial_advertise_peer_urls;
        let texts =
            |urls: &[Url]| -> BTreeSet<String> { urls.iter().map(Url::to_string).collect() };
        let (listed_texts, own_texts) = (texts(listed), texts(own));
        if listed_texts == own_texts || resolve(listed) == resolve(own) {
            return Ok(());
        }
        let join = |texts: Vec<String>| texts.join(",");
        let missing: Vec<_> = listed_texts
            .difference(&own_texts)
            .map(|url| format!("{}={url}", self.name))
            .collect();
        if !missing.is_empty() {
            return Err(BootstrapError::NotAdvertised {
                listed: join(missing),
                own: join(own_texts.into_iter().collect()),
            });
        }
        Err(BootstrapError::NotInCluster {
            own: join(own_texts.difference(&listed_texts).cloned().collect()),
            listed: self.initial_cluster.clone(),
        })
    }
}

/// The addresses behind URLs, IPv4 before IPv6; a URL that cannot be looked up stays text.
pub(crate) fn resolve(urls: &[Url]) -> BTreeSet<String> {
    let look_up = |url: &Url| {
        let mut addresses: Vec<_> = url.address().to_socket_addrs().ok()?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses
            .first()
            .map(|address| format!("{}://{address}", url.scheme().name()))
    };
    urls.iter()
        .map(|url| look_up(url).unwrap_or_else(|| url.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Url, parse_initial_cluster, print_initial_cluster};
    use crate::config::Config;

    fn config(name: &str, cluster: &str, advertised: &str) -> Config {
        let mut config = Config::defaults();
        config.name = name.to_owned();
        config.initial_cluster = cluster.to_owned();
        config.initial_advertise_peer_urls = Url::parse_list(advertised).expect("peer URLs");
        config
    }

    fn check_refused(name: &str, cluster: &str, advertised: &str, text: &str) {
        let error = config(name, cluster, advertised)
            .founding_members()
            .unwrap_err();
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_list_is_read_and_printed_sorted() {
        let cluster = parse_initial_cluster("b=http://h:2,,a=http://h:3,a=http://h:1");
        let text = print_initial_cluster(&cluster.expect("a list"));
        assert_eq!(text, "a=http://h:1,a=http://h:3,b=http://h:2");
    }

    #[test]
    fn a_lone_member_is_founded_from_its_own_entry() {
        let members = config("a", "a=http://127.0.0.1:1", "http://127.0.0.1:1").founding_members();
        assert_eq!(members.expect("one member").len(), 1);
    }

    #[test]
    fn contradictions_are_refused_with_the_texts_of_etcd() {
        let url = "http://127.0.0.1:1";
        check_refused(
            "b",
            "a=http://127.0.0.1:1",
            url,
            "couldn't find local name \"b\" in the initial cluster configuration",
        );
        check_refused(
            "a",
            "a=http://127.0.0.1:2",
            url,
            "--initial-cluster has a=http://127.0.0.1:2 but missing from \
             --initial-advertise-peer-urls=http://127.0.0.1:1",
        );
        check_refused(
            "a",
            "a=http://127.0.0.1:1",
            "http://127.0.0.1:1,http://127.0.0.1:2",
            "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from \
             --initial-cluster=a=http://127.0.0.1:1",
        );
        check_refused(
            "a",
            "a=http://127.0.0.1:1,b=http://127.0.0.1:1",
            url,
            "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url",
        );
        check_refused(
            "a",
            "a=127.0.0.1:1",
            url,
            "error setting up initial cluster: parse \"127.0.0.1:1\": first path segment in URL \
             cannot contain colon",
        );
    }

    #[test]
    fn several_members_found_a_cluster() {
        let list = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,b=http://127.0.0.1:3";
        let members = config("a", list, "http://127.0.0.1:1").founding_members();
        let members = members.expect("two members");
        assert_eq!(members.values().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn who_joins_need_not_advertise_what_is_listed() {
        let mut config = config("a", "a=http://127.0.0.1:1", "http://127.0.0.1:9");
        config.initial_cluster_state = "existing".to_owned();
        assert!(config.founding_members().is_ok());
    }
}
