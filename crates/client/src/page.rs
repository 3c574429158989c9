//! What a member says over plain HTTP, such as its metrics.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::Config;
use crate::endpoint::{Address, Endpoint};
use crate::error::Error;
use crate::tls::{Tls, TlsOptions};

/// Largest answer, in bytes.
const PAGE_BYTES_MAX: u64 = 64 << 20;

/// The page at `path` of the first endpoint, such as `/metrics`, within the dial time-out.
///
/// # Errors
/// [`Error::NoEndpoints`], [`Error::BadEndpoint`], and [`Error::Page`] if there is no such page.
pub async fn fetch_page(config: &Config, path: &str) -> Result<String, Error> {
    let first = config.endpoints.first().ok_or(Error::NoEndpoints)?;
    let endpoint: Endpoint = first.parse()?;
    let failed = |reason: String| Error::Page {
        url: format!("{endpoint}{path}"),
        reason,
    };
    match timeout(config.dial_timeout, fetch(config, &endpoint, path)).await {
        Ok(Ok(page)) => Ok(page),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!(
            "no answer within {:?}",
            config.dial_timeout
        ))),
    }
}

async fn fetch(config: &Config, endpoint: &Endpoint, path: &str) -> io::Result<String> {
    match endpoint.address() {
        Address::Tcp(address) => {
            let socket = TcpStream::connect(address).await?;
            secured(config, endpoint, path, socket).await
        }
        Address::Unix(socket) => {
            let socket = UnixStream::connect(socket).await?;
            secured(config, endpoint, path, socket).await
        }
    }
}

async fn secured<S>(
    config: &Config,
    endpoint: &Endpoint,
    path: &str,
    socket: S,
) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !endpoint.is_secure(config.tls.is_some()) {
        return ask(endpoint, path, socket).await;
    }
    let tls = match &config.tls {
        Some(tls) => tls.clone(),
        None => Tls::new(&TlsOptions::default()).map_err(io::Error::other)?,
    };
    let name = tls.server_name(endpoint.host()).map_err(io::Error::other)?;
    let mut without_http2 = tls.config().as_ref().clone();
    without_http2.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(without_http2));
    ask(endpoint, path, connector.connect(name, socket).await?).await
}

async fn ask<S>(endpoint: &Endpoint, path: &str, mut socket: S) -> io::Result<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // In version 1.0 the end of the connection is the end of the answer.
    let host = endpoint.authority();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Some servers end TLS without saying so.
    match socket.take(PAGE_BYTES_MAX).read_to_end(&mut answer).await {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(io::Error::other("the answer is not HTTP"));
    };
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(format!("the server answers {status:?}")));
    }
    Ok(body.to_owned())
}
