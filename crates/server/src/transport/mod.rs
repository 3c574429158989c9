//! From bytes on a socket to calls, and from answers to bytes.
//!
//! Services see a [`Call`], the bytes of a message and a sink for the answer, never a type of what is below, so
//! that this can be replaced. A port speaks gRPC and HTTP/1; the first bytes of a connection decide.
//!
//! A put on its way through:
//!
//! 1. The connection's task reads what the socket has into room that all connections of its thread share. `http2`
//!    takes the frames (`frames`) and their headers (`hpack`, `head`), looks the path up (`routes`), and tells
//!    `connection` of calls and data; mostly the request is whole in one piece (`framing`).
//! 2. [`Service::unary`] gets the message and a [`ReplySink`]. It posts both to the core thread and returns.
//! 3. The core thread answers a batch of requests: each [`ReplySink::send`] adds to the connection's queue
//!    (`completion`), the first of them wakes its task.
//! 4. The task takes the whole queue, writes headers, messages and trailers into one outbox, and flushes once.
//!
//! A linearizable range differs in step 3: the core thread calls [`ReplySink::run`], and step 4 reads. A streaming
//! call has a [`StreamSink`] with room in place of the one answer, and a [`RequestStream`] that hears of requests.
//!
//! What never happens here: a task, timer or channel per request; a write per answer; a queue without a bound that
//! the client controls, but for the calls it may have in flight (`--max-concurrent-streams`); waiting in the task of
//! a connection for anything but its socket.

mod base64;
mod body;
pub(crate) mod completion;
mod config;
mod connection;
mod dial;
mod frames;
mod framing;
mod head;
mod hpack;
mod http1;
mod http2;
mod http_body;
mod http_handler;
mod keepalive;
mod listener;
mod metadata;
mod pings;
mod reply;
mod routes;
mod server;
mod service;
mod sniff;
mod socket;
mod status;
mod stream;
mod stream_call;
#[cfg(test)]
mod tests;
mod tls;
mod unary;

pub use body::Body;
pub(crate) use config::REPLY_BYTES_MAX;
pub use config::{
    Address, GRPC_OVERHEAD_BYTES, ListenerConfig, RESERVED_DESCRIPTORS, Settings, Side,
};
pub use dial::{HttpConnection, IncomingResponse, OutgoingRequest};
pub use http_body::{BodyError, HttpBody};
pub use http_handler::{
    AnswerBody, BodyPieces, HttpAnswer, HttpExchange, HttpHandler, HttpReply, HttpRequest,
    HttpResponse,
};
pub use listener::Listener;
pub use metadata::Metadata;
pub use reply::ReplySink;
pub use server::Server;
pub use service::{Call, Method, MethodKind, Peer, RequestStream, Service};
pub use status::{Code, Status};
pub use stream::{
    Credit, Room, STREAM_QUEUED_BYTES_MAX, STREAM_QUEUED_MESSAGES_MAX, STREAM_REQUESTS_MAX,
    StreamOutput, StreamSink,
};
pub use tls::{Allowed, PairFiles, TlsClient, TlsError, TlsOptions, TlsServer, Versions};
