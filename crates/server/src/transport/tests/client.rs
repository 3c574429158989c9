//! A server around the echo service, and clients of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::echo::{Echo, Seen};
use crate::metrics::Metrics;
use crate::transport::{Address, HttpHandler, HttpReply, HttpRequest, HttpResponse};
use crate::transport::{Listener, ListenerConfig, Server, Settings};

/// Nothing in these tests takes this long unless it hangs.
pub(super) const HANG: Duration = Duration::from_secs(120);

/// Runs a test on a runtime like the server's.
pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(HANG, test)
            .await
            .expect("the test hangs");
    });
}

/// Answers every request with its own path.
struct PathHandler;

impl HttpHandler for PathHandler {
    fn handle(&self, request: HttpRequest) -> HttpReply {
        Box::pin(async move {
            HttpResponse {
                status: 200,
                headers: vec![("X-Test", "yes".to_owned())],
                body: request.path.into(),
            }
        })
    }
}

pub(super) struct TestServer {
    pub(super) address: String,
    pub(super) seen: Arc<Seen>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) server: Server,
}

/// A server on a free port; `change` changes its settings.
pub(super) fn start(change: impl FnOnce(&mut Settings)) -> TestServer {
    start_at(Address::Tcp("127.0.0.1:0".to_owned()), change)
}

pub(super) fn start_at(address: Address, change: impl FnOnce(&mut Settings)) -> TestServer {
    let echo = Echo::new();
    let seen = Arc::clone(&echo.seen);
    let metrics = Arc::new(Metrics::new(false));
    let mut settings = Settings::new(Arc::clone(&metrics));
    change(&mut settings);
    let listener = Listener::bind(ListenerConfig {
        address,
        reuse_port: false,
        tls: None,
        service: Some(Arc::new(echo)),
        http: Some(Arc::new(PathHandler)),
    });
    let listener = listener.unwrap();
    let address = match listener.local_address() {
        Address::Tcp(address) => address,
        Address::Unix(path) => path.to_str().unwrap().to_owned(),
    };
    TestServer {
        address,
        seen,
        metrics,
        server: Server::start(vec![listener], settings),
    }
}

impl TestServer {
    pub(super) async fn connect(&self) -> Client {
        // A thousand small answers that are not read yet are too many for the library's default.
        self.connect_with(h2::client::Builder::new().data_frame_budget(1 << 30))
            .await
    }

    pub(super) async fn connect_with(&self, builder: &mut h2::client::Builder) -> Client {
        let socket = TcpStream::connect(&self.address).await.unwrap();
        let (sender, connection) = builder.handshake(socket).await.unwrap();
        let ended = tokio::spawn(async move { connection.await.err() });
        Client { sender, ended }
    }

    pub(super) async fn raw(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }
}

/// The answer to a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) http_status: u16,
    pub(super) code: String,
    pub(super) text: String,
    pub(super) data: Bytes,
}

impl Answer {
    /// Code number and text, for comparisons.
    pub(super) fn status(&self) -> (&str, &str) {
        (&self.code, &self.text)
    }

    /// The message without its prefix; the call must have succeeded.
    pub(super) fn message(&self) -> &[u8] {
        assert_eq!(self.status(), ("0", ""));
        &self.data[5..]
    }
}

/// One HTTP/2 connection.
pub(super) struct Client {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) ended: tokio::task::JoinHandle<Option<h2::Error>>,
}

/// A message with its prefix.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

impl Client {
    /// Begins a call of `/test.Echo/NAME`, or of a whole path.
    pub(super) async fn begin(
        &self,
        name: &str,
        headers: &[(&str, &str)],
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), h2::Error> {
        let path = if name.starts_with('/') {
            name.to_owned()
        } else {
            format!("/test.Echo/{name}")
        };
        let mut request = Request::post(format!("http://server{path}"));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut sender = self.sender.clone().ready().await?;
        sender.send_request(request.body(()).unwrap(), false)
    }

    /// A whole call that sends `data` as it is.
    pub(super) async fn send(
        &self,
        name: &str,
        headers: &[(&str, &str)],
        data: Bytes,
    ) -> Result<Answer, h2::Error> {
        let (response, mut body) = self.begin(name, headers).await?;
        // A refused call may be over before its data is sent.
        let _ = body.send_data(data, true);
        collect(response).await
    }

    /// A whole unary call.
    pub(super) async fn call(&self, name: &str, message: &[u8]) -> Answer {
        self.send(name, &[], framed(message)).await.unwrap()
    }

    /// Proves that the connection still works.
    pub(super) async fn assert_usable(&self) {
        assert_eq!(
            self.call("Echo", b"still here").await.message(),
            b"still here"
        );
    }
}

/// Reads an answer to its end.
pub(super) async fn collect(response: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut data = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        data.extend_from_slice(&piece);
    }
    let trailers = trailers(&mut body).await?;
    let trailers = if trailers.is_empty() {
        &head.headers
    } else {
        &trailers
    };
    let text = |name: &str| {
        trailers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned()
    };
    Ok(Answer {
        http_status: head.status.as_u16(),
        code: text("grpc-status"),
        text: text("grpc-message"),
        data: data.freeze(),
    })
}

pub(super) async fn trailers(body: &mut RecvStream) -> Result<HeaderMap, h2::Error> {
    Ok(body.trailers().await?.unwrap_or_default())
}

/// Reads one message of a stream; `None` at its end.
pub(super) async fn next_message(body: &mut RecvStream, left: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some((prefix, _)) = left.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            if left.len() >= 5 + length {
                return Some(left.split_to(5 + length).split_off(5).freeze());
            }
        }
        let piece = body.data().await?.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        left.extend_from_slice(&piece);
    }
}

/// Sends bytes on a bare connection and returns everything until the server closes it.
pub(super) async fn exchange(mut socket: TcpStream, bytes: &[u8]) -> Vec<u8> {
    // The server may have closed already, which is what the caller wants to see.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    answer
}
