//! The services beside reads, writes and watches: locks, elections, the care of a member, health,
//! long lists in chunks; and the process around them: warnings, stopping, listeners, readiness.
//! What official etcd 3.7.1 answers was learnt from it, and ours must answer the same.

mod election;
mod health;
mod listeners;
mod lock;
mod maintenance;
mod missing;
mod range_stream;
mod stopping;
mod warnings;

use std::time::Duration;

use bytes::Bytes;
use kvorum_e2e::grpc::{Connection, Failure, Stream, frame};
use kvorum_e2e::server::Server;
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use kvorum_proto::mvccpb::KeyValue;
use kvorum_proto::mvccpb::event::EventType;
use prost::Message;

async fn connect(server: &Server) -> Connection {
    Connection::open(server.port()).await.expect("connects")
}

fn refused<T>(code: u32, message: &str) -> Result<T, Failure> {
    let message = message.to_owned();
    Err(Failure::Status { code, message })
}

/// Grants a lease of this number that outlives every test.
async fn grant(connection: &Connection, id: i64) {
    let grant = LeaseGrantRequest { ttl: 1000, id };
    let granted = connection.call("etcdserverpb.Lease/LeaseGrant", &grant);
    let _: LeaseGrantResponse = granted.await.expect("grant");
}

/// Ends a lease; the revision after that.
async fn revoke(connection: &Connection, id: i64) -> i64 {
    let revoke = LeaseRevokeRequest { id };
    let revoked = connection.call("etcdserverpb.Lease/LeaseRevoke", &revoke);
    let revoked: LeaseRevokeResponse = revoked.await.expect("revoke");
    revoked.header.expect("header").revision
}

/// The revision of the put.
async fn put(connection: &Connection, key: impl Into<Bytes>, value: impl Into<Bytes>) -> i64 {
    let request = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    let answer: PutResponse = connection
        .call("etcdserverpb.KV/Put", &request)
        .await
        .expect("put");
    answer.header.expect("header").revision
}

async fn get(connection: &Connection, key: impl Into<Bytes>) -> Option<KeyValue> {
    let request = RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    let answer = connection.call("etcdserverpb.KV/Range", &request).await;
    let mut answer: RangeResponse = answer.expect("range");
    answer.kvs.pop()
}

/// Sends the one request of a call that may have to wait for its answer.
async fn begin(connection: &Connection, method: &str, request: &impl Message) -> Stream {
    let mut stream = connection.start(method, &[]).await.expect("a stream");
    let sent = stream.send_raw(frame(&request.encode_to_vec()), true);
    sent.expect("sent");
    stream
}

/// The answer to a call begun with [`begin`].
async fn answer<A: Message + Default>(stream: &mut Stream) -> Result<A, Failure> {
    stream.next().await.map(|answer| answer.expect("an answer"))
}

/// Whether nothing has come on the stream, after the server had time for another request.
async fn is_silent(connection: &Connection, stream: &mut Stream) -> bool {
    get(connection, "nothing").await;
    let next = tokio::time::timeout(Duration::ZERO, stream.next_bytes());
    next.await.is_err()
}

/// Waits until the history of `key` has a put or a delete.
async fn until(connection: &Connection, kind: EventType, key: impl Into<Bytes>) {
    let create = WatchCreateRequest {
        key: key.into(),
        start_revision: 1,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let watch = connection.open_stream("etcdserverpb.Watch/Watch", &request);
    let mut watch = watch.await.expect("a stream");
    loop {
        let response: WatchResponse = answer(&mut watch).await.expect("a response");
        let mut events = response.events.iter();
        if events.any(|event| event.r#type == kind as i32) {
            return;
        }
    }
}
