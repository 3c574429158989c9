//! TLS: whom a client trusts, and what it shows of itself.
//!
//! An endpoint with `https://` or `unixs:` always speaks TLS, one with `http://` never, and any
//! other does if the [`Config`](crate::Config) has a [`Tls`]. Without a CA file the certificates
//! that the system trusts are trusted.
//!
//! Source: v3.7.1 `client/v3/config.go`, `newTLSConfig`; `client/v3/internal/endpoint`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::error::Error;

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

/// What a TLS connection is made of. All that is empty: trust what the system trusts.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// File of the certificates to trust, in PEM.
    pub ca_file: Option<PathBuf>,
    /// File of the client's own certificate and those above it, in PEM. Needs a key.
    pub cert_file: Option<PathBuf>,
    /// File of the key of the client's certificate, in PEM. Needs a certificate.
    pub key_file: Option<PathBuf>,
    /// Name that the server's certificate must bear; without it the host of the endpoint.
    pub server_name: Option<String>,
    /// Take any certificate of any server: encrypted, but to whom nobody knows.
    pub skip_verify: bool,
}

/// A checked set of [`TlsOptions`], its files read.
///
/// ```no_run
#[doc = include_str!("../docs/secure.rs")]
/// ```
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Error::Tls`] with the file and what is wrong with it.
    pub fn new(options: &TlsOptions) -> Result<Self, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Tls(error.to_string()))?;
        let builder = if options.skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAll(provider)))
        } else {
            let trusted = trusted(options.ca_file.as_deref())?;
            let verifier = Trusted::new(trusted, options.ca_file.is_some(), provider)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        };
        let mut config = match (&options.cert_file, &options.key_file) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let bad = |error: &dyn std::fmt::Display| bad_file(key, error);
                let key_bytes = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(&error))?;
                let paired = builder.with_client_auth_cert(chain, key_bytes);
                paired.map_err(|error| bad(&error))?
            }
            (cert, key) => {
                let shown = |file: &Option<PathBuf>| file.clone().unwrap_or_default();
                return Err(Error::Tls(format!(
                    "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                    shown(key).display(),
                    shown(cert).display()
                )));
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            server_name: options.server_name.clone(),
        })
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name that the certificate of a server at `host` must bear.
    pub(crate) fn server_name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = self.server_name.as_deref().unwrap_or(host);
        // Brackets belong to the address, a last dot to the notation of DNS.
        let bare = name.trim_start_matches('[').trim_end_matches([']', '.']);
        ServerName::try_from(bare.to_owned())
            .map_err(|_| format!("{bare:?} cannot be the name in a certificate"))
    }
}

fn bad_file(file: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::Tls(format!("{}: {error}", file.display()))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
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
fn trusted(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Error> {
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

/// Takes certificates that lead to a trusted one, and a trusted one itself: who names a server's own
/// certificate as CA file means that server, even where the certificate calls itself an authority.
#[derive(Debug)]
struct Trusted {
    /// None on a system that trusts nobody.
    by_issuer: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that were named by the user.
    named: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Trusted {
    fn new(
        trusted: Vec<CertificateDer<'static>>,
        is_named: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        // Old bundles have certificates that nobody can use any more; the others count.
        let (usable, _) = roots.add_parsable_certificates(trusted.clone());
        if usable == 0 && is_named {
            return Err(Error::Tls(
                "no usable certificate in the CA file".to_owned(),
            ));
        }
        let build = || {
            let provider = Arc::clone(&provider);
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
        };
        let by_issuer = (usable > 0).then(build).transpose();
        Ok(Self {
            by_issuer: by_issuer.map_err(|error| Error::Tls(error.to_string()))?,
            named: if is_named { trusted } else { Vec::new() },
            provider,
        })
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(by_issuer) = &self.by_issuer else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verified = by_issuer.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // Time is checked before this complaint, which is about what a certificate is for.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.named.contains(end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &TlsOptions, complaint: &str) {
        let error = Tls::new(options).expect_err(complaint).to_string();
        assert!(error.contains(complaint), "{error}");
    }

    #[test]
    fn files_that_are_not_there_or_do_not_fit_are_named() {
        let missing = Some(PathBuf::from("/no/such/file.pem"));
        let this = Some(PathBuf::from(file!()));
        let with =
            |ca: &Option<PathBuf>, cert: &Option<PathBuf>, key: &Option<PathBuf>| TlsOptions {
                ca_file: ca.clone(),
                cert_file: cert.clone(),
                key_file: key.clone(),
                ..TlsOptions::default()
            };
        check(&with(&missing, &None, &None), "/no/such/file.pem");
        check(
            &with(&None, &missing, &None),
            "[key: , cert: /no/such/file.pem]",
        );
        check(&with(&None, &None, &this), "must both be present");
        check(&with(&None, &missing, &missing), "/no/such/file.pem");
    }

    #[test]
    fn a_certificate_is_for_the_host_or_for_the_name_that_was_given() {
        let tls = Tls::new(&TlsOptions::default()).expect("nothing to read");
        for host in ["node.example", "127.0.0.1", "[::1]"] {
            assert!(tls.server_name(host).is_ok(), "{host}");
        }
        assert!(tls.server_name("not a name").is_err());
        let options = TlsOptions {
            server_name: Some("etcd.example".to_owned()),
            ..TlsOptions::default()
        };
        let tls = Tls::new(&options).expect("nothing to read");
        let name = tls.server_name("127.0.0.1").expect("a name");
        assert_eq!(name.to_str(), "etcd.example");
    }
}
