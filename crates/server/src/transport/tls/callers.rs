//! Whose certificates are taken of those who call.

use std::path::Path;
use std::sync::Arc;

use kvorum_client::trust;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
};

use super::{Allowed, TlsError};

/// Takes callers whose certificate leads to a trusted one, or is a trusted one itself: one certificate for all members,
/// an authority by itself, is a simple way to keep everybody else out.
#[derive(Debug)]
pub(super) struct Callers {
    by_issuer: Arc<dyn ClientCertVerifier>,
    named: Vec<CertificateDer<'static>>,
    allowed: Allowed,
}

impl Callers {
    /// Who trusts the authorities of this file, or those of the system, and lets in whose names are allowed.
    ///
    /// # Errors
    /// The file cannot be used, or there is no authority.
    pub(super) fn new(
        ca_file: Option<&Path>,
        allowed: Allowed,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let trusted = trust::trusted(ca_file)?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.clone());
        let by_issuer = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|_| TlsError::NoAuthority)?;
        Ok(Self {
            by_issuer,
            named: ca_file.map(|_| trusted).unwrap_or_default(),
            allowed,
        })
    }
}

impl ClientCertVerifier for Callers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_issuer.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .by_issuer
            .verify_client_cert(end_entity, intermediates, now);
        let verified = match verified {
            // Time is checked before this complaint, which is about what a certificate is for.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.named.contains(end_entity) =>
            {
                Ok(ClientCertVerified::assertion())
            }
            verified => verified,
        }?;
        self.allowed.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_issuer.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_issuer.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_issuer.supported_verify_schemes()
    }
}
