//! Where a server listens, and how it wants to be spoken to.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use kvorum_client::{Tls, TlsOptions};
use rustls::ClientConnection;

/// One server that is asked.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// Host and port as they were given: the authority of requests.
    pub(crate) authority: String,
    /// None: in the clear.
    tls: Option<Tls>,
    /// What a user got for name and password; none: nobody logs in.
    pub(crate) token: Option<String>,
}

impl From<SocketAddr> for Endpoint {
    /// In the clear, without a user.
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            authority: address.to_string(),
            tls: None,
            token: None,
        }
    }
}

impl Endpoint {
    /// Reads `host:port`, `http://host:port` or `https://host:port`. With TLS at hand, the first of them speaks it too.
    pub(crate) fn parse(text: &str, tls: Option<&Tls>) -> Result<Self> {
        let (authority, tls) = if let Some(rest) = text.strip_prefix("https://") {
            let trusting_system = || Tls::new(&TlsOptions::default());
            (rest, Some(tls.cloned().map_or_else(trusting_system, Ok)?))
        } else if let Some(rest) = text.strip_prefix("http://") {
            (rest, None)
        } else if text.contains("://") {
            bail!("endpoint {text}: host:port, http://host:port or https://host:port");
        } else {
            (text, tls.cloned())
        };
        let authority = authority.trim_end_matches('/').to_owned();
        let mut addresses = authority
            .to_socket_addrs()
            .with_context(|| format!("endpoint {text}"))?;
        let address = addresses.next();
        Ok(Self {
            address: address.with_context(|| format!("{text} has no address"))?,
            authority,
            tls,
            token: None,
        })
    }

    /// Whether connections are over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The client's part of a new TLS connection; none: in the clear.
    pub(crate) fn greeting(&self) -> Result<Option<ClientConnection>> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        let host = self.authority.rsplit_once(':');
        let host = host.map_or(self.authority.as_str(), |(host, _)| host);
        let name = tls.server_name(host).map_err(anyhow::Error::msg)?;
        Ok(Some(ClientConnection::new(tls.config(), name)?))
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Tls, TlsOptions};

    #[test]
    fn the_scheme_decides_and_without_one_the_flags_do() {
        let tls = Tls::new(&TlsOptions::default()).unwrap();
        for (text, with_flags, secure) in [
            ("127.0.0.1:1", false, false),
            ("127.0.0.1:1", true, true),
            ("http://127.0.0.1:1", true, false),
            ("https://127.0.0.1:1/", false, true),
            ("https://[::1]:1", true, true),
        ] {
            let endpoint = Endpoint::parse(text, with_flags.then_some(&tls)).unwrap();
            assert_eq!(endpoint.is_secure(), secure, "{text}");
            assert_eq!(endpoint.greeting().unwrap().is_some(), secure, "{text}");
            assert!(!endpoint.authority.contains('/'), "{text}");
        }
        for text in ["127.0.0.1", "unix:///tmp/socket", "ftp://127.0.0.1:1"] {
            assert!(Endpoint::parse(text, None).is_err(), "{text}");
        }
    }
}
