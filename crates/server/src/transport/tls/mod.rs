//! TLS on connections that come in and on those that go out.
//!
//! [`TlsServer`] and [`TlsClient`] are made of the same [`TlsOptions`]: a member shows others the certificate of its port
//! unless it has one for calls, and both sides trust the same authorities. What changes while a member runs is read for
//! each handshake: certificates, keys, lists of what was revoked. Whom a member trusts is read at its start.
//!
//! Sessions are never resumed: a resumed one would go on with a certificate that was replaced or revoked meanwhile.
//!
//! Source: etcd v3.7.1 `client/pkg/transport/listener.go` (`TLSInfo`), `listener_tls.go`.

mod callers;
mod certificate;
mod client;
mod generate;
mod names;
mod pair;
mod protocols;
mod server;

use std::path::PathBuf;
use std::time::Duration;

pub use client::TlsClient;
pub use names::Allowed;
pub use protocols::Versions;
pub use server::TlsServer;

pub(super) use server::Rejection;

/// Time for a handshake. Source: as above, `tlsHandshakeTimeout`.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What TLS is made of. All that is empty: no certificate to show, and trust in what the system trusts.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The certificate to show.
    pub pair: Option<PairFiles>,
    /// The certificate to show when calling others, if it is another one.
    pub client_pair: Option<PairFiles>,
    /// Authorities that sign the certificates of others, in PEM. Those who call must have one then.
    pub ca_file: Option<PathBuf>,
    /// Those who call must have a certificate, also without a file of authorities.
    pub demands_certificate: bool,
    /// Whose certificates are taken, of callers and of those who are called.
    pub allowed: Allowed,
    /// List of revoked certificates of callers, in DER.
    pub crl_file: Option<PathBuf>,
    /// Callers may only call from where their certificate says.
    pub checks_address: bool,
    /// Any certificate of those who are called is taken, as for one of a member's own making.
    pub trusts_anybody: bool,
    /// Which versions are spoken.
    pub versions: Versions,
    /// Numbers of the cipher suites up to TLS 1.2 (RFC 8446, appendix B.4); empty for all that are safe.
    pub cipher_suites: Vec<u16>,
    /// Name that the certificates of those who are called must bear; without it the host that is dialed.
    pub server_name: Option<String>,
}

impl TlsOptions {
    /// The certificate for calls to others.
    fn own_pair(&self) -> Option<&PairFiles> {
        self.client_pair.as_ref().or(self.pair.as_ref())
    }
}

/// Files of a certificate (and those above it) and of its key, in PEM.
#[derive(Clone, Debug)]
pub struct PairFiles {
    /// The certificate.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("open {path}: {reason}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file holds something else.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The authorities cannot be used.
    #[error("{0}")]
    Authorities(#[from] kvorum_client::Error),
    /// There is nobody who could have signed a caller's certificate.
    #[error("no authority to verify the certificates of callers with")]
    NoAuthority,
    /// There is no certificate to show.
    #[error("no certificate and key for a port with TLS")]
    NoPair,
    /// A certificate of a member's own making that would end before it begins.
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    NoLife,
    /// One that would live too long.
    #[error("selfSignedCertValidity is invalid, it should be at most 1000")]
    LongLife,
    /// A certificate of a member's own making cannot be made.
    #[error("{0}")]
    Own(#[from] rcgen::Error),
    /// Versions or cipher suites do not go together.
    #[error("{0}")]
    Protocols(#[from] rustls::Error),
}
