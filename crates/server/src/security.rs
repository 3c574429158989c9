//! TLS of the peer side, from the flags: of the port, and of calls to other members.
//!
//! Source: etcd v3.7.1 `server/embed/etcd.go` (`configurePeerListeners`), `server/embed/config.go` (`PeerSelfCert`,
//! `PeerURLsMapAndToken`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use crate::config::{Config, Scheme, Tls, cipher_suites};
use crate::peer::Dialer;
use crate::transport::{Allowed, PairFiles, TlsClient, TlsError, TlsOptions, TlsServer, Versions};

/// What the peer side is secured with.
pub(crate) struct PeerSecurity {
    /// For peer URLs with https; none while there is no such URL.
    pub(crate) server: Option<Arc<TlsServer>>,
    /// For calls to members whose URLs have https.
    pub(crate) dialer: Dialer,
}

impl PeerSecurity {
    /// Reads the files that the flags name, and makes a certificate where that is asked for. `initialized`: the member has a
    /// log, so what the flags say about the founding of the cluster does not count.
    ///
    /// # Errors
    /// A file cannot be used.
    pub(crate) fn prepare(config: &Config, initialized: bool) -> anyhow::Result<Self> {
        let tls = &config.peer_tls;
        let options = if tls.auto && tls.is_empty() {
            own(config)?
        } else {
            if tls.auto {
                warn!("ignoring peer auto TLS since certs given");
            }
            given(tls)
        };
        warn_of_plain_ports(config, &options);
        let options = TlsOptions {
            versions: match (&*config.tls_min_version, &*config.tls_max_version) {
                ("TLS1.3", _) => Versions::Tls13,
                (_, "TLS1.2") => Versions::Tls12,
                _ => Versions::All,
            },
            cipher_suites: cipher_suites(&config.cipher_suites).map_err(anyhow::Error::msg)?,
            // What was found by the records of a domain is trusted by the name of the domain.
            server_name: (!initialized && options.ca_file.is_none())
                .then(|| config.discovery.srv.clone())
                .filter(|domain| !domain.is_empty()),
            ..options
        };
        let has_port = config.listen_peer_urls.iter().any(|url| url.is_tls());
        let server = has_port
            .then(|| TlsServer::new(&options, &[]))
            .transpose()?;
        let is_used = options.pair.is_some() || options.ca_file.is_some();
        if is_used {
            log(&options, config);
        }
        let client = TlsClient::new(options);
        if is_used {
            client.check()?;
        }
        Ok(Self {
            server: server.map(Arc::new),
            dialer: Dialer::new(client),
        })
    }
}

/// TLS with the files of the flags.
fn given(tls: &Tls) -> TlsOptions {
    let path = |text: &String| (!text.is_empty()).then(|| PathBuf::from(text));
    let pair = |cert, key| {
        Some(PairFiles {
            cert: path(cert)?,
            key: path(key)?,
        })
    };
    // Validation has seen to it that one list is empty.
    let allowed = match (&*tls.allowed_cns, &*tls.allowed_hostnames) {
        ([], []) => Allowed::All,
        ([], hosts) => Allowed::Hosts(hosts.to_vec()),
        (names, _) => Allowed::CommonNames(names.to_vec()),
    };
    TlsOptions {
        pair: pair(&tls.cert_file, &tls.key_file),
        client_pair: pair(&tls.client_cert_file, &tls.client_key_file),
        ca_file: path(&tls.trusted_ca_file),
        demands_certificate: tls.client_cert_auth,
        allowed,
        crl_file: path(&tls.crl_file),
        checks_address: !tls.skip_client_san_verification,
        ..TlsOptions::default()
    }
}

/// TLS with a certificate of the member's own making. Nobody can verify it, so nobody does, whatever else was asked for.
fn own(config: &Config) -> Result<TlsOptions, TlsError> {
    let tls = &config.peer_tls;
    let ignored = [
        ("--peer-client-cert-auth", tls.client_cert_auth),
        ("--peer-trusted-ca-file", !tls.trusted_ca_file.is_empty()),
        ("--peer-crl-file", !tls.crl_file.is_empty()),
        ("--peer-cert-allowed-cn", !tls.allowed_cns.is_empty()),
        (
            "--peer-cert-allowed-hostname",
            !tls.allowed_hostnames.is_empty(),
        ),
        ("--peer-client-cert-file", !tls.client_cert_file.is_empty()),
    ];
    for (flag, _) in ignored.into_iter().filter(|(_, is_set)| *is_set) {
        warn!(flag, "ignored: with peer auto TLS nobody is verified");
    }
    let hosts: Vec<&str> = config
        .listen_peer_urls
        .iter()
        .map(|url| url.host())
        .collect();
    let folder = Path::new(&config.data_dir).join("fixtures").join("peer");
    let pair = PairFiles::own(&folder, &hosts, config.self_signed_cert_validity)?;
    Ok(TlsOptions {
        pair: Some(pair),
        trusts_anybody: true,
        ..TlsOptions::default()
    })
}

fn log(options: &TlsOptions, config: &Config) {
    let cert = options.pair.as_ref().map(|pair| pair.cert.display());
    let key = options.pair.as_ref().map(|pair| pair.key.display());
    info!(
        cert = cert.map(tracing::field::display),
        key = key.map(tracing::field::display),
        "client-cert" = config.peer_tls.client_cert_file,
        "client-key" = config.peer_tls.client_key_file,
        "trusted-ca" = config.peer_tls.trusted_ca_file,
        "client-cert-auth" = options.demands_certificate,
        "crl-file" = config.peer_tls.crl_file,
        "cipher-suites" = ?config.cipher_suites,
        "starting with peer TLS"
    );
}

fn warn_of_plain_ports(config: &Config, options: &TlsOptions) {
    let plain = config.listen_peer_urls.iter();
    for url in plain.filter(|url| url.scheme() == Scheme::Http) {
        if options.pair.is_some() {
            warn!(
                "peer-url" = %url,
                "scheme is HTTP while key and cert files are present; ignoring key and cert files"
            );
        }
        if options.demands_certificate {
            warn!(
                "peer-url" = %url,
                "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL"
            );
        }
    }
}
