//! Handshakes with those who are called.

use std::io;
use std::sync::{Arc, OnceLock};

use kvorum_client::{judged, trust};
use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pair::Pair;
use super::protocols::Protocols;
use super::{Allowed, HANDSHAKE_TIMEOUT, TlsError, TlsOptions};

/// TLS of calls to others.
#[derive(Debug, Default)]
pub struct TlsClient {
    options: TlsOptions,
    /// Made at the first call with TLS: a member that makes none need not read what the system trusts.
    config: OnceLock<Arc<ClientConfig>>,
}

impl TlsClient {
    /// Reads no file yet.
    #[must_use]
    pub fn new(options: TlsOptions) -> Self {
        Self {
            options,
            config: OnceLock::new(),
        }
    }

    /// Reads the files, where that has not been done.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn check(&self) -> Result<(), TlsError> {
        self.config().map(drop)
    }

    fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let made = Arc::new(make(&self.options)?);
        // Who was faster has read the same files.
        Ok(Arc::clone(self.config.get_or_init(|| made)))
    }

    /// Speaks TLS with who was called at `host`, an address or a name.
    ///
    /// # Errors
    /// What answers speaks something else, shows no certificate that is taken, or takes longer than
    /// [`HANDSHAKE_TIMEOUT`].
    pub(in crate::transport) async fn connect<S>(
        &self,
        stream: S,
        host: &str,
    ) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.config().map_err(io::Error::other)?;
        let name = self.options.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            let text = format!("{name:?} cannot be the name in a certificate");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let handshake = TlsConnector::from(config).connect(name, stream);
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long");
        timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(late)?
    }
}

fn make(options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let Protocols { provider, versions } = Protocols::new(options);
    let pair = options.own_pair().cloned();
    let pair = pair.map(|files| Pair::open(files, Arc::clone(&provider)));
    let verifier = verifier(options, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match pair.transpose()? {
        Some(pair) => builder.with_client_cert_resolver(pair as Arc<dyn ResolvesClientCert>),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn verifier(
    options: &TlsOptions,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    if options.trusts_anybody {
        return Ok(trust::any_server(provider));
    }
    let by_issuer = trust::server_verifier(options.ca_file.as_deref(), provider)?;
    Ok(match &options.allowed {
        Allowed::All => by_issuer,
        allowed => {
            let allowed = allowed.clone();
            judged::server(by_issuer, move |certificate, _, found| {
                found?;
                allowed.check(certificate)
            })
        }
    })
}
