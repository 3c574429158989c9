//! Whose certificates are taken: those that lead to an authority of a file or of the system.
//!
//! Servers that call each other trust as clients do, so these are theirs, too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::Error;
use crate::judged::{self, Finding};

/// Where systems keep the certificates that they trust, in the order in which Go looks.
///
/// Source: Go 1.25 `crypto/x509/root_linux.go`.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Names another bundle of the system.
const BUNDLE_VARIABLE: &str = "SSL_CERT_FILE";

pub(crate) fn bad_file(file: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Tls(format!("{}: {error}", file.display()))
}

/// Reads the certificates of a file in PEM.
///
/// # Errors
/// [`Error::Tls`] with the file and what is wrong with it: it cannot be read, or has none.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bad = |error: &dyn std::fmt::Display| bad_file(file, error);
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| bad(&error))?
        .collect();
    let certificates = certificates.map_err(|error| bad(&error))?;
    if certificates.is_empty() {
        return Err(bad(&"no certificate in it"));
    }
    Ok(certificates)
}

/// The certificates of this file, or those of the system, which may be none.
///
/// # Errors
/// As [`certificates`], of the file.
pub fn trusted(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Error> {
    if let Some(file) = file {
        return certificates(file);
    }
    let named = std::env::var_os(BUNDLE_VARIABLE).map(PathBuf::from);
    let bundles = SYSTEM_BUNDLES.iter().map(PathBuf::from);
    let mut all = named.into_iter().chain(bundles);
    Ok(all
        .find_map(|file| certificates(&file).ok())
        .unwrap_or_default())
}

/// Who verifies servers by the certificates of this file, or by those of the system. Takes certificates that lead to one
/// of them, and one of the file itself: see [`is_named`].
///
/// # Errors
/// [`Error::Tls`]: the file cannot be used.
pub fn server_verifier(
    ca_file: Option<&Path>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let trusted = trusted(ca_file)?;
    let mut roots = RootCertStore::empty();
    // Old bundles have certificates that nobody can use any more; the others count.
    let (usable, _) = roots.add_parsable_certificates(trusted.clone());
    if usable == 0 {
        return match ca_file {
            Some(_) => Err(Error::Tls(
                "no usable certificate in the CA file".to_owned(),
            )),
            // A system that trusts nobody.
            None => Ok(judged::server(any_server(provider), |_, _, _| {
                Err(CertificateError::UnknownIssuer.into())
            })),
        };
    }
    let by_issuer = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::Tls(error.to_string()))?;
    if ca_file.is_none() {
        return Ok(by_issuer);
    }
    let judge = move |certificate: &CertificateDer<'_>, name: &ServerName<'_>, found| {
        if !is_named(&trusted, certificate, &found) {
            return found;
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
    };
    Ok(judged::server(by_issuer, judge))
}

/// Whether a certificate is one of those that the user named, and nothing else is wrong with it: who names somebody's own
/// certificate as CA file means that one, even where it calls itself an authority.
#[must_use]
pub fn is_named(
    named: &[CertificateDer<'_>],
    certificate: &CertificateDer<'_>,
    found: &Finding,
) -> bool {
    // Time is checked before this complaint, which is about what a certificate is for.
    let is_misused = matches!(
        found,
        Err(rustls::Error::InvalidCertificate(CertificateError::Other(
            _
        )))
    );
    is_misused && named.contains(certificate)
}

/// Who takes every server: the connection is encrypted, but to whom nobody knows.
#[must_use]
pub fn any_server(provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
    Arc::new(TrustAll(provider))
}

/// Takes every certificate, but not every signature: the server must hold the key of the
/// certificate that it shows.
#[derive(Debug)]
struct TrustAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
