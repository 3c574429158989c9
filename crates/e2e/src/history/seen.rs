//! What a server showed, with that left out in which two servers may differ.

use std::fmt;

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::{Buf as _, Bytes};
use kvorum_proto::etcdserverpb::watch_request::RequestUnion;
use kvorum_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, HashKvResponse, LeaseGrantResponse,
    LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, PutResponse, RangeRequest,
    RangeResponse, RangeStreamResponse, ResponseHeader, TxnResponse, WatchCreateRequest,
    WatchRequest, WatchResponse,
};
use kvorum_proto::mvccpb::Event;
use prost::Message;
use prost::encoding::decode_varint;

use super::Step;
use crate::grpc::{Connection, Failure};

/// Field 1, a message inside: the header stands first in every response.
const HEADER_TAG: u8 = 0x0a;

/// One answer, ready to be compared.
pub(super) enum Seen {
    /// The revision of the header, and everything behind the header.
    Message {
        revision: i64,
        rest: Bytes,
        text: String,
    },
    /// An error or a broken stream.
    Failure(Failure),
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Seen::Message { revision, rest, .. },
                Seen::Message {
                    revision: other_revision,
                    rest: other_rest,
                    ..
                },
            ) => revision == other_revision && rest == other_rest,
            (Seen::Failure(failure), Seen::Failure(other)) => failure == other,
            _ => false,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Message { text, rest, .. } => write!(f, "{text} as {rest:?}"),
            Seen::Failure(failure) => write!(f, "{failure}"),
        }
    }
}

/// Runs one step on one server.
pub(super) async fn answer(connection: &Connection, step: &Step) -> Seen {
    let bytes = match step {
        Step::RangeStream(request) => merged_stream(connection, request).await,
        _ => connection.call_bytes(step.method(), &step.request()).await,
    };
    match bytes.and_then(|bytes| seen(step, bytes)) {
        Ok(seen) => seen,
        Err(failure) => Seen::Failure(failure),
    }
}

/// Where the chunks of a stream are cut is free; together they are one response.
async fn merged_stream(connection: &Connection, request: &RangeRequest) -> Result<Bytes, Failure> {
    let mut stream = connection
        .open_stream("etcdserverpb.KV/RangeStream", request)
        .await?;
    stream.finish()?;
    let mut whole = RangeResponse::default();
    while let Some(chunk) = stream.next::<RangeStreamResponse>().await? {
        let part = chunk.range_response.unwrap_or_default().encode_to_vec();
        whole.merge(part.as_slice()).map_err(unreadable)?;
    }
    Ok(whole.encode_to_vec().into())
}

fn seen(step: &Step, mut bytes: Bytes) -> Result<Seen, Failure> {
    let whole = bytes.clone();
    let header = take_header(&mut bytes)?;
    let (rest, text) = match step {
        Step::Range(_) | Step::RangeStream(_) => (bytes, show::<RangeResponse>(whole)?),
        Step::Put(_) => (bytes, show::<PutResponse>(whole)?),
        Step::Delete(_) => (bytes, show::<DeleteRangeResponse>(whole)?),
        Step::Txn(_) => (bytes, show::<TxnResponse>(whole)?),
        Step::Compact(_) => (bytes, show::<CompactionResponse>(whole)?),
        Step::Grant(_) => (bytes, show::<LeaseGrantResponse>(whole)?),
        Step::Revoke(_) => (bytes, show::<LeaseRevokeResponse>(whole)?),
        Step::HashKv(_) => (bytes, show::<HashKvResponse>(whole)?),
        Step::TimeToLive(_) => remaining(LeaseTimeToLiveResponse::decode(whole)),
        Step::Leases(_) => leases(LeaseLeasesResponse::decode(whole)),
    };
    Ok(Seen::Message {
        revision: header.revision,
        rest,
        text,
    })
}

/// Seconds pass between two servers, and the keys of a lease come in no order.
fn remaining(response: Result<LeaseTimeToLiveResponse, prost::DecodeError>) -> (Bytes, String) {
    let mut response = response.unwrap_or_default();
    response.header = None;
    response.ttl = response.ttl.signum();
    response.keys.sort();
    (response.encode_to_vec().into(), format!("{response:?}"))
}

/// Leases come in the order of their ends, which is no order where all were granted in one second.
fn leases(response: Result<LeaseLeasesResponse, prost::DecodeError>) -> (Bytes, String) {
    let mut response = response.unwrap_or_default();
    response.header = None;
    response.leases.sort_by_key(|lease| lease.id);
    (response.encode_to_vec().into(), format!("{response:?}"))
}

fn show<M: Message + Default + fmt::Debug>(whole: Bytes) -> Result<String, Failure> {
    M::decode(whole)
        .map(|message| format!("{message:?}"))
        .map_err(unreadable)
}

fn unreadable(error: prost::DecodeError) -> Failure {
    Failure::Transport(error.to_string())
}

/// Cuts the header off, so that the rest can be compared byte by byte.
fn take_header(bytes: &mut Bytes) -> Result<ResponseHeader, Failure> {
    if bytes.first() != Some(&HEADER_TAG) {
        return Ok(ResponseHeader::default());
    }
    bytes.advance(1);
    let length = decode_varint(bytes).map_err(unreadable)? as usize;
    if length > bytes.len() {
        return Err(Failure::Transport(
            "a header longer than its response".to_owned(),
        ));
    }
    ResponseHeader::decode(bytes.split_to(length)).map_err(unreadable)
}

/// Every event that the store still has, with earlier pairs, in order.
///
/// # Errors
/// When the watch breaks, or a response ends inside a revision.
pub(super) async fn events(connection: &Connection) -> Result<Vec<Event>> {
    let all = RangeRequest {
        key: Bytes::from_static(b"\0"),
        ..RangeRequest::default()
    };
    let range: RangeResponse = connection.call("etcdserverpb.KV/Range", &all).await?;
    let current = range.header.context("a response without header")?.revision;
    match events_from(connection, 1, current).await? {
        Ok(events) => Ok(events),
        Err(compacted) => events_from(connection, compacted, current)
            .await?
            .map_err(|again| anyhow!("compacted at {compacted}, then at {again}")),
    }
}

/// The events from `start` to `end`, or the revision at which the store is compacted.
async fn events_from(
    connection: &Connection,
    start: i64,
    end: i64,
) -> Result<Result<Vec<Event>, i64>> {
    let create = WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: start,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut stream = connection
        .open_stream("etcdserverpb.Watch/Watch", &request)
        .await?;
    let mut events: Vec<Event> = Vec::new();
    // Revision 1 is the empty store: its event never comes. Nor does that of a compacted revision,
    // when it was one that compaction removes.
    let mut reached = start.max(1);
    while reached < end {
        let response: WatchResponse = stream.next().await?.context("the watch ended")?;
        if response.canceled {
            return Ok(Err(response.compact_revision));
        }
        let revisions = response
            .events
            .iter()
            .filter_map(|event| Some(event.kv.as_ref()?.mod_revision));
        let (first, last) = (revisions.clone().next(), revisions.last());
        let split = first.is_some_and(|first| first <= reached && !events.is_empty());
        ensure!(!split, "revision {reached} in two responses");
        reached = last.unwrap_or(reached);
        events.extend(response.events);
    }
    Ok(Ok(events))
}
