//! From bytes on a socket to calls, and from answers to bytes.
//!
//! Services see a [`Call`], the bytes of a message and a sink for the answer, never a type of the libraries below.

mod base64;
mod body;
mod completion;
mod config;
mod connection;
mod frames;
mod framing;
mod head;
mod http1;
mod http_handler;
mod keepalive;
mod listener;
mod metadata;
mod outgoing;
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
mod unary;
mod wakers;
mod wire;

pub use body::Body;
pub use config::{Address, GRPC_OVERHEAD_BYTES, ListenerConfig, RESERVED_DESCRIPTORS, Settings};
pub use http_handler::{HttpHandler, HttpReply, HttpRequest, HttpResponse};
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
