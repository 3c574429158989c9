//! Verifiers of certificates with a second thought: what another verifier has found is told to a function, whose word is
//! the last. Signatures stay the other one's matter.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// What was found out about a certificate: that it is good, or why it is not.
pub type Finding = Result<(), Error>;

/// A verifier of servers: `judge` gets the certificate, the name that it has to bear, and what `verifier` found.
pub fn server(
    verifier: Arc<dyn ServerCertVerifier>,
    judge: impl Fn(&CertificateDer<'_>, &ServerName<'_>, Finding) -> Finding + Send + Sync + 'static,
) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Judged { verifier, judge })
}

/// A verifier of callers: `judge` gets the certificate and what `verifier` found.
pub fn caller(
    verifier: Arc<dyn ClientCertVerifier>,
    judge: impl Fn(&CertificateDer<'_>, Finding) -> Finding + Send + Sync + 'static,
) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Judged { verifier, judge })
}

struct Judged<V: ?Sized, J> {
    verifier: Arc<V>,
    judge: J,
}

impl<V: fmt::Debug + ?Sized, J> fmt::Debug for Judged<V, J> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Judged");
        shown.field("verifier", &self.verifier);
        shown.finish_non_exhaustive()
    }
}

impl<J> ServerCertVerifier for Judged<dyn ServerCertVerifier, J>
where
    J: Fn(&CertificateDer<'_>, &ServerName<'_>, Finding) -> Finding + Send + Sync,
{
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = self.verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        (self.judge)(end_entity, server_name, found.map(drop))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl<J> ClientCertVerifier for Judged<dyn ClientCertVerifier, J>
where
    J: Fn(&CertificateDer<'_>, Finding) -> Finding + Send + Sync,
{
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let found = self
            .verifier
            .verify_client_cert(end_entity, intermediates, now);
        (self.judge)(end_entity, found.map(drop))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
