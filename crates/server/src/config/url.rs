//! URLs of listeners and members, as etcd's flags write them.
//!
//! Four schemes exist: `http` and `https` name a host and a port, `unix` and `unixs` a socket
//! file. `unix://localhost:20000` is the file `localhost:20000` in the working directory,
//! `unix:///run/etcd.sock` an absolute path.
//!
//! The text of a URL is part of a member's identity (its id is a hash of its peer URLs), so a URL
//! prints exactly as it was given; nothing is normalised but the letters of the scheme.
//!
//! Source: v3.7.1 `client/pkg/types/urls.go` (`NewURLs`); go1.24 `net/url/url.go` (`Parse`),
//! `net/ipsock.go` (`SplitHostPort`).

use std::fmt;
use std::net::IpAddr;

/// How a URL is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TCP without TLS.
    Http,
    /// TCP with TLS.
    Https,
    /// A unix socket without TLS.
    Unix,
    /// A unix socket with TLS.
    Unixs,
}

impl Scheme {
    /// The scheme as a URL writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Unix => "unix",
            Self::Unixs => "unixs",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Unix, Self::Unixs]
            .into_iter()
            .find(|scheme| scheme.name().eq_ignore_ascii_case(name))
    }
}

/// A URL of a listener or a member.
///
/// Invariant: with `http` and `https` the host part has the form `host:port` and there is no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    /// Between `//` and the next `/`: `host:port`, or the first part of a socket file's name.
    authority: String,
    /// From the first `/` on; empty for `http` and `https`.
    path: String,
}

/// Why a URL was refused; the text is what etcd prints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The text has no shape of a URL at all.
    #[error("parse {url:?}: {reason}")]
    Syntax {
        /// The text as it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The scheme is none of the four.
    #[error("URL scheme must be http, https, unix, or unixs: {0}")]
    Scheme(String),
    /// An `http` or `https` URL without a port.
    #[error("URL address does not have the form \"host:port\": {0}")]
    HostPort(String),
    /// An `http` or `https` URL with something behind the port.
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

impl Url {
    /// Reads one URL; blanks around it are ignored.
    ///
    /// # Errors
    /// The text is not a URL of one of the four schemes in the form etcd demands.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let syntax = |reason: &str| UrlError::Syntax {
            url: text.to_owned(),
            reason: reason.to_owned(),
        };
        let Some((scheme, rest)) = split_scheme(text).map_err(syntax)? else {
            return Err(UrlError::Scheme(text.to_owned()));
        };
        let Some(scheme) = Scheme::parse(scheme) else {
            return Err(UrlError::Scheme(text.to_owned()));
        };
        let hierarchy = rest.strip_prefix("//").unwrap_or("");
        let authority_end = hierarchy.find(['/', '?', '#']).unwrap_or(hierarchy.len());
        let (authority, path) = hierarchy.split_at(authority_end);
        let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
        let bracketed = authority.ends_with(']');
        if !bracketed && !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(syntax(&format!("invalid port \":{port}\" after host")));
        }
        if matches!(scheme, Scheme::Http | Scheme::Https) {
            if split_host_port(authority).is_none() {
                return Err(UrlError::HostPort(text.to_owned()));
            }
            if !path.is_empty() {
                return Err(UrlError::Path(text.to_owned()));
            }
        } else if authority.is_empty() && path.is_empty() {
            return Err(syntax("no name of a socket file"));
        }
        Ok(Self {
            scheme,
            authority: authority.to_owned(),
            path: path.to_owned(),
        })
    }

    /// Reads a comma-separated list, sorted by text.
    ///
    /// # Errors
    /// The first part that is not a URL.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        let mut urls = text
            .split(',')
            .map(Self::parse)
            .collect::<Result<Vec<_>, _>>()?;
        urls.sort_by_cached_key(Self::to_string);
        Ok(urls)
    }

    /// A TCP URL of a host and a port, without TLS for [`Scheme::Http`].
    #[must_use]
    pub fn tcp(scheme: Scheme, host: IpAddr, port: &str) -> Self {
        let authority = match host {
            IpAddr::V4(host) => format!("{host}:{port}"),
            IpAddr::V6(host) => format!("[{host}]:{port}"),
        };
        Self {
            scheme,
            authority,
            path: String::new(),
        }
    }

    /// How the URL is reached.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether connections carry TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// Whether the URL names a socket file.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.scheme, Scheme::Unix | Scheme::Unixs)
    }

    /// What to bind or dial: `host:port`, or the name of the socket file.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}{}", self.authority, self.path)
    }

    /// The host without port and without the brackets of an IPv6 address; empty for a unix socket
    /// with an absolute path.
    #[must_use]
    pub fn host(&self) -> &str {
        split_host_port(&self.authority).map_or(self.authority.as_str(), |(host, _)| host)
    }

    /// The digits of the port; empty when there is none, which binds as port 0.
    #[must_use]
    pub fn port(&self) -> &str {
        split_host_port(&self.authority).map_or("", |(_, port)| port)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}{}",
            self.scheme.name(),
            self.authority,
            self.path
        )
    }
}

/// Splits off the scheme, `None` when the text has none.
fn split_scheme(text: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let first_other = text
        .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'))
        .unwrap_or(text.len());
    if !text[first_other..].starts_with(':') {
        let before_slash = text.split('/').next().unwrap_or("");
        if before_slash.contains(':') {
            return Err("first path segment in URL cannot contain colon");
        }
        return Ok(None);
    }
    if first_other == 0 {
        return Err("missing protocol scheme");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err("first path segment in URL cannot contain colon");
    }
    Ok(Some((&text[..first_other], &text[first_other + 1..])))
}

/// Splits `host:port` or `[host]:port`; `None` when there is no port or an IPv6 address without
/// brackets.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = authority.rsplit_once(':')?;
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').map(|host| (host, port));
    }
    (!host.contains([':', '[', ']']) && !port.contains(']')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::Url;

    fn check_refused(text: &str, error: &str) {
        assert_eq!(
            Url::parse_list(text).unwrap_err().to_string(),
            error,
            "{text:?}"
        );
    }

    fn check(text: &str, address: &str, host: &str, port: &str) {
        let url = Url::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(url.to_string(), text);
        assert_eq!(
            (&*url.address(), url.host(), url.port()),
            (address, host, port),
            "{text:?}"
        );
    }

    #[test]
    fn names_what_to_bind() {
        check(
            "http://127.0.0.1:2379",
            "127.0.0.1:2379",
            "127.0.0.1",
            "2379",
        );
        check("https://[::1]:2379", "[::1]:2379", "::1", "2379");
        check("http://localhost:0", "localhost:0", "localhost", "0");
        check("http://:2379", ":2379", "", "2379");
        check(
            "unix://localhost:20000",
            "localhost:20000",
            "localhost",
            "20000",
        );
        check("unix:///run/etcd.sock", "/run/etcd.sock", "", "");
        check("unixs://dir/a.sock", "dir/a.sock", "dir", "");
    }

    #[test]
    fn refuses_with_the_texts_of_etcd() {
        check_refused("", "URL scheme must be http, https, unix, or unixs: ");
        check_refused(
            "tcp://a:1",
            "URL scheme must be http, https, unix, or unixs: tcp://a:1",
        );
        check_refused(
            "localhost:1",
            "URL scheme must be http, https, unix, or unixs: localhost:1",
        );
        check_refused(
            "http://a",
            "URL address does not have the form \"host:port\": http://a",
        );
        check_refused(
            "http://::1:1",
            "URL address does not have the form \"host:port\": http://::1:1",
        );
        check_refused("http://a:1/", "URL must not contain a path: http://a:1/");
        check_refused(
            "http://a:1,http://b",
            "URL address does not have the form \"host:port\": http://b",
        );
        check_refused(
            "127.0.0.1:2379",
            "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon",
        );
        check_refused(":2379", "parse \":2379\": missing protocol scheme");
        check_refused(
            "http://a:b",
            "parse \"http://a:b\": invalid port \":b\" after host",
        );
    }

    #[test]
    fn lists_are_sorted_and_trimmed() {
        let urls = Url::parse_list("http://b:1, HTTP://a:1").expect("two URLs");
        let texts: Vec<_> = urls.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["http://a:1", "http://b:1"]);
    }
}
