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
//! All of that but an order by value is done on index entries; only the pairs that are returned are
//! read, and none when the client asks for keys only.
//!
//! Source: etcd v3.7.1, `server/etcdserver/txn/range.go` (`executeRange`).

mod count;
mod pages;
mod reply;

use std::cmp::Reverse;

use kvorum_proto::etcdserverpb::RangeRequest;
use kvorum_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kvorum_storage::segment::Damage;
use thiserror::Error;

use crate::btree::KeyRef;
use crate::index::History;
use crate::interval::End;
use crate::{Change, Few, Interval, ReadError, Record, View};
pub(crate) use count::count;
pub use pages::{Page, Pages, STREAM_FIRST_CHUNK_KEYS, StreamError};
use reply::field_bytes;
pub use reply::{RangeReply, ReplyPieces};

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
/// [`ReadError`] when the asked revision is compacted or in the future, or a file is damaged.
pub fn execute<R: Reader + ?Sized>(
    reader: &R,
    request: &RangeRequest,
) -> Result<RangeReply, ReadError> {
    Ok(read(reader.view(), request, usize::MAX)?.0)
}

/// Why a range that has a bound has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its pairs are too long.
    #[error("the pairs take {bytes} bytes")]
    TooLarge {
        /// Length of all pairs to return, as encoded.
        bytes: usize,
    },
}

/// The same for a reply whose pairs take at most `bytes_max` bytes. What is longer is refused by what the index
/// knows of the lengths: hardly more than `bytes_max` is read of it.
///
/// # Errors
///
/// [`RangeError`].
pub(crate) fn execute_within(
    view: &View,
    request: &RangeRequest,
    bytes_max: usize,
) -> Result<RangeReply, RangeError> {
    let (reply, bytes) = read(view, request, bytes_max)?;
    if bytes > bytes_max {
        return Err(RangeError::TooLarge { bytes });
    }
    Ok(reply)
}

/// The reply, without its pairs when they take more than `bytes_max`, and how much they take.
fn read(
    view: &View,
    request: &RangeRequest,
    bytes_max: usize,
) -> Result<(RangeReply, usize), ReadError> {
    let revision = view.readable(request.revision)?;
    let interval = Interval::from_wire(request.key.clone(), request.range_end.clone());
    if request.count_only {
        let count = count(view, &interval, revision)?;
        return Ok((RangeReply::of_count(count), 0));
    }
    let plan = Plan::new(request, bytes_max);
    let Fetched {
        records,
        fetched,
        bytes,
    } = plan.read(view, &interval, revision)?;
    let whole = !plan.filtered && fetched < plan.fetch_max;
    let count = if whole {
        fetched as i64
    } else {
        count(view, &interval, revision)?
    };
    let more = fetched > plan.limit;
    let reply = RangeReply {
        records,
        more,
        count,
    };
    Ok((reply, bytes))
}

/// What a plan found.
struct Fetched {
    /// The pairs to return; none when they take too many bytes.
    records: Few<Record>,
    /// Pairs that took part.
    fetched: usize,
    /// Length of the pairs to return, as far as they are read from files.
    bytes: usize,
}

/// A key with the pair that a read sees there.
type Found<'a> = (KeyRef<'a>, Change);

/// What of each pair the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Everything.
    Full,
    /// Everything but the value.
    WithoutValue,
    /// Key, revisions and version, as if read from the index alone.
    KeyOnly,
}

impl Content {
    /// A pair as the client gets it.
    fn record(self, view: &View, (key, change): &Found<'_>) -> Result<Record, Damage> {
        match self {
            Content::Full => view.log.read(change),
            Content::WithoutValue => Ok(Record::without_value(*key, change, true)),
            Content::KeyOnly => Ok(Record::without_value(*key, change, false)),
        }
    }

    /// Bytes that a pair takes in a reply, where the value is in it; else it is not counted.
    fn bytes(self, change: &Change) -> usize {
        match self {
            Content::Full => field_bytes(change.stored_bytes() as usize),
            Content::WithoutValue | Content::KeyOnly => 0,
        }
    }

    /// Pairs as the client gets them.
    fn records(self, view: &View, found: &[Found<'_>]) -> Result<Few<Record>, Damage> {
        found.iter().map(|found| self.record(view, found)).collect()
    }
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
    /// Pairs that take more bytes are not read.
    bytes_max: usize,
}

impl<'a> Plan<'a> {
    fn new(request: &'a RangeRequest, bytes_max: usize) -> Self {
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
            bytes_max,
        }
    }

    fn read(&self, view: &View, interval: &Interval, revision: i64) -> Result<Fetched, Damage> {
        if self.target == SortTarget::Key {
            return self.read_in_order(view, interval, revision);
        }
        let mut found = Vec::new();
        self.fetch(view, interval, revision, |pair| {
            found.push(pair);
            Ok(())
        })?;
        let fetched = found.len();
        if self.target == SortTarget::Value {
            let records = self.sorted_by_value(view, &found)?;
            let lengths = records.iter().map(|record| record.encoded().len());
            let bytes = lengths.map(field_bytes).sum();
            return Ok(Fetched {
                records,
                fetched,
                bytes,
            });
        }
        self.sort(&mut found);
        found.truncate(self.limit);
        let bytes = found.iter().map(|(_, change)| self.content.bytes(change));
        let bytes = bytes.sum();
        if bytes > self.bytes_max {
            found.clear();
        }
        Ok(Fetched {
            records: self.content.records(view, &found)?,
            fetched,
            bytes,
        })
    }

    /// They come in the order asked for, so none has to be kept for later.
    fn read_in_order(
        &self,
        view: &View,
        interval: &Interval,
        revision: i64,
    ) -> Result<Fetched, Damage> {
        let (mut records, mut fetched, mut bytes) = (Few::default(), 0, 0);
        self.fetch(view, interval, revision, |found| {
            fetched += 1;
            if fetched > self.limit {
                return Ok(());
            }
            bytes += self.content.bytes(&found.1);
            if bytes <= self.bytes_max {
                records.push(self.content.record(view, &found)?);
            } else if !records.is_empty() {
                records = Few::default();
            }
            Ok(())
        })?;
        Ok(Fetched {
            records,
            fetched,
            bytes,
        })
    }

    /// Gives the pairs that take part in the order of their keys, as many as are to be fetched.
    fn fetch<'v>(
        &self,
        view: &'v View,
        interval: &'v Interval,
        revision: i64,
        take: impl FnMut(Found<'v>) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        let keep = |(_, change): &Found<'_>| !self.filtered || self.passes(change);
        if interval.end == End::Single {
            let key: &[u8] = &interval.start;
            let change = view.index.live_at(key, revision);
            let found = change.map(|change| (KeyRef::whole(key), change));
            return found.filter(keep).into_iter().try_for_each(take);
        }
        let live =
            |(key, history): (KeyRef<'v>, &'v History)| Some((key, history.live_at(revision)?));
        if self.target == SortTarget::Key && self.descending {
            let live = view.index.descend(interval).filter_map(live);
            return live.filter(keep).take(self.fetch_max).try_for_each(take);
        }
        let live = view.index.ascend(interval).filter_map(live);
        live.filter(keep).take(self.fetch_max).try_for_each(take)
    }

    /// Whether a pair passes the revision filters; 0 turns one off.
    fn passes(&self, change: &Change) -> bool {
        let (modified, created) = (change.mod_revision().main, change.create_revision());
        let at_least = |min, revision| min == 0 || revision >= min;
        let at_most = |max, revision| max == 0 || revision <= max;
        at_least(self.request.min_mod_revision, modified)
            && at_most(self.request.max_mod_revision, modified)
            && at_least(self.request.min_create_revision, created)
            && at_most(self.request.max_create_revision, created)
    }

    /// Sorts what was fetched in key order; equal pairs keep that order.
    fn sort(&self, found: &mut [Found<'_>]) {
        let by: fn(&Change) -> i64 = match self.target {
            // Fetched in this order, either way; an order by value needs the values.
            SortTarget::Key | SortTarget::Value => return,
            SortTarget::Version => Change::version,
            SortTarget::Create => Change::create_revision,
            SortTarget::Mod => |change| change.mod_revision().main,
        };
        if self.descending {
            found.sort_by_key(|(_, change)| Reverse(by(change)));
        } else {
            found.sort_by_key(|(_, change)| by(change));
        }
    }

    /// The pairs to return in the order of their values; equal ones keep the order of the keys.
    fn sorted_by_value(&self, view: &View, found: &[Found<'_>]) -> Result<Few<Record>, Damage> {
        let mut pairs = Vec::with_capacity(found.len());
        for (key, change) in found {
            pairs.push((view.log.read(change)?, (*key, *change)));
        }
        if self.descending {
            pairs.sort_by(|(a, _), (b, _)| b.value().cmp(a.value()));
        } else {
            pairs.sort_by(|(a, _), (b, _)| a.value().cmp(b.value()));
        }
        pairs.truncate(self.limit);
        if self.content == Content::Full {
            return Ok(pairs.into_iter().map(|(record, _)| record).collect());
        }
        let found: Vec<Found<'_>> = pairs.into_iter().map(|(_, found)| found).collect();
        self.content.records(view, &found)
    }
}

fn has_revision_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}
