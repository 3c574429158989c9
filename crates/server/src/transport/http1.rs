//! HTTP/1 connections.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use http::header::HOST;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::http_body::OutgoingBody;
use super::server::stopped;
use super::socket::Rewound;
use super::{HttpAnswer, HttpBody, HttpHandler, HttpRequest, HttpResponse};

/// Largest head of a request, in bytes. Larger ones are answered with 431.
/// Source: Go `net/http`, `DefaultMaxHeaderBytes` and what `initialReadLimitSize` adds.
const HEAD_BYTES_MAX: usize = (1 << 20) + 4096;

/// Most header lines of a request. More are answered with 431.
const HEADER_LINES_MAX: usize = 1000;

/// Serves one connection until it ends or `shutdown` turns true and its request is answered.
pub(super) async fn serve(
    io: Rewound,
    handler: Arc<dyn HttpHandler>,
    header_timeout: Duration,
    mut shutdown: watch::Receiver<bool>,
) {
    let answer = service_fn(move |request| {
        let (head, body) = request.into_parts();
        let request = http::Request::from_parts(head, ());
        let reply = match check_host(&request) {
            Ok(()) => handler.exchange(into_request(&request), HttpBody::new(body)),
            Err(refusal) => Box::pin(ready(refusal.into())),
        };
        async move { Ok::<_, Infallible>(into_response(reply.await)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADER_LINES_MAX)
        .serve_connection(TokioIo::new(io), answer);
    tokio::pin!(connection);
    // A connection that breaks concerns its client alone, so its errors are not looked at.
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Checks that a request says which host it is for: a request without one, or with two, may have been meant for
/// somebody else.
///
/// # Errors
/// The answer; the connection is closed after it.
/// Source: Go `net/http`, `conn.readRequest`, and `golang.org/x/net/http/httpguts`, `ValidHostHeader`.
fn check_host<B>(request: &http::Request<B>) -> Result<(), HttpResponse> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let text = match (hosts.next(), hosts.next()) {
        (Some(host), None) if host.as_bytes().iter().copied().all(may_stand_in_host) => {
            return Ok(());
        }
        (Some(_), None) => "400 Bad Request: malformed Host header",
        (None, _) if request.version() < Version::HTTP_11 => return Ok(()),
        (None, _) => "400 Bad Request: missing required Host header",
        (Some(_), Some(_)) => "400 Bad Request",
    };
    Err(HttpResponse {
        status: 400,
        headers: vec![
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("Connection", "close".to_owned()),
        ],
        body: text.into(),
    })
}

fn may_stand_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

fn into_request<B>(request: &http::Request<B>) -> HttpRequest {
    let headers = request.headers().iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    HttpRequest {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or("").to_owned(),
        headers: headers.collect(),
    }
}

fn into_response(reply: HttpAnswer) -> http::Response<OutgoingBody> {
    let mut response = http::Response::new(OutgoingBody::new(reply.body));
    *response.status_mut() =
        http::StatusCode::from_u16(reply.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in reply.headers {
        if let Ok(value) = http::HeaderValue::from_str(&value)
            && let Ok(name) = http::HeaderName::from_bytes(name.as_bytes())
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};

    use super::check_host;

    #[test]
    fn requests_name_one_host() {
        let cases: &[(Version, &[&str], Option<&str>)] = &[
            (Version::HTTP_11, &["localhost:2379"], None),
            (Version::HTTP_11, &["[::1]:2379"], None),
            (Version::HTTP_11, &[""], None),
            (
                Version::HTTP_11,
                &[],
                Some("400 Bad Request: missing required Host header"),
            ),
            (Version::HTTP_10, &[], None),
            (Version::HTTP_11, &["a", "b"], Some("400 Bad Request")),
            (Version::HTTP_10, &["a", "a"], Some("400 Bad Request")),
            (
                Version::HTTP_11,
                &["a b"],
                Some("400 Bad Request: malformed Host header"),
            ),
            (
                Version::HTTP_11,
                &["http://a/"],
                Some("400 Bad Request: malformed Host header"),
            ),
        ];
        for (version, hosts, expected) in cases {
            let mut request = Request::get("/health").version(*version);
            for host in *hosts {
                request = request.header("host", *host);
            }
            let refusal = check_host(&request.body(()).unwrap()).err();
            let text = refusal.map(|refusal| refusal.body);
            assert_eq!(
                text.as_deref(),
                expected.map(str::as_bytes),
                "{version:?} {hosts:?}"
            );
        }
    }
}
