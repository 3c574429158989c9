//! Keys and values.
//!
//! Requests are the messages of the wire: every field means what etcd's API says. [`KeyRange`]
//! makes the two fields that are easy to get wrong.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};

use crate::client::{Client, Method, Retry};
use crate::error::Error;

const RANGE: Method<RangeRequest, RangeResponse> =
    Method::new("/etcdserverpb.KV/Range", Retry::Repeatable);
const RANGE_STREAM: Method<RangeRequest, RangeStreamResponse> =
    Method::new("/etcdserverpb.KV/RangeStream", Retry::Once);
const PUT: Method<PutRequest, PutResponse> = Method::new("/etcdserverpb.KV/Put", Retry::Once);
const DELETE: Method<DeleteRangeRequest, DeleteRangeResponse> =
    Method::new("/etcdserverpb.KV/DeleteRange", Retry::Once);
const TXN: Method<TxnRequest, TxnResponse> = Method::new("/etcdserverpb.KV/Txn", Retry::Once);
const COMPACT: Method<CompactionRequest, CompactionResponse> =
    Method::new("/etcdserverpb.KV/Compact", Retry::Once);

/// Key and range end as requests bear them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key.
    pub key: Bytes,
    /// First key that does not belong; empty: only `key`; one zero byte: no end.
    pub range_end: Bytes,
}

/// Range end, and first key, that mean "no bound".
const UNBOUNDED: &[u8] = &[0];

impl KeyRange {
    /// One key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            range_end: Bytes::new(),
        }
    }

    /// Keys from `key` to before `end`.
    pub fn between(key: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            range_end: end.into(),
        }
    }

    /// Keys that begin with `prefix`; all keys if it is empty.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        if prefix.is_empty() {
            return Self::from_key(prefix);
        }
        Self {
            range_end: prefix_end(&prefix),
            key: prefix,
        }
    }

    /// `key` and all keys after it; all keys if it is empty.
    pub fn from_key(key: impl Into<Bytes>) -> Self {
        let key = key.into();
        Self {
            key: if key.is_empty() {
                Bytes::from_static(UNBOUNDED)
            } else {
                key
            },
            range_end: Bytes::from_static(UNBOUNDED),
        }
    }
}

/// The first key that is greater than all keys with this prefix; "no bound" if there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|&byte| byte < u8::MAX) else {
        return Bytes::from_static(UNBOUNDED);
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

impl Client {
    /// Reads keys.
    ///
    /// # Errors
    /// What the server refuses, and [`Error::DeadlineExceeded`].
    pub async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.call(&RANGE, request).await
    }

    /// Reads keys in parts and puts the parts together, for results too large for one message.
    ///
    /// # Errors
    /// What the server refuses. Nothing is tried again.
    pub async fn range_stream(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let (mut stream, mut next) = self.open_answered(&RANGE_STREAM, request).await?;
        let mut whole = RangeResponse::default();
        while let Some(part) = next {
            if let Some(part) = part.range_response {
                // Numbers come with one part, keys with many.
                whole.header = part.header.or(whole.header);
                whole.more |= part.more;
                whole.count = whole.count.max(part.count);
                whole.kvs.extend(part.kvs);
            }
            next = stream.receive().await?;
        }
        Ok(whole)
    }

    /// Writes a key.
    ///
    /// # Errors
    /// What the server refuses. When the connection broke it is unknown whether the key was written.
    pub async fn put(&self, request: &PutRequest) -> Result<PutResponse, Error> {
        self.call(&PUT, request).await
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn delete(&self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        self.call(&DELETE, request).await
    }

    /// Executes a transaction; [`crate::Txn`] builds one.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        self.call(&TXN, request).await
    }

    /// Discards history below `revision`; with `physical` the answer waits for the space.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn compact(
        &self,
        revision: i64,
        physical: bool,
    ) -> Result<CompactionResponse, Error> {
        self.call(&COMPACT, &CompactionRequest { revision, physical })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_key_that_lacks_it() {
        for (prefix, end) in [
            (&b"a"[..], &b"b"[..]),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\xff", b"\0"),
            (b"\xff\xff", b"\0"),
        ] {
            assert_eq!(prefix_end(prefix), end);
        }
        assert_eq!(KeyRange::prefix(""), KeyRange::between("\0", "\0"));
    }
}
