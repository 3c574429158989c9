//! Which socket offers what.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use anyhow::anyhow;

use crate::api::http::{HttpOptions, HttpPort, Paths};
use crate::api::v3::Services;
use crate::config::{Config, Url};
use crate::facts::MemberFacts;
use crate::metrics::Metrics;
use crate::peer::{PeerPort, Peers};
use crate::process::version;
use crate::runtime::{Identity, Member};
use crate::transport::{
    Address, HttpHandler, Listener, ListenerConfig, Server, Service, Settings, Side, TlsServer,
};

/// What a socket offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    /// gRPC and HTTP.
    Clients,
    /// gRPC alone, because HTTP has ports of its own.
    Grpc,
    /// HTTP alone.
    Http,
    /// Health and metrics.
    Metrics,
    /// What peers ask.
    Peers,
}

/// Sockets that are taken and not open yet. Connections wait in their backlogs.
pub(crate) struct Bound {
    listeners: Vec<(Offer, Listener)>,
}

/// Takes all sockets of the configuration. `peer_tls` is for peer URLs with https.
pub(crate) fn bind(config: &Config, peer_tls: Option<&Arc<TlsServer>>) -> anyhow::Result<Bound> {
    let clients = if config.listen_client_http_urls.is_empty() {
        Offer::Clients
    } else {
        Offer::Grpc
    };
    let offers = [
        (clients, &config.listen_client_urls),
        (Offer::Http, &config.listen_client_http_urls),
        (Offer::Metrics, &config.listen_metrics_urls),
        (Offer::Peers, &config.listen_peer_urls),
    ];
    let mut listeners = Vec::new();
    for (offer, urls) in offers {
        // The same address may stand in a list twice, as http and https for example.
        let mut taken = BTreeSet::new();
        for url in urls.iter().filter(|url| taken.insert(url.address())) {
            let tls = peer_tls.filter(|_| offer == Offer::Peers && url.is_tls());
            let listener =
                bind_one(config, url, tls).map_err(|error| anyhow!(cannot_listen(url, &error)))?;
            listeners.push((offer, listener));
        }
    }
    Ok(Bound { listeners })
}

fn bind_one(config: &Config, url: &Url, tls: Option<&Arc<TlsServer>>) -> io::Result<Listener> {
    let address = if url.is_unix() {
        Address::Unix(url.address().into())
    } else {
        Address::Tcp(url.address())
    };
    Listener::bind(ListenerConfig {
        address,
        reuse_port: config.socket_reuse_port,
        tls: tls.cloned(),
        service: None,
        http: None,
    })
}

/// Why a port is not to be had, in the words of Go's network library: people and scripts look for them.
fn cannot_listen(url: &Url, error: &io::Error) -> String {
    let network = if url.is_unix() { "unix" } else { "tcp" };
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("listen {network} {}: {reason}", url.address())
}

/// Begins to accept peers, whose answers a member needs before it can serve clients.
pub(crate) fn open_to_peers(
    config: &Config,
    bound: &mut Bound,
    peers: &Peers,
    metrics: &Arc<Metrics>,
) -> Server {
    let facts = Arc::new(MemberFacts(peers.local().member.clone()));
    let common = HttpPort::new(
        Paths::Peers,
        http_options(config),
        facts,
        Arc::clone(metrics),
    );
    let port: Arc<dyn HttpHandler> = Arc::new(PeerPort::new(peers.clone(), Arc::new(common)));
    let (ours, others): (Vec<_>, Vec<_>) = std::mem::take(&mut bound.listeners)
        .into_iter()
        .partition(|(offer, _)| *offer == Offer::Peers);
    bound.listeners = others;
    let listeners = ours.into_iter().map(|(_, mut listener)| {
        listener.offer(None, Some(Arc::clone(&port)));
        listener
    });
    let settings = Settings {
        side: Side::Peer,
        ..settings(config, Arc::clone(metrics), None)
    };
    Server::start(listeners.collect(), settings)
}

/// Open ports.
pub(crate) struct Open {
    server: Server,
    client_addresses: Vec<String>,
}

impl Open {
    /// Where clients are served.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.client_addresses
    }

    pub(crate) fn into_server(self) -> Server {
        self.server
    }
}

/// Begins to accept on all sockets.
pub(crate) fn open(
    config: &Config,
    bound: Bound,
    services: Arc<Services>,
    member: &Member,
    metrics: Arc<Metrics>,
    connections_max: Option<u64>,
) -> Open {
    let http = |paths| -> Arc<dyn HttpHandler> {
        let facts = Arc::new(MemberFacts(member.clone()));
        Arc::new(HttpPort::new(
            paths,
            http_options(config),
            facts,
            Arc::clone(&metrics),
        ))
    };
    let grpc = || -> Arc<dyn Service> { Arc::clone(&services) as Arc<dyn Service> };
    let mut client_addresses = Vec::new();
    let mut listeners = Vec::new();
    for (offer, mut listener) in bound.listeners {
        if matches!(offer, Offer::Clients | Offer::Grpc) {
            client_addresses.push(match listener.local_address() {
                Address::Tcp(address) => address,
                Address::Unix(path) => path.display().to_string(),
            });
        }
        let (service, handler) = match offer {
            Offer::Clients => (Some(grpc()), Some(http(Paths::Client))),
            Offer::Grpc => (Some(grpc()), None),
            Offer::Http => (None, Some(http(Paths::Client))),
            Offer::Metrics => (None, Some(http(Paths::Metrics))),
            Offer::Peers => continue,
        };
        listener.offer(service, handler);
        listeners.push(listener);
    }
    let server = Server::start(listeners, settings(config, metrics, connections_max));
    Open {
        server,
        client_addresses,
    }
}

fn http_options(config: &Config) -> HttpOptions {
    HttpOptions {
        cors: config.cors.iter().cloned().collect(),
        host_whitelist: config.host_whitelist.iter().cloned().collect(),
        server_version: version::ETCD,
        kvorum_version: version::KVORUM,
    }
}

fn settings(config: &Config, metrics: Arc<Metrics>, connections_max: Option<u64>) -> Settings {
    let connections_max = connections_max.and_then(|number| usize::try_from(number).ok());
    Settings {
        max_request_bytes: config.max_request_bytes as usize,
        max_concurrent_streams: config.max_concurrent_streams,
        keepalive_min_time: config.grpc_keepalive_min_time.to_duration(),
        keepalive_interval: config.grpc_keepalive_interval.to_duration(),
        keepalive_timeout: config.grpc_keepalive_timeout.to_duration(),
        warning_unary_duration: config.warning_unary_request_duration.to_duration(),
        max_connections: connections_max.unwrap_or(usize::MAX),
        ..Settings::new(metrics)
    }
}

/// Sets the metrics that say who this is and never change.
pub(crate) fn announce(config: &Config, identity: Identity, metrics: &Metrics) {
    metrics.id.with(&[&identity.member.to_string()]).set(1.0);
    metrics.version.with(&[version::ETCD]).set(1.0);
    metrics.kvorum_version.with(&[version::KVORUM]).set(1.0);
    metrics.go_version.with(&[version::GO]).set(1.0);
    metrics
        .quota
        .set(config.quota_bytes().unwrap_or_default() as f64);
    metrics.auth_revision.set(1.0);
    for (name, stage, enabled) in config.feature_gates.all() {
        let enabled = f64::from(u8::from(enabled));
        metrics
            .feature_enabled
            .with(&[name, stage.name()])
            .set(enabled);
    }
}
