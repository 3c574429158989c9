//! Handshakes of those who call.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use rustls::server::{Acceptor, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{InvalidMessage, ServerConfig};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::callers;
use super::certificate::{self, Certificate};
use super::names::check_address;
use super::pair::{Pair, open_error};
use super::protocols::Protocols;
use super::{HANDSHAKE_TIMEOUT, TlsError, TlsOptions};
use crate::transport::socket::{Rewound, Socket};

/// TLS of a port.
#[derive(Debug)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    crl_file: Option<PathBuf>,
    checks_address: bool,
}

/// A caller that was not let in.
#[derive(Debug, Default)]
pub(in crate::transport) struct Rejection {
    /// Whom the caller wants to speak to; empty when it does not say.
    pub(in crate::transport) server_name: String,
    /// What stands in a certificate that was good until then: addresses and names of hosts.
    pub(in crate::transport) names: Option<(Vec<IpAddr>, Vec<String>)>,
    /// Why.
    pub(in crate::transport) error: String,
    /// The caller left without a word.
    pub(in crate::transport) left: bool,
}

impl TlsServer {
    /// Reads the files. `alpn`: what the port speaks, for callers that ask; empty leaves it to their first bytes.
    ///
    /// # Errors
    /// A file cannot be used, or there is no certificate.
    pub fn new(options: &TlsOptions, alpn: &[&str]) -> Result<Self, TlsError> {
        let Protocols { provider, versions } = Protocols::new(options);
        let pair = options.pair.clone().ok_or(TlsError::NoPair)?;
        let pair = Pair::open(pair, Arc::clone(&provider))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)?;
        let callers = if options.ca_file.is_some() || options.demands_certificate {
            let (ca_file, allowed) = (options.ca_file.as_deref(), options.allowed.clone());
            callers::verifier(ca_file, allowed, provider)?
        } else {
            WebPkiClientVerifier::no_client_auth()
        };
        let mut config = builder
            .with_client_cert_verifier(callers)
            .with_cert_resolver(pair);
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            crl_file: options.crl_file.clone(),
            checks_address: options.checks_address,
        })
    }

    /// Speaks TLS with who has called from `address`.
    ///
    /// # Errors
    /// The caller speaks something else, shows no certificate that is taken, or takes longer than
    /// [`HANDSHAKE_TIMEOUT`].
    pub(in crate::transport) async fn accept(
        &self,
        socket: Socket,
        address: &str,
    ) -> Result<Socket, Rejection> {
        let mut server_name = String::new();
        let handshake = timeout(HANDSHAKE_TIMEOUT, self.shake(socket, &mut server_name)).await;
        let handshake = handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = match handshake {
            Ok(stream) => stream,
            Err(error) => {
                return Err(Rejection {
                    server_name,
                    error: in_words(&error),
                    left: error.kind() == io::ErrorKind::UnexpectedEof,
                    ..Rejection::default()
                });
            }
        };
        let (_, session) = stream.get_ref();
        if let Some(chain) = session.peer_certificates() {
            self.check(chain, address).await.map_err(|refused| {
                let Refused { error, certificate } = refused;
                let Certificate {
                    hosts, addresses, ..
                } = certificate;
                Rejection {
                    server_name,
                    names: Some((addresses, hosts)),
                    error,
                    left: false,
                }
            })?;
        }
        Ok(Socket::Tls(Box::new(stream)))
    }

    async fn shake(
        &self,
        socket: Socket,
        server_name: &mut String,
    ) -> io::Result<TlsStream<Rewound>> {
        let plain = Rewound {
            first: Bytes::new(),
            socket,
        };
        let begun = LazyConfigAcceptor::new(Acceptor::default(), plain).await?;
        if let Some(name) = begun.client_hello().server_name() {
            name.clone_into(server_name);
        }
        begun.into_stream(Arc::clone(&self.config)).await
    }

    /// Looks at certificates that are good by themselves.
    async fn check(&self, chain: &[CertificateDer<'_>], address: &str) -> Result<(), Refused> {
        let mut certificates = Vec::new();
        for certificate in chain {
            let read = Certificate::read(certificate);
            certificates.push(read.ok_or_else(|| Refused {
                error: "x509: malformed certificate".to_owned(),
                certificate: Certificate::default(),
            })?);
        }
        let checked = async {
            // A unix socket has no address to compare with.
            let address = address.parse::<SocketAddr>().ok();
            if let (true, Some(address), Some(leaf)) =
                (self.checks_address, address, certificates.first())
            {
                let look_up = check_address(leaf, address.ip().to_canonical());
                let late = |_| "i/o timeout".to_owned();
                timeout(HANDSHAKE_TIMEOUT, look_up).await.map_err(late)??;
            }
            match &self.crl_file {
                Some(file) => check_revoked(file, &certificates),
                None => Ok(()),
            }
        };
        let checked = checked.await;
        checked.map_err(|error| Refused {
            error,
            certificate: certificates.into_iter().next().unwrap_or_default(),
        })
    }
}

/// Why a certificate is not taken.
struct Refused {
    error: String,
    certificate: Certificate,
}

/// Whether none of these certificates is in a list as it is now.
fn check_revoked(file: &Path, certificates: &[Certificate]) -> Result<(), String> {
    // In memory already, as a rule: not worth a thread of its own.
    let list = fs::read(file).map_err(|error| open_error(file, &error).to_string())?;
    let revoked = certificate::revoked(&list).ok_or("x509: malformed crl")?;
    let hit = certificates.iter().find(|it| revoked.contains(&it.serial));
    hit.map_or(Ok(()), |hit| {
        let serial: String = hit
            .serial
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Err(format!("transport: certificate serial {serial} revoked"))
    })
}

/// An error of a handshake, where Go has words for it in these.
fn in_words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "tls: first record does not look like a TLS handshake".to_owned()
        }
        _ if error.kind() == io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}
