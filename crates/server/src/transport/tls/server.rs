//! Handshakes of those who call.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rustls::server::{Acceptor, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{InvalidMessage, ServerConfig};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use super::callers::Callers;
use super::pair::Pair;
use super::protocols::Protocols;
use super::{HANDSHAKE_TIMEOUT, TlsError, TlsOptions};
use crate::transport::socket::{Rewound, Socket};

/// TLS of a port.
#[derive(Debug)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
}

/// A caller that was not let in.
#[derive(Debug)]
pub(in crate::transport) struct Rejection {
    /// Whom the caller wants to speak to; empty when it does not say.
    pub(in crate::transport) server_name: String,
    /// Why.
    pub(in crate::transport) error: io::Error,
}

impl TlsServer {
    /// Reads the files. `alpn`: what the port speaks, for callers that ask; empty leaves it to their first bytes.
    ///
    /// # Errors
    /// A file cannot be used, or there is no certificate.
    pub fn new(options: &TlsOptions, alpn: &[&str]) -> Result<Self, TlsError> {
        let Protocols { provider, versions } = Protocols::new();
        let pair = options.pair.clone().ok_or(TlsError::NoPair)?;
        let pair = Pair::open(pair, Arc::clone(&provider))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)?;
        let callers = if options.ca_file.is_some() || options.demands_certificate {
            Arc::new(Callers::new(options.ca_file.as_deref(), provider)?)
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
        })
    }

    /// Speaks TLS with who has called.
    ///
    /// # Errors
    /// The caller speaks something else, shows no certificate that is taken, or takes longer than
    /// [`HANDSHAKE_TIMEOUT`].
    pub(in crate::transport) async fn accept(&self, socket: Socket) -> Result<Socket, Rejection> {
        let mut server_name = String::new();
        let handshake = timeout(HANDSHAKE_TIMEOUT, self.shake(socket, &mut server_name)).await;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "i/o timeout");
        handshake
            .map_err(late)
            .flatten()
            .map_err(|error| Rejection { server_name, error })
    }

    async fn shake(&self, socket: Socket, server_name: &mut String) -> io::Result<Socket> {
        let plain = Rewound {
            first: Bytes::new(),
            socket,
        };
        let begun = LazyConfigAcceptor::new(Acceptor::default(), plain).await;
        let begun = begun.map_err(in_words)?;
        if let Some(name) = begun.client_hello().server_name() {
            name.clone_into(server_name);
        }
        let stream = begun.into_stream(Arc::clone(&self.config)).await?;
        Ok(Socket::Tls(Box::new(stream)))
    }
}

/// What speaks something else is told with Go's words.
fn in_words(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => io::Error::new(
            error.kind(),
            "tls: first record does not look like a TLS handshake",
        ),
        _ => error,
    }
}
