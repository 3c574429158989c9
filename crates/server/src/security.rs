//! TLS of the peer side, from the flags: of the port, and of calls to other members.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{info, warn};

use crate::config::{Config, Scheme, Tls};
use crate::peer::Dialer;
use crate::transport::{PairFiles, TlsClient, TlsError, TlsOptions, TlsServer};

/// What the peer side is secured with.
pub(crate) struct PeerSecurity {
    /// For peer URLs with https; none while no certificate is configured.
    pub(crate) server: Option<Arc<TlsServer>>,
    /// For calls to members whose URLs have https.
    pub(crate) dialer: Dialer,
}

impl PeerSecurity {
    /// Reads the files that the flags name. `initialized`: the member has a log, so what the flags say about the founding of
    /// the cluster does not count.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(crate) fn prepare(config: &Config, initialized: bool) -> Result<Self, TlsError> {
        let tls = &config.peer_tls;
        warn_of_plain_ports(config);
        let options = TlsOptions {
            // What was found by the records of a domain is trusted by the name of the domain.
            // Source: etcd v3.7.1 `server/embed/config.go`, `PeerURLsMapAndToken`.
            server_name: (!initialized && tls.trusted_ca_file.is_empty())
                .then(|| config.discovery.srv.clone())
                .filter(|domain| !domain.is_empty()),
            ..options(tls)
        };
        let has_port = config.listen_peer_urls.iter().any(|url| url.is_tls());
        let server = has_port
            .then(|| TlsServer::new(&options, &[]))
            .transpose()?;
        let client = TlsClient::new(options);
        if !tls.is_empty() || !tls.trusted_ca_file.is_empty() {
            info!(
                cert = tls.cert_file,
                key = tls.key_file,
                "client-cert" = tls.client_cert_file,
                "client-key" = tls.client_key_file,
                "trusted-ca" = tls.trusted_ca_file,
                "client-cert-auth" = tls.client_cert_auth,
                "starting with peer TLS"
            );
            client.check()?;
        }
        Ok(Self {
            server: server.map(Arc::new),
            dialer: Dialer::new(client),
        })
    }
}

fn options(tls: &Tls) -> TlsOptions {
    let path = |text: &String| (!text.is_empty()).then(|| PathBuf::from(text));
    let pair = |cert, key| {
        Some(PairFiles {
            cert: path(cert)?,
            key: path(key)?,
        })
    };
    TlsOptions {
        pair: pair(&tls.cert_file, &tls.key_file),
        client_pair: pair(&tls.client_cert_file, &tls.client_key_file),
        ca_file: path(&tls.trusted_ca_file),
        demands_certificate: tls.client_cert_auth,
        server_name: None,
    }
}

/// Source: etcd v3.7.1 `server/embed/etcd.go`, `configurePeerListeners`.
fn warn_of_plain_ports(config: &Config) {
    let tls = &config.peer_tls;
    let plain = config.listen_peer_urls.iter();
    for url in plain.filter(|url| url.scheme() == Scheme::Http) {
        if !tls.is_empty() {
            warn!(
                "peer-url" = %url,
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            );
        }
        if tls.client_cert_auth {
            warn!(
                "peer-url" = %url,
                "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL"
            );
        }
    }
}
