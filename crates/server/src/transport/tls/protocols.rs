//! Which versions and cipher suites are spoken.

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

/// What a connection may be made of.
pub(super) struct Protocols {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
}

impl Protocols {
    /// All that is safe.
    pub(super) fn new() -> Self {
        Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            versions: vec![&TLS13, &TLS12],
        }
    }
}
