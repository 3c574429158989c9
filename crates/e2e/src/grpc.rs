//! A raw gRPC client: bytes in, bytes out.
//!
//! Library clients hide what a test has to see (exact bytes, codes, texts, trailers) and refuse to
//! send what a test has to send (rubbish). This one puts a message into a frame and a frame into an
//! HTTP/2 stream, and nothing else.

use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use kvorum_proto::etcdserverpb::{PutRequest, PutResponse};
use prost::Message;
use tokio::net::TcpStream;

use crate::machine_time::in_machine_time;

/// Bytes before each message: a flag for compression, and the length.
const FRAME_HEAD: usize = 5;
/// How long any single answer may take, in [`MachineTime`](crate::machine_time::MachineTime).
pub const LIMIT: Duration = Duration::from_secs(60);
/// Window of a stream and of the connection, in bytes.
const WINDOW: u32 = 8 << 20;

/// Why a call brought no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server said so.
    Status {
        /// gRPC code.
        code: u32,
        /// Text, decoded.
        message: String,
    },
    /// The connection or the stream broke, or no answer came in time.
    Transport(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status { code, message } => write!(f, "code {code}: {message}"),
            Failure::Transport(text) => write!(f, "transport: {text}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Failure::Transport(error.to_string())
    }
}

/// Runs a test's own async part on a thread of its own.
///
/// # Panics
/// When there is no runtime to be had.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

/// One HTTP/2 connection. Clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    authority: String,
}

impl Connection {
    /// Connects to the server on `port` of this machine.
    ///
    /// # Errors
    /// When nobody answers in HTTP/2 there.
    pub async fn open(port: u16) -> Result<Self, Failure> {
        Self::open_with_window(port, WINDOW).await
    }

    /// Connects to a server on any host.
    ///
    /// # Errors
    /// When nobody answers in HTTP/2 there.
    pub async fn open_at(address: SocketAddr) -> Result<Self, Failure> {
        Self::open_at_with_window(address, WINDOW).await
    }

    /// The same with a window of so many bytes per stream and connection: what the server may send
    /// before it is read.
    ///
    /// # Errors
    /// When nobody answers in HTTP/2 there.
    pub async fn open_with_window(port: u16, bytes: u32) -> Result<Self, Failure> {
        let address = (Ipv4Addr::LOCALHOST, port).into();
        Self::open_at_with_window(address, bytes).await
    }

    async fn open_at_with_window(address: SocketAddr, bytes: u32) -> Result<Self, Failure> {
        let broken = |error: std::io::Error| Failure::Transport(error.to_string());
        let socket = TcpStream::connect(address).await.map_err(broken)?;
        socket.set_nodelay(true).map_err(broken)?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(bytes)
            .initial_connection_window_size(bytes);
        builder.max_header_list_size(1 << 20);
        let (sender, connection) = in_time(builder.handshake(socket)).await??;
        // It ends with the last handle; how it ended is seen by the calls on it.
        tokio::spawn(connection);
        Ok(Self {
            sender,
            authority: address.to_string(),
        })
    }

    /// One request, one answer. `method` is like `etcdserverpb.KV/Range`.
    ///
    /// # Errors
    /// When the server refuses, or nothing readable comes back.
    pub async fn call<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<A, Failure> {
        let bytes = self.call_bytes(method, &request.encode_to_vec()).await?;
        A::decode(bytes).map_err(|error| Failure::Transport(error.to_string()))
    }

    /// Puts a value of so many bytes; the revision of that.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn put_bytes(&self, key: &str, bytes: usize) -> Result<i64, Failure> {
        let request = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: vec![b'x'; bytes].into(),
            ..PutRequest::default()
        };
        let put: PutResponse = self.call("etcdserverpb.KV/Put", &request).await?;
        Ok(put.header.map_or(0, |header| header.revision))
    }

    /// The same with the bytes of the messages, so that rubbish can be sent and exact bytes seen.
    ///
    /// # Errors
    /// When the server refuses, or not exactly one message comes back.
    pub async fn call_bytes(&self, method: &str, request: &[u8]) -> Result<Bytes, Failure> {
        let mut stream = self.start(method, &[]).await?;
        stream.send_raw(frame(request), true)?;
        let message = stream.next_bytes().await?;
        let message = message.ok_or_else(|| Failure::Transport("no message".to_owned()))?;
        match stream.next_bytes().await? {
            None => Ok(message),
            Some(_) => Err(Failure::Transport("a second message".to_owned())),
        }
    }

    /// Opens a stream. `headers` replace or add to the usual ones.
    ///
    /// # Errors
    /// When the connection takes no more streams.
    pub async fn start(&self, method: &str, headers: &[(&str, &str)]) -> Result<Stream, Failure> {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        self.start_with(method, &headers).await
    }

    /// The same with values that need not be text.
    ///
    /// # Errors
    /// When the connection takes no more streams.
    pub async fn start_with(
        &self,
        method: &str,
        headers: &[(&str, &[u8])],
    ) -> Result<Stream, Failure> {
        let mut request = Request::post(format!("http://{}/{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| Failure::Transport(error.to_string()))?;
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_bytes(value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Failure::Transport("not a header".to_owned()));
            };
            request.headers_mut().insert(name, value);
        }
        let mut sender = in_time(self.sender.clone().ready()).await??;
        let (response, send) = sender.send_request(request, false)?;
        Ok(Stream {
            send,
            answer: Answer::Awaited(response),
            buffer: BytesMut::new(),
        })
    }

    /// A stream with a first message, left open for more.
    ///
    /// # Errors
    /// When the connection takes no more streams.
    pub async fn open_stream(&self, method: &str, first: &impl Message) -> Result<Stream, Failure> {
        let mut stream = self.start(method, &[]).await?;
        stream.send(first)?;
        Ok(stream)
    }
}

/// A message with its head, as it travels.
pub fn frame(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(FRAME_HEAD + message.len());
    bytes.put_u8(0);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

enum Answer {
    Awaited(ResponseFuture),
    Body(RecvStream),
    Over(Result<(), Failure>),
}

/// One call: requests out, responses in.
pub struct Stream {
    send: SendStream<Bytes>,
    answer: Answer,
    buffer: BytesMut,
}

impl Stream {
    /// Sends one message.
    ///
    /// # Errors
    /// When the stream takes nothing more.
    pub fn send(&mut self, message: &impl Message) -> Result<(), Failure> {
        self.send_raw(frame(&message.encode_to_vec()), false)
    }

    /// Sends bytes as they are, head included; `last` says that nothing follows.
    ///
    /// # Errors
    /// When the stream takes nothing more.
    pub fn send_raw(&mut self, bytes: Bytes, last: bool) -> Result<(), Failure> {
        Ok(self.send.send_data(bytes, last)?)
    }

    /// Says that no request follows.
    ///
    /// # Errors
    /// When the stream is over already.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.send_raw(Bytes::new(), true)
    }

    /// Takes the call back.
    pub fn reset(&mut self) {
        self.send.send_reset(h2::Reason::CANCEL);
    }

    /// The next response, or none at a good end.
    ///
    /// # Errors
    /// When the server ends the call with an error, or nothing comes in time.
    pub async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, Failure> {
        match self.next_bytes().await? {
            None => Ok(None),
            Some(bytes) => match A::decode(bytes) {
                Ok(message) => Ok(Some(message)),
                Err(error) => Err(Failure::Transport(error.to_string())),
            },
        }
    }

    /// Bytes of the next response, or none at a good end.
    ///
    /// # Errors
    /// When the server ends the call with an error, or nothing comes in time.
    pub async fn next_bytes(&mut self) -> Result<Option<Bytes>, Failure> {
        in_time(self.next_unlimited()).await?
    }

    /// The same without a limit of time.
    async fn next_unlimited(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(message) = self.take_buffered() {
                return Ok(Some(message));
            }
            match &mut self.answer {
                Answer::Over(end) => return end.clone().map(|()| None),
                Answer::Awaited(response) => {
                    let (head, body) = response.await?.into_parts();
                    self.answer = match status(&head.headers) {
                        Some(end) => Answer::Over(end),
                        None if head.status != http::StatusCode::OK => {
                            let text = format!("http status {}", head.status.as_u16());
                            Answer::Over(Err(Failure::Transport(text)))
                        }
                        None => Answer::Body(body),
                    };
                }
                Answer::Body(body) => match body.data().await {
                    Some(chunk) => {
                        let chunk = chunk?;
                        body.flow_control().release_capacity(chunk.len())?;
                        self.buffer.extend_from_slice(&chunk);
                    }
                    None => {
                        let trailers = body.trailers().await?.unwrap_or_default();
                        let missing = || Err(Failure::Transport("no grpc-status".to_owned()));
                        self.answer = Answer::Over(status(&trailers).unwrap_or_else(missing));
                    }
                },
            }
        }
    }

    fn take_buffered(&mut self) -> Option<Bytes> {
        let length = self.buffer.get(1..FRAME_HEAD)?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        if self.buffer.len() < FRAME_HEAD + length {
            return None;
        }
        self.buffer.advance(FRAME_HEAD);
        Some(self.buffer.split_to(length).freeze())
    }
}

fn status(headers: &HeaderMap) -> Option<Result<(), Failure>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    if code == 0 {
        return Some(Ok(()));
    }
    let message = headers
        .get("grpc-message")
        .map_or(&[][..], HeaderValue::as_bytes);
    Some(Err(Failure::Status {
        code,
        message: decode_percent(message),
    }))
}

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

async fn in_time<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let late = || Failure::Transport("no answer in time".to_owned());
    in_machine_time(LIMIT, future).await.ok_or_else(late)
}
