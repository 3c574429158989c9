//! What a service is to the transport, and what a call is to a service.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Credit, Metadata, ReplySink, StreamSink};

/// How many messages flow each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// One request, one reply.
    Unary,
    /// One request, many replies.
    ServerStream,
    /// Many requests, one reply.
    ClientStream,
    /// Many requests, many replies.
    Bidi,
}

impl MethodKind {
    /// The text in the `grpc_type` label of the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::ClientStream => "client_stream",
            Self::Bidi => "bidi_stream",
        }
    }
}

/// One method that a service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Full path, such as `/etcdserverpb.KV/Range`.
    pub path: &'static str,
    /// Which of [`Service::unary`] and [`Service::stream`] is called.
    pub kind: MethodKind,
}

impl Method {
    /// Service and method name, such as `etcdserverpb.KV` and `Range`.
    #[must_use]
    pub fn names(&self) -> (&'static str, &'static str) {
        let path = self.path.strip_prefix('/').unwrap_or(self.path);
        path.rsplit_once('/').unwrap_or(("", path))
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Remote address as text, such as `127.0.0.1:52114`; `@` for a unix socket without a name.
    pub address: String,
    /// Common name of the verified client certificate. `None` without TLS or without a certificate.
    pub certificate_name: Option<String>,
}

/// A call without its messages.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method called.
    pub method: Method,
    /// Its place in [`Service::methods`], for table look-ups.
    pub index: usize,
    /// What the client sent beside the message.
    pub metadata: Metadata,
    /// When the caller gives up; the transport answers DeadlineExceeded then. `None`: never.
    pub deadline: Option<Instant>,
    /// Who calls; shared by all calls of a connection.
    pub peer: Arc<Peer>,
}

/// Everything that one gRPC port offers.
///
/// Both calls run in the task of a connection, together with all its other calls: they hand the work on and return
/// at once. Answers are given through the sinks, then or later, from any thread.
pub trait Service: Send + Sync + 'static {
    /// The methods, in an order that never changes. Paths are unique.
    fn methods(&self) -> &[Method];

    /// A unary call with its whole request.
    fn unary(&self, call: Call, message: Bytes, reply: ReplySink);

    /// Runs `work`, in which all calls of one turn of a connection are given to the service, and the reads that it
    /// gave back run. What these have in common is done once.
    fn turn(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// A streaming call of any kind begins. The transport drives what is returned.
    fn stream(&self, call: Call, replies: StreamSink) -> Box<dyn RequestStream>;
}

/// The requests of one streaming call and the news about it, told by the task of the connection, one at a time.
/// As in [`Service`], every method returns at once.
pub trait RequestStream: Send {
    /// A request arrived. The transport hands over at most
    /// [`STREAM_REQUESTS_MAX`](super::STREAM_REQUESTS_MAX) whose credit is not dropped yet.
    fn message(&mut self, message: Bytes, credit: Credit);

    /// The client will send no more; it still reads. A server stream gets exactly one message, then this.
    fn finished(&mut self);

    /// The stream had no room and has some again.
    fn room(&mut self);

    /// The stream is over, for whatever reason, even one given by the service itself. Always the last call.
    fn closed(&mut self);
}
