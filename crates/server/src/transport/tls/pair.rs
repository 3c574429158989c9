//! A certificate with its key, read for each handshake: files that were replaced count at once.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SignatureScheme};
use tracing::warn;

use super::{PairFiles, TlsError};

/// A pair of files that answers for this side.
#[derive(Debug)]
pub(super) struct Pair {
    files: PairFiles,
    provider: Arc<CryptoProvider>,
}

impl Pair {
    /// The pair in these files, which are read once to tell whether they can be used.
    ///
    /// # Errors
    /// A file cannot be read or used, or the key belongs to another certificate.
    pub(super) fn open(
        files: PairFiles,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, TlsError> {
        let pair = Self { files, provider };
        pair.read()?;
        Ok(Arc::new(pair))
    }

    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let PairFiles { cert, key } = &self.files;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect)
            .map_err(|error| unusable(cert, error));
        let chain: Vec<CertificateDer<'static>> = chain?;
        if chain.is_empty() {
            return Err(unusable(cert, pem::Error::NoItemsFound));
        }
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
        CertifiedKey::from_der(chain, secret, &self.provider).map_err(|error| {
            let reason = match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    format!("is not the key of {}", cert.display())
                }
                error => error.to_string(),
            };
            TlsError::Content {
                path: key.clone(),
                reason,
            }
        })
    }

    /// The pair as the files are now. That they cannot be used is told, and ends the handshake.
    fn current(&self, missing: &str, unusable: &str) -> Option<Arc<CertifiedKey>> {
        // A few kilobytes that are in memory already: not worth a thread of its own.
        match self.read() {
            Ok(pair) => Some(Arc::new(pair)),
            Err(error) => {
                let text = match error {
                    TlsError::Open { .. } => missing,
                    _ => unusable,
                };
                let PairFiles { cert, key } = &self.files;
                warn!("cert-file" = %cert.display(), "key-file" = %key.display(), %error, "{text}");
                None
            }
        }
    }
}

impl ResolvesServerCert for Pair {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current(
            "failed to find peer cert files",
            "failed to create peer certificate",
        )
    }
}

impl ResolvesClientCert for Pair {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current(
            "failed to find client cert files",
            "failed to create client certificate",
        )
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn unusable(path: &Path, error: pem::Error) -> TlsError {
    let content = |reason: &dyn fmt::Display| TlsError::Content {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    match error {
        pem::Error::Io(error) => open_error(path, &error),
        pem::Error::NoItemsFound => content(&"nothing of the kind in it"),
        error => content(&error),
    }
}

/// A file that cannot be read, in Go's words where people and scripts look for them.
pub(super) fn open_error(path: &Path, error: &io::Error) -> TlsError {
    TlsError::Open {
        path: path.to_owned(),
        reason: match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        },
    }
}
