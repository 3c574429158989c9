//! Whose certificates are taken of those who call.

use std::path::Path;
use std::sync::Arc;

use kvorum_client::judged::{self, Finding};
use kvorum_client::trust;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::{Allowed, TlsError};

/// Takes callers whose certificate leads to an authority of this file, or of the system, and whose names are allowed. A
/// certificate of the file itself is taken too: one certificate for all members, an authority by itself, is a simple way to
/// keep everybody else out.
///
/// # Errors
/// The file cannot be used, or there is no authority.
pub(super) fn verifier(
    ca_file: Option<&Path>,
    allowed: Allowed,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let trusted = trust::trusted(ca_file)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.clone());
    let by_issuer = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|_| TlsError::NoAuthority)?;
    let named = ca_file.map(|_| trusted).unwrap_or_default();
    let judge = move |certificate: &CertificateDer<'_>, found: Finding| {
        if !trust::is_named(&named, certificate, &found) {
            found?;
        }
        allowed.check(certificate)
    };
    Ok(judged::caller(by_issuer, judge))
}
