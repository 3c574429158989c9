//! TLS: whom a client trusts, and what it shows of itself.
//!
//! An endpoint with `https://` or `unixs:` always speaks TLS, one with `http://` never, and any
//! other does if the [`Config`](crate::Config) has a [`Tls`]. Without a CA file the certificates
//! that the system trusts are trusted.
//!
//! Source: v3.7.1 `client/v3/config.go`, `newTLSConfig`; `client/v3/internal/endpoint`.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};

use crate::error::Error;
use crate::trust::{self, bad_file, certificates};

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
        let verifier = if options.skip_verify {
            trust::any_server(provider)
        } else {
            trust::server_verifier(options.ca_file.as_deref(), provider)?
        };
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier);
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

    /// What connections of `rustls` are made from.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name that the certificate of a server at `host` must bear.
    ///
    /// # Errors
    /// What is wrong with it, where it cannot be a name in a certificate.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = self.server_name.as_deref().unwrap_or(host);
        // Brackets belong to the address, a last dot to the notation of DNS.
        let bare = name.trim_start_matches('[').trim_end_matches([']', '.']);
        ServerName::try_from(bare.to_owned())
            .map_err(|_| format!("{bare:?} cannot be the name in a certificate"))
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
