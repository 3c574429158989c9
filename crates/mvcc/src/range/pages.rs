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
use kvorum_storage::segment::Damage;
use thiserror::Error;

use super::{Content, Found, Plan, RangeReply, count, has_revision_filter};
use crate::btree::KeyRef;
use crate::interval::End;
use crate::{Few, Interval, ReadError, Record, View};

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
        let plan = Plan::new(request, usize::MAX);
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

    /// At most so many pairs of the rest, and one more when there is.
    fn chunk(&self, rest: &Interval, keys: usize) -> Result<Chunk, Damage> {
        let live = self.view.index.ascend(rest).filter_map(|(key, history)| {
            let change = history.live_at(self.revision)?;
            Some((key, change))
        });
        let mut found: Vec<Found<'_>> = live.take(keys.saturating_add(1)).collect();
        let more = found.len() > keys;
        found.truncate(keys);
        Ok(Chunk {
            more,
            rest: found.last().map(|(key, _)| after(*key, rest)),
            records: self.content.records(&self.view, &found)?,
        })
    }

    fn page(&mut self, rest: &Interval) -> Result<Page, Damage> {
        if self.count_only {
            let count = count(&self.view, &self.interval, self.revision)?;
            return Ok(Page {
                reply: RangeReply::of_count(count),
                last: true,
            });
        }
        let keys = self.chunk_keys.min(self.left);
        let chunk = self.chunk(rest, keys)?;
        if self.left != usize::MAX {
            self.left -= chunk.records.len();
        }
        let last = !chunk.more || self.left == 0;
        let mut reply = RangeReply {
            records: chunk.records,
            more: false,
            count: 0,
        };
        if last {
            reply.more = chunk.more;
            reply.count = count(&self.view, &self.interval, self.revision)?;
        } else {
            self.adapt(reply.encoded_len(None));
            self.rest = chunk.rest;
        }
        Ok(Page { reply, last })
    }

    fn adapt(&mut self, bytes: usize) {
        if bytes < self.chunk_bytes_target / 2 {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if bytes > self.chunk_bytes_target.saturating_mul(2) {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }
}

/// Some pairs of a stream.
struct Chunk {
    records: Few<Record>,
    /// Whether others follow.
    more: bool,
    /// Where they begin.
    rest: Option<Interval>,
}

impl Iterator for Pages {
    /// A stream ends with damage: what was sent stays right, and the process has to stop.
    type Item = Result<Page, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        Some(self.page(&rest))
    }
}

/// The part of an interval behind a key: its next possible key is the key and a zero byte.
fn after(key: KeyRef<'_>, interval: &Interval) -> Interval {
    let mut start = BytesMut::with_capacity(key.len() + 1);
    key.parts().iter().for_each(|part| start.put_slice(part));
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
