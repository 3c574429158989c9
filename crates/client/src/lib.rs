//! Client library for Kvorum and every other server that speaks etcd's API.
//!
//! ```no_run
#![doc = include_str!("../docs/first_steps.rs")]
//! ```
//!
//! Every example here is a file in `docs` that a test runs against official etcd and against ours.
//!
//! - Calls go round the endpoints; one that does not answer is left out for a while. What is tried
//!   again, and what is not because it might happen twice, is said in `client.rs`.
//! - A watch survives broken connections without gaps or repeats, see [`Watcher`].
//! - [`Session`], [`Mutex`] and [`Election`] are etcd's recipes: both kinds of clients exclude each
//!   other. [`Mirror`] copies keys and follows them, [`Namespace`] shows a part of the keys as if it
//!   were all, [`discover`] asks the name service for endpoints.
//! - Requests and responses are the messages of [`kvorum_proto`], with nothing between the caller
//!   and what the API says.
//! - Every future may be dropped at any time.
//!
//! TCP and unix sockets are spoken, in plain text or with [`Tls`]; [`Credentials`] say who calls.
//!
//! # Why not tonic
//!
//! What a client needs of gRPC is a frame head of five bytes, three headers and a trailer: one
//! file over the `h2` crate, which the server brings anyway, so that this crate adds nothing to
//! the dependency tree. The hard parts, fail-over, which calls are sent again, and resuming a
//! stream, are etcd's own rules and would have to be written around a framework just the same. In
//! return the client knows whether a request left before the connection broke, which decides
//! whether a put may be sent again.

mod auth;
mod client;
mod connection;
mod discovery;
mod endpoint;
mod error;
mod identity;
pub mod judged;
mod kv;
mod lease;
mod mirror;
mod namespace;
mod operate;
mod page;
mod pool;
mod recipes;
mod snapshot;
mod tls;
pub mod trust;
mod txn;
mod watch;

pub use client::{Client, Config};
pub use discovery::{discover, look_up_address, look_up_service};
pub use endpoint::Endpoint;
pub use error::{Code, Error, Status};
pub use identity::Credentials;
pub use kv::{KeyRange, prefix_end};
pub use kvorum_proto::authpb::permission::Type as PermissionType;
pub use kvorum_proto::etcdserverpb::compare::CompareResult;
pub use kvorum_proto::etcdserverpb::downgrade_request::DowngradeAction;
pub use lease::LeaseKeeper;
pub use mirror::Mirror;
pub use namespace::{Namespace, NamespaceWatcher};
pub use page::fetch_page;
pub use recipes::{Election, Mutex, Observer, Session};
pub use snapshot::Snapshot;
pub use tls::{Tls, TlsOptions};
pub use txn::{
    Operation, Txn, compare_create_revision, compare_lease, compare_mod_revision, compare_value,
    compare_version,
};
pub use watch::Watcher;
