//! Where a peer is, and how it is spoken to.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kvorum_member::cluster::SERVER_VERSION;
use kvorum_proto::ids::MemberId;

use super::Local;
use crate::config::Url;
use crate::transport::{Address, HttpConnection, TlsClient};

/// Time for a connection to be opened.
/// Source: etcd v3.7.1 `server/config/config.go`, `peerDialTimeout`: 1 s and one election time-out.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The oldest version of a cluster that this release can be part of.
/// Source: etcd v3.7.1 `api/version/version.go`, `MinClusterVersion`.
pub(crate) const MIN_CLUSTER_VERSION: &str = "3.0.0";

/// The URLs of one peer. One of them is in use; a failure turns to the next.
#[derive(Debug)]
pub(super) struct Contact(Mutex<Urls>);

#[derive(Debug)]
struct Urls {
    list: Vec<String>,
    picked: usize,
}

impl Contact {
    pub(super) fn new(urls: Vec<String>) -> Self {
        Self(Mutex::new(Urls {
            list: urls,
            picked: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Urls> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update(&self, urls: Vec<String>) {
        let mut held = self.lock();
        if held.list != urls {
            *held = Urls {
                list: urls,
                picked: 0,
            };
        }
    }

    /// The URL in use; empty when there is none.
    fn picked(&self) -> String {
        let urls = self.lock();
        urls.list.get(urls.picked).cloned().unwrap_or_default()
    }

    /// Turns to the next URL, unless somebody has done so already.
    fn failed(&self, url: &str) {
        let mut urls = self.lock();
        if urls.list.get(urls.picked).is_some_and(|used| used == url) {
            urls.picked = (urls.picked + 1) % urls.list.len();
        }
    }

    /// Opens a connection to the URL in use.
    ///
    /// # Errors
    /// See [`Dialer::dial`].
    pub(super) async fn dial(&self, dialer: &Dialer) -> io::Result<HttpConnection> {
        let url = self.picked();
        let dialed = dialer.dial(&url, DIAL_TIMEOUT).await;
        if dialed.is_err() {
            self.failed(&url);
        }
        dialed
    }
}

/// How members are called, with TLS where their URLs say so. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialer(Arc<TlsClient>);

impl Dialer {
    /// With this TLS.
    pub(crate) fn new(tls: TlsClient) -> Self {
        Self(Arc::new(tls))
    }

    /// Opens a connection to a URL.
    ///
    /// # Errors
    /// A URL that is none, and those of [`HttpConnection::open`].
    pub(super) async fn dial(&self, url: &str, limit: Duration) -> io::Result<HttpConnection> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, format!("{error}"));
        let url = Url::parse(url).map_err(invalid)?;
        let (address, host) = if url.is_unix() {
            (Address::Unix(url.address().into()), "localhost".to_owned())
        } else {
            (Address::Tcp(url.address()), url.address())
        };
        let name = if url.is_unix() {
            "localhost"
        } else {
            url.host()
        };
        let tls = url.is_tls().then_some((&*self.0, name));
        HttpConnection::open(&address, &host, limit, tls).await
    }
}

/// The header lines that say who asks, to `to` if that is known.
pub(super) fn headers(local: &Local, to: Option<MemberId>) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("X-Server-From", local.identity.member.to_string()),
        ("X-Server-Version", SERVER_VERSION.to_string()),
        ("X-Min-Cluster-Version", MIN_CLUSTER_VERSION.to_owned()),
        ("X-Etcd-Cluster-ID", local.identity.cluster.to_string()),
    ];
    if !local.peer_urls.is_empty() {
        headers.push(("X-PeerURLs", local.peer_urls.join(",")));
    }
    headers.extend(to.map(|to| ("X-Raft-To", to.to_string())));
    headers
}
