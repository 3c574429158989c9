//! Copying keys and following their changes.
//!
//! A copy is made of two parts that fit without gap or overlap: the keys at one revision, page by
//! page, and every change after that revision. The pages are all read at that revision, so what is
//! written meanwhile does not disturb them.
//!
//! Source: v3.7.1 `client/v3/mirror/syncer.go`.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::{RangeRequest, WatchCreateRequest};
use kvorum_proto::mvccpb::KeyValue;

use crate::client::Client;
use crate::error::Error;
use crate::kv::KeyRange;
use crate::watch::Watcher;

/// Keys of one page.
const PAGE_KEYS: i64 = 1000;

/// A copy in the making.
///
/// ```no_run
#[doc = include_str!("../docs/mirror.rs")]
/// ```
pub struct Mirror {
    client: Client,
    range: KeyRange,
    /// The revision of the pages, after which changes follow; 0 until the first page.
    revision: i64,
    /// First key of the next page; none when there are no more.
    next_key: Option<Bytes>,
    count: u64,
}

impl Mirror {
    /// A copy of all keys with this prefix as they are now, and of their changes.
    pub fn new(client: &Client, prefix: impl Into<Bytes>) -> Self {
        let range = KeyRange::prefix(prefix);
        Self {
            client: client.clone(),
            next_key: Some(range.key.clone()),
            range,
            revision: 0,
            count: 0,
        }
    }

    /// Only the changes of keys with this prefix, from `revision` on.
    pub fn changes_from(client: &Client, prefix: impl Into<Bytes>, revision: i64) -> Self {
        Self {
            next_key: None,
            revision: revision.saturating_sub(1).max(0),
            ..Self::new(client, prefix)
        }
    }

    /// The next keys, in order; none when all were handed out.
    ///
    /// # Errors
    /// What the server refuses: "required revision has been compacted" if the history that is
    /// being copied was thrown away meanwhile.
    pub async fn next_page(&mut self) -> Result<Option<Vec<KeyValue>>, Error> {
        let Some(key) = self.next_key.clone() else {
            return Ok(None);
        };
        let request = RangeRequest {
            key,
            range_end: self.range.range_end.clone(),
            limit: PAGE_KEYS,
            revision: self.revision,
            ..RangeRequest::default()
        };
        let page = self.client.range(&request).await?;
        if self.revision == 0 {
            self.revision = page.header.as_ref().map_or(0, |header| header.revision);
            self.count = page.count.max(0).unsigned_abs();
        }
        self.next_key = match page.kvs.last() {
            // The least key behind it.
            Some(last) if page.more => Some([&last.key[..], &[0]].concat().into()),
            _ => None,
        };
        Ok(Some(page.kvs))
    }

    /// How many keys there were at the first page, 0 before it.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The revision that is copied, 0 before the first page.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What changes after the revision of the pages.
    ///
    /// # Errors
    /// As [`Client::watch`].
    pub async fn changes(self) -> Result<Watcher, Error> {
        let request = WatchCreateRequest {
            key: self.range.key,
            range_end: self.range.range_end,
            start_revision: self.revision + 1,
            ..WatchCreateRequest::default()
        };
        self.client.watch(request).await
    }
}
