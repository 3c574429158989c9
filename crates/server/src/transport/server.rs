//! Accepting connections, and ending them.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::connection::{Connection, Shared};
use super::routes::Routes;
use super::sniff::{self, Protocol};
use super::socket::{Rewound, Socket};
use super::tls::Rejection;
use super::{HttpHandler, Listener, Peer, Settings, Side, TlsServer, http1};

/// Pause after a failed accept, so that a lack of file descriptors does not turn into a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time a client gets to read the last words of a connection before it is closed.
const LINGER: Duration = Duration::from_millis(500);

/// The running listeners and their connections.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    accepting: JoinSet<()>,
    drain_timeout: Duration,
}

/// What the connections of one listener share.
struct Endpoint {
    grpc: Option<Arc<Shared>>,
    http: Option<Arc<dyn HttpHandler>>,
    tls: Option<Arc<TlsServer>>,
    settings: Settings,
    stop: watch::Receiver<bool>,
}

impl Server {
    /// Starts accepting on all listeners. Needs a tokio runtime around it.
    #[must_use]
    pub fn start(listeners: Vec<Listener>, settings: Settings) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut accepting = JoinSet::new();
        for listener in listeners {
            let grpc = listener.config.service.as_ref().map(|service| {
                Arc::new(Shared {
                    service: Arc::clone(service),
                    routes: Routes::new(&**service),
                    settings: settings.clone(),
                    metrics: settings.metrics.grpc(service.methods()),
                })
            });
            let endpoint = Arc::new(Endpoint {
                grpc,
                http: listener.config.http.clone(),
                tls: listener.config.tls.clone(),
                settings: settings.clone(),
                stop: stopped.clone(),
            });
            accepting.spawn(accept_all(listener, endpoint));
        }
        Self {
            stop,
            accepting,
            drain_timeout: settings.drain_timeout,
        }
    }

    /// Stops accepting, tells every connection to go away, waits for calls in flight at most
    /// [`Settings::drain_timeout`] and cuts what is left.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let drained = async { while self.accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain_timeout, drained)
            .await
            .is_err()
        {
            // Connections live in the accepting tasks' sets, so this cuts them as well.
            self.accepting.shutdown().await;
        }
    }
}

/// Accepts until the server stops, then waits for the connections. Dropping it cuts them.
async fn accept_all(listener: Listener, endpoint: Arc<Endpoint>) {
    let places = endpoint
        .settings
        .max_connections
        .min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(places));
    let mut connections = JoinSet::new();
    let mut stop = endpoint.stop.clone();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accepted => match accepted {
                Ok((socket, address)) => {
                    let endpoint = Arc::clone(&endpoint);
                    connections.spawn(async move {
                        serve(socket, address, &endpoint).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a client connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits until the server stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Fails when the server is dropped, which stops it too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Finds out what a connection speaks and serves it.
async fn serve(mut socket: Socket, address: String, endpoint: &Endpoint) {
    let mut stop = endpoint.stop.clone();
    let side = endpoint.settings.side;
    if let Some(tls) = &endpoint.tls {
        let accepted = tokio::select! {
            accepted = tls.accept(socket, &address) => accepted,
            () = stopped(&mut stop) => return,
        };
        socket = match accepted {
            Ok(secured) => secured,
            Err(rejection) => return reject_handshake(side, &address, &rejection),
        };
    }
    let sniffed = tokio::select! {
        sniffed = tokio::time::timeout(endpoint.settings.sniff_timeout, sniff::sniff(&mut socket)) => sniffed,
        () = stopped(&mut stop) => return,
    };
    let (protocol, first) = match sniffed {
        Ok(Ok(Some(sniffed))) => sniffed,
        // Load balancers look whether a port is open in just this way: no reason for a log line.
        Ok(Ok(None) | Err(_)) => return,
        Err(_) => return reject(side, &address, "no request arrived in time"),
    };
    match (protocol, &endpoint.grpc, &endpoint.http) {
        (Protocol::Http2, Some(shared), _) => {
            let peer = Arc::new(Peer {
                address,
                certificate_name: None,
            });
            let connection = Connection::new(socket, &first, Arc::clone(shared), peer);
            drop(first);
            // In boxes of their own, so that a connection holds the state of one protocol and no sniffing buffer.
            Box::pin(serve_http2(
                connection,
                endpoint.settings.sniff_timeout,
                stop,
            ))
            .await;
        }
        (Protocol::Http1, _, Some(handler)) => {
            let io = Rewound { first, socket };
            Box::pin(http1::serve(
                io,
                Arc::clone(handler),
                endpoint.settings.header_timeout,
                stop,
            ))
            .await;
        }
        (Protocol::Http2, None, _) => reject(side, &address, "gRPC is not served here"),
        (Protocol::Http1, _, None) => reject(side, &address, "HTTP/1 is not served here"),
        (Protocol::Tls, ..) => reject(side, &address, "TLS handshake on a port without TLS"),
        (Protocol::Unknown, ..) => reject(side, &address, "neither HTTP/1 nor HTTP/2"),
    }
}

fn reject(side: Side, address: &str, error: &str) {
    tracing::warn!(
        "remote-addr" = address,
        error,
        "rejected connection on {} endpoint",
        side.name()
    );
}

/// Source: etcd v3.7.1 `server/embed/config_logging.go`, `logTLSHandshakeFailureFunc`.
fn reject_handshake(side: Side, address: &str, rejection: &Rejection) {
    let Rejection {
        server_name,
        names,
        error,
        left,
    } = rejection;
    let side = side.name();
    // Load balancers look whether a port is open in just this way.
    if *left {
        tracing::debug!(
            "remote-addr" = address,
            "server-name" = server_name,
            error,
            "rejected connection on {side} endpoint",
        );
    } else if let Some((addresses, hosts)) = names {
        tracing::warn!(
            "remote-addr" = address,
            "server-name" = server_name,
            "ip-addresses" = ?addresses,
            "dns-names" = ?hosts,
            error,
            "rejected connection on {side} endpoint",
        );
    } else {
        tracing::warn!(
            "remote-addr" = address,
            "server-name" = server_name,
            error,
            "rejected connection on {side} endpoint",
        );
    }
}

async fn serve_http2(
    mut connection: Connection,
    open_timeout: Duration,
    stop: watch::Receiver<bool>,
) {
    let opened = poll_fn(|cx| connection.poll_opened(cx));
    if tokio::time::timeout(open_timeout, opened).await.is_err() {
        return;
    }
    if serve_until_stopped(&mut connection, stop).await {
        connection.start_shutdown();
        (&mut connection).await;
    }
    // A socket closed with unread bytes takes the last frames with it; so the client is heard out for a moment.
    let _ = tokio::time::timeout(LINGER, linger(connection.end())).await;
}

/// Serves a connection until it is over, or the server stops: then `true`.
async fn serve_until_stopped(connection: &mut Connection, stop: watch::Receiver<bool>) -> bool {
    let mut listening = stop.clone();
    // Asked once, so it must not be put off for a budget that is used up.
    let mut stops = std::pin::pin!(tokio::task::unconstrained(stopped(&mut listening)));
    let mut listens = false;
    poll_fn(|cx| {
        if Pin::new(&mut *connection).poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        // Whoever listens once is woken. To listen again takes a lock that connections share, to look takes none.
        if listens && !stop.has_changed().unwrap_or(true) {
            return Poll::Pending;
        }
        listens = true;
        stops.as_mut().poll(cx).map(|()| true)
    })
    .await
}

async fn linger(socket: &mut Socket) -> io::Result<()> {
    poll_fn(|cx| socket.poll_shutdown(cx)).await?;
    let mut rest = [0; 1024];
    loop {
        let mut buffer = ReadBuf::new(&mut rest);
        poll_fn(|cx| socket.poll_read(cx, &mut buffer)).await?;
        if buffer.filled().is_empty() {
            return Ok(());
        }
    }
}
