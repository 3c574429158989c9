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
use kvorum_proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use prost::Message;
use tokio::time::{sleep, timeout};

use crate::connection::{Call, Failure, Limits};
use crate::endpoint::Endpoint;
use crate::error::{Code, Error, NOT_FOR_LEARNER, Status};
use crate::identity::{Credentials, Identity};
use crate::pool::Pool;
use crate::tls::Tls;

/// API version that the client says it speaks.
const API_VERSION: &str = "3.7";
/// Pause before a call is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How often a call is sent again with a new token before it is given up.
pub(crate) const NEW_TOKENS_MAX: u32 = 10;

const AUTHENTICATE: Method<AuthenticateRequest, AuthenticateResponse> =
    Method::new("/etcdserverpb.Auth/Authenticate", Retry::Repeatable);

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
    /// How to speak TLS; see [`Tls`] for which endpoints do. Default none.
    pub tls: Option<Tls>,
    /// Who the caller is. Default nobody.
    pub credentials: Option<Credentials>,
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
            tls: None,
            credentials: None,
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
    identity: Arc<Identity>,
    timeout: Option<Duration>,
    require_leader: bool,
    repeats_all: bool,
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
            tls: config.tls.clone(),
        };
        Ok(Self {
            pool: Arc::new(Pool::new(endpoints, limits)),
            identity: Arc::new(Identity::new(config.credentials.clone())),
            timeout: None,
            require_leader: false,
            repeats_all: false,
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

    /// The same client that sends every call again when nobody served it, also those that write.
    /// For callers whose writes do the same twice as once, such as copying keys.
    #[must_use]
    pub fn with_repeated_writes(&self) -> Self {
        Self {
            repeats_all: true,
            ..self.clone()
        }
    }

    /// Makes sure now of the token that calls of a user with a password need. Without this it is
    /// asked for with the first call.
    ///
    /// # Errors
    /// What the server refuses: a wrong password, for one.
    pub async fn authenticate(&self) -> Result<(), Error> {
        match self.timeout {
            None => self.token().await.map(drop).map_err(Error::from),
            Some(limit) => match timeout(limit, self.token()).await {
                Ok(token) => token.map(drop).map_err(Error::from),
                Err(_) => Err(self.late(AUTHENTICATE.path, None)),
            },
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
        let mut new_tokens = 0;
        loop {
            let token = self.token_saying(reason).await?;
            let headers = self.headers(token.as_ref());
            let status = match self.attempts_as(&headers, method, request, reason).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            new_tokens += 1;
            if new_tokens > NEW_TOKENS_MAX || !self.is_worth_another(token.as_ref(), &status).await
            {
                return Err(status);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// The same with these headers, whatever they say about the caller.
    async fn attempts_as<Q: Message, A: Message + Default>(
        &self,
        headers: &HeaderMap,
        method: &Method<Q, A>,
        request: &Q,
        reason: &mut Option<String>,
    ) -> Result<A, Status> {
        loop {
            let lent = self.pool.lend(reason).await;
            let failure = match lent.connection.unary(method.path, headers, request).await {
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
        let repeatable = retry == Retry::Repeatable || self.repeats_all;
        repeatable && status.code == Code::UNAVAILABLE
    }

    /// The token for the next call; none if it needs none.
    pub(crate) async fn token(&self) -> Result<Option<HeaderValue>, Status> {
        self.token_saying(&mut None).await
    }

    async fn token_saying(
        &self,
        reason: &mut Option<String>,
    ) -> Result<Option<HeaderValue>, Status> {
        let buy = async |user: &str, password: &str| {
            let request = AuthenticateRequest {
                name: user.to_owned(),
                password: password.to_owned(),
            };
            let headers = self.headers(None);
            let answer = self.attempts_as(&headers, &AUTHENTICATE, &request, reason);
            answer.await.map(|answer| answer.token)
        };
        self.identity.token(buy).await
    }

    /// Whether a call or stream that was refused may be accepted with a new token.
    pub(crate) async fn is_worth_another(
        &self,
        used: Option<&HeaderValue>,
        status: &Status,
    ) -> bool {
        self.identity.is_worth_another(used, &status.message).await
    }

    /// Opens a stream with a first request. It is tried on the endpoints until one takes it.
    pub(crate) async fn open<Q: Message, A>(
        &self,
        method: &Method<Q, A>,
        first: &Q,
    ) -> Result<Call, Error> {
        self.start(method, first, false).await
    }

    /// The same; with `last` no request follows.
    async fn start<Q: Message, A>(
        &self,
        method: &Method<Q, A>,
        first: &Q,
        last: bool,
    ) -> Result<Call, Error> {
        let token = self.token().await?;
        let headers = self.headers(token.as_ref());
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
            call.begin(first, last)?;
            call.token = token;
            return Ok(call);
        }
    }

    /// Opens a stream of answers to one request and waits for the first; none if it ends without.
    /// Until then nothing was handed out, so that everything may be tried again.
    pub(crate) async fn open_answered<Q: Message, A: Message + Default>(
        &self,
        method: &Method<Q, A>,
        request: &Q,
    ) -> Result<(Call, Option<A>), Error> {
        let mut new_tokens = 0;
        loop {
            let mut call = self.start(method, request, true).await?;
            let status = match call.receive::<A>().await {
                Ok(first) => return Ok((call, first)),
                Err(failure) => failure.into_status(),
            };
            if status.code != Code::UNAVAILABLE || method.retry == Retry::Once {
                new_tokens += 1;
                let used = call.token.as_ref();
                if new_tokens > NEW_TOKENS_MAX || !self.is_worth_another(used, &status).await {
                    return Err(status.into());
                }
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    fn headers(&self, token: Option<&HeaderValue>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("client-api-version", HeaderValue::from_static(API_VERSION));
        if let Some(token) = token {
            headers.insert("token", token.clone());
        }
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
