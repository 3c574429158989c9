//! Where a member listens, as a user writes it.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Port of the client API when an endpoint names none.
const DEFAULT_PORT: u16 = 2379;

/// One member's client address: `host:port`, `http://host:port`, `unix:path` or `unix:///path`, and
/// with TLS `https://host:port` or `unixs:path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    text: String,
    address: Address,
    security: Security,
}

/// Whether to speak TLS.
///
/// Source: v3.7.1 `client/v3/internal/endpoint/endpoint.go`, `schemeToCredsRequirement`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    /// Always.
    Required,
    /// Never.
    Plain,
    /// If the client has a configuration for it.
    Optional,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host:port`, as the resolver of the system takes it.
    Tcp(String),
    /// Path of a unix socket.
    Unix(String),
}

impl Endpoint {
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether to speak TLS, given whether the client has a configuration for it.
    pub(crate) fn is_secure(&self, configured: bool) -> bool {
        match self.security {
            Security::Required => true,
            Security::Plain => false,
            Security::Optional => configured,
        }
    }

    /// The host, or the last part of a socket's path: what the server's certificate has to name.
    pub(crate) fn host(&self) -> &str {
        match &self.address {
            Address::Tcp(address) => address.rsplit_once(':').map_or(address, |(host, _)| host),
            Address::Unix(path) => path.rsplit('/').next().unwrap_or(path),
        }
    }

    /// Value of the `:authority` pseudo header.
    pub(crate) fn authority(&self) -> &str {
        match &self.address {
            Address::Tcp(address) => address,
            Address::Unix(_) => "localhost",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| Error::BadEndpoint {
            endpoint: text.to_owned(),
            reason: reason.to_owned(),
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => match text.split_once(':') {
                Some((scheme @ ("unix" | "unixs"), path)) => (scheme, path),
                _ => ("", text),
            },
        };
        let security = match scheme {
            "https" | "unixs" => Security::Required,
            "http" => Security::Plain,
            "unix" | "" => Security::Optional,
            _ => return Err(refuse("unknown scheme, use http://, https:// or unix:")),
        };
        let address = if scheme.starts_with("unix") {
            Address::Unix(rest.to_owned())
        } else {
            let host = rest;
            let host = host.split('/').next().unwrap_or_default();
            if host.is_empty() || host.contains(char::is_whitespace) {
                return Err(refuse("no host"));
            }
            // A colon after the last bracket, if any, begins the port.
            let name = host.rsplit(']').next().unwrap_or(host);
            match name.rsplit_once(':') {
                None => Address::Tcp(format!("{host}:{DEFAULT_PORT}")),
                Some((_, port)) if port.parse::<u16>().is_ok() => Address::Tcp(host.to_owned()),
                Some(_) => return Err(refuse("the port is not a number up to 65535")),
            }
        };
        Ok(Self {
            text: text.to_owned(),
            address,
            security,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_names_an_address() {
        let tcp = |text: &str| Address::Tcp(text.to_owned());
        let unix = |text: &str| Address::Unix(text.to_owned());
        for (text, address) in [
            ("127.0.0.1:2379", tcp("127.0.0.1:2379")),
            ("node", tcp("node:2379")),
            ("http://node:1", tcp("node:1")),
            ("http://node:1/path", tcp("node:1")),
            ("[::1]:7", tcp("[::1]:7")),
            ("http://[::1]", tcp("[::1]:2379")),
            ("unix:a/b.sock", unix("a/b.sock")),
            ("unix:///a/b.sock", unix("/a/b.sock")),
            ("unixs://a/b.sock", unix("a/b.sock")),
            ("https://node:1", tcp("node:1")),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(*endpoint.address(), address);
            assert_eq!(endpoint.to_string(), text);
        }
    }

    #[test]
    fn the_scheme_decides_about_tls_and_without_one_the_configuration() {
        for (text, without, with) in [
            ("a:1", false, true),
            ("http://a:1", false, false),
            ("https://a:1", true, true),
            ("unix:a", false, true),
            ("unixs:a", true, true),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            let secure = (endpoint.is_secure(false), endpoint.is_secure(true));
            assert_eq!(secure, (without, with), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_reached_is_refused_with_the_reason() {
        for text in ["", "http://", "https://", "ftp://a", "a:b", "a:70000"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
