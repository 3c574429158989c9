//! HTTP/1 connections.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use super::server::stopped;
use super::socket::Rewound;
use super::{HttpHandler, HttpRequest, HttpResponse};

/// Largest header of a request, in bytes.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Serves one connection until it ends or `shutdown` turns true and its request is answered.
pub(super) async fn serve(
    io: Rewound,
    handler: Arc<dyn HttpHandler>,
    header_timeout: Duration,
    mut shutdown: watch::Receiver<bool>,
) {
    let answer = service_fn(move |request| {
        let reply = handler.handle(into_request(&request));
        async move { Ok::<_, Infallible>(into_response(reply.await)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
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

fn into_response(reply: HttpResponse) -> http::Response<Full<Bytes>> {
    let mut response = http::Response::new(Full::new(reply.body));
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
