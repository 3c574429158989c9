//! Answering a range request.
//!
//! The order of evaluation is etcd's, because it can be seen: pairs are fetched in key order,
//! filtered by revision, sorted, cut to the limit, and stripped of their values last. `count` is
//! the number of pairs in the whole interval, whatever limit and filters leave of it.
//!
//! A limit ends the fetch early only where the result is already in the asked order; otherwise the
//! whole interval takes part. One exception is etcd's own: a target other than the key with no
//! sort order sorts ascending, but only the first limit + 1 pairs in key order take part.
//!
//! Source: etcd v3.7.1, `server/etcdserver/txn/range.go` (`executeRange`).

mod count;
mod pages;
mod reply;

use std::cmp::Ordering;

use kvorum_proto::etcdserverpb::RangeRequest;
use kvorum_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use crate::interval::End;
use crate::{Interval, ReadError, Record, View};
pub(crate) use count::count;
pub use pages::{Page, Pages, STREAM_FIRST_CHUNK_KEYS, StreamError};
pub use reply::{Content, RangeReply};

/// Whatever a range can be read from.
pub trait Reader {
    /// The state to read.
    fn view(&self) -> &View;
}

/// Answers a request whose fields were validated: a key, known sort numbers (unknown ones count as
/// none). Permission and linearizability are the caller's.
///
/// # Errors
///
/// [`ReadError`] when the asked revision is compacted or in the future.
pub fn execute<R: Reader + ?Sized>(
    reader: &R,
    request: &RangeRequest,
) -> Result<RangeReply, ReadError> {
    let view = reader.view();
    let revision = view.readable(request.revision)?;
    let interval = Interval::from_wire(request.key.clone(), request.range_end.clone());
    if request.count_only {
        return Ok(RangeReply::of_count(count(view, &interval, revision)));
    }
    let plan = Plan::new(request);
    let mut records = plan.fetch(view, &interval, revision);
    let whole = !plan.filtered && records.len() < plan.fetch_max;
    let count = if whole {
        records.len() as i64
    } else {
        count(view, &interval, revision)
    };
    plan.sort(&mut records);
    let more = records.len() > plan.limit;
    records.truncate(plan.limit);
    Ok(RangeReply {
        records,
        more,
        count,
        content: plan.content,
    })
}

/// How a request is evaluated.
struct Plan<'a> {
    request: &'a RangeRequest,
    target: SortTarget,
    descending: bool,
    filtered: bool,
    /// Most pairs to return; `usize::MAX` for no limit.
    limit: usize,
    /// Most pairs to fetch; `usize::MAX` for all.
    fetch_max: usize,
    content: Content,
}

impl<'a> Plan<'a> {
    fn new(request: &'a RangeRequest) -> Self {
        let target = SortTarget::try_from(request.sort_target).unwrap_or_default();
        let order = SortOrder::try_from(request.sort_order).unwrap_or_default();
        let filtered = has_revision_filter(request);
        let limit = match usize::try_from(request.limit) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(limit) => limit,
        };
        // With a filter, fetched means passed by it.
        let ends_early = target == SortTarget::Key || (order == SortOrder::None && !filtered);
        let fetch_max = if ends_early {
            limit.saturating_add(1)
        } else {
            usize::MAX
        };
        let content = match (request.keys_only, target) {
            (false, _) => Content::Full,
            // Sorting by value reads the pairs, and then their lease is known.
            (true, SortTarget::Value) => Content::WithoutValue,
            (true, _) => Content::KeyOnly,
        };
        let descending = order == SortOrder::Descend;
        Plan {
            request,
            target,
            descending,
            filtered,
            limit,
            fetch_max,
            content,
        }
    }

    fn fetch(&self, view: &View, interval: &Interval, revision: i64) -> Vec<Record> {
        let keep = |record: &&Record| !self.filtered || self.passes(record);
        if interval.end == End::Single {
            let record = view.index.live_at(&interval.start, revision);
            return record.filter(keep).cloned().into_iter().collect();
        }
        if self.target == SortTarget::Key && self.descending {
            let live = view
                .index
                .descend(interval)
                .filter_map(|h| h.live_at(revision));
            return live.filter(keep).take(self.fetch_max).cloned().collect();
        }
        let live = view
            .index
            .ascend(interval)
            .filter_map(|h| h.live_at(revision));
        live.filter(keep).take(self.fetch_max).cloned().collect()
    }

    /// Whether a pair passes the revision filters; 0 turns one off.
    fn passes(&self, record: &Record) -> bool {
        let (modified, created) = (record.mod_revision().main, record.create_revision());
        let at_least = |min, revision| min == 0 || revision >= min;
        let at_most = |max, revision| max == 0 || revision <= max;
        at_least(self.request.min_mod_revision, modified)
            && at_most(self.request.max_mod_revision, modified)
            && at_least(self.request.min_create_revision, created)
            && at_most(self.request.max_create_revision, created)
    }

    /// Sorts what was fetched in key order; equal pairs keep that order.
    fn sort(&self, records: &mut [Record]) {
        let compare: fn(&Record, &Record) -> Ordering = match self.target {
            // Fetched in this order, either way.
            SortTarget::Key => return,
            SortTarget::Version => |a, b| a.version().cmp(&b.version()),
            SortTarget::Create => |a, b| a.create_revision().cmp(&b.create_revision()),
            SortTarget::Mod => |a, b| a.mod_revision().main.cmp(&b.mod_revision().main),
            SortTarget::Value => |a, b| a.value().cmp(b.value()),
        };
        if self.descending {
            records.sort_by(|a, b| compare(b, a));
        } else {
            records.sort_by(compare);
        }
    }
}

fn has_revision_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}
