//! What an HTTP/1 handler is to the transport.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::HttpBody;

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

/// An answer whose body may come in pieces. `Content-Length` (or chunks) and `Date` are added by the transport.
#[derive(Debug)]
pub struct HttpAnswer {
    /// Status code, such as 200.
    pub status: u16,
    /// Header lines.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: AnswerBody,
}

/// The body of an answer.
pub enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// Pieces, each sent as soon as it is there.
    Pieces(Box<dyn BodyPieces>),
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Pieces(_) => "Pieces",
        })
    }
}

/// Gives a body piece by piece. It is dropped when the connection ends.
pub trait BodyPieces: Send + 'static {
    /// The next piece, never empty; `None` at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

impl From<HttpResponse> for HttpAnswer {
    fn from(response: HttpResponse) -> Self {
        Self {
            status: response.status,
            headers: response.headers,
            body: AnswerBody::Whole(response.body),
        }
    }
}

/// The answer to come, whose body may come in pieces.
pub type HttpExchange = Pin<Box<dyn Future<Output = HttpAnswer> + Send>>;

/// Answers HTTP/1 requests of one listener.
pub trait HttpHandler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: HttpRequest) -> HttpReply;

    /// Answers one request that may have a body. Without an implementation the body is not read.
    fn exchange(&self, request: HttpRequest, _body: HttpBody) -> HttpExchange {
        let reply = self.handle(request);
        Box::pin(async move { reply.await.into() })
    }
}
