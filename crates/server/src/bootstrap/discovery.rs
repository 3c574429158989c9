//! Founding members that find each other: by SRV records of a domain, or through keys of another cluster.
//!
//! Both ways end in the list that `--initial-cluster` would have given.
//!
//! With a *discovery service* each member writes its name and URLs under a token, and waits until as many as the
//! service knows the cluster to have are there; the first ones are the cluster. The list is ordered by when the keys
//! came, so all members see the same.
//!
//! Source: etcd v3.7.1 `client/pkg/srv/srv.go` (`GetCluster`), `server/embed/config.go` (`PeerURLsMapAndToken`),
//! `server/etcdserver/api/v3discovery/discovery.go`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use kvorum_client::{Client, Credentials, KeyRange, look_up_service};
use kvorum_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest};
use kvorum_proto::ids::MemberId;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::{Config, Discovery, Url};

/// Where the keys of a discovery service begin.
const REGISTRY: &str = "/_etcd/registry";

/// The pause after a failed call doubles each time, up to this.
const PAUSE_MAX: Duration = Duration::from_secs(256);

/// Why no list of members was found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The domain has no records.
    #[error("error setting up initial cluster: {0}")]
    Records(String),
    /// The records do not name this member.
    #[error("error setting up initial cluster: cannot find local etcd member {0:?} in SRV records")]
    NotInRecords(String),
    /// The discovery service does not serve.
    #[error("failed to join discovery cluster ({0})")]
    Service(#[from] ServiceError),
}

/// What is wrong with a discovery service or its keys.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Nobody has written how many members there are to be.
    #[error("discovery: size key not found")]
    NoSize,
    /// What was written is no number of members.
    #[error("discovery: size key is bad")]
    BadSize,
    /// Others were there before.
    #[error("discovery: cluster is full")]
    Full,
    /// A key has no name and URLs.
    #[error("discovery: invalid peer URL")]
    BadUrl,
    /// The service cannot be called.
    #[error("{0}")]
    Client(#[from] kvorum_client::Error),
}

/// The list of members by SRV records, as `--initial-cluster` would give it.
///
/// # Errors
/// See [`DiscoveryError`].
pub(super) async fn by_records(config: &Config) -> Result<String, DiscoveryError> {
    let mut own = BTreeMap::new();
    for url in &config.initial_advertise_peer_urls {
        let address = resolve(&url.address()).map_err(DiscoveryError::Records)?;
        own.insert(address, url.clone());
    }
    let mut parts = Vec::new();
    let mut failures = Vec::new();
    let mut unnamed = 0;
    for (service, scheme) in [("etcd-server-ssl", "https"), ("etcd-server", "http")] {
        let Discovery { srv, srv_name, .. } = &config.discovery;
        let dash = if srv_name.is_empty() { "" } else { "-" };
        let service = format!("{service}{dash}{srv_name}");
        let records = match look_up_service(&format!("_{service}._tcp.{srv}")).await {
            Ok(records) => records,
            Err(error) => {
                failures.push(format!(
                    "error querying DNS SRV records for _{service} {error}"
                ));
                continue;
            }
        };
        for (host, port) in records {
            let host = host.trim_end_matches('.');
            let Ok(address) = resolve(&format!("{host}:{port}")) else {
                warn!(host, "a target of an SRV record does not resolve");
                continue;
            };
            let name = match own.get(&address) {
                Some(url) if url.scheme().name() != scheme => {
                    failures.push(format!(
                        "bootstrap at {scheme}://{host}:{port} from DNS for {service} has scheme mismatch with expected peer {url}"
                    ));
                    continue;
                }
                Some(_) => config.name.clone(),
                None => {
                    unnamed += 1;
                    (unnamed - 1).to_string()
                }
            };
            parts.push((name, format!("{scheme}://{host}:{port}")));
        }
    }
    if parts.is_empty() {
        return Err(DiscoveryError::Records(failures.join("; ")));
    }
    if !parts.iter().any(|(name, _)| *name == config.name) {
        return Err(DiscoveryError::NotInRecords(config.name.clone()));
    }
    let parts: Vec<String> = parts
        .into_iter()
        .map(|(name, url)| format!("{name}={url}"))
        .collect();
    let list = parts.join(",");
    info!(list, "got bootstrap from DNS for etcd-server");
    Ok(list)
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found: Vec<SocketAddr> = address
        .to_socket_addrs()
        .map_err(|error| format!("lookup {address}: {error}"))?
        .collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    let none = || format!("lookup {address}: no such host");
    found.into_iter().next().ok_or_else(none)
}

/// The list of members by a discovery service, as `--initial-cluster` would give it.
///
/// # Errors
/// See [`DiscoveryError`].
pub(super) async fn by_service(config: &Config, own: MemberId) -> Result<String, DiscoveryError> {
    let registry = Registry::new(&config.discovery, own)?;
    let urls = config.initial_advertise_peer_urls.iter();
    let parts: Vec<String> = urls.map(|url| format!("{}={url}", config.name)).collect();
    // Known to be full before anything is written.
    registry.persist(|| registry.look()).await?;
    let value = parts.join(",");
    registry.persist(|| registry.register(&value)).await?;
    let list = registry.persist(|| registry.wait()).await?;
    info!(list, "found the members of the cluster by discovery");
    Ok(list)
}

/// The keys of one cluster that is to be.
struct Registry {
    client: Client,
    prefix: String,
    own: String,
}

/// What is registered.
struct Registered {
    /// Name and URLs of each member, the first that came first; never more than `size`.
    members: Vec<String>,
    size: usize,
    revision: i64,
}

impl Registry {
    fn new(settings: &Discovery, own: MemberId) -> Result<Self, ServiceError> {
        let endpoints = settings.endpoints.iter().cloned();
        let (name, password) = match settings.user.split_once(':') {
            Some((name, password)) if settings.password.is_empty() => (name, password),
            _ => (settings.user.as_str(), settings.password.as_str()),
        };
        let defaults = kvorum_client::Config::new(endpoints);
        let client = Client::new(&kvorum_client::Config {
            dial_timeout: settings.dial_timeout.to_duration(),
            keep_alive_time: settings.keepalive_time.to_duration(),
            keep_alive_timeout: settings.keepalive_timeout.to_duration(),
            credentials: (!name.is_empty()).then(|| Credentials::Password {
                user: name.to_owned(),
                password: password.to_owned(),
            }),
            ..defaults
        })?;
        let prefix = format!("{REGISTRY}/{}", settings.token);
        Ok(Self {
            client: client.with_timeout(settings.request_timeout.to_duration()),
            own: format!("{prefix}/members/{own}"),
            prefix,
        })
    }

    /// Calls until the service serves; what its keys say against it is final.
    async fn persist<T, F: Future<Output = Result<T, ServiceError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, ServiceError> {
        let mut pause = Duration::from_secs(1);
        loop {
            match call().await {
                Err(ServiceError::Client(error)) => {
                    warn!(%error, pause = %format_args!("{pause:?}"), "the discovery service cannot be called; trying again");
                    sleep(pause).await;
                    pause = (2 * pause).min(PAUSE_MAX);
                }
                outcome => return outcome,
            }
        }
    }

    /// Reads what is registered.
    async fn look(&self) -> Result<Registered, ServiceError> {
        let key = KeyRange::single(format!("{}/_config/size", self.prefix));
        let size = self.range(key).await?;
        let size = size.kvs.first().ok_or(ServiceError::NoSize)?;
        let size = String::from_utf8_lossy(&size.value).trim().parse();
        let size: usize = size
            .ok()
            .filter(|it| *it > 0)
            .ok_or(ServiceError::BadSize)?;
        let found = self
            .range(KeyRange::prefix(format!("{}/members/", self.prefix)))
            .await?;
        let revision = found.header.map_or(0, |header| header.revision);
        let place = found
            .kvs
            .iter()
            .position(|pair| pair.key == self.own.as_bytes());
        if found.kvs.len() >= size && place.is_none_or(|place| place >= size) {
            return Err(ServiceError::Full);
        }
        let members = found.kvs.iter().take(size);
        let members = members.map(|pair| String::from_utf8_lossy(&pair.value).trim().to_owned());
        Ok(Registered {
            members: members.collect(),
            size,
            revision,
        })
    }

    async fn range(
        &self,
        keys: KeyRange,
    ) -> Result<kvorum_proto::etcdserverpb::RangeResponse, ServiceError> {
        let request = RangeRequest {
            key: keys.key,
            range_end: keys.range_end,
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..RangeRequest::default()
        };
        Ok(self.client.range(&request).await?)
    }

    async fn register(&self, value: &str) -> Result<(), ServiceError> {
        let request = PutRequest {
            key: self.own.clone().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        self.client.put(&request).await?;
        info!(
            key = self.own,
            value, "registered itself with the discovery service"
        );
        Ok(())
    }

    /// Waits until all are there.
    async fn wait(&self) -> Result<String, ServiceError> {
        let mut registered = self.look().await?;
        let keys = KeyRange::prefix(format!("{}/members/", self.prefix));
        let mut watcher = self
            .client
            .watch(WatchCreateRequest {
                key: keys.key,
                range_end: keys.range_end,
                start_revision: registered.revision + 1,
                ..WatchCreateRequest::default()
            })
            .await?;
        while registered.members.len() < registered.size {
            info!(
                found = registered.members.len(),
                needed = registered.size,
                "waiting for other members to register with the discovery service"
            );
            // A watch that ends is as good as one that tells: both times it is looked again.
            let _ = watcher.next().await?;
            registered = self.look().await?;
        }
        let good = |member: &String| {
            let mut parts = member.split(',').map(|part| part.split_once('='));
            parts.all(|part| part.is_some_and(|(_, url)| Url::parse(url).is_ok()))
        };
        if !registered.members.iter().all(good) {
            return Err(ServiceError::BadUrl);
        }
        Ok(registered.members.join(","))
    }
}
