//! Which versions and cipher suites are spoken.

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

use super::TlsOptions;

/// Which versions are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    #[default]
    All,
    /// TLS 1.2 alone.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

impl Versions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::All => &ALL,
            Self::Tls13 => &ALL[..1],
            Self::Tls12 => &ALL[1..],
        }
    }
}

/// What a connection may be made of.
pub(super) struct Protocols {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) versions: &'static [&'static SupportedProtocolVersion],
}

impl Protocols {
    /// What the options leave. The suites of TLS 1.3 are not chosen from, as in Go.
    pub(super) fn new(options: &TlsOptions) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        if !options.cipher_suites.is_empty() {
            provider.cipher_suites.retain(|suite| {
                suite.tls13().is_some() || options.cipher_suites.contains(&suite.suite().into())
            });
        }
        Self {
            provider: Arc::new(provider),
            versions: options.versions.list(),
        }
    }
}
