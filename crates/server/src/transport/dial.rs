//! Outgoing HTTP/1 connections.

use std::io;
use std::time::Duration;

use http::header::HOST;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::http_body::OutgoingBody;
use super::{Address, AnswerBody, HttpBody, TlsClient};

/// Time that the other side's host has to confirm bytes, and to answer when there are none, in milliseconds.
const HOST_SILENCE_MILLIS: u32 = 10_000;

/// Time after which a host is asked whether it is still there, and between two questions.
const HOST_ASKED_AFTER: Duration = Duration::from_secs(3);

/// A request to be sent. `Host` and `Content-Length` (or chunks) are added.
#[derive(Debug)]
pub struct OutgoingRequest {
    /// Method, such as `GET`.
    pub method: &'static str,
    /// Path with its query.
    pub path: String,
    /// Header lines.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: AnswerBody,
}

/// The answer to a request.
#[derive(Debug)]
pub struct IncomingResponse {
    /// Status code, such as 200.
    pub status: u16,
    headers: http::HeaderMap,
    /// The body, to be read while the connection is kept.
    pub body: HttpBody,
}

impl IncomingResponse {
    /// The first value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Lets a connection fail when the other side's host is gone. Nobody closes it then, and a request whose answer may take
/// long would wait all that time.
fn end_with_host(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_keepidle(stream, HOST_ASKED_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, HOST_ASKED_AFTER)?;
    sockopt::set_tcp_user_timeout(stream, HOST_SILENCE_MILLIS)?;
    sockopt::set_socket_keepalive(stream, true)?;
    Ok(())
}

/// A connection to somebody's HTTP/1 port. It closes when this is dropped.
#[derive(Debug)]
pub struct HttpConnection {
    host: String,
    sender: SendRequest<OutgoingBody>,
    driver: AbortHandle,
}

impl HttpConnection {
    /// Opens a connection, within `limit`; a handshake has a limit of its own. `host` is what the requests name as their
    /// host. `tls`: with TLS, to who has a certificate for that name or address.
    ///
    /// # Errors
    /// Those of the operating system; a host that does not resolve; no answer in time; a handshake that failed.
    pub async fn open(
        address: &Address,
        host: &str,
        limit: Duration,
        tls: Option<(&TlsClient, &str)>,
    ) -> io::Result<Self> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "connecting took too long");
        match address {
            Address::Tcp(address) => {
                let stream = timeout(limit, TcpStream::connect(address.as_str()))
                    .await
                    .map_err(late)??;
                stream.set_nodelay(true)?;
                end_with_host(&stream)?;
                Self::secured(stream, host, tls).await
            }
            Address::Unix(path) => {
                let stream = timeout(limit, UnixStream::connect(path))
                    .await
                    .map_err(late)??;
                Self::secured(stream, host, tls).await
            }
        }
    }

    async fn secured(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        host: &str,
        tls: Option<(&TlsClient, &str)>,
    ) -> io::Result<Self> {
        match tls {
            Some((tls, name)) => Self::on(tls.connect(stream, name).await?, host).await,
            None => Self::on(stream, host).await,
        }
    }

    async fn on(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        host: &str,
    ) -> io::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // How the connection ended shows in the requests on it.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self {
            host: host.to_owned(),
            sender,
            driver,
        })
    }

    /// Whether another request may be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and waits for the head of its answer. One at a time: the body of the answer before must have
    /// been read.
    ///
    /// # Errors
    /// The connection broke, or what came back is no HTTP.
    pub async fn send(&mut self, request: OutgoingRequest) -> io::Result<IncomingResponse> {
        self.sender.ready().await.map_err(io::Error::other)?;
        let mut builder = http::Request::builder()
            .method(request.method)
            .uri(request.path)
            .header(HOST, self.host.as_str());
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let request = builder
            .body(OutgoingBody::new(request.body))
            .map_err(io::Error::other)?;
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        let (head, body) = response.into_parts();
        Ok(IncomingResponse {
            status: head.status.as_u16(),
            headers: head.headers,
            body: HttpBody::new(body),
        })
    }
}

impl Drop for HttpConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
