//! What an HTTP/1 handler is to the transport.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

/// A request without its body.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// Method, such as `GET`.
    pub method: String,
    /// Path, not decoded.
    pub path: String,
    /// What follows `?`, not decoded; empty if there is none.
    pub query: String,
    /// Header lines, names in lower case. Values that are not text are left out.
    pub headers: Vec<(String, String)>,
}

impl HttpRequest {
    /// The first value of a header; `name` in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.headers.iter().find(|(key, _)| key == name);
        line.map(|(_, value)| value.as_str())
    }
}

/// A whole answer. `Content-Length` and `Date` are added by the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status code, such as 200.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

/// The answer to come.
pub type HttpReply = Pin<Box<dyn Future<Output = HttpResponse> + Send>>;

/// Answers HTTP/1 requests of one listener.
pub trait HttpHandler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: HttpRequest) -> HttpReply;
}
