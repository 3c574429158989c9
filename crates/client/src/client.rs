//! The client: calls, their time-outs and when they are tried again.
//!
//! A call that reads, or that has the same effect twice as once, is *repeatable*: when nobody
//! serves it now it is sent again, to the next endpoint, until its time runs out. Any other call
//! is sent again only while it is certain that no server has looked at it; after that the error
//! goes to the caller, who alone knows whether a second put would be harmful.
//!
//! Source: v3.7.1 `client/v3/retry.go` and `client/v3/retry_interceptor.go`.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use prost::Message;
use tokio::time::{sleep, timeout};

use crate::connection::{Call, Failure, Limits};
use crate::endpoint::Endpoint;
use crate::error::{Code, Error, NOT_FOR_LEARNER, Status};
use crate::pool::Pool;

/// API version that the client says it speaks.
const API_VERSION: &str = "3.7";
/// Pause before a call is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where members listen; see [`Endpoint`] for the forms.
    pub endpoints: Vec<String>,
    /// How long one attempt to connect may take. Default 2 s.
    pub dial_timeout: Duration,
    /// Silence after which a connection with open calls is pinged, at least 10 s. Default 10 s.
    pub keep_alive_time: Duration,
    /// How long the answer to a ping may take before the connection counts as dead. Default 6 s.
    pub keep_alive_timeout: Duration,
    /// Largest request, in bytes. Default 2 MiB.
    pub request_bytes_max: usize,
    /// Largest response, in bytes. Default 2,147,483,647.
    pub response_bytes_max: usize,
}

impl Config {
    /// Defaults for these endpoints.
    pub fn new<S: Into<String>>(endpoints: impl IntoIterator<Item = S>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            dial_timeout: Duration::from_secs(2),
            keep_alive_time: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(6),
            request_bytes_max: 2 << 20,
            response_bytes_max: i32::MAX as usize,
        }
    }
}

/// What becomes of a call that nobody served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Sent again, as a second execution does no harm.
    Repeatable,
    /// Sent again only if no server has looked at it.
    Once,
}

/// A method that takes a `Q` and answers with an `A`.
pub(crate) struct Method<Q, A> {
    path: &'static str,
    retry: Retry,
    messages: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Method<Q, A> {
    pub(crate) const fn new(path: &'static str, retry: Retry) -> Self {
        Self {
            path,
            retry,
            messages: PhantomData,
        }
    }
}

/// A handle on a cluster. Clones are cheap and share the connections.
///
/// Every method can be cancelled by dropping its future; the server is told, and nothing of the
/// client is left in between.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    timeout: Option<Duration>,
    require_leader: bool,
}

impl Client {
    /// A client for these endpoints. It connects with the first call.
    ///
    /// # Errors
    /// [`Error::NoEndpoints`] or [`Error::BadEndpoint`].
    pub fn new(config: &Config) -> Result<Self, Error> {
        let parsed: Result<Vec<Endpoint>, Error> = config
            .endpoints
            .iter()
            .map(|endpoint| endpoint.parse())
            .collect();
        let endpoints = parsed?;
        if endpoints.is_empty() {
            return Err(Error::NoEndpoints);
        }
        let limits = Limits {
            dial_timeout: config.dial_timeout,
            keep_alive_time: config.keep_alive_time,
            keep_alive_timeout: config.keep_alive_timeout,
            request_bytes_max: config.request_bytes_max,
            response_bytes_max: config.response_bytes_max,
        };
        Ok(Self {
            pool: Arc::new(Pool::new(endpoints, limits)),
            timeout: None,
            require_leader: false,
        })
    }

    /// The same client with a limit on each call; without it a call waits as long as it takes.
    /// Streams (watch, keep-alive) have no limit.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..self.clone()
        }
    }

    /// The same client whose calls and streams fail where the member has no leader.
    #[must_use]
    pub fn with_require_leader(&self) -> Self {
        Self {
            require_leader: true,
            ..self.clone()
        }
    }

    pub(crate) fn requires_leader(&self) -> bool {
        self.require_leader
    }

    /// One request, one answer, with the rules of [`Retry`].
    pub(crate) async fn call<Q: Message, A: Message + Default>(
        &self,
        method: &Method<Q, A>,
        request: &Q,
    ) -> Result<A, Error> {
        let mut reason = None;
        let attempts = self.attempts(method, request, &mut reason);
        let Some(limit) = self.timeout else {
            return Ok(attempts.await?);
        };
        match timeout(limit, attempts).await {
            Ok(Err(status)) if status.code == Code::DEADLINE_EXCEEDED && !status.is_known() => {
                Err(self.late(method.path, reason))
            }
            Ok(answer) => Ok(answer?),
            Err(_) => Err(self.late(method.path, reason)),
        }
    }

    fn late(&self, method: &'static str, reason: Option<String>) -> Error {
        Error::DeadlineExceeded {
            method,
            endpoints: self.pool.names(),
            reason,
        }
    }

    async fn attempts<Q: Message, A: Message + Default>(
        &self,
        method: &Method<Q, A>,
        request: &Q,
        reason: &mut Option<String>,
    ) -> Result<A, Status> {
        let headers = self.headers();
        loop {
            let lent = self.pool.lend(reason).await;
            let failure = match lent.connection.unary(method.path, &headers, request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let (again, status) = match failure {
                Failure::NotSent(status) => (true, status),
                Failure::Answered(status) => (self.is_retried(method.retry, &status), status),
            };
            if status.code == Code::UNAVAILABLE {
                // The server may be going away even if it said so politely.
                self.pool.discard(&lent).await;
            }
            if !again {
                return Err(status);
            }
            *reason = Some(status.to_string());
            sleep(RETRY_PAUSE).await;
        }
    }

    fn is_retried(&self, retry: Retry, status: &Status) -> bool {
        // Another endpoint may belong to a voter.
        if status.message == NOT_FOR_LEARNER && self.pool.len() > 1 {
            return true;
        }
        retry == Retry::Repeatable && status.code == Code::UNAVAILABLE
    }

    /// Opens a stream with a first request. It is tried on the endpoints until one takes it.
    pub(crate) async fn open<Q: Message, A>(
        &self,
        method: &Method<Q, A>,
        first: &Q,
    ) -> Result<Call, Error> {
        let headers = self.headers();
        let mut reason = None;
        loop {
            let lent = self.pool.lend(&mut reason).await;
            let mut call = match lent.connection.start(method.path, &headers).await {
                Ok(call) => call,
                Err(Failure::NotSent(_)) => {
                    self.pool.discard(&lent).await;
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
                Err(failure) => return Err(failure.into()),
            };
            call.send(first)?;
            return Ok(call);
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("client-api-version", HeaderValue::from_static(API_VERSION));
        if self.require_leader {
            headers.insert("hasleader", HeaderValue::from_static("true"));
        }
        if let Some(timeout) = self.timeout {
            // At most eight digits are allowed: milliseconds last for a day.
            let milliseconds = timeout.as_millis().clamp(1, 99_999_999);
            if let Ok(value) = HeaderValue::from_str(&format!("{milliseconds}m")) {
                headers.insert("grpc-timeout", value);
            }
        }
        headers
    }
}
