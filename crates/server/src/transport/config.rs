//! What a listener is told at start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{HttpHandler, Service, TlsServer};
use crate::metrics::Metrics;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `host:port`; port 0 takes a free one. A wildcard host listens on IPv6 and IPv4.
    Tcp(String),
    /// Path of a socket file. `unix://name:port` means the file `name:port` in the working folder.
    Unix(PathBuf),
}

/// One listener.
#[derive(Clone)]
pub struct ListenerConfig {
    /// Where to listen.
    pub address: Address,
    /// Sets SO_REUSEPORT, so that several processes share the port.
    pub reuse_port: bool,
    /// Speaks TLS with who connects. `None`: connections are in the clear.
    pub tls: Option<Arc<TlsServer>>,
    /// Answers gRPC. `None`: HTTP/2 connections are refused.
    pub service: Option<Arc<dyn Service>>,
    /// Answers HTTP/1. `None`: HTTP/1 connections are refused.
    pub http: Option<Arc<dyn HttpHandler>>,
}

/// Limits and timers of all connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--max-request-bytes`; a gRPC message may be [`GRPC_OVERHEAD_BYTES`] larger.
    pub max_request_bytes: usize,
    /// `--max-concurrent-streams` per connection. `u32::MAX`: no limit.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`: a client that pings more often is sent away. Zero: pings are not policed.
    pub keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`: a connection silent for this long is pinged. Zero: never.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: a ping unanswered for this long closes the connection. Zero: never pinged.
    pub keepalive_timeout: Duration,
    /// Time for the first bytes of a connection to show what it speaks.
    pub sniff_timeout: Duration,
    /// Time for the whole header of an HTTP/1 request.
    pub header_timeout: Duration,
    /// Time that calls in flight get at shutdown before their connections are cut.
    pub drain_timeout: Duration,
    /// Open connections per listener. Further ones wait in the backlog of the socket.
    pub max_connections: usize,
    /// Unary calls that take longer are logged (`--warning-unary-request-duration`). Zero: none is.
    pub warning_unary_duration: Duration,
    /// Who connects, for the log.
    pub side: Side,
    /// Where calls and bytes are counted.
    pub metrics: Arc<Metrics>,
}

/// Who connects to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Clients.
    Client,
    /// Other members.
    Peer,
}

impl Side {
    /// The word in log lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

/// Room above `--max-request-bytes` that a gRPC message may take. Source: v3.7.1
/// `server/etcdserver/api/v3rpc/grpc.go`, `grpcOverheadBytes`.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// Largest reply, in bytes. Source: as above, `grpcSendMaxSize`.
pub(crate) const REPLY_BYTES_MAX: usize = i32::MAX as usize;

/// File descriptors kept for files and peers when connections are limited. Source: v3.7.1
/// `server/embed/serve.go` and `server/embed/etcd.go`, `reservedInternalFDNum`.
pub const RESERVED_DESCRIPTORS: usize = 150;

impl Settings {
    /// The defaults of etcd's flags.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            max_request_bytes: 1_572_864,
            max_concurrent_streams: u32::MAX,
            keepalive_min_time: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            sniff_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(5 * 60),
            drain_timeout: Duration::from_millis(500),
            max_connections: usize::MAX,
            warning_unary_duration: Duration::from_millis(300),
            side: Side::Client,
            metrics,
        }
    }
}
