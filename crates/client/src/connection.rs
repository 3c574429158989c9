//! One HTTP/2 connection to one member, and calls on it.
//!
//! A gRPC call is a POST whose body is a run of frames: one byte (0: not compressed), the length
//! in four bytes, the message. The answer has the same form and ends with trailers that bear
//! `grpc-status`. This file knows that and nothing about etcd.
//!
//! A connection is found dead in two ways: its socket fails, or a ping stays unanswered. Pings are
//! sent only while calls are open, as servers punish the others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::{Connection as H2Connection, ResponseFuture, SendRequest};
use h2::{Ping, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::endpoint::{Address, Endpoint};
use crate::error::{Code, Error, Status};
use crate::tls::{Tls, TlsOptions};

/// Bytes before each message: a flag for compression, and the length.
const FRAME_HEAD_BYTES: usize = 5;
/// Window of a stream and of the connection, in bytes.
const WINDOW_BYTES: u32 = 4 << 20;
/// Largest header block taken from a server, in bytes.
const HEADER_LIST_BYTES_MAX: u32 = 1 << 20;
/// Shortest time between two pings: servers end connections that ping more often than every 5 s.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// What a connection has to know beside its endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How long to wait for the connection.
    pub(crate) dial_timeout: Duration,
    /// How long a connection may be silent before a ping.
    pub(crate) keep_alive_time: Duration,
    /// How long to wait for the answer to a ping.
    pub(crate) keep_alive_timeout: Duration,
    /// Largest request, in bytes.
    pub(crate) request_bytes_max: usize,
    /// Largest response, in bytes.
    pub(crate) response_bytes_max: usize,
    /// How to speak TLS, with endpoints that do.
    pub(crate) tls: Option<Tls>,
}

/// How a call failed.
pub(crate) enum Failure {
    /// The request never left, or the server says that it did not look at it.
    NotSent(Status),
    /// Anything else: the request may have been executed.
    Answered(Status),
}

/// One connection. Clones share it; it closes with the last one.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    endpoint: Arc<Endpoint>,
    limits: Arc<Limits>,
    open_calls: Arc<AtomicUsize>,
}

impl Connection {
    /// Connects, within the dial time-out.
    pub(crate) async fn open(
        endpoint: &Arc<Endpoint>,
        limits: &Arc<Limits>,
    ) -> Result<Self, String> {
        let opened = async {
            match endpoint.address() {
                Address::Tcp(address) => {
                    let socket = TcpStream::connect(address).await?;
                    socket.set_nodelay(true)?;
                    Self::secure(socket, endpoint, limits).await
                }
                Address::Unix(path) => {
                    let socket = UnixStream::connect(path).await?;
                    Self::secure(socket, endpoint, limits).await
                }
            }
        };
        match timeout(limits.dial_timeout, opened).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {:?}", limits.dial_timeout)),
        }
    }

    /// Speaks TLS on the socket if the endpoint wants it.
    async fn secure<S>(
        socket: S,
        endpoint: &Arc<Endpoint>,
        limits: &Arc<Limits>,
    ) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if !endpoint.is_secure(limits.tls.is_some()) {
            return Self::on_socket(socket, endpoint, limits).await;
        }
        let tls = match &limits.tls {
            Some(tls) => tls.clone(),
            None => Tls::new(&TlsOptions::default()).map_err(io::Error::other)?,
        };
        let name = tls.server_name(endpoint.host()).map_err(io::Error::other)?;
        let handshake = TlsConnector::from(tls.config()).connect(name, socket);
        let failed = |error| io::Error::other(format!("authentication handshake failed: {error}"));
        let secured = handshake.await.map_err(failed)?;
        // Some servers choose no protocol; they speak the one that was offered.
        Self::on_socket(secured, endpoint, limits).await
    }

    async fn on_socket<S>(
        socket: S,
        endpoint: &Arc<Endpoint>,
        limits: &Arc<Limits>,
    ) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .enable_push(false)
            .handshake(socket)
            .await
            .map_err(io::Error::other)?;
        let open_calls = Arc::new(AtomicUsize::new(0));
        tokio::spawn(drive(
            connection,
            Arc::clone(limits),
            Arc::clone(&open_calls),
        ));
        Ok(Self {
            sender,
            endpoint: Arc::clone(endpoint),
            limits: Arc::clone(limits),
            open_calls,
        })
    }

    /// Opens a call with the given headers beside the usual ones.
    pub(crate) async fn start(
        &self,
        path: &'static str,
        headers: &HeaderMap,
    ) -> Result<Call, Failure> {
        let not_sent = |text: String| Failure::NotSent(self.unavailable(&text));
        let secure = self.endpoint.is_secure(self.limits.tls.is_some());
        let scheme = if secure { "https" } else { "http" };
        let mut request = Request::post(format!("{scheme}://{}{path}", self.endpoint.authority()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header(
                "user-agent",
                concat!("kvorum-client/", env!("CARGO_PKG_VERSION")),
            )
            .body(())
            .map_err(|error| not_sent(error.to_string()))?;
        request.headers_mut().extend(headers.clone());
        let ready = self.sender.clone().ready().await;
        let mut sender = ready.map_err(|error| not_sent(error.to_string()))?;
        let sent = sender.send_request(request, false);
        let (response, send) = sent.map_err(|error| not_sent(error.to_string()))?;
        self.open_calls.fetch_add(1, Ordering::Relaxed);
        Ok(Call {
            send,
            answer: Answer::Awaited(response),
            buffer: BytesMut::new(),
            connection: self.clone(),
            token: None,
        })
    }

    /// One request, one answer.
    pub(crate) async fn unary<A: Message + Default>(
        &self,
        path: &'static str,
        headers: &HeaderMap,
        request: &impl Message,
    ) -> Result<A, Failure> {
        let mut call = self.start(path, headers).await?;
        call.begin(request, true)?;
        let answer = call.receive().await?;
        let missing = || Failure::Answered(Status::new(Code::INTERNAL, "no message in the answer"));
        let answer = answer.ok_or_else(missing)?;
        // The status follows the message; an error there overrules it.
        match call.receive::<A>().await? {
            None => Ok(answer),
            Some(_) => {
                let status = Status::new(Code::INTERNAL, "two messages in the answer");
                Err(Failure::Answered(status))
            }
        }
    }

    /// Whether both are handles of one connection.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.open_calls, &other.open_calls)
    }

    fn unavailable(&self, text: &str) -> Status {
        Status::new(
            Code::UNAVAILABLE,
            format!("connection to {}: {text}", self.endpoint),
        )
    }

    fn broken(&self, error: &h2::Error) -> Failure {
        let status = self.unavailable(&error.to_string());
        // The server promises that a refused stream was not looked at.
        if error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            return Failure::NotSent(status);
        }
        Failure::Answered(status)
    }
}

/// Moves the bytes of a connection until it ends or stays silent for too long.
async fn drive<S>(
    mut connection: H2Connection<S, Bytes>,
    limits: Arc<Limits>,
    open_calls: Arc<AtomicUsize>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(mut pings) = connection.ping_pong() else {
        // How it ended is seen by the calls on it.
        let _ = connection.await;
        return;
    };
    let watchdog = async {
        loop {
            sleep(limits.keep_alive_time.max(PING_INTERVAL_MIN)).await;
            if open_calls.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let pong = timeout(limits.keep_alive_timeout, pings.ping(Ping::opaque()));
            if !matches!(pong.await, Ok(Ok(_))) {
                return;
            }
        }
    };
    tokio::select! {
        _ = connection => {}
        () = watchdog => {}
    }
}

/// Where the answer to a call stands.
enum Answer {
    Awaited(ResponseFuture),
    Body(RecvStream),
    /// Trailers have come; none is a success.
    Over(Option<Status>),
}

/// One call: requests out, responses in. Dropping it takes the call back.
pub(crate) struct Call {
    send: SendStream<Bytes>,
    answer: Answer,
    /// Bytes that came and are not yet a whole message.
    buffer: BytesMut,
    connection: Connection,
    /// Token that it was opened with, for when it is refused.
    pub(crate) token: Option<HeaderValue>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.connection.open_calls.fetch_sub(1, Ordering::Relaxed);
        if !matches!(self.answer, Answer::Over(_)) {
            self.send.send_reset(h2::Reason::CANCEL);
        }
    }
}

impl Call {
    /// Sends the first message. A server that does not know the method answers and ends the stream
    /// before it has read anything: nothing can be sent then, and the answer says why.
    pub(crate) fn begin(&mut self, message: &impl Message, last: bool) -> Result<(), Failure> {
        match self.send_frame(message, last) {
            Err(Failure::Answered(status)) if status.code == Code::UNAVAILABLE => Ok(()),
            sent => sent,
        }
    }

    /// Sends one message; the stream stays open for more.
    pub(crate) fn send(&mut self, message: &impl Message) -> Result<(), Failure> {
        self.send_frame(message, false)
    }

    /// Sends one message; after the last one the stream takes no more.
    fn send_frame(&mut self, message: &impl Message, last: bool) -> Result<(), Failure> {
        let length = message.encoded_len();
        let limit = self.connection.limits.request_bytes_max;
        if length > limit {
            let text = format!("trying to send message larger than max ({length} vs. {limit})");
            return Err(Failure::Answered(Status::new(
                Code::RESOURCE_EXHAUSTED,
                text,
            )));
        }
        let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + length);
        frame.put_u8(0);
        frame.put_u32(length as u32);
        frame.extend_from_slice(&message.encode_to_vec());
        let sent = self.send.send_data(frame.freeze(), last);
        sent.map_err(|error| self.connection.broken(&error))
    }

    /// The next response; none at a good end. Nothing is lost when the future is dropped: what
    /// has arrived stays in the call.
    pub(crate) async fn receive<A: Message + Default>(&mut self) -> Result<Option<A>, Failure> {
        loop {
            if let Some(message) = self.take_message()? {
                return match A::decode(message) {
                    Ok(message) => Ok(Some(message)),
                    Err(error) => {
                        let status = Status::new(Code::INTERNAL, error.to_string());
                        Err(Failure::Answered(status))
                    }
                };
            }
            match &mut self.answer {
                Answer::Over(None) => return Ok(None),
                Answer::Over(Some(status)) => return Err(Failure::Answered(status.clone())),
                Answer::Awaited(response) => {
                    let answered = response.await;
                    let (head, body) = answered
                        .map_err(|error| self.connection.broken(&error))?
                        .into_parts();
                    self.answer = match trailing_status(&head.headers) {
                        Some(end) => Answer::Over(end),
                        None if head.status == http::StatusCode::OK => Answer::Body(body),
                        None => {
                            let text = format!("unexpected HTTP status code {}", head.status);
                            Answer::Over(Some(self.connection.unavailable(&text)))
                        }
                    };
                }
                Answer::Body(body) => match body.data().await {
                    Some(chunk) => {
                        let chunk = chunk.map_err(|error| self.connection.broken(&error))?;
                        // It fails only when the stream is over, which the next turn sees.
                        let _ = body.flow_control().release_capacity(chunk.len());
                        self.buffer.extend_from_slice(&chunk);
                    }
                    None => {
                        let trailers = body.trailers().await;
                        let trailers = trailers.map_err(|error| self.connection.broken(&error))?;
                        let end = trailers.as_ref().and_then(trailing_status);
                        let missing =
                            || Some(self.connection.unavailable("the answer has no status"));
                        self.answer = Answer::Over(end.unwrap_or_else(missing));
                    }
                },
            }
        }
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some((head, _)) = self.buffer.split_first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if compressed != 0 {
            let status = Status::new(Code::INTERNAL, "the answer is compressed");
            return Err(Failure::Answered(status));
        }
        let limit = self.connection.limits.response_bytes_max;
        if length > limit {
            let text = format!("grpc: received message larger than max ({length} vs. {limit})");
            return Err(Failure::Answered(Status::new(
                Code::RESOURCE_EXHAUSTED,
                text,
            )));
        }
        if self.buffer.len() < FRAME_HEAD_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEAD_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

impl Failure {
    /// The status, whatever became of the request.
    pub(crate) fn into_status(self) -> Status {
        match self {
            Failure::NotSent(status) | Failure::Answered(status) => status,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Error::Status(failure.into_status())
    }
}

/// The status in headers or trailers: none when there is none, some(none) for a success.
fn trailing_status(headers: &HeaderMap) -> Option<Option<Status>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    if code == Code::OK.0 {
        return Some(None);
    }
    let message = headers
        .get("grpc-message")
        .map_or(&[][..], HeaderValue::as_bytes);
    Some(Some(Status::new(Code(code), decode_percent(message))))
}

/// Bytes outside printable ASCII travel as `%` and two hex digits.
fn decode_percent(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_decoded_and_rubbish_is_kept() {
        for (text, decoded) in [
            ("a%20b", "a b"),
            ("%E2%82%AC", "€"),
            ("50%", "50%"),
            ("%zz", "%zz"),
        ] {
            assert_eq!(decode_percent(text.as_bytes()), decoded);
        }
    }
}
