//! A range in chunks, for RangeStream.
//!
//! All chunks come from one view, so the revision is pinned by the first. The number of keys in a
//! chunk follows its size: it doubles while chunks stay below half of the target and halves when
//! one exceeds twice the target.
//!
//! Source: etcd v3.7.1, `server/etcdserver/v3_server.go` (`RangeStream`).

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_proto::etcdserverpb::RangeRequest;
use kvorum_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use thiserror::Error;

use super::{Content, Plan, RangeReply, count, has_revision_filter};
use crate::interval::End;
use crate::{Interval, ReadError, Record, View};

/// Most keys in the first chunk.
pub const STREAM_FIRST_CHUNK_KEYS: usize = 10;

/// A request that cannot be streamed. The texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StreamError {
    /// The order asked for is not that of the keys.
    #[error("RangeStream does not support custom sort orders")]
    SortOrder,
    /// The request filters by revision.
    #[error("RangeStream does not support revision filters")]
    RevisionFilter,
    /// The asked revision cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// One message of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The chunk. `more` and `count` are set in the last one only.
    pub reply: RangeReply,
    /// Whether the stream ends with it; that message alone carries a header.
    pub last: bool,
}

/// The chunks of one request, read when asked for.
#[derive(Debug)]
pub struct Pages {
    view: View,
    revision: i64,
    interval: Interval,
    /// The part of the interval that is still to read.
    rest: Option<Interval>,
    /// Pairs that the limit of the request still allows; `usize::MAX` for no limit.
    left: usize,
    chunk_keys: usize,
    chunk_bytes_target: usize,
    content: Content,
    count_only: bool,
}

impl Pages {
    /// Begins a stream. `chunk_bytes_target` is `--max-request-bytes`.
    ///
    /// # Errors
    ///
    /// [`StreamError`] when the request cannot be streamed or its revision cannot be read.
    pub fn new(
        view: View,
        request: &RangeRequest,
        chunk_bytes_target: usize,
    ) -> Result<Self, StreamError> {
        let plan = Plan::new(request);
        let natural = request.sort_order == SortOrder::None as i32
            || (request.sort_order == SortOrder::Ascend as i32 && plan.target == SortTarget::Key);
        if !natural {
            return Err(StreamError::SortOrder);
        }
        if has_revision_filter(request) {
            return Err(StreamError::RevisionFilter);
        }
        let revision = view.readable(request.revision)?;
        let interval = Interval::from_wire(request.key.clone(), request.range_end.clone());
        Ok(Pages {
            revision,
            rest: Some(interval.clone()),
            interval,
            left: plan.limit,
            chunk_keys: STREAM_FIRST_CHUNK_KEYS,
            chunk_bytes_target,
            content: plan.content,
            count_only: request.count_only,
            view,
        })
    }

    fn chunk(&self, rest: &Interval, keys: usize) -> Vec<Record> {
        let live = self
            .view
            .index
            .ascend(rest)
            .filter_map(|h| h.live_at(self.revision));
        live.take(keys.saturating_add(1)).cloned().collect()
    }

    fn adapt(&mut self, bytes: usize) {
        if bytes < self.chunk_bytes_target / 2 {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if bytes > self.chunk_bytes_target.saturating_mul(2) {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }
}

impl Iterator for Pages {
    type Item = Page;

    fn next(&mut self) -> Option<Page> {
        let rest = self.rest.take()?;
        if self.count_only {
            let count = count(&self.view, &self.interval, self.revision);
            return Some(Page {
                reply: RangeReply::of_count(count),
                last: true,
            });
        }
        let keys = self.chunk_keys.min(self.left);
        let mut records = self.chunk(&rest, keys);
        let more = records.len() > keys;
        records.truncate(keys);
        self.left -= if self.left == usize::MAX {
            0
        } else {
            records.len()
        };
        let last = !more || self.left == 0;
        let mut reply = RangeReply {
            records,
            more: false,
            count: 0,
            content: self.content,
        };
        if last {
            reply.more = more;
            reply.count = count(&self.view, &self.interval, self.revision);
        } else {
            self.adapt(reply.encoded_len(None));
            self.rest = reply.records.last().map(|record| after(record, &rest));
        }
        Some(Page { reply, last })
    }
}

/// The part of an interval behind a key: its next possible key is the key and a zero byte.
fn after(record: &Record, interval: &Interval) -> Interval {
    let mut start = BytesMut::with_capacity(record.key().len() + 1);
    start.put_slice(record.key());
    start.put_u8(0);
    let end = match &interval.end {
        // A single key is never followed by another; the empty interval says so.
        End::Single => End::Before(Bytes::new()),
        other => other.clone(),
    };
    Interval {
        start: start.freeze(),
        end,
    }
}
