//! A part of the keys as if it were all of them.
//!
//! Every key that goes out gets a prefix, every key that comes in loses it. What a caller asks of
//! "all keys" is asked of those with the prefix, so that programs that do not know of each other
//! can share a cluster.
//!
//! Source: v3.7.1 `client/v3/namespace`.

use bytes::Bytes;
use kvorum_proto::etcdserverpb::request_op::Request;
use kvorum_proto::etcdserverpb::response_op::Response;
use kvorum_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse,
};
use kvorum_proto::ids::LeaseId;
use kvorum_proto::mvccpb::KeyValue;

use crate::client::Client;
use crate::error::Error;
use crate::kv::prefix_end;
use crate::watch::Watcher;

/// A client that sees only the keys with one prefix, and sees them without it.
///
/// ```no_run
#[doc = include_str!("../docs/namespace.rs")]
/// ```
#[derive(Clone)]
pub struct Namespace {
    client: Client,
    prefix: Bytes,
}

impl Namespace {
    /// The keys with this prefix.
    pub fn new(client: &Client, prefix: impl Into<Bytes>) -> Self {
        Self {
            client: client.clone(),
            prefix: prefix.into(),
        }
    }

    /// As [`Client::range`].
    ///
    /// # Errors
    /// As [`Client::range`].
    pub async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let mut request = request.clone();
        self.enter(&mut request.key, &mut request.range_end);
        let mut response = self.client.range(&request).await?;
        self.leave_range(&mut response);
        Ok(response)
    }

    /// As [`Client::put`].
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn put(&self, request: &PutRequest) -> Result<PutResponse, Error> {
        let mut request = request.clone();
        self.enter(&mut request.key, &mut Bytes::new());
        let mut response = self.client.put(&request).await?;
        self.leave_all(response.prev_kv.as_mut());
        Ok(response)
    }

    /// As [`Client::delete`].
    ///
    /// # Errors
    /// As [`Client::delete`].
    pub async fn delete(&self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        let mut request = request.clone();
        self.enter(&mut request.key, &mut request.range_end);
        let mut response = self.client.delete(&request).await?;
        self.leave_all(&mut response.prev_kvs);
        Ok(response)
    }

    /// As [`Client::txn`].
    ///
    /// # Errors
    /// As [`Client::txn`].
    pub async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let mut request = request.clone();
        self.enter_txn(&mut request);
        let mut response = self.client.txn(&request).await?;
        self.leave_txn(&mut response);
        Ok(response)
    }

    /// As [`Client::watch`].
    ///
    /// # Errors
    /// As [`Client::watch`].
    pub async fn watch(&self, request: WatchCreateRequest) -> Result<NamespaceWatcher, Error> {
        let mut request = request;
        self.enter(&mut request.key, &mut request.range_end);
        Ok(NamespaceWatcher {
            watcher: self.client.watch(request).await?,
            namespace: self.clone(),
        })
    }

    /// As [`Client::lease_time_to_live`], with the keys that lie in this namespace.
    ///
    /// # Errors
    /// As [`Client::lease_time_to_live`].
    pub async fn lease_time_to_live(
        &self,
        lease: LeaseId,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let mut response = self.client.lease_time_to_live(lease, keys).await?;
        response.keys.retain(|key| key.starts_with(&self.prefix));
        for key in &mut response.keys {
            *key = key.slice(self.prefix.len()..);
        }
        Ok(response)
    }

    fn enter(&self, key: &mut Bytes, range_end: &mut Bytes) {
        let prefixed = |key: &[u8]| Bytes::from([&self.prefix, key].concat());
        // "All keys" is a key of one zero byte to the end of all.
        *key = prefixed(key);
        *range_end = match range_end.as_ref() {
            [] => Bytes::new(),
            [0] => prefix_end(&self.prefix),
            end => prefixed(end),
        };
    }

    fn enter_txn(&self, txn: &mut TxnRequest) {
        for compare in &mut txn.compare {
            self.enter(&mut compare.key, &mut compare.range_end);
        }
        for operation in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut operation.request {
                Some(Request::RequestRange(range)) => {
                    self.enter(&mut range.key, &mut range.range_end);
                }
                Some(Request::RequestPut(put)) => self.enter(&mut put.key, &mut Bytes::new()),
                Some(Request::RequestDeleteRange(delete)) => {
                    self.enter(&mut delete.key, &mut delete.range_end);
                }
                Some(Request::RequestTxn(txn)) => self.enter_txn(txn),
                None => {}
            }
        }
    }

    fn leave_all<'a>(&self, kvs: impl IntoIterator<Item = &'a mut KeyValue>) {
        for kv in kvs {
            // A server that answers with other keys is not made right by a panic.
            if kv.key.starts_with(&self.prefix) {
                kv.key = kv.key.slice(self.prefix.len()..);
            }
        }
    }

    fn leave_range(&self, response: &mut RangeResponse) {
        self.leave_all(&mut response.kvs);
    }

    fn leave_txn(&self, response: &mut TxnResponse) {
        for operation in &mut response.responses {
            match &mut operation.response {
                Some(Response::ResponseRange(range)) => self.leave_range(range),
                Some(Response::ResponsePut(put)) => self.leave_all(put.prev_kv.as_mut()),
                Some(Response::ResponseDeleteRange(delete)) => self.leave_all(&mut delete.prev_kvs),
                Some(Response::ResponseTxn(txn)) => self.leave_txn(txn),
                None => {}
            }
        }
    }
}

/// Events of a [`Namespace`].
pub struct NamespaceWatcher {
    watcher: Watcher,
    namespace: Namespace,
}

impl NamespaceWatcher {
    /// As [`Watcher::next`].
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub async fn next(&mut self) -> Result<Option<WatchResponse>, Error> {
        let mut next = self.watcher.next().await?;
        for event in next.iter_mut().flat_map(|response| &mut response.events) {
            self.namespace.leave_all(event.kv.as_mut());
            self.namespace.leave_all(event.prev_kv.as_mut());
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Config;
    use crate::txn::{Txn, compare_version};
    use kvorum_proto::etcdserverpb::compare::CompareResult;

    fn namespace(prefix: &'static [u8]) -> Namespace {
        let client = Client::new(&Config::new(["127.0.0.1:1"])).expect("a client");
        Namespace::new(&client, prefix)
    }

    fn check(prefix: &'static [u8], range: (&[u8], &[u8]), inside: (&[u8], &[u8])) {
        let (mut key, mut end) = (
            Bytes::copy_from_slice(range.0),
            Bytes::copy_from_slice(range.1),
        );
        namespace(prefix).enter(&mut key, &mut end);
        assert_eq!((&key[..], &end[..]), inside);
    }

    #[test]
    fn all_keys_are_those_with_the_prefix() {
        check(b"app/", (b"k", b""), (b"app/k", b""));
        check(b"app/", (b"a", b"c"), (b"app/a", b"app/c"));
        check(b"app/", (b"a", b"\0"), (b"app/a", b"app0"));
        check(b"app/", (b"\0", b"\0"), (b"app/\0", b"app0"));
        check(b"\xff", (b"a", b"\0"), (b"\xffa", b"\0"));
    }

    #[test]
    fn a_transaction_goes_in_and_comes_out_whole() {
        let space = namespace(b"app/");
        let inner = Txn::new().and_then(RangeRequest {
            key: "deep".into(),
            ..RangeRequest::default()
        });
        let put = PutRequest {
            key: "k".into(),
            ..PutRequest::default()
        };
        let mut txn = Txn::new()
            .when(compare_version("c", CompareResult::Equal, 0))
            .and_then(put)
            .or_else(inner.build())
            .build();
        space.enter_txn(&mut txn);
        assert_eq!(txn.compare[0].key, "app/c");
        let shown = format!("{txn:?}");
        assert!(
            shown.contains("app/k") && shown.contains("app/deep"),
            "{shown}"
        );
        let mut kv = KeyValue {
            key: "app/k".into(),
            ..KeyValue::default()
        };
        space.leave_all([&mut kv]);
        assert_eq!(kv.key, "k");
    }
}
