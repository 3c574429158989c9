//! The gRPC services of etcd, version 3.
//!
//! A service decodes and checks a request, hands it to the [`Member`] and encodes what comes back. It decides nothing
//! that the log decides, and it never waits: answers come through the sinks of the transport.

mod cluster;
mod errors;
mod health;
mod kv;
mod lease;
mod maintenance;
mod methods;
mod recipes;
mod snapshot;
mod watch;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;
use tokio::sync::Semaphore;

use crate::metrics::{Counter, Metrics};
use crate::runtime::Member;
use crate::transport::{
    Body, Call, Code, Credit, Metadata, Method, ReplySink, RequestStream, Service, Status,
    StreamSink,
};
use methods::{METHODS, RPCS, Rpc};

pub use errors::{status, text};

/// Limits of the services, from the flags.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest proposal in bytes (`--max-request-bytes`).
    pub request_bytes_max: usize,
    /// Longest list of a transaction (`--max-txn-ops`).
    pub txn_ops_max: usize,
    /// Election timeout, from which the shortest lease is reckoned.
    pub election_timeout: std::time::Duration,
}

/// All services of one member.
pub struct Api {
    member: Member,
    limits: Limits,
    metrics: Arc<Metrics>,
    runtime: tokio::runtime::Handle,
    /// One permit for each snapshot that may be sent beside others.
    snapshots: Arc<Semaphore>,
    /// The counter of unary calls of the version of the API that was seen first: of nearly all calls. It is looked up
    /// once, since the table of a family has a lock.
    first_calls: OnceLock<(String, Arc<Counter>)>,
}

impl Api {
    /// The services of a member. Recipes (lock, election) and snapshots run on `runtime`.
    #[must_use]
    pub fn new(
        member: Member,
        limits: Limits,
        metrics: Arc<Metrics>,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            member,
            limits,
            metrics,
            runtime,
            snapshots: Arc::new(Semaphore::new(snapshot::AT_ONCE_MAX)),
            first_calls: OnceLock::new(),
        })
    }
}

/// What a stream that does not read requests, or has read its one, is driven by.
struct Deaf;

impl RequestStream for Deaf {
    fn message(&mut self, _message: Bytes, _credit: Credit) {}
    fn finished(&mut self) {}
    fn room(&mut self) {}
    fn closed(&mut self) {}
}

/// The handle through which the transport reaches the services.
pub struct Services(pub Arc<Api>);

/// What the metrics call a call with one request and one answer.
const UNARY: &str = "unary";

impl Service for Services {
    fn methods(&self) -> &[Method] {
        METHODS
    }

    fn unary(&self, call: Call, message: Bytes, reply: ReplySink) {
        let api = &self.0;
        let admitted = api
            .admit(&call, UNARY)
            .and_then(|()| api.admit_to_learner(RPCS[call.index], Some(&message)));
        if let Err(refused) = admitted {
            return reply.send(Err(refused));
        }
        match RPCS[call.index] {
            Rpc::Range => kv::range(api, message, reply),
            Rpc::Put => kv::put(api, message, reply),
            Rpc::DeleteRange => kv::delete_range(api, message, reply),
            Rpc::Txn => kv::txn(api, message, reply),
            Rpc::Compact => kv::compact(api, message, reply),
            Rpc::LeaseGrant => lease::grant(api, message, reply),
            Rpc::LeaseRevoke => lease::revoke(api, message, reply),
            Rpc::LeaseTimeToLive => lease::time_to_live(api, message, reply),
            Rpc::LeaseLeases => lease::leases(api, message, reply),
            Rpc::MemberAdd => cluster::member_add(api, message, reply),
            Rpc::MemberRemove => cluster::member_remove(api, message, reply),
            Rpc::MemberUpdate => cluster::member_update(api, message, reply),
            Rpc::MemberPromote => cluster::member_promote(api, message, reply),
            Rpc::MemberList => cluster::member_list(api, message, reply),
            Rpc::Alarm => maintenance::alarm(api, message, reply),
            Rpc::Status => maintenance::status(api, message, reply),
            Rpc::Defragment => maintenance::defragment(api, message, reply),
            Rpc::Hash => maintenance::hash(api, message, reply),
            Rpc::HashKv => maintenance::hash_kv(api, message, reply),
            Rpc::MoveLeader => maintenance::move_leader(api, message, reply),
            Rpc::Downgrade => maintenance::downgrade(api, message, reply),
            Rpc::AuthStatus => cluster::auth_status(api, message, reply),
            Rpc::Lock => recipes::lock(api, message, reply),
            Rpc::Unlock => recipes::unlock(api, message, reply),
            Rpc::Campaign => recipes::campaign(api, message, reply),
            Rpc::Proclaim => recipes::proclaim(api, message, reply),
            Rpc::Leader => recipes::leader(api, message, reply),
            Rpc::Resign => recipes::resign(api, message, reply),
            Rpc::HealthCheck => health::check(message, reply),
            Rpc::HealthList => health::list(reply),
            Rpc::Missing(text) => reply.send(Err(Status::new(Code::Unimplemented, text))),
            Rpc::RangeStream
            | Rpc::Watch
            | Rpc::LeaseKeepAlive
            | Rpc::Snapshot
            | Rpc::Observe
            | Rpc::HealthWatch => {
                reply.send(Err(Status::new(
                    Code::Internal,
                    "a stream was called as a unary method",
                )));
            }
        }
    }

    fn turn(&self, work: &mut dyn FnMut()) {
        self.0.member.turn(work);
    }

    fn stream(&self, call: Call, replies: StreamSink) -> Box<dyn RequestStream> {
        let api = &self.0;
        let admitted = api
            .admit(&call, "stream")
            .and_then(|()| api.admit_to_learner(RPCS[call.index], None));
        if let Err(refused) = admitted {
            replies.finish(Err(refused));
            return Box::new(Deaf);
        }
        match RPCS[call.index] {
            Rpc::RangeStream => Box::new(kv::RangeStream::new(api, replies)),
            Rpc::Watch => Box::new(watch::WatchStream::new(api, &call, replies)),
            Rpc::LeaseKeepAlive => Box::new(lease::KeepAliveStream::new(api, replies)),
            Rpc::Snapshot => Box::new(snapshot::SnapshotStream::new(api, replies)),
            Rpc::Observe => Box::new(recipes::Observe::new(api, replies)),
            Rpc::HealthWatch => Box::new(health::HealthWatch::new(replies)),
            Rpc::Missing(text) => {
                replies.finish(Err(Status::new(Code::Unimplemented, text)));
                Box::new(Deaf)
            }
            _ => {
                let text = "a unary method was called as a stream";
                replies.finish(Err(Status::new(Code::Internal, text)));
                Box::new(Deaf)
            }
        }
    }
}

impl Api {
    /// Checks that hold for every call, whatever it asks for.
    fn admit(&self, call: &Call, kind: &'static str) -> Result<(), Status> {
        let version = match call.metadata.bytes("client-api-version") {
            None => "unknown",
            Some(_) => call.metadata.text("client-api-version").ok_or_else(|| {
                status(kvorum_member::apply::RequestError::InvalidClientApiVersion)
            })?,
        };
        self.count_call(version, kind);
        if requires_leader(&call.metadata) && !self.member.has_leader() {
            return Err(status(kvorum_member::apply::RequestError::NoLeader));
        }
        Ok(())
    }

    fn count_call(&self, version: &str, kind: &'static str) {
        let look_up = || self.metrics.client_requests.with(&[version, kind]);
        if kind == UNARY {
            let first = || (version.to_owned(), look_up());
            let (first_version, counter) = self.first_calls.get_or_init(first);
            if first_version == version {
                return counter.increment();
            }
        }
        look_up().increment();
    }

    /// Checks that a learner is asked for no more than it may answer: its status, a read of its own state, the state
    /// as a file.
    fn admit_to_learner(&self, rpc: Rpc, message: Option<&Bytes>) -> Result<(), Status> {
        if !self.member.is_learner() {
            return Ok(());
        }
        let allowed = match (rpc, message) {
            (Rpc::Status | Rpc::Snapshot, _) => true,
            (Rpc::Range, Some(message)) => kv::is_serializable(message),
            _ => false,
        };
        if allowed {
            return Ok(());
        }
        Err(status(
            kvorum_member::apply::RequestError::NotSupportedForLearner,
        ))
    }

    /// Lets a task answer a call that has to wait. The task ends when its caller goes away.
    fn answer_by_task(
        &self,
        reply: ReplySink,
        answer: impl Future<Output = Result<Body, Status>> + Send + 'static,
    ) {
        self.hand_over_by_task(reply, async move {
            let body = answer.await?;
            Ok(move || Ok(body))
        });
    }

    /// Lets a task get something for a call that has to wait. `hand_over` makes the answer, once it is certain that
    /// the caller still waits for it; for a caller that is gone it is dropped, with what it owns.
    fn hand_over_by_task<H>(
        &self,
        reply: ReplySink,
        hand_over: impl Future<Output = Result<H, Status>> + Send + 'static,
    ) where
        H: FnOnce() -> Result<Body, Status> + Send + 'static,
    {
        let gone = reply.closed();
        self.runtime.spawn(async move {
            // A caller that is gone comes first: what it asked for is then given up rather than kept.
            tokio::select! {
                biased;
                () = gone => {}
                got = hand_over => match got {
                    Ok(hand_over) => reply.run(hand_over),
                    Err(refused) => reply.send(Err(refused)),
                },
            }
        });
    }
}

/// Whether the caller wants an error rather than an answer from a member without a leader.
fn requires_leader(metadata: &Metadata) -> bool {
    metadata
        .bytes("hasleader")
        .is_some_and(|value| value == b"true")
}

/// Decodes a request as the gRPC library of official servers does, error text included.
fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| malformed(&error))
}

/// What a request is refused with that does not decode.
fn malformed(error: &prost::DecodeError) -> Status {
    Status::new(
        Code::Internal,
        format!("grpc: error unmarshalling request: {error}"),
    )
}

/// Decodes the request or answers at once.
macro_rules! decode_or_answer {
    ($message:expr, $reply:expr) => {
        match $crate::api::v3::decode($message) {
            Ok(request) => request,
            Err(malformed) => return $reply.send(Err(malformed)),
        }
    };
}
use decode_or_answer;

/// The reply body of a protobuf message.
fn body(message: &impl Message) -> Result<Body, Status> {
    Ok(Body::from_message(message))
}
